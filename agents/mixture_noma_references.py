"""References of mixtures over NOMA: equal fixed choices, and a search that knows the items and channels.

The search is a strong yardstick and no bound: it changes one user's choice at a time for the best, all others' fixed,
until nothing gets better. Every choice is valued by the environment's own dynamics, beams and order solved anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from noma_semcom_agents.mixture_references import share_of
from noma_semcom_env.mixture.budget import total_symbols
from noma_semcom_env.mixture_noma_dynamics import NO_ORDER, MixtureNomaDynamics, UplinkState

_SWEEPS: Final = 6
_LEAST_GAIN: Final = 1e-9


class FixedUplink:
    """The same alpha and bandwidth ratio for every user and step.

    Args:
        dynamics: Of the environment.
        alpha: Share of the symbols for the text, within ``alpha_range``.
        cbr: Bandwidth ratio, within ``cbr_range``.

    Raises:
        ValueError: If one lies outside its range.
    """

    def __init__(self, dynamics: MixtureNomaDynamics, alpha: float, cbr: float) -> None:
        self.name = f"alpha = {alpha:g}, CBR = {cbr:g}"
        shares = []
        for name, value in (("alpha", alpha), ("cbr", cbr)):
            low, high = getattr(dynamics.scenario, f"{name}_range")
            if not low <= value <= high:
                raise ValueError(f"{name}={value!r} lies outside the scenario's {name}_range of [{low:g}, {high:g}]")
            shares.append((value - low) / max(high - low, 1e-12))
        self._action = np.tile(2 * np.array(shares) - 1, dynamics.scenario.num_users).astype(np.float32)

    def act(self, observation: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> np.ndarray:
        """(B, 2K) float32."""
        return np.tile(self._action, (len(observation["snr"]), 1))


class UplinkSearch:
    """Best choices by coordinate ascent over a grid of symbols a token and bandwidth ratios.

    Args:
        dynamics: Of the environment.
        token_symbols: Symbols a token that are tried, 0 among them.
        cbr_points: Bandwidth ratios that are tried.
    """

    name = "Search"

    def __init__(
        self,
        dynamics: MixtureNomaDynamics,
        token_symbols: Sequence[int] = (0, 5, 6, 8, 11, 16, 32),
        cbr_points: int = 13,
    ) -> None:
        self._dynamics = dynamics
        share, self._each = (
            axis.ravel()
            for axis in np.meshgrid(np.linspace(0.0, 1.0, cbr_points), np.array(token_symbols), indexing="ij")
        )
        low, high = dynamics.scenario.cbr_range
        self._cbr_share = share
        self._total = total_symbols(low + share * (high - low), dynamics.items.source_samples)

    def act(self, observation: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> np.ndarray:
        """(B, 2K) float32; reads ``info["privileged"]``."""
        known = info["privileged"]
        return self.best(known["image_index"], known["channel"])[0]

    def best(self, item: np.ndarray, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The actions found and their rewards.

        Args:
            item: (B, K) int64 items.
            channel: (B, K, N) complex.

        Returns:
            (B, 2K) float32 and (B,) reward.
        """
        batch, users = item.shape
        tokens = self._dynamics.items.tokens[item]
        least, most = self._dynamics.scenario.alpha_range
        alpha = np.clip(share_of(self._each * tokens[..., None], self._total), least, most)
        # (B, K, choices, 2), every choice of every user as an action.
        choices = np.stack(
            [(alpha - least) / max(most - least, 1e-12), np.broadcast_to(self._cbr_share, alpha.shape)], axis=-1
        )
        choices = (2 * choices - 1).astype(np.float32)
        count = choices.shape[2]
        # Every start gives all users the same choice; the best of them is where the ascent begins.
        starts = choices.transpose(0, 2, 1, 3)
        rewards = self._rewards(item, channel, starts)
        first = rewards.argmax(axis=1)
        action, reward = starts[np.arange(batch), first].copy(), rewards[np.arange(batch), first]
        for _ in range(_SWEEPS):
            before = reward.copy()
            for user in range(users):
                tried = np.repeat(action[:, None], count, axis=1)
                tried[:, :, user] = choices[:, user]
                rewards = self._rewards(item, channel, tried)
                best = rewards.argmax(axis=1)
                here = np.arange(batch), best
                better = rewards[here] > reward
                action[better], reward[better] = tried[here][better], rewards[here][better]
            if (reward <= before + _LEAST_GAIN).all():
                break
        return action.reshape(batch, -1), reward

    def _rewards(self, item: np.ndarray, channel: np.ndarray, tried: np.ndarray) -> np.ndarray:
        """(B, C) rewards of actions (B, C, K, 2)."""
        batch, count, users, _ = tried.shape
        state = UplinkState(
            elapsed=np.zeros(batch * count, dtype=np.int64),
            item=np.repeat(item, count, axis=0)[:, None],
            channels=np.repeat(channel, count, axis=0)[:, None],
            distances_m=np.zeros((batch * count, users)),
            last_order=np.full((batch * count, users), NO_ORDER, dtype=np.int64),
        )
        flat = tried.reshape(batch * count, -1)
        wanted, _ = self._dynamics.decode(flat, (batch * count,))
        return self._dynamics.step(state, wanted).reward.reshape(batch, count)
