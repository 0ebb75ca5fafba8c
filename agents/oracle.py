"""The exact optimum of a step, over every selection, every set of active users and every joint transmission.

A step's objective, with the demands D_k = bits of user k's selection and the joint optimum over beams and order, is

    lambda * mean_k L_k + (1 - lambda) * min(tau, tau_max) / tau_ref + violation_penalty * [tau > tau_max].

With MMSE beams the rate R_k(S) of user k depends only on the set S of users decoded after it, not on the selections.
For a given latency tau, the least sum of LPIPS over all active sets and all decoding orders is therefore a recursion
over sets, with l_k(b) the best LPIPS that user k reaches with at most b bits,

    g(S) = min_{k in S} [ l_k(tau R_k(S - k)) + g(S - k) ],   g({}) = 0,
    f(tau) = min_A [ g(A) + sum_{k not in A} L_k({}) ],

at K 2^(K-1) look-ups instead of K! orders. Only latencies at which some user's next better subset starts to fit can be
optimal. Since f falls with tau and the latency term grows, f on a coarse grid bounds the objective between grid points
from below, which rules out most candidates before they are evaluated. All of this is exact, up to a slack of 1e-10 of
a latency for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_env.link.decoding_order import minimize_latency_order, set_sinr
from noma_semcom_env.link.sic import rates_bps
from noma_semcom_env.recovery.subsets import subset_members, subset_selections
from noma_semcom_env.zoo.presets import settle

if TYPE_CHECKING:
    from noma_semcom_env.features import FeatureBank
    from noma_semcom_env.scenario import Scenario

_GRID: Final = 24
_SLACK: Final = 1e-10
_CANDIDATES_AT_ONCE: Final = 200_000


@dataclass(frozen=True)
class Optimum:
    """The best that B steps allow.

    Attributes:
        selection: (B, K, F) bool, the features to send.
        lpips: (B, K) LPIPS of each user.
        latency_s: (B,) latency of the joint optimum over beams and order; inf if a demand cannot be delivered.
        objective: (B,) value of the objective, the negative of the best reward.
    """

    selection: np.ndarray
    lpips: np.ndarray
    latency_s: np.ndarray
    objective: np.ndarray


@dataclass(frozen=True)
class Staircases:
    """For each image the subsets worth sending: those whose LPIPS no subset of as few bits undercuts.

    Attributes:
        bits: (I, P) int64, rising along each row; rows are padded with ``stride``.
        lpips: (I, P), strictly falling along each row; padded with the row's last value.
        subset: (I, P) int64 index of the subset, ``sum_f selection[f] << f``.
        stride: A number of bits that no subset reaches.
        keys: (I * P,) the rows of ``bits`` one after the other, row i raised by ``i * (stride + 1)``: one rising array.
    """

    bits: np.ndarray
    lpips: np.ndarray
    subset: np.ndarray
    stride: int
    keys: np.ndarray

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
            better = np.concatenate(([True], lpips[row, index[1:]] < best[:-1]))
            rows.append(index[better])
        steps = max(len(row) for row in rows)
        stride = int(bits.max()) + 1
        subset = np.stack([np.pad(row, (0, steps - len(row)), mode="edge") for row in rows])
        padded = np.arange(steps) >= np.array([len(row) for row in rows])[:, None]
        stair_bits = np.where(padded, stride, np.take_along_axis(bits, subset, axis=1))
        keys = (stair_bits + np.arange(images)[:, None] * (stride + 1)).ravel()
        return cls(stair_bits, np.take_along_axis(lpips, subset, axis=1), subset, stride, keys)

    def find(self, image: np.ndarray, capacity_bits: np.ndarray) -> np.ndarray:
        """Index into the flattened rows of the best subset that fits.

        Args:
            image: (...) int row.
            capacity_bits: (...) bits that can be sent, at least 0; the slack for rounding is added here.
        """
        room = np.minimum(capacity_bits * (1.0 + _SLACK), self.stride - 1).astype(np.int64)
        index: np.ndarray = np.searchsorted(self.keys, image * (self.stride + 1) + room, side="right") - 1
        return index


class Oracle:
    """Finds the optimum of steps whose channel and images are known.

    Args:
        scenario: Gives bandwidth, weights, reference and maximal latency, and the penalty.
        lpips: (I, 2**F) LPIPS of each subset of each image; a full table, since exactness is claimed.
        bank: The images' features.
        pruned: True restricts the search to features that survive pruning.

    Raises:
        ValueError: If ``lpips`` is no full table, or the scenario has a reward of its own.
    """

    READS: Final = ("channel", "power_w", "noise_power_w", "image_index")
    """The entries of ``info["privileged"]`` that :meth:`solve` reads."""

    def __init__(self, scenario: Scenario, lpips: np.ndarray, bank: FeatureBank, pruned: bool = False) -> None:
        if lpips.shape != (len(bank), 1 << bank.width):
            raise ValueError(f"lpips has shape {lpips.shape}; ({len(bank)}, 2**{bank.width}) is needed, a full table")
        if scenario.reward != "weighted_sum":
            raise ValueError(f"the oracle knows reward='weighted_sum' alone, not {scenario.reward!r}")
        for name, known in (("access", "noma"), ("blocklength", None), ("sic_residual", 0.0), ("backlog", False)):
            if getattr(scenario, name) != known:
                raise ValueError(f"the oracle knows {name}={known!r} alone, not {getattr(scenario, name)!r}")
        self.name = "Oracle (pruned)" if pruned else "Oracle"
        self.scenario = settle(scenario)
        self.width = bank.width
        self.stairs = Staircases.build(lpips, bank.size_bits, bank.kept if pruned else bank.exists)
        self.exists = bank.exists
        self._lpips = lpips
        self._bits = bank.size_bits

    def solve(self, privileged: Mapping[str, Any]) -> Optimum:
        """Solve B steps.

        Args:
            privileged: ``info["privileged"]`` of a vector environment: ``channel`` (B, K, N), ``power_w`` (B, K),
                ``noise_power_w`` (B,), ``image_index`` (B, K). A single environment's, without B, is taken too.
        """
        channel = np.asarray(privileged["channel"])
        if channel.ndim == 2:
            privileged = {key: np.asarray(privileged[key])[None] for key in self.READS}
            channel = channel[None]
        users = channel.shape[1]
        steps_at_once = max(1, _CANDIDATES_AT_ONCE // (users * 2 ** (users - 1) * self.stairs.bits.shape[1]))
        parts = []
        for start in range(0, len(channel), steps_at_once):
            stop = start + steps_at_once
            parts.append(self._solve(**{key: np.asarray(privileged[key])[start:stop] for key in self.READS}))
        fields = ("selection", "lpips", "latency_s", "objective")
        return Optimum(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})

    def value(self, lpips: np.ndarray, latency_s: np.ndarray) -> np.ndarray:
        """(B,) objective of given LPIPS (B, K) and latency (B,), the negative of the reward."""
        one = self.scenario
        late = latency_s > one.latency_cap_s
        capped = np.minimum(latency_s, one.latency_cap_s)
        result: np.ndarray = (
            one.lpips_weight * lpips.mean(axis=-1)
            + (1.0 - one.lpips_weight) * capped / one.reference_s
            + one.violation_penalty * late
        )
        return result

    def _solve(
        self, channel: np.ndarray, power_w: np.ndarray, noise_power_w: np.ndarray, image_index: np.ndarray
    ) -> Optimum:
        steps, users = image_index.shape
        rates = rates_bps(set_sinr(channel, power_w, noise_power_w), self.scenario.bandwidth_hz)
        best_tau = self._best_latency(rates, image_index)
        subset = self._subsets(rates, image_index, best_tau)
        # Beyond the maximal latency only LPIPS counts, so each user then takes its best subset.
        last = self.stairs.find(image_index, np.full((steps, users), float(self.stairs.stride)))
        candidates = [subset, self.stairs.subset.ravel()[last]]
        solved = []
        for each in candidates:
            lpips = self._lpips[image_index, each]
            selection = subset_members(each, self.width)
            demand = (selection * self._bits[image_index]).sum(axis=-1)
            latency = minimize_latency_order(
                channel, power_w, noise_power_w, self.scenario.bandwidth_hz, demand
            ).latency_s
            solved.append((selection, lpips, latency, self.value(lpips, latency)))
        late = solved[1][3] < solved[0][3]
        pick = [np.where(late.reshape((-1,) + (1,) * (a.ndim - 1)), b, a) for a, b in zip(*solved, strict=True)]
        return Optimum(*pick)

    def _best_latency(self, rates: np.ndarray, images: np.ndarray) -> np.ndarray:
        """(B,) the latency at which the objective is least, among those within the maximal latency."""
        one, stairs = self.scenario, self.stairs
        steps, users = images.shape
        quality, price = one.lpips_weight / users, (1.0 - one.lpips_weight) / one.reference_s
        silent = stairs.lpips[images, 0].sum(axis=-1)
        finest = stairs.lpips[images, -1].sum(axis=-1)
        limit = np.full(steps, one.latency_cap_s)
        if price > 0.0:
            limit = np.minimum(limit, quality * (silent - finest) / price * (1.0 + _SLACK))
        grid = limit[:, None] * np.linspace(0.0, 1.0, _GRID) ** 2
        owner = np.repeat(np.arange(steps), _GRID)
        falling = self._least_lpips(rates, images, owner, grid.ravel()).reshape(steps, _GRID)
        known = quality * falling + price * grid
        upper, best_tau = known.min(axis=1), grid[np.arange(steps), known.argmin(axis=1)]
        lower = quality * falling[:, 1:] + price * grid[:, :-1]
        open_cell = lower <= upper[:, None] * (1.0 + _SLACK)

        pair_user, pair_set = _pairs(users)
        with np.errstate(divide="ignore", invalid="ignore"):
            tau = stairs.bits[images[:, pair_user]] / rates[:, pair_set, pair_user][..., None]
        tau = np.where(stairs.bits[images[:, pair_user]] < stairs.stride, tau, np.inf).reshape(steps, -1)
        tau = np.where(np.isfinite(tau), tau, np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.sqrt(np.where(limit[:, None] > 0.0, tau / limit[:, None], np.inf)) * (_GRID - 1)
        # A neighbour cell is kept as well, so that rounding of the cell number cannot lose a candidate.
        wide = open_cell.copy()
        wide[:, 1:] |= open_cell[:, :-1]
        wide[:, :-1] |= open_cell[:, 1:]
        cell = np.minimum(place, _GRID).astype(np.int64)
        inside = (tau <= limit[:, None]) & np.take_along_axis(wide, np.clip(cell, 0, _GRID - 2), axis=1)
        owner, column = np.nonzero(inside)
        if len(owner):
            flat = tau[owner, column]
            worth = quality * self._least_lpips(rates, images, owner, flat) + price * flat
            order = np.lexsort((worth, owner))
            first = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
            better = worth[first] < upper[owner[first]]
            best_tau[owner[first[better]]] = flat[first[better]]
        return best_tau

    def _least_lpips(self, rates: np.ndarray, images: np.ndarray, owner: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """(n,) f(tau): least sum of LPIPS over active sets and orders at latency ``tau`` in step ``owner``."""
        users = images.shape[1]
        lpips = self.stairs.lpips.ravel()
        whole: list[np.ndarray] = [np.zeros(len(tau))]
        for members in range(1, 1 << users):
            options = []
            for user in range(users):
                if members >> user & 1:
                    rest = members ^ (1 << user)
                    index = self.stairs.find(images[owner, user], tau * rates[owner, rest, user])
                    options.append(lpips[index] + whole[rest])
            whole.append(np.minimum.reduce(options))
        silent = self.stairs.lpips[images, 0]
        totals = [whole[members] + silent[:, _outside(members, users)].sum(-1)[owner] for members in range(1 << users)]
        result: np.ndarray = np.minimum.reduce(totals)
        return result

    def _subsets(self, rates: np.ndarray, images: np.ndarray, tau: np.ndarray) -> np.ndarray:
        """(B, K) the subset that each user sends in the optimum at latency ``tau`` (B,)."""
        steps, users = images.shape
        everything = 1 << users
        lpips = self.stairs.lpips.ravel()
        whole = np.zeros((everything, steps))
        index = np.zeros((everything, users, steps), dtype=np.int64)
        first = np.zeros((everything, steps), dtype=np.int64)
        for members in range(1, everything):
            options = np.full((users, steps), np.inf)
            for user in range(users):
                if members >> user & 1:
                    rest = members ^ (1 << user)
                    index[members, user] = self.stairs.find(images[:, user], tau * rates[:, rest, user])
                    options[user] = lpips[index[members, user]] + whole[rest]
            first[members] = options.argmin(axis=0)
            whole[members] = options.min(axis=0)
        silent = self.stairs.lpips[images, 0]
        totals = np.stack([whole[m] + silent[:, _outside(m, users)].sum(axis=-1) for m in range(everything)])
        members_left = totals.argmin(axis=0)
        subset = np.zeros((steps, users), dtype=np.int64)
        rows = np.arange(steps)
        for _ in range(users):
            user = first[members_left, rows]
            sends = members_left > 0
            chosen = self.stairs.subset.ravel()[index[members_left, user, rows]]
            subset[rows[sends], user[sends]] = chosen[sends]
            members_left = np.where(sends, members_left & ~(1 << user), 0)
        return subset


def _pairs(users: int) -> tuple[np.ndarray, np.ndarray]:
    """User and set of users decoded after it, for all K 2^(K-1) pairs."""
    user, members = np.meshgrid(np.arange(users), np.arange(1 << users), indexing="ij")
    outside = (members >> user) & 1 == 0
    return user[outside], members[outside]


def _outside(members: int, users: int) -> list[int]:
    return [user for user in range(users) if not members >> user & 1]
