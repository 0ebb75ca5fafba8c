"""For each image the subsets of its features that are worth sending: the best LPIPS that a number of bits buys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noma_semcom_env.recovery.subsets import subset_selections


@dataclass(frozen=True)
class Staircases:
    """The subsets of I images whose LPIPS no subset of as few bits undercuts.

    Attributes:
        bits: (I, P) float64, rising along each row from 0, the empty subset; inf beyond the row's last step.
        lpips: (I, P), strictly falling along each row; beyond the last step its value.
        subset: (I, P) int64 number of the subset, ``sum_f selection[f] << f``; beyond the last step its number.
        count: (I,) int64, steps of each row.
    """

    bits: np.ndarray
    lpips: np.ndarray
    subset: np.ndarray
    count: np.ndarray

    @classmethod
    def build(cls, lpips: np.ndarray, size_bits: np.ndarray, allowed: np.ndarray) -> Staircases:
        """Keep each image's Pareto-optimal subsets.

        Args:
            lpips: (I, 2**F) LPIPS of each subset, NaN where a subset cannot be.
            size_bits: (I, F) int bits of each feature.
            allowed: (I, F) bool, features that may be sent.
        """
        images, width = size_bits.shape
        members = subset_selections(width, width).astype(np.int64)
        bits = size_bits.astype(np.int64) @ members.T
        possible = np.isfinite(lpips) & ((~allowed).astype(np.int64) @ members.T == 0)
        rows = []
        for row in range(images):
            index = np.flatnonzero(possible[row])
            index = index[np.lexsort((lpips[row, index], bits[row, index]))]
            best = np.minimum.accumulate(lpips[row, index])
            rows.append(index[np.diff(best, prepend=np.inf) < 0.0])
        count = np.array([len(row) for row in rows], dtype=np.int64)
        steps = int(count.max())
        subset = np.stack([np.pad(row, (0, steps - len(row)), mode="edge") for row in rows])
        beyond = np.arange(steps) >= count[:, None]
        stair_bits = np.where(beyond, np.inf, np.take_along_axis(bits, subset, axis=1))
        return cls(stair_bits, np.take_along_axis(lpips, subset, axis=1), subset, count)
