"""The protocol's statistics against closed forms, SciPy, and what their names promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, ttest_1samp

from noma_semcom_agents.statistics import (
    area_under_curve,
    common_threshold,
    convergence_difference,
    convergence_step,
    crossed_interval,
    interquartile_mean,
    paired_difference,
    regret_interval,
    student_interval,
    together_interval,
)


def test_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    assert interquartile_mean(np.array([9.0, 1.0, 2.0, 3.0, -50.0])) == pytest.approx(2.0)
    assert interquartile_mean(np.arange(8.0)) == pytest.approx(np.mean([2, 3, 4, 5]))
    values = np.random.default_rng(0).normal(size=(3, 11, 2))
    np.testing.assert_allclose(interquartile_mean(values, axis=1), np.sort(values, axis=1)[:, 2:-2].mean(axis=1))


def test_crossed_interval_is_the_bootstrap_where_only_one_side_varies() -> None:
    values = np.random.default_rng(1).normal(size=30)
    ours = crossed_interval(lambda run, _: values[run].mean(axis=-1), 30, 1, 0)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    assert ours.value == pytest.approx(values.mean())
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.08 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.08 * width)


def test_episodes_that_are_hard_for_both_do_not_blur_a_paired_difference() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0.0, 5.0, (1, 200))
    first = hard + rng.normal(0.0, 0.05, (10, 200)) + 0.1
    second = hard + rng.normal(0.0, 0.05, (10, 200))
    gap = paired_difference(first, second)
    assert gap.value == pytest.approx(0.1, abs=0.02)
    assert gap.low > 0.0
    assert gap.high - gap.low < 0.05
    mixed = paired_difference(first, second[:, ::-1])
    assert mixed.high - mixed.low > 10 * (gap.high - gap.low)
    with pytest.raises(ValueError, match=r"\(10, 200\), second \(9, 200\)"):
        paired_difference(first, second[:9])


@pytest.mark.parametrize(("runs", "low", "high"), [(5, 0.02, 0.22), (10, 0.01, 0.13)])
def test_how_often_nothing_is_taken_for_a_win(
    runs: int, low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noma_semcom_agents.statistics.RESAMPLES", 300)
    rng = np.random.default_rng(0)
    wins = [
        paired_difference(rng.normal(size=(runs, 1)), rng.normal(size=(runs, 1)), seed).excludes_zero
        for seed in range(200)
    ]
    # 0.105 and 0.055 expected; the bounds are about four standard deviations away.
    assert low <= np.mean(wins) <= high


def test_regret_is_a_share_of_the_oracle() -> None:
    best = np.random.default_rng(0).uniform(0.5, 1.5, 40)
    missed = np.outer([0.1, 0.2, 0.2, 0.2, 0.9], best)
    found = regret_interval(missed, best)
    assert found.value == pytest.approx(0.2)
    assert found.low <= found.value <= found.high
    one = regret_interval(missed[:1], best)
    assert (one.low, one.high) == pytest.approx((0.1, 0.1))


def test_tasks_count_alike_however_many_runs_each_has() -> None:
    best = np.random.default_rng(0).uniform(0.5, 1.5, 40)
    easy, hard = np.outer([0.0, 0.1, 0.1, 0.1, 0.9], best), np.outer([0.5, 0.5, 0.5], best[:30])
    found = together_interval([(easy, best), (hard, best[:30])])
    assert found.value == pytest.approx((0.1 + 0.5) / 2)
    assert found.low <= found.value <= found.high
    alone = together_interval([(easy, best)])
    assert alone.value == pytest.approx(regret_interval(easy, best).value)
    assert alone.high == pytest.approx(regret_interval(easy, best).high, abs=0.1)


def test_agents_and_references_are_put_together_alike() -> None:
    rng = np.random.default_rng(0)
    best, noise = np.ones((3, 60)), rng.normal(0.3, 0.4, (3, 60))
    reference = together_interval([(one[None], other) for one, other in zip(noise, best, strict=True)])
    agent = together_interval([(np.tile(one, (5, 1)), other) for one, other in zip(noise, best, strict=True)])
    # Five runs that do the same are as good as one: what is left is the episodes.
    assert agent.value == pytest.approx(reference.value)
    assert agent.high - agent.low == pytest.approx(reference.high - reference.low, rel=0.15)
    assert reference.high - reference.low == pytest.approx(2 * 1.96 * 0.4 / np.sqrt(180), rel=0.25)


def test_students_interval_is_scipys() -> None:
    values = [0.3, 0.9, 0.1]
    theirs = ttest_1samp(values, 0.0).confidence_interval(0.95)
    ours = student_interval(values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert (student_interval([1.0]).low, student_interval([1.0]).high) == (-np.inf, np.inf)


def test_an_estimate_keeps_what_each_run_comes_to() -> None:
    values = np.random.default_rng(0).normal(size=(4, 9))
    found = crossed_interval(lambda run, e: values[run[..., :, None], e[..., None, :]].mean(axis=(-2, -1)), 4, 9, 0)
    assert found.by_run == pytest.approx(values.mean(axis=1))
    gap, _, _ = convergence_difference(np.array([10.0, 20.0]), np.array([60.0, np.inf]), budget=100.0)
    assert gap.by_run == pytest.approx((0.5, 0.8))


def test_convergence_is_for_good_or_censored() -> None:
    steps = np.array([0, 10, 20, 30, 40])
    assert convergence_step(steps, np.array([1.0, 0.2, 0.6, 0.3, 0.1]), 0.3) == 30
    assert convergence_step(steps, np.array([0.1, 0.2, 0.1, 0.3, 0.1]), 0.3) == 0
    assert convergence_step(steps, np.array([1.0, 0.2, 0.1, 0.1, 0.31]), 0.3) == np.inf
    assert convergence_step(steps, np.array([1.0, 0.2, 0.1, 0.1, np.nan]), 0.3) == np.inf


def test_threshold_is_common_and_most_of_the_way_to_the_best() -> None:
    finals = {"good": np.array([0.1, 0.2, 0.2, 0.2, 0.3]), "bad": np.array([0.8] * 5)}
    assert common_threshold(1.2, finals) == pytest.approx(1.2 - 0.9 * 1.0)
    with pytest.raises(ValueError, match="not below Random-Selection's"):
        common_threshold(0.1, finals)


def test_censored_runs_count_as_the_whole_budget() -> None:
    first, second = np.array([10.0, 20.0, 10.0, 20.0]), np.array([60.0, np.inf, 60.0, np.inf])
    gap, mine, theirs = convergence_difference(first, second, budget=100.0)
    assert gap.value == pytest.approx(np.mean([0.5, 0.8, 0.5, 0.8]))
    assert 0.5 <= gap.low <= gap.value <= gap.high <= 0.8
    assert (mine, theirs) == (0, 2)


def test_area_is_the_mean_regret_over_the_budget() -> None:
    steps, regret = np.array([0, 10, 20]), np.array([1.0, 0.5, 0.5])
    assert area_under_curve(steps, regret, 20) == pytest.approx((7.5 + 5.0) / 20)
    assert area_under_curve(steps, regret, 40) == pytest.approx((7.5 + 5.0 + 10.0) / 40)  # held to the budget
    assert area_under_curve(steps, regret, 5) == pytest.approx((1.0 + 0.75) / 2)  # cut at the budget
    with pytest.raises(ValueError, match="begins at 10"):
        area_under_curve(steps[1:], regret[1:], 20)
