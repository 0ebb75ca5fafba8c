"""Which runs are replicates of one another, which are compared at all, and what reading them may touch."""

from __future__ import annotations

import csv
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from noma_semcom_agents.cli import app
from noma_semcom_agents.comparison import compare_runs, group_runs
from noma_semcom_agents.learned import MODULE_IN_CHECKPOINT, LearnedPolicy
from noma_semcom_agents.lineup import read_runs
from noma_semcom_agents.training import CHECKPOINT, POLICY

Leave = Callable[..., dict[str, Any]]


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, re.sub(r"[\s│┃]+", " ", result.output)


def runs_of(folder: Path, leave: Leave, asked: list[dict[str, Any]]) -> list[Path]:
    places = [folder / str(number) for number in range(len(asked))]
    for place, one in zip(places, asked, strict=True):
        leave(place, **{"ended": 128, **one})
    return places


def test_runs_that_differ_are_no_replicates(leave_run: Leave, table_paths: dict[str, Path], tmp_path: Path) -> None:
    rates = [{"settings": {"model.width": 8, "lr": lr}} for lr in (2e-3, 1e-4)]
    near = {"knobs": {"transmission": "distance"}}
    asked = [{"seed": seed, **rate} for rate in rates for seed in (0, 1)]
    asked += [{"seed": 0, **rates[0], **near}, {"seed": 0, "agent": "m-ppo", **rates[0]}]
    runs = read_runs(runs_of(tmp_path, leave_run, asked), str(table_paths["test"]))
    found = {name: [run.record["seed"] for run in group] for name, group in group_runs(runs).items()}
    assert found == {
        "IM-PPO (transmission=optimal, lr=0.002)": [0, 1],
        "IM-PPO (transmission=optimal, lr=0.0001)": [0, 1],
        "IM-PPO (transmission=distance, lr=0.002)": [0],
        "M-PPO": [0],
    }
    assert list(group_runs(runs[:2])) == ["IM-PPO"]
    with pytest.raises(ValueError, match="both IM-PPO with seed 0 and the same settings"):
        group_runs([runs[0], runs[0]])


def test_a_length_is_no_rate(leave_run: Leave, table_paths: dict[str, Path], tmp_path: Path) -> None:
    rates = [2e-3, 2e-3, [[0, 2e-3], [256, 2e-3]]]
    asked = [
        {"settings": {"model.width": 8, "lr": lr}, "steps": steps, "ended": steps}
        for lr, steps in zip(rates, (128, 256, 256), strict=True)
    ]
    runs = read_runs(runs_of(tmp_path, leave_run, asked), str(table_paths["test"]))
    assert list(group_runs(runs[:2])) == ["IM-PPO (steps=128)", "IM-PPO (steps=256)"]
    assert list(group_runs(runs[1:])) == ["IM-PPO (lr=0.002)", "IM-PPO (lr=[[0, 0.002], [256, 0.002]])"]


def test_what_did_not_come_to_its_end_says_so(
    leave_run: Leave, table_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noma_semcom_agents.evaluation.RESAMPLES", 100)
    monkeypatch.setattr("noma_semcom_agents.statistics.RESAMPLES", 100)
    asked = [{"seed": 0}, {"seed": 1, "ended": None}, {"seed": 2, "ended": 96}, {"seed": 3, "steps": 256, "ended": 256}]
    places = [str(place) for place in runs_of(tmp_path, leave_run, asked)]
    images = ["--images", str(table_paths["test"]), "--episodes", "2", "--references", "location"]
    code, said = call("evaluate", *places, *images, "--output", str(tmp_path / "evaluation"))
    assert code == 0, said
    labels = [
        "IM-PPO, seed 0", "IM-PPO, seed 1 (unfinished at 64 of 128 steps)",
        "IM-PPO, seed 2 (ended at 96 of 128 steps)", "IM-PPO, seed 3",
    ]  # fmt: skip
    policies = json.loads((tmp_path / "evaluation" / "results.json").read_text())["policies"]
    assert list(policies)[:4] == labels
    assert list(policies)[5] == labels[1].replace("IM-PPO", "Location-Decoding")
    assert "unfinished at 64 of 128 steps" in said
    images = [*images[:-1], "all", "--output", str(tmp_path / "comparison")]
    for other, named in ((1, "unfinished at 64 of 128"), (2, "ended at 96 of 128"), (3, "over 128 steps, .* over 256")):
        code, said = call("compare", places[0], places[other], *images)
        assert code == 2
        assert re.search(named, said), said
        assert "--allow-unfinished" in said
    assert not (tmp_path / "comparison").exists()
    code, said = call("compare", *places, *images, "--allow-unfinished")
    assert code == 0, said
    assert "2 unfinished" in said
    with (tmp_path / "comparison" / "runs.csv").open(newline="") as file:
        rows = [(row["agent"], row["budget"], row["remark"]) for row in csv.DictReader(file)]
    assert rows == [
        ("IM-PPO (steps=128)", "128", ""),
        ("IM-PPO (steps=128)", "128", "unfinished at 64 of 128 steps"),
        ("IM-PPO (steps=128)", "128", "ended at 96 of 128 steps"),
        ("IM-PPO (steps=256)", "256", ""),
    ]


class Malice:
    """What runs as soon as it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.mark,)


def test_evaluating_a_run_unpickles_nothing(
    leave_run: Leave, table_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noma_semcom_agents.evaluation.RESAMPLES", 100)
    run, mark = tmp_path / "run", tmp_path / "mark"
    leave_run(run, ended=128)
    module = run / CHECKPOINT / MODULE_IN_CHECKPOINT
    module.mkdir(parents=True)
    (module / "class_and_ctor_args.pkl").write_bytes(pickle.dumps(Malice(mark)))
    images = ["--images", str(table_paths["test"]), "--episodes", "2"]
    code, said = call("evaluate", str(run), *images, "--references", "all")
    assert code == 0, said
    compare_runs(read_runs([run], str(table_paths["test"])), str(table_paths["test"]), 2, 0, {})
    assert not mark.exists()
    # The trap is one: who asks for RLlib's checkpoint springs it.
    with pytest.raises(Exception):  # noqa: B017, PT011  (whatever RLlib makes of it)
        LearnedPolicy.from_checkpoint(run / CHECKPOINT)
    assert mark.exists()
    (run / POLICY).unlink()
    code, said = call("evaluate", str(run), *images)
    assert code == 2
    assert "holds no policy.npz" in said


def test_policies_of_other_versions_are_refused(leave_run: Leave, tmp_path: Path) -> None:
    leave_run(tmp_path / "run")
    with np.load(tmp_path / "run" / POLICY) as held:
        arrays = dict(held)
    np.savez(tmp_path / "other.npz", **dict(list(arrays.items())[1:]))
    with pytest.raises(ValueError, match="holds a policy of another version"):
        LearnedPolicy.load(tmp_path / "other.npz")
