"""The backlog: bits that do not fit into a step are sent in the next ones, until their deadline.

Each step brings every user a frame, the features that its action selects, with a deadline of d steps, its own the
first. A step lasts T seconds, in which user k sends R_k T bits of what it has queued: older frames first, within a
frame by the index of features. D_k is all that is queued, so that a backlog makes later steps slower, for everybody: it
is this that an action of now costs later. A feature has arrived once all of its bits have. At the end of its deadline a
frame is recovered from the features that have arrived, and the rest is dropped. The reward of a step counts the LPIPS
of the frames that end with it; the d - 1 frames before the first one are empty, whatever the agent does.

Rates are those of the step's beginning: a user that is done early is not taken out of the interference.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Queue(NamedTuple):
    """Frames under way, A of them a user, the newest first.

    Attributes:
        chosen: (B, K, A, F) bool, the features of each frame.
        left_bits: (B, K, A, F) float64, what of them is still to be sent.
    """

    chosen: np.ndarray
    left_bits: np.ndarray

    @classmethod
    def empty(cls, batch: int, users: int, frames: int, width: int) -> Queue:
        """Nothing under way."""
        shape = (batch, users, frames, width)
        return cls(np.zeros(shape, dtype=bool), np.zeros(shape))

    def with_frame(self, selection: np.ndarray, size_bits: np.ndarray) -> Queue:
        """One frame more.

        Args:
            selection: (B, K, F) bool.
            size_bits: (B, K, F) of each feature.
        """
        return Queue(
            np.concatenate([selection[:, :, None], self.chosen], axis=2),
            np.concatenate([(selection * size_bits)[:, :, None].astype(np.float64), self.left_bits], axis=2),
        )

    def served(self, budget_bits: np.ndarray) -> Queue:
        """What is left once (B, K) bits have been sent, older frames first, within a frame by feature."""
        oldest_first = self.left_bits[:, :, ::-1].reshape(*budget_bits.shape, -1)
        before = np.cumsum(oldest_first, axis=-1) - oldest_first
        left = oldest_first - np.clip(budget_bits[..., None] - before, 0.0, oldest_first)
        return Queue(self.chosen, left.reshape(self.left_bits.shape)[:, :, ::-1])

    def without_last(self) -> Queue:
        """The oldest frame dropped."""
        return Queue(self.chosen[:, :, :-1], self.left_bits[:, :, :-1])

    @property
    def demand_bits(self) -> np.ndarray:
        """(B, K) float64, all that is queued."""
        demand: np.ndarray = self.left_bits.sum(axis=(2, 3))
        return demand

    @property
    def arrived(self) -> np.ndarray:
        """(B, K, A, F) bool, chosen features without a bit left."""
        arrived: np.ndarray = self.chosen & (self.left_bits == 0.0)
        return arrived

    def observe(self, size_bits: np.ndarray) -> np.ndarray:
        """(B, K * A * F) float32: 1 arrived, 0 not chosen, else minus the share of the feature that is left.

        Args:
            size_bits: (B, K, F) of each feature.
        """
        share = self.left_bits / np.maximum(size_bits, 1)[:, :, None]
        seen = np.where(self.arrived, 1.0, -share).astype(np.float32)
        return seen.reshape(len(seen), -1)
