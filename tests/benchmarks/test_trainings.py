"""The list of trainings agrees with the protocol, and shares what is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from noma_semcom_agents.references import NEAR_FIRST
from noma_semcom_benchmarks.trainings import (
    AGENTS,
    CAMPAIGNS,
    FAMILIES,
    MLP,
    SEEDS,
    STEPS,
    SWEEP_SEEDS,
    SWEPT,
    TUNED,
    TUNING_SEED,
    MissingRuns,
    Point,
    finished_runs,
    tried_settings,
)
from noma_semcom_env import ENVIRONMENTS, Scenario


def test_a_field_at_its_default_makes_no_other_training() -> None:
    assert Point("im-ppo", {"bandwidth_hz": 1e6, "num_users": 3}).name == Point("im-ppo").name == "im-ppo"
    other = Point("im-ppo", {"bandwidth_hz": 0.25e6, **NEAR_FIRST}, MLP)
    assert other.name == "im-ppo-bandwidth_hz-250000-model.network-mlp-transmission-distance"
    assert other.request(3, 10).settings == MLP


def test_names_tell_all_trainings_apart() -> None:
    points = [point for campaign in CAMPAIGNS.values() for point in campaign.points]
    named = {point.name: point for point in points}
    for point in points:
        assert named[point.name] == point
        Scenario.of(None, point.knobs)
        assert len(Path(point.name).parts) == 1


def test_numbers_are_those_of_the_protocol() -> None:
    text = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()
    assert f"{STEPS:,}".replace(",", " ") in text
    assert [point.agent for point in CAMPAIGNS["main"].points] == list(AGENTS)
    assert [CAMPAIGNS[name].seeds for name in ("main", "location", "tuning")] == [SEEDS, SEEDS, 1]
    shared = [one for name, one in CAMPAIGNS.items() if name not in ("main", "alike", "location", "long", "tuning")]
    assert all(one.seeds == SWEEP_SEEDS and one.first_seed == 0 for one in shared)
    assert all(point.budgets == SWEPT for one in shared for point in one.points)
    for length in (SWEPT, TUNED):
        assert f"{length} budgets, {round(length * STEPS) // 1000} 000 steps" in text
    assert f"seed {TUNING_SEED // 1000} 000" in text
    assert f"{len(tried_settings())} configurations" in text
    assert "`bandwidth_hz` 0.25, 0.5, 1, 2, 4 MHz" in text
    assert [point.knobs.get("bandwidth_hz", 1e6) / 1e6 for point in CAMPAIGNS["bandwidth"].points[::2]] == [
        0.25, 0.5, 1, 2, 4,
    ]  # fmt: skip
    assert CAMPAIGNS["long"].points[0].request(0, STEPS).steps == 3 * STEPS


def test_families_are_registered() -> None:
    ids = {row.id: row.knobs for row in ENVIRONMENTS}
    for family, knobs in FAMILIES.items():
        known = ids["NomaSemCom-v0" if family == "K3N2" else f"NomaSemCom-{family}-v0"]
        assert dict(known) == dict(knobs)


def test_missing_trainings_name_the_command_and_unfinished_ones_do_not_count(tmp_path: Path) -> None:
    point = Point("im-ppo")
    folder = point.folder(tmp_path, 4)
    folder.mkdir(parents=True)
    record = {"agent": "im-ppo", "seed": 4, "ended": None}
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(MissingRuns, match="noma_semcom_benchmarks.campaign users"):
        finished_runs(point, tmp_path, "users")
    (folder / "run.json").write_text(json.dumps(record | {"ended": {"steps": 1, "seconds": 1.0}}))
    runs = finished_runs(point, tmp_path, "users", "JTSC")
    assert list(runs) == [4]
    assert runs[4].label == "JTSC, seed 4"
