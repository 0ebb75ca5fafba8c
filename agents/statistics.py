"""The protocol's statistics: interquartile means, their intervals, paired differences, convergence, area under a curve.

A training is one of R runs, each with a seed; run r is evaluated on the same E episodes as every other one. What is
reported of an agent is the interquartile mean over its runs. Intervals are 95 % percentile bootstrap intervals that
draw runs and episodes anew, crossed: both are samples, and a drawn run keeps all drawn episodes. Differences are paired
by training seed and by episode. Over several tasks, runs are drawn within each task (stratified), as in Agarwal et al.,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", 2021. That paper's package is not used: it
brings seaborn and pandas along and knows neither pairs nor episodes.

A percentile interval over few runs is too short. Where runs alone differ, the interval of a difference of nothing
leaves out 0 in more than one case of four with three runs, in about one of ten with five, and in one of twenty, as it
should, with ten. So an estimate keeps what each run comes to, for Student's interval beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from noma_semcom_agents.evaluation import CONFIDENCE, RESAMPLES, Interval

TRIMMED: Final = 0.25
"""Share of the runs that an interquartile mean leaves out at each end."""

CONVERGED: Final = 0.9
"""Share of the way from Random-Selection's regret to the best agent's at which a run has converged."""

_AT_ONCE: Final = 100


@dataclass(frozen=True)
class Estimate(Interval):
    """An interval that draws runs, with what each of them comes to.

    Attributes:
        by_run: The same number of each run alone, over all episodes; empty for what has no runs.
    """

    by_run: tuple[float, ...] = ()


def interquartile_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean of the middle half along an axis; of n values floor(n / 4) are left out at each end."""
    from scipy.stats import trim_mean

    result: np.ndarray = np.asarray(trim_mean(values, TRIMMED, axis=axis))
    return result


def regret_interval(missed: np.ndarray, best: np.ndarray, seed: int = 0) -> Interval:
    """Interquartile mean over runs of the regret, as a share of the oracle's objective.

    Args:
        missed: (R, E) each run's mean objective in each episode, less the oracle's.
        best: (E,) the oracle's mean objective.
        seed: Of the bootstrap.
    """
    runs, episodes = missed.shape

    def statistic(run: np.ndarray, episode: np.ndarray) -> np.ndarray:
        drawn = missed[run[..., :, None], episode[..., None, :]].mean(axis=-1)
        return interquartile_mean(drawn / best[episode].mean(axis=-1, keepdims=True))

    return crossed_interval(statistic, runs, episodes, seed)


def paired_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Interval:
    """Interquartile mean over runs of the difference of two agents; a win if its interval leaves out 0.

    Args:
        first: (R, E) rewards, or any other score, of one agent's runs in each episode.
        second: (R, E) the other's, row r of the same training seed and column e of the same episode.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"first has shape {first.shape}, second {second.shape}; pairs need the same runs and episodes")
    gap = first - second

    def statistic(run: np.ndarray, episode: np.ndarray) -> np.ndarray:
        return interquartile_mean(gap[run[..., :, None], episode[..., None, :]].mean(axis=-1))

    runs, episodes = gap.shape
    return crossed_interval(statistic, runs, episodes, seed)


def crossed_interval(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], runs: int, episodes: int, seed: int
) -> Estimate:
    """Percentile bootstrap that draws runs and episodes, each with replacement.

    Args:
        statistic: Takes row numbers (..., n) of runs and (..., m) of episodes and gives (...).
        runs: R.
        episodes: E.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    value = float(statistic(np.arange(runs), np.arange(episodes)))
    by_run = statistic(np.arange(runs)[:, None], np.tile(np.arange(episodes), (runs, 1)))
    parts = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        count = min(_AT_ONCE, RESAMPLES - start)
        run = rng.integers(0, runs, (count, runs))
        parts.append(statistic(run, rng.integers(0, episodes, (count, episodes))))
    return Estimate(value, *_percentiles(np.concatenate(parts)), tuple(by_run.tolist()))


