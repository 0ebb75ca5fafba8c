"""Documentation that cannot drift: its code runs, and the fields, pages and targets that it names exist."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Dict, flatdim
from sybil.document import Document
from sybil.example import Example
from sybil.parsers.markdown import PythonCodeBlockParser

from noma_semcom_env import ENVIRONMENTS, MixtureNomaScenario, MixtureScenario, Scenario

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in Document.parse(str(page), PythonCodeBlockParser())]
HOMES = {"noma_semcom_env": "noma_semcom_env", "noma_semcom_agents": "agents"}
HEADINGS = [
    "Description",
    "Sizes",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Arguments",
    "Vectorized environment",
    "Version History",
]
"""Gymnasium's, and the family of sizes."""


def module_name(package: str, path: Path) -> str:
    parts = path.relative_to(ROOT / HOMES[package]).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))


WITH_DOCTESTS = [
    module_name(package, path)
    for package, home in HOMES.items()
    for path in sorted((ROOT / home).rglob("*.py"))
    if ">>>" in path.read_text()
]


def place(block: Example) -> str:
    return f"{Path(block.path).relative_to(ROOT)}:{block.line}"


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_code_block_runs_by_itself(block: Example) -> None:
    block.namespace.clear()
    block.evaluate()


@pytest.mark.parametrize("module", WITH_DOCTESTS)
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed


def test_assumptions_list_every_field_with_its_default() -> None:
    text = (ROOT / "docs" / "assumptions.md").read_text()
    listed = {name: ast.literal_eval(value) for name, value in re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.M)}
    assert listed == {field.name: field.default for field in fields(Scenario)}


UNITS = {"dbm_hz": "dBm/Hz", "dbm": "dBm", "db": "dB", "hz": "Hz", "s": "s", "m": "m", "wavelengths": "wavelengths"}
"""What the end of a field's name says about its unit."""


def test_the_mixtures_assumptions_list_every_field_with_its_default_unit_and_reason() -> None:
    text = (ROOT / "docs" / "mixture.md").read_text().partition("\n## Assumptions\n")[2]
    sections = dict(re.findall(r"^### (.+)\n\n((?:.*\n)+?)(?=\n###|\Z)", text, re.M))
    tables = {}
    for title, section in sections.items():
        rows = [[cell.strip() for cell in line.split(" | ")] for line in section.splitlines() if line.startswith("| `")]
        tables[title] = {row[0].strip("|` "): ast.literal_eval(row[1].strip("`")) for row in rows}
        for name, _, unit, source, why in rows:
            assert source in ("paper", "ours", "assumption")
            assert len(why.strip(" |")) > 5
            end = next((end for end in UNITS if name.strip("|` ").endswith(f"_{end}")), None)
            assert unit
            assert end is None or unit.startswith(UNITS[end]), name
    for title, kind in (
        ("Of `MixtureOfSemantics-v0`", MixtureScenario),
        ("Of `MixtureOfSemanticsNoma-v0`", MixtureNomaScenario),
    ):
        listed = tables["Of both environments"] | tables[title]
        assert len(listed) == len(tables["Of both environments"]) + len(tables[title])
        assert listed == {field.name: field.default for field in fields(kind)}


def test_environment_arguments_list_every_field_with_its_default() -> None:
    for row in ENVIRONMENTS:
        module, _, name = row.entry_point.partition(":")
        doc = getattr(importlib.import_module(module), name).__doc__
        arguments = doc.partition("## Arguments")[2].partition("\n    ## ")[0]
        pairs = re.findall(r"\| `(\w+)` \| `?([^`|]+?)`? \|", arguments)
        listed = {field: ast.literal_eval(value) for field, value in pairs}
        module, _, name = row.scenario.partition(":")
        scenario = getattr(importlib.import_module(module), name)
        assert listed == {field.name: field.default for field in fields(scenario)}


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What MkDocs runs to write the environments' pages."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("hooks")


def test_every_environment_is_on_a_page_with_gymnasiums_headings_and_its_spaces(hooks: Any) -> None:
    pages = hooks.environment_pages()
    for row in ENVIRONMENTS:
        task = re.sub(r"-K\d+N\d+(?=-v)", "", row.id)
        (page,) = [text for text in pages.values() if text.startswith(f"# {task}\n")]
        has_family = f"| `{row.id}` |" in page
        assert re.findall(r"^## (.+)$", page, re.M) == [one for one in HEADINGS if has_family or one != "Sizes"]
        assert f"`{row.id}`" in hooks.environment_table()
        env = gymnasium.make(row.id)
        action, seen = env.action_space, env.observation_space
        if has_family:
            assert (
                f"| `{row.id}` | {env.unwrapped.scenario.num_users} | {env.unwrapped.scenario.num_antennas} |" in page
            )
            assert f"| {flatdim(action)} | {flatdim(seen)} |" in page
        else:
            assert row.id == task
        if row.id == task:
            for space in (action, seen):
                for key, part in space.items() if isinstance(space, Dict) else []:
                    assert f"| `{key}` | `{part}` | {flatdim(part)} |" in page
                    assert f"`{key}`" in str(type(env.unwrapped).__doc__)
            for knob, value in row.knobs.items():
                assert f"`{knob}={value!r}`" in page


def test_ids_named_in_pages_are_registered() -> None:
    known = {row.id for row in ENVIRONMENTS}
    for page in PAGES:
        named = set(re.findall(r"\b(?:NomaSemCom|MixtureOfSemantics)\w*-v\d+", page.read_text()))
        assert named <= known, f"{page.relative_to(ROOT)} names {named - known}"


def test_make_targets_named_in_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        named = set(re.findall(r"^make (?:PYTHON=\S+ )?([a-z-]+)", page.read_text(), re.M))
        named |= set(re.findall(r"`make (?:PYTHON=\S+ )?([a-z-]+)`", page.read_text()))
        assert named <= targets, f"{page.relative_to(ROOT)} names {named - targets}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.relative_to(ROOT)} links to {link}"


@pytest.mark.slow
def test_the_ppo_of_a_page_learns() -> None:
    (block,) = [block for block in BLOCKS if "def train(" in block.parsed]
    block.namespace.clear()
    block.evaluate()
    _, curve = block.namespace["train"](updates=40)
    assert sum(curve[-5:]) / 5 > curve[0] + 0.03


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Observation Space" in (tmp_path / "environments" / "index.html").read_text()
    for row in ENVIRONMENTS:
        if "num_users" not in row.knobs:
            page = (tmp_path / "environments" / row.id / "index.html").read_text()
            assert all(f">{heading}<a " in page for heading in HEADINGS if heading != "Sizes")
