"""Scenarios that the oracle does not cover: they are trained, evaluated and compared by their rewards alone."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from typer.testing import CliRunner

from noma_semcom_agents import metrics
from noma_semcom_agents.cli import app
from noma_semcom_agents.evaluation import Contender, check_oracle, evaluate, make_oracle
from noma_semcom_agents.runs import Request, prepare, train_policy
from noma_semcom_agents.schemes import AllSelection, NoSelection
from noma_semcom_agents.search import NotSearchable
from noma_semcom_agents.sweep_plan import make_plan
from noma_semcom_agents.training import Validation, read_points

UNKNOWN: list[dict[str, Any]] = [
    {"access": "fdma"},
    {"backlog": True},
    {"sic_residual": 0.1},
    {"reward": "worst_user"},
    {"num_users": 17},
]
IDS = [next(iter(one)) for one in UNKNOWN]


def words(knobs: dict[str, Any]) -> list[str]:
    return [word for name, one in knobs.items() for word in ("--set", f"{name}={json.dumps(one)}")]


def plain(text: str) -> str:
    return re.sub(r"[\s│]+", " ", text)


@pytest.mark.parametrize("knobs", UNKNOWN, ids=IDS)
def test_no_oracle_is_no_obstacle(knobs: dict[str, Any], table_paths: dict[str, Path]) -> None:
    request = Request(knobs={"images": str(table_paths["policy"]), **knobs}, validation=str(table_paths["validation"]))
    validation = prepare(request)[2]
    assert math.isnan(validation.best)
    reward = of_two_episodes(validation).reward(AllSelection())
    assert math.isfinite(reward)
    assert math.isnan(validation.regret(reward))
    with pytest.raises(NotSearchable, match=next(iter(knobs))):
        make_oracle(validation.knobs)


def of_two_episodes(validation: Validation) -> Validation:
    return Validation(validation.knobs, validation.knobs["images"], episodes=2)


@pytest.mark.parametrize("knobs", UNKNOWN, ids=IDS)
def test_sampling_reports_no_regret_without_an_oracle(knobs: dict[str, Any], table_paths: dict[str, Path]) -> None:
    env = gym.make("NomaSemCom-v0", images=str(table_paths["policy"]), **knobs)
    assert metrics.make_oracle(metrics.dynamics_of(env)) is None
    env.close()


@pytest.mark.parametrize("knobs", UNKNOWN, ids=IDS)
def test_evaluations_without_an_oracle_have_no_regret(knobs: dict[str, Any], table_paths: dict[str, Path]) -> None:
    contenders = [Contender(AllSelection()), Contender(NoSelection())]
    found = evaluate(contenders, {"images": str(table_paths["test"]), **knobs}, 2, 0)
    assert list(found.records) == ["ALL-Selection", "No-Selection"]
    assert next(iter(knobs)) in found.no_oracle
    summary = found.summary("ALL-Selection")
    assert math.isnan(summary["regret"].value)
    assert math.isnan(summary["regret"].low)
    assert math.isfinite(summary["reward"].value)


def test_rewards_are_shown_where_there_is_no_regret(
    leave_run: Callable[..., Any],
    table_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("noma_semcom_agents.evaluation.RESAMPLES", 100)
    monkeypatch.setattr("noma_semcom_agents.statistics.RESAMPLES", 100)
    runs = [tmp_path / "0", tmp_path / "1"]
    for seed, run in enumerate(runs):
        leave_run(run, ended=128, seed=seed, knobs={"access": "fdma"})
    given = [*map(str, runs), "--images", str(table_paths["test"]), "--episodes", "2", "--output"]
    done = CliRunner().invoke(app, ["evaluate", *given, str(tmp_path / "evaluation")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "no regret: the oracle knows access=" in plain(done.output)
    assert "regret to" not in plain(done.output)
    content = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    # No decoding order, so no Location-Decoding either.
    assert list(content["policies"]) == ["IM-PPO, seed 0", "IM-PPO, seed 1", "ALL-Selection", "Random-Selection"]
    assert content["policies"]["ALL-Selection"]["regret"] == [None, None, None]
    assert all(isinstance(number, float) for number in content["policies"]["ALL-Selection"]["reward"])
    done = CliRunner().invoke(app, ["compare", *given, str(tmp_path / "comparison")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "no regret: the oracle knows access=" in plain(done.output)
    assert "nan" not in done.output
    (agent,) = json.loads((tmp_path / "comparison" / "comparison.json").read_text())["agents"]
    assert agent["regret"] is None
    assert np.isfinite(agent["reward"])
    assert (tmp_path / "comparison" / "comparison.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("knobs", "settings", "named"),
    [
        ({"image_ids": ["a", "b", "c"]}, {}, "image_ids"),
        ({"observation": "paper"}, {}, "network='equivariant' reads"),
        ({}, {"minibatch_size": 1_000_000}, "minibatch_size"),
    ],
)
def test_what_is_refused_leaves_nothing(
    knobs: dict[str, Any], settings: dict[str, Any], named: str, table_paths: dict[str, Path], tmp_path: Path
) -> None:
    knobs = {"images": str(table_paths["policy"]), **knobs}
    request = Request(steps=64, knobs=knobs, settings=settings, validation=str(table_paths["validation"]))
    with pytest.raises(ValueError, match=named):
        train_policy(tmp_path / "run", request)
    with pytest.raises(ValueError, match="other labels than the training images"):
        train_policy(tmp_path / "run", replace(request, knobs={}, settings={}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"scenario": {"access": "fdma"}},
        {"scenario": {"num_users": 20}},
        {"search": {"scenario.sic_residual": {"uniform": [0.0, 0.1]}}},
        {"search": {"scenario.reward": {"choice": ["weighted_sum", "worst_user"]}}},
    ],
)
def test_a_sweep_does_not_go_by_a_regret_that_nobody_knows(change: dict[str, Any]) -> None:
    sweep = {"agent": "im-ppo", "search": {"lr": {"grid": [1e-3, 3e-3]}}, **change}
    with pytest.raises(ValueError, match=r"metric='regret' needs an oracle: .*; use metric: validation_reward"):
        make_plan(sweep)
    assert make_plan({**sweep, "metric": "validation_reward"}).mode == "max"


def test_choices_of_tune_are_checked_as_well() -> None:
    from ray import tune

    sweep = {"agent": "im-ppo", "search": {"scenario.access": tune.choice(["noma", "fdma"])}}
    with pytest.raises(ValueError, match="metric='regret' needs an oracle: .*'fdma'"):
        make_plan(sweep)


def test_what_the_oracle_knows_passes() -> None:
    check_oracle({"images": "street-validation", "access": "tdma"})


@pytest.mark.slow
def test_a_training_without_an_oracle_comes_to_its_end(table_paths: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = {"train_batch_size_per_learner": 128, "minibatch_size": 64, "num_envs_per_env_runner": 8, "model.width": 8}
    given = ["--output", str(run), "--steps", "256", "--validation", str(table_paths["validation"])]
    given += words({"images": str(table_paths["policy"]), "num_users": 2, "access": "fdma", "reward": "worst_user"})
    given += [word for name, one in small.items() for word in ("--setting", f"{name}={one}")]
    done = CliRunner().invoke(app, ["train", *given], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "nan" not in done.output
    points = read_points(run / "learning_curve.csv")
    assert points[-1].steps == 256
    assert all(math.isnan(point.regret) and math.isfinite(point.validation_reward) for point in points)
    record = json.loads((run / "run.json").read_text())
    assert record["ended"]["validation_regret"] is None
    evaluated = ["evaluate", str(run), "--images", str(table_paths["test"]), "--episodes", "2"]
    done = CliRunner().invoke(app, evaluated, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with (run / "evaluation" / "results.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["policy"] == "IM-PPO"