def student_interval(by_run: Sequence[float]) -> Interval:
    """Student's 95 % interval of the mean over runs, as wide as so few runs need if they are about normal.

    Args:
        by_run: A number for each run, at least one; of a single one nothing can be told.
    """
    from scipy.stats import t

    values = np.asarray(by_run)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return Interval(mean, -np.inf, np.inf)
    reach = float(t.ppf((1.0 + CONFIDENCE) / 2.0, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return Interval(mean, mean - reach, mean + reach)


def together_interval(tasks: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> Interval:
    """Mean over tasks of the regret on each: the interquartile mean over that task's own runs.

    The interval draws runs and episodes anew within each task; what has a single run draws episodes alone.

    Args:
        tasks: For each task what :func:`regret_interval` takes: (R, E) mean objective of each run in each episode, less
            the oracle's, and (E,) the oracle's. Numbers of runs and of episodes may differ between tasks.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    values, drawn = [], np.zeros((len(tasks), RESAMPLES))
    for row, (missed, best) in zip(drawn, tasks, strict=True):
        runs, episodes = missed.shape
        values.append(float(interquartile_mean(missed.mean(axis=1) / best.mean())))
        for start in range(0, RESAMPLES, _AT_ONCE):
            count = min(_AT_ONCE, RESAMPLES - start)
            run, episode = rng.integers(0, runs, (count, runs)), rng.integers(0, episodes, (count, episodes))
            some = missed[run[:, :, None], episode[:, None, :]].mean(axis=-1)
            row[start : start + count] = interquartile_mean(some / best[episode].mean(axis=-1, keepdims=True))
    return Interval(float(np.mean(values)), *_percentiles(drawn.mean(axis=0)))


def common_threshold(random: float, finals: Mapping[str, np.ndarray], share: float = CONVERGED) -> float:
    """The regret that counts as converged, the same for every agent.

    Args:
        random: Regret of Random-Selection on the episodes that learning curves are measured on.
        finals: Name of an agent to the final regret (R,) of its runs there.
        share: Of the way from ``random`` to the best agent's interquartile mean.

    Raises:
        ValueError: If no agent is better than Random-Selection.
    """
    best = min(float(interquartile_mean(np.asarray(one))) for one in finals.values())
    if not best < random:
        raise ValueError(f"the best agent's regret {best!r} is not below Random-Selection's {random!r}")
    return random - share * (random - best)


def convergence_step(steps: np.ndarray, regret: np.ndarray, threshold: float) -> float:
    """First step from which the regret stays at or below a threshold to the end.

    Args:
        steps: (n,) rising environment steps at which the policy was looked at.
        regret: (n,) its regret there.
        threshold: See :func:`common_threshold`.

    Returns:
        One of ``steps``; inf for a run that does not end at or below the threshold, which is censored at its last step.
    """
    above = np.flatnonzero(~(np.asarray(regret) <= threshold))
    first = 0 if len(above) == 0 else int(above[-1]) + 1
    return float(steps[first]) if first < len(steps) else np.inf


def convergence_difference(
    first: np.ndarray, second: np.ndarray, budget: float, seed: int = 0
) -> tuple[Estimate, int, int]:
    """How many steps sooner one agent converges than another, in units of the budget, paired by training seed.

    Censored runs count as the whole budget, the least that they can have taken (restricted mean): with censored runs
    among the second agent's alone the difference is a lower bound.

    Args:
        first: (R,) steps of :func:`convergence_step`, inf where censored.
        second: (R,) the other agent's.
        budget: Environment steps of every run.
        seed: Of the bootstrap over runs.

    Returns:
        Mean of (second - first) / budget with its interval, and the numbers of censored runs of both.
    """
    gap = (np.minimum(second, budget) - np.minimum(first, budget)) / budget
    interval = crossed_interval(lambda run, _: gap[run].mean(axis=-1), len(gap), 1, seed)
    return interval, int(np.isinf(first).sum()), int(np.isinf(second).sum())


def area_under_curve(steps: np.ndarray, regret: np.ndarray, budget: float) -> float:
    """Mean regret over a training, by the trapezoidal rule from step 0 to the budget.

    Args:
        steps: (n,) rising environment steps, from 0.
        regret: (n,) regret there; the last one is held to the budget if the run ended before.
        budget: Environment steps; what lies beyond is not counted.

    Raises:
        ValueError: If the curve does not begin at step 0.
    """
    if steps[0] != 0:
        raise ValueError(f"steps begins at {int(steps[0])}; the area needs the policy before its first update, step 0")
    inside = steps < budget
    x = np.append(steps[inside], budget)
    y = np.append(regret[inside], np.interp(budget, steps, regret))
    return float(np.trapezoid(y, x) / budget)


def _percentiles(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1.0 - CONFIDENCE) / 2.0, (1.0 + CONFIDENCE) / 2.0])
    return float(low), float(high)
