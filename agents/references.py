"""References that need little or no training: greedy by importance per bit, and Location-Decoding's two forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from noma_semcom_agents.evaluation import Contender, Knobs, rollout
from noma_semcom_agents.observed import read_links
from noma_semcom_agents.policies import Info, Observation, Policy
from noma_semcom_env.observation import LARGEST_FEATURE_BITS

UNPRUNED: Final = {"prune": False}
"""Knobs of every reference: it may choose from all features."""

FITTED: Final = {**UNPRUNED, "importance": "fitted"}
"""Knobs of the greedy reference by the fitted importance."""

NEAR_FIRST: Final = {"transmission": "distance"}
"""Knobs of Location-Decoding: the nearest user first, with the MMSE beams of that order."""

LATENCIES_S: Final = tuple(float(one) for one in np.geomspace(1e-5, 1e-2, 31))
"""Latencies that :meth:`GreedySelection.fit` tries."""

EPISODES: Final = 200
"""Episodes of one step that :meth:`GreedySelection.fit` tries each latency on."""


class GreedySelection:
    """Greedy by importance per bit: every user fills its share of a fixed latency with its best features a bit.

    The bits that user k may send are what it could send in ``latency_s`` with a K-th of the time by itself,
    latency_s B log2(1 + SNR_k) / K. It goes through its available features by importance per bit, of equal ones the
    smaller first, and sends each that still fits. No user looks at another's channel or image.

    Args:
        latency_s: Above 0.
        name: How tables call it.

    Raises:
        ValueError: If the latency is not positive.
    """

    def __init__(self, latency_s: float, name: str = "Greedy") -> None:
        if not latency_s > 0.0:
            raise ValueError(f"latency_s={latency_s!r} must be positive")
        self.latency_s = latency_s
        self.name = name

    @classmethod
    def fit(
        cls,
        knobs: Knobs,
        latencies_s: Sequence[float] = LATENCIES_S,
        episodes: int = EPISODES,
        seed: int = 0,
        name: str = "Greedy",
    ) -> GreedySelection:
        """The latency of the highest mean reward on the policy-training images.

        Args:
            knobs: Keywords of the environment.
            latencies_s: Latencies to choose from.
            episodes: Episodes of one step each that each is tried on, the same for all.
            seed: Episode i is drawn from seed + i.
            name: How tables call it.
        """
        single = {**knobs, "episode_length": 1}
        tried = [cls(latency, name) for latency in latencies_s]
        return max(tried, key=lambda one: float(rollout(Contender(one), single, episodes, seed)[0].reward.mean()))

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8; draws nothing."""
        links = read_links(observation)
        batch, users = links.power_w.shape
        snr = (np.abs(links.channel) ** 2).sum(axis=-1)
        room = self.latency_s * links.bandwidth_hz[:, None] * np.log2(1.0 + snr) / users
        size, importance, mask = (
            np.asarray(observation[name], dtype=np.float64).reshape(batch, users, -1)
            for name in ("size", "importance", "action_mask")
        )
        bits = np.rint(np.expm1((size + 1.0) * (0.5 * np.log1p(LARGEST_FEATURE_BITS))))
        worth = np.where(mask != 0.0, (importance + 1.0) / 2.0 / np.maximum(bits, 1.0), -1.0)
        order = np.lexsort((bits, -worth), axis=-1)
        chosen = np.zeros(mask.shape, dtype=np.int8)
        for place in range(mask.shape[-1]):
            feature = order[..., place : place + 1]
            needs = np.take_along_axis(bits, feature, axis=-1)[..., 0]
            fits = (needs <= room) & (np.take_along_axis(mask, feature, axis=-1)[..., 0] != 0.0)
            np.put_along_axis(chosen, feature, fits[..., None].astype(np.int8), axis=-1)
            room = room - np.where(fits, needs, 0.0)
        return chosen.reshape(batch, -1)


def location_decoding(own: Policy | None, other: Policy | None = None) -> list[Contender]:
    """Location-Decoding in both forms, each in an environment that decodes near users first.

    Args:
        own: A policy that was trained in such an environment, ``transmission="distance"``.
        other: IM-PPO's, trained under the optimal transmission; reported beside it.
    """
    named = ((own, "Location-Decoding"), (other, "Location-Decoding (policy of IM-PPO)"))
    return [Contender(policy, NEAR_FIRST, label) for policy, label in named if policy is not None]
