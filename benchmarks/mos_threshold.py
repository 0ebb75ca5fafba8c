"""Thresholds of curves over alpha: where a curve saturates, found on half of the scenes and judged on the other half.

A threshold found on the very scenes that it is judged on always looks like one: wherever a curve first comes near its
end, little is left beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks.mos_report import interval

FASTER: Final = 2.0
"""How many times as steep as beyond its threshold a curve must at least be before it, to count as fast there."""

SLACK: Final = 0.1
"""Most of the slope up to the threshold that may be left beyond it, if growth has slowed down or stopped there."""

UNKNOWN: Final = Interval(np.nan, -np.inf, np.inf)
"""Of what cannot be measured."""


@dataclass(frozen=True)
class Edge:
    """A threshold.

    Attributes:
        place: Index of the threshold.
        below: Slope up to it, a unit of alpha, on scenes that it was not found on; 0 if it is the first point.
        above: Slope beyond it; nothing is known if it is the last point.
        faster: ``below`` less :data:`FASTER` times ``above``: above 0 if the curve is fast before the threshold.
        slower: :data:`SLACK` times ``below`` less ``above``: above 0 if its growth slows down or stops beyond it.
    """

    place: int
    below: Interval
    above: Interval
    faster: Interval
    slower: Interval


def saturation(curve: np.ndarray, share: float, base: float = 0.0) -> int:
    """Index of the first value of (A,) that reaches a share of the way from a base to the largest."""
    return int(np.argmax(curve - base >= share * (curve.max() - base)))


def halves(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scenes to find a threshold on, and scenes to judge it on, ascending; a single scene is both."""
    drawn = np.random.default_rng(seed).permutation(count)
    first = (count + 1) // 2
    return np.sort(drawn[:first]), np.sort(drawn[first:] if count > 1 else drawn)


def find_edge(curves: np.ndarray, alphas: Sequence[float], share: float, from_first: bool = False) -> Edge:
    """The threshold of rising curves.

    Args:
        curves: (A, n) by alpha and scene.
        alphas: (A,) ascending.
        share: Of saturation, at which the threshold lies.
        from_first: Whether the share is of the rise over the first point, not of the largest value.
    """
    found_on, judged_on = halves(curves.shape[1])
    mean = curves[:, found_on].mean(axis=1)
    place = saturation(mean, share, mean[0] if from_first else 0.0)
    other = curves[:, judged_on]
    nothing = np.zeros(len(judged_on))
    below = (other[place] - other[0]) / (alphas[place] - alphas[0]) if place else nothing
    if place == len(curves) - 1:
        return Edge(place, interval(below), UNKNOWN, UNKNOWN, UNKNOWN)
    above = (other[-1] - other[place]) / (alphas[-1] - alphas[place])
    return Edge(
        place, interval(below), interval(above), interval(below - FASTER * above), interval(SLACK * below - above)
    )
