"""The command line: what it refuses, how it reads values, and that the documented commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import ray
import typer
from typer.testing import CliRunner

from noma_semcom_agents.cli import app
from noma_semcom_agents.commands.options import read_knobs, read_pairs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["train", "--agent", "ippo"], "'ippo' is no agent"),
        (["train", "--set", "num_user=4"], "num_user"),
        (["train", "--set", "num_users"], "name=value"),
        (["train", "--setting", "lrr=1"], "'lrr' is no setting"),
        (["train", "--setting", "lr=fast"], "must be a number"),
        (["train", "--validation", "street-dawn"], "street-dawn"),
        (["train", "--resume"], "run.json"),
        (["train", "--address", "127.0.0.1:1"], "no Ray cluster at"),
        (["evaluate", "."], "run.json"),
        (["compare", ".", "elsewhere"], "run.json"),
        (["sweep", "gird"], "gird"),
        (["demo", "--set", "images=street-test"], "images"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(
    command: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--address" in command:
        ray.shutdown()  # a test before this one may have left a cluster running, which would be taken
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    assert named in re.sub(r"[\s│]+", " ", result.output)
    assert not list(tmp_path.iterdir())


def test_values_are_read_as_json_or_text() -> None:
    assert read_pairs(["a=1", "b=[1, 2]", "c=true", "d=x=y", "e="], "--set") == {
        "a": 1, "b": [1, 2], "c": True, "d": "x=y", "e": "",
    }  # fmt: skip
    with pytest.raises(typer.BadParameter, match="name=value"):
        read_pairs(["a"], "--set")


def test_relative_tables_are_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_knobs(["images=own.npz"]) == {"images": str(tmp_path / "own.npz")}
    assert read_knobs(["images=street-test"]) == {"images": "street-test"}


def commands_in(page: Path) -> list[list[str]]:
    """The words of each ``noma-semcom`` command in a page's bash blocks, continuation lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("noma-semcom ")]


DOCUMENTED = [(page.name, words) for page in PAGES for words in commands_in(page)]


@pytest.mark.parametrize(("page", "words"), DOCUMENTED, ids=[f"{page}: {' '.join(w)}" for page, w in DOCUMENTED])
def test_documented_commands_exist_with_their_options(page: str, words: list[str]) -> None:
    group = typer.main.get_command(app)
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    parsed = command.make_context(words[0], [w for w in words[1:] if w != "..."], resilient_parsing=True)
    given = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    known = {option for parameter in command.params for option in parameter.opts}
    assert given <= known
    assert parsed.args == []
