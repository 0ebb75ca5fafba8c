"""Common random numbers, regret, intervals, and the tables made of them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from noma_semcom_agents.evaluation import Contender, Evaluation, Record, evaluate, make_oracle, rollout
from noma_semcom_agents.report import print_tables, write_results
from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noma_semcom_agents.evaluation.RESAMPLES", 300)


@pytest.fixture(scope="module")
def evaluation(table_paths: dict[str, Path]) -> Evaluation:
    contenders = [
        Contender(AllSelection(), {"prune": False}),
        Contender(RandomSelection(), {"prune": False}),
        Contender(AllSelection(), {"transmission": "distance", "prune": False}, "near first"),
        Contender(NoSelection()),
    ]
    return evaluate(contenders, {"images": str(table_paths["test"]), "latency_ref_s": 2e-4}, episodes=12, seed=5)


def test_oracle_is_never_beaten_and_has_no_regret(evaluation: Evaluation) -> None:
    oracle = evaluation.records["Oracle"]
    for record in evaluation.records.values():
        assert (record.reward <= oracle.reward + 1e-12).all()
    assert evaluation.summary("Oracle")["regret"].value == 0.0
    assert evaluation.summary("Oracle (pruned)")["regret"].value >= 0.0
    assert evaluation.summary("ALL-Selection")["regret"].low > 0.0


def test_extremes_send_everything_and_nothing(evaluation: Evaluation) -> None:
    assert (evaluation.records["ALL-Selection"].share == 1.0).all()
    assert (evaluation.records["No-Selection"].share == 0.0).all()
    assert (evaluation.records["No-Selection"].latency_s == 0.0).all()


def test_order_alone_changes_latency_alone(evaluation: Evaluation) -> None:
    best, near = evaluation.records["ALL-Selection"], evaluation.records["near first"]
    np.testing.assert_array_equal(best.lpips, near.lpips)
    assert (best.latency_s <= near.latency_s * (1 + 1e-12)).all()
    gap = evaluation.difference("ALL-Selection", "near first")
    assert gap.low <= gap.value <= gap.high
    assert (best.latency_s < near.latency_s).any()
    assert gap.value > 0.0


def test_same_seed_same_records_whatever_the_batch(
    table_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    knobs = {"images": str(table_paths["test"])}
    whole, faced = rollout(Contender(AllSelection()), knobs, 5, 9)
    monkeypatch.setattr("noma_semcom_agents.evaluation._EPISODES_AT_ONCE", 2)
    parts, again = rollout(Contender(AllSelection()), knobs, 5, 9)
    np.testing.assert_array_equal(faced["channel"], again["channel"])
    np.testing.assert_allclose(whole.reward, parts.reward, rtol=1e-12)


def test_unfair_or_empty_comparisons_are_refused(table_paths: dict[str, Path]) -> None:
    knobs = {"images": str(table_paths["test"])}
    for unfair in ({"max_distance_m": 500.0}, {"latency_ref_s": 1.0}, {"images": "street-policy"}):
        with pytest.raises(ValueError, match=f"replace {next(iter(unfair))}, which would change the task"):
            evaluate([Contender(AllSelection()), Contender(NoSelection(), unfair)], knobs, 2, 0)
    with pytest.raises(ValueError, match="none of"):
        evaluate([Contender(AllSelection(), label="Oracle")], knobs, 2, 0)
    with pytest.raises(ValueError, match="contenders is empty"):
        evaluate([], knobs, 2, 0)
    with pytest.raises(ValueError, match="each needs its own"):
        evaluate([Contender(AllSelection()), Contender(AllSelection(), {"prune": False})], knobs, 2, 0)
    with pytest.raises(ValueError, match="episodes=0"):
        rollout(Contender(AllSelection()), knobs, 0, 0)


def test_oracle_needs_a_table(table_paths: dict[str, Path]) -> None:
    from noma_semcom_env import load_table

    class Live:
        bank = load_table(str(table_paths["test"])).bank

        def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
            return np.zeros(images.shape)

    with pytest.raises(ValueError, match="recovery='table'"):
        make_oracle({"recovery": Live()})


def test_interval_of_a_mean_covers_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for seed in range(60):
        reward = rng.normal(0.0, 1.0, (50, 1))
        ones = np.ones((50, 1))
        one = Record("x", reward, ones, ones, ones, ones)
        gap = Evaluation({"x": one, "zero": Record("zero", 0 * ones, ones, ones, ones, ones)}, ones, seed).difference(
            "x", "zero"
        )
        covered += gap.low <= 0.0 <= gap.high
        widths.append(gap.high - gap.low)
    # 57 of 60 expected; fewer than 50 has a chance below one in a thousand.
    assert covered >= 50
    assert np.mean(widths) == pytest.approx(2 * 1.96 / 50**0.5, rel=0.1)


def test_single_episode_has_an_endless_interval() -> None:
    ones = np.ones((1, 3))
    gap = Evaluation({"x": Record("x", ones, ones, ones, ones, ones)}, ones, 0).summary("x")["reward"]
    assert (gap.low, gap.value, gap.high) == (-np.inf, 1.0, np.inf)


def test_tables_name_everyone_and_files_hold_the_numbers(evaluation: Evaluation, tmp_path: Path) -> None:
    text = io.StringIO()
    print_tables(evaluation, "No-Selection", Console(file=text, width=132), "a title")
    for name in evaluation.records:
        assert text.getvalue().count(name) >= 2
    files = write_results(evaluation, "No-Selection", tmp_path, {"seed": 5})
    rows = list(csv.DictReader(io.StringIO(files[0].read_text())))
    assert [row["policy"] for row in rows] == list(evaluation.records)
    content = json.loads(files[1].read_text())
    assert content["configuration"] == {"seed": 5}
    low, value, high = (float(rows[0][f"reward{end}"]) for end in ("_low", "", "_high"))
    assert low <= value <= high
    assert content["policies"]["ALL-Selection"]["reward"] == [value, low, high]
    assert "numpy" in content["versions"]
