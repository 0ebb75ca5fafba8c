"""The exact search of a step, over every selection, every set of active users and every joint transmission.

A step's objective, with the demands D_k = bits of user k's selection and the joint optimum over beams and order, is

    lambda * mean_k L_k + (1 - lambda) * min(tau, tau_max) / tau_ref + violation_penalty * [tau > tau_max].

**NOMA.** With MMSE beams the time that user k needs for its bits depends only on the set S of users decoded after it,
not on their selections; for short messages too. For a given latency tau, the least sum of LPIPS over all selections and
all decoding orders is therefore a recursion over sets, with l_k(S, tau) the best LPIPS that user k reaches within tau,

    g(S) = min_{k in S} [ l_k(S - k, tau) + g(S - k) ],   g({}) = 0,   f(tau) = g({1, ..., K}),

at K 2^(K-1) look-ups instead of K! orders. Silent users are among them: a user that sends nothing may be decoded before
everyone, where it interferes with nobody. f falls with tau in steps while the latency term grows, so that between two
latencies a < b the objective is at least lambda f(b) / K + (1 - lambda) a / tau_ref. Branch and bound: intervals whose
bound is above the best known value are left; the others are halved, and probed just below the latency at which their
upper end's optimum is really done, so that each probe passes a step of f.

**Near first.** Under a given order the same recursion holds with one user to decode next, or with silent users.

**TDMA.** The least latency of given demands is the sum of the times that the users need alone. So the pairs of time and
sum of LPIPS are merged user by user, keeping those that no other pair undercuts in both.

Under FDMA the band that a user needs depends on everyone's demands at once, and with imperfect cancellation its rate
depends on the whole set of active users; a backlog couples steps. Neither is covered, and each is refused.

All of this is exact, up to differences below 1e-9 of a latency, for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.overlap import SLACK, Links, Overlap, step_uses
from noma_semcom_agents.staircases import Staircases
from noma_semcom_env.link.decoding_order import MAX_SET_USERS
from noma_semcom_env.recovery.subsets import subset_members
from noma_semcom_env.transmission import make_solver
from noma_semcom_env.zoo.presets import settle

if TYPE_CHECKING:
    from noma_semcom_env.features import FeatureBank
    from noma_semcom_env.link.sic import Transmission
    from noma_semcom_env.scenario import Scenario

_GRID: Final = 12
_BELOW: Final = 1.0 - 3.0 * SLACK
_NUMBERS_AT_ONCE: Final = 4_000_000


class NotSearchable(ValueError):
    """Steps whose optimum the search does not find: no oracle exists there, and no regret."""


@dataclass(frozen=True)
class Optimum:
    """The best that B steps allow.

    Attributes:
        selection: (B, K, F) bool, the features to send.
        lpips: (B, K) LPIPS of each user.
        latency_s: (B,) latency of the best transmission; inf if a demand cannot be delivered.
        objective: (B,) value of the objective, the negative of the best reward.
    """

    selection: np.ndarray
    lpips: np.ndarray
    latency_s: np.ndarray
    objective: np.ndarray


class StepSearch:
    """Finds the best selections of steps whose links and whose LPIPS of every subset are known, or believed.

    Args:
        scenario: Gives weights, reference and maximal latency, the penalty, access and length of messages.
        lpips: (I, 2**F) LPIPS of each subset of each image, NaN where a subset cannot be.
        bank: The images' features; its sizes and labels are those that the environment shows.
        allowed: (I, F) bool, features that may be sent.
        near_first: The order is given: the nearest user first, with MMSE beams.

    Raises:
        NotSearchable: If ``lpips`` is no full table, or the scenario is one that the search does not cover.
        ValueError: If ``near_first`` contradicts the scenario's access.
    """

    def __init__(
        self,
        scenario: Scenario,
        lpips: np.ndarray,
        bank: FeatureBank,
        allowed: np.ndarray,
        near_first: bool = False,
    ) -> None:
        if lpips.shape != (len(bank), 1 << bank.width):
            raise NotSearchable(
                f"lpips has shape {lpips.shape}; ({len(bank)}, 2**{bank.width}) is needed, a full table"
            )
        check_searchable(scenario, near_first)
        self.scenario = settle(scenario)
        self.width = bank.width
        self.near_first = near_first
        self.stairs = Staircases.build(lpips, bank.size_bits, allowed)
        self._lpips = lpips
        self._bits = bank.size_bits
        # Whatever the environment does, and whatever it believes of the channel.
        known = replace(self.scenario, transmission="distance" if near_first else "optimal", csi_error=0.0)
        self._transmit: Callable[..., Transmission] = make_solver(known)

    def search(self, links: Links, image_index: np.ndarray) -> Optimum:
        """Find the optimum of B steps.

        Args:
            links: Of the steps.
            image_index: (B, K) rows of ``lpips``.
        """
        steps, users = image_index.shape
        if users > MAX_SET_USERS:
            raise ValueError(f"the search runs over sets of users, at most {MAX_SET_USERS} of them, not {users}")
        at_once = max(1, _NUMBERS_AT_ONCE // (_GRID * users * 2**users))
        parts = [
            self._search(links.rows(start, start + at_once), image_index[start : start + at_once])
            for start in range(0, steps, at_once)
        ]
        return Optimum(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in Optimum.__dataclass_fields__})

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

    def _search(self, links: Links, images: np.ndarray) -> Optimum:
        timely = self._share_time(links, images) if self.scenario.access == "tdma" else self._overlap(links, images)
        # Beyond the maximal latency only LPIPS counts, so each user then takes its best subset.
        solved = [self._transmitted(links, images, steps) for steps in (timely, self.stairs.count[images] - 1)]
        late = solved[1].objective < solved[0].objective
        fields = {}
        for name in Optimum.__dataclass_fields__:
            first, other = (getattr(one, name) for one in solved)
            fields[name] = np.where(late.reshape((-1,) + (1,) * (first.ndim - 1)), other, first)
        return Optimum(**fields)

    def _transmitted(self, links: Links, images: np.ndarray, steps: np.ndarray) -> Optimum:
        """What it comes to if user k of each step takes step (B, K) of its staircase."""
        subset = self.stairs.subset[images, steps]
        selection = subset_members(subset, self.width)
        demand = (selection * self._bits[images]).sum(axis=-1).astype(np.float64)
        link = (links.channel, links.power_w, links.noise_power_w, links.bandwidth_hz)
        latency = self._transmit(*link, demand, links.distances_m).latency_s
        lpips = self._lpips[images, subset]
        return Optimum(selection, lpips, latency, self.value(lpips, latency))

    def _prices(self, users: int) -> tuple[float, float]:
        """What a sum of LPIPS and what a second costs."""
        one = self.scenario
        return one.lpips_weight / users, (1.0 - one.lpips_weight) / one.reference_s

    def _error_probability(self) -> float | None:
        return self.scenario.error_probability if self.scenario.blocklength else None

    def _overlap(self, links: Links, images: np.ndarray) -> np.ndarray:
        """(B, K) steps of the staircases that are best within the maximal latency, by NOMA."""
        quality, price = self._prices(images.shape[1])
        game = Overlap(self.stairs, links, images, self._error_probability(), self.near_first)
        silent = self.stairs.lpips[images, 0].sum(axis=-1)
        finest = self.stairs.lpips[images, -1].sum(axis=-1)
        limit = np.full(len(images), self.scenario.latency_cap_s)
        if price > 0.0:
            limit = np.minimum(limit, quality * (silent - finest) / price * (1.0 + SLACK))

        owner = np.repeat(np.arange(len(images)), _GRID)
        latency = (limit[:, None] * np.linspace(0.0, 1.0, _GRID) ** 2).ravel()
        total, done, chosen = game.within(owner, latency)
        worth = (quality * total + price * done).reshape(-1, _GRID)
        pick = np.arange(len(images)) * _GRID + worth.argmin(axis=1)
        best, steps = worth.min(axis=1), chosen[pick]

        inner = np.arange(len(owner)) % _GRID > 0
        before = np.flatnonzero(inner) - 1
        cells = _Cells(owner[inner], latency[before], total[before], done[inner], total[inner])
        while True:
            cells = cells.where(
                (cells.high > cells.low)
                & (cells.least < cells.most)
                & (quality * cells.least + price * cells.low < best[cells.owner])
            )
            if not len(cells.owner):
                return steps
            middle = 0.5 * (cells.low + cells.high)
            owner = np.concatenate([cells.owner, cells.owner])
            total, done, chosen = game.within(owner, np.concatenate([middle, cells.high * _BELOW]))
            worth = quality * total + price * done
            order = np.lexsort((worth, owner))
            first = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
            better = first[worth[first] < best[owner[first]]]
            best[owner[better]], steps[owner[better]] = worth[better], chosen[better]
            half = len(middle)
            cells = _Cells(
                owner,
                np.concatenate([cells.low, middle]),
                np.concatenate([cells.most, total[:half]]),
                done,
                total,
            )

    def _share_time(self, links: Links, images: np.ndarray) -> np.ndarray:
        """(B, K) steps of the staircases that are best within the maximal latency, by TDMA."""
        quality, price = self._prices(images.shape[1])
        gain = (np.abs(links.channel) ** 2).sum(axis=-1) * links.power_w / links.noise_power_w[:, None]
        uses = step_uses(self.stairs.bits[images], gain, self._error_probability())
        time_s = uses / links.bandwidth_hz[:, None, None]
        chosen = np.zeros(images.shape, dtype=np.int64)
        for row, mine in enumerate(images):
            # The pairs that are left, the latency of each, its sum of LPIPS and the steps that make it.
            latency, total, steps = np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64)
            for user, image in enumerate(mine):
                own = np.arange(self.stairs.count[image])
                sums = (latency[:, None] + time_s[row, user, own]).ravel()
                totals = (total[:, None] + self.stairs.lpips[image, own]).ravel()
                order = np.lexsort((totals, sums))
                fits = sums[order] <= self.scenario.latency_cap_s * (1.0 + SLACK)
                falling = np.minimum.accumulate(totals[order])
                order = order[fits & (np.diff(falling, prepend=np.inf) < 0.0)]
                latency, total = sums[order], totals[order]
                steps = np.column_stack([steps[order // len(own)], own[order % len(own)]])
            chosen[row] = steps[(quality * total + price * latency).argmin()]
        return chosen


@dataclass(frozen=True)
class _Cells:
    """Open intervals of latency, of step ``owner``, with the least sum of LPIPS at their lower and upper ends."""

    owner: np.ndarray
    low: np.ndarray
    most: np.ndarray
    high: np.ndarray
    least: np.ndarray

    def where(self, keep: np.ndarray) -> _Cells:
        return _Cells(self.owner[keep], self.low[keep], self.most[keep], self.high[keep], self.least[keep])


def check_searchable(scenario: Scenario, near_first: bool = False) -> None:
    """Refuse what the search does not cover.

    Raises:
        NotSearchable: If the scenario is not covered.
        ValueError: If the order that is asked for contradicts it.
    """
    if scenario.reward != "weighted_sum":
        raise NotSearchable(f"the oracle knows reward='weighted_sum' alone, not {scenario.reward!r}")
    known: Mapping[str, tuple[Any, str]] = {
        "sic_residual": (0.0, "rates then depend on all active users, not on those decoded later alone"),
        "backlog": (False, "steps are then no longer by themselves"),
    }
    for name, (only, because) in known.items():
        if getattr(scenario, name) != only:
            raise NotSearchable(f"the oracle knows {name}={only!r} alone, not {getattr(scenario, name)!r}: {because}")
    if scenario.num_users > MAX_SET_USERS:
        raise NotSearchable(
            f"the oracle runs over sets of users, at most {MAX_SET_USERS} of them, not num_users={scenario.num_users}"
        )
    if scenario.access == "fdma":
        raise NotSearchable(
            "the oracle knows access='noma' and 'tdma', not 'fdma': a share of the band depends on everyone"
        )
    if scenario.access == "tdma" and near_first:
        raise ValueError("near_first=True contradicts access='tdma', which decodes no user before another")
