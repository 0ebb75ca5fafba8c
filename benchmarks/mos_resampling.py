"""A bootstrap that draws groups of values and keeps each group whole: pictures with all their items, or episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noma_semcom_agents.evaluation import CONFIDENCE, RESAMPLES, Interval

_TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Best:
    """The best of some candidates.

    Attributes:
        place: Index of the candidate of highest mean.
        low: Lower end of the 95 % interval of that index.
        high: Upper end.
    """

    place: int
    low: int
    high: int


class Resampling:
    """Means over n values with percentile intervals; every statistic of one object meets the same draws.

    Args:
        groups: (n,) what values are drawn together; items of one picture are not independent.
        seed: Of the draws.
    """

    def __init__(self, groups: np.ndarray, seed: int = 0) -> None:
        names, place = np.unique(groups, return_inverse=True)
        self.groups = len(names)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(self.groups, np.full(self.groups, 1 / self.groups), size=RESAMPLES)
        weights = drawn[:, place]
        self._weights = weights / weights.sum(axis=1, keepdims=True)

    def interval(self, values: np.ndarray) -> Interval:
        """Mean of (n,) values and its 95 % interval; of paired differences it is the interval of a gain."""
        low, high = np.quantile(self._weights @ values, (_TAIL, 1 - _TAIL))
        return Interval(float(values.mean()), float(low), float(high))

    def best(self, values: np.ndarray) -> Best:
        """Which of (C, n) candidates has the highest mean; of equal ones the first."""
        found = (self._weights @ values.T).argmax(axis=1)
        low, high = np.quantile(found, (_TAIL, 1 - _TAIL), method="nearest")
        return Best(int(values.mean(axis=1).argmax()), int(low), int(high))
