"""NOMA for a search: the least sum of LPIPS that a latency affords, over all selections and all decoding orders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Final

import numpy as np

from noma_semcom_agents.staircases import Staircases
from noma_semcom_env.link.blocklength import channel_uses
from noma_semcom_env.link.decoding_order import MAX_SET_USERS, set_sinr

SLACK: Final = 1e-10
"""Share of a latency within which two latencies are the same."""


@dataclass(frozen=True)
class Links:
    """The links of B steps.

    Attributes:
        channel: (B, K, N) complex.
        power_w: (B, K).
        noise_power_w: (B,).
        bandwidth_hz: (B,).
        distances_m: (B, K); read where the order is given, near first, and None where it is not known.
    """

    channel: np.ndarray
    power_w: np.ndarray
    noise_power_w: np.ndarray
    bandwidth_hz: np.ndarray
    distances_m: np.ndarray | None = None

    def rows(self, start: int, stop: int) -> Links:
        """Steps ``start`` to ``stop``."""
        return self._taken(slice(start, stop))

    def rows_at(self, steps: np.ndarray) -> Links:
        """The steps of given numbers, any number of times each."""
        return self._taken(steps)

    def _taken(self, steps: slice | np.ndarray) -> Links:
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Links(**{name: value[steps] for name, value in named.items() if value is not None})


class Overlap:
    """B steps under NOMA: the least sum of LPIPS that a latency affords."""

    def __init__(
        self,
        stairs: Staircases,
        links: Links,
        images: np.ndarray,
        error_probability: float | None,
        near_first: bool,
    ) -> None:
        self.stairs, self.images = stairs, images
        self.users = images.shape[1]
        sinr = set_sinr(links.channel, links.power_w, links.noise_power_w)
        bandwidth = links.bandwidth_hz[:, None, None]
        self.rate = np.ascontiguousarray((bandwidth * np.log1p(sinr) / np.log(2.0)).transpose(1, 2, 0))
        self.time_s: np.ndarray | None = None
        if error_probability is not None:
            uses = step_uses(stairs.bits[images][:, None], sinr, error_probability)
            self.time_s = np.ascontiguousarray((uses / bandwidth[..., None]).transpose(1, 2, 0, 3))
        self.nearest: np.ndarray | None = None
        if near_first:
            if links.distances_m is None:
                raise ValueError("distances_m is None; the near-first order needs the users' distances")
            self.nearest = _nearest(links.distances_m)

    def within(self, owner: np.ndarray, latency: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The least sums of LPIPS within latencies.

        Args:
            owner: (n,) step.
            latency: (n,) in s.

        Returns:
            (n,) the sum, (n,) the latency at which the users are really done, and (n, K) the steps of their staircases.
        """
        count, everyone = len(owner), 1 << self.users
        afforded = self._afforded(owner, latency)
        whole, first = np.zeros((everyone, count)), np.zeros((everyone, count), dtype=np.int8)
        for sets, users in _by_size(self.users):
            rest = sets[:, None] & ~(1 << users)
            sums = afforded[users, rest] + whole[rest]
            pick = sums.argmin(axis=1)
            whole[sets] = np.take_along_axis(sums, pick[:, None], axis=1)[:, 0]
            first[sets] = np.take_along_axis(users, pick, axis=1)
        return whole[-1], *self._trace(owner, latency, first)

    def _afforded(self, owner: np.ndarray, latency: np.ndarray) -> np.ndarray:
        """(K, 2**K, n) the best LPIPS of each user within the latency, by the set that is decoded after it."""
        afforded = np.empty((self.users, 1 << self.users, len(owner)))
        for user in range(self.users):
            rest = np.arange(1 << self.users)
            rest = rest[rest >> user & 1 == 0]
            image = self.images[owner, user]
            step = self._step(rest[:, None], user, owner, latency, self.stairs.bits[image].T[:, None])
            if self.nearest is not None:
                step = np.where(self.nearest[rest[:, None] | 1 << user, owner] == user, step, 0)
            afforded[user, rest] = self.stairs.lpips[image, step]
        return afforded

    def _trace(self, owner: np.ndarray, latency: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Follow who is decoded first: when the users are done (n,), and their steps (n, K)."""
        rows = np.arange(len(owner))
        done, chosen = np.zeros(len(owner)), np.zeros((len(owner), self.users), dtype=np.int64)
        left = np.full(len(owner), (1 << self.users) - 1)
        for _ in range(self.users):
            user = first[left, rows].astype(np.int64)
            rest = left & ~(1 << user)
            image = self.images[owner, user]
            step = self._step(rest, user, owner, latency, self.stairs.bits[image].T)
            if self.nearest is not None:
                step = np.where(self.nearest[left, owner] == user, step, 0)
            chosen[rows, user] = step
            bits = self.stairs.bits[image, step]
            if self.time_s is None:
                needs = np.divide(bits, self.rate[rest, user, owner], out=np.zeros(len(owner)), where=bits > 0)
            else:
                needs = self.time_s[rest, user, owner, step]
            done, left = np.maximum(done, needs), rest
        return done, chosen

    def _step(self, rest: Any, user: Any, owner: np.ndarray, latency: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """(..., n) the last step that fits, of staircases with ``bits`` (P, ..., n)."""
        room = latency * (1.0 + SLACK)
        if self.time_s is None:
            fits = bits <= room * self.rate[rest, user, owner]
        else:
            fits = np.moveaxis(self.time_s[rest, user, owner], -1, 0) <= room
        step: np.ndarray = np.count_nonzero(fits, axis=0) - 1
        return step


@lru_cache(maxsize=MAX_SET_USERS)
def _by_size(users: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """All sets of 1, 2, ..., K users: their numbers (n,) and their members (n, size)."""
    found = []
    for size in range(1, users + 1):
        members = np.array(list(combinations(range(users), size)), dtype=np.int64)
        found.append(((1 << members).sum(axis=1), members))
    return found


def step_uses(bits: np.ndarray, sinr: np.ndarray, error_probability: float | None) -> np.ndarray:
    """(..., P) channel uses of a staircase's steps with ``bits`` (..., P) at ``sinr`` (...); inf beyond the last."""
    real = np.isfinite(bits)
    return np.where(real, channel_uses(np.where(real, bits, 0.0), sinr[..., None], error_probability), np.inf)


def _nearest(distances_m: np.ndarray) -> np.ndarray:
    """(2**K, B) the nearest user of each set of users, by index where two are as near."""
    users = distances_m.shape[1]
    inside = (np.arange(1 << users)[:, None] >> np.arange(users)) & 1 == 1
    nearest: np.ndarray = np.where(inside[:, None], distances_m, np.inf).argmin(axis=-1)
    return nearest
