"""Episodes under way, as the dynamics move them and observation layouts read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from noma_semcom_env.backlog import Queue

NO_ORDER: Final = -1
"""Entry of :attr:`State.last_order` before the first transmission."""


@dataclass(frozen=True, eq=False)
class State:
    """B episodes under way.

    Attributes:
        channels: (B, T + 1, K, N) complex128, the channel of every step and the one after the last.
        distances_m: (B, K) float64.
        image_index: (B, K) int64, row of the bank.
        last_order: (B, K) int64, first decoded first; :data:`NO_ORDER` before the first transmission.
        elapsed: (B,) int64, steps taken.
        estimates: (B, T + 1, K, N) complex128, what the access point believes ``channels`` to be; None is the truth.
        chosen: (B, K, d - 1, F) bool, features of the frames under way, see :class:`~noma_semcom_env.backlog.Queue`;
            None without a backlog.
        left_bits: (B, K, d - 1, F) float64, likewise.
    """

    channels: np.ndarray
    distances_m: np.ndarray
    image_index: np.ndarray
    last_order: np.ndarray
    elapsed: np.ndarray
    estimates: np.ndarray | None = None
    chosen: np.ndarray | None = None
    left_bits: np.ndarray | None = None

    @cached_property
    def channel(self) -> np.ndarray:
        """(B, K, N) complex128, the channel that the next transmission uses."""
        current: np.ndarray = self.channels[np.arange(len(self.elapsed)), self.elapsed]
        return current

    def check_elapsed(self) -> None:
        """Refuse steps beyond the last channel, which compiled code would read from foreign memory.

        Raises:
            IndexError: If there is one.
        """
        known = self.channels.shape[1]
        if self.elapsed.max() >= known:
            raise IndexError(f"elapsed={self.elapsed.max()} is past the {known} channels of an episode")

    @property
    def queue(self) -> Queue | None:
        """The frames under way; None without a backlog."""
        return None if self.chosen is None or self.left_bits is None else Queue(self.chosen, self.left_bits)

    def as_seen(self) -> State:
        """This state with the estimates in the channels' place, as it looks from the access point."""
        return self if self.estimates is None else replace(self, channels=self.estimates, estimates=None)

    def rows(self, index: np.ndarray) -> State:
        """The episodes at ``index``, (n,) int."""
        return State(**{name: value[index] for name, value in self._arrays().items()})

    def with_rows(self, index: np.ndarray, other: State) -> State:
        """This state with the episodes at ``index``, (n,) int, replaced by those of ``other``."""
        if np.array_equal(index, np.arange(len(self.elapsed))):
            return other
        merged = {name: value.copy() for name, value in self._arrays().items()}
        for name, value in merged.items():
            value[index] = getattr(other, name)
        return State(**merged)

    def _arrays(self) -> dict[str, np.ndarray]:
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in named.items() if value is not None}
