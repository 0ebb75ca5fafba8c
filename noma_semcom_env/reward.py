"""Reward of a step: what the recovered images are worth against what their transmission took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from noma_semcom_env.scenario import Scenario


@dataclass(frozen=True, eq=False)
class RewardTerms:
    """A reward and its terms.

    Attributes:
        reward: (B,) float64, finite.
        weighted_ll: (B,) float64, the paper's Weighted-LL: what the reward is the negative of, without penalty.
        latency_s: (B,) float64, tau in seconds, finite: a demand that cannot be delivered counts as tau_max.
        violations: (B,) int64, 1 where the latency exceeds tau_max.
    """

    reward: np.ndarray
    weighted_ll: np.ndarray
    latency_s: np.ndarray
    violations: np.ndarray


class Reward(Protocol):
    """Turns the outcome of B steps into rewards; a plain function will do."""

    def __call__(self, lpips: np.ndarray, latency_s: np.ndarray, scenario: Scenario) -> RewardTerms:
        """Value B steps.

        Args:
            lpips: (B, K) float64.
            latency_s: (B,) float64 in seconds; inf where a demand cannot be delivered.
            scenario: Weights and limits.
        """
        ...


def weighted_sum(lpips: np.ndarray, latency_s: np.ndarray, scenario: Scenario) -> RewardTerms:
    """Reward (24), bounded so that means exist.

    r = -(lambda mean_k L_k + (1 - lambda) min(tau, tau_max) / tau_ref) - violation_penalty [tau > tau_max]

    Args:
        lpips: (B, K) float64.
        latency_s: (B,) float64 in seconds; inf counts as tau_max, violated.
        scenario: Weights and limits.
    """
    cap = scenario.latency_cap_s
    quality = scenario.lpips_weight * lpips.mean(axis=-1)
    cost = (1.0 - scenario.lpips_weight) * np.minimum(latency_s, cap) / scenario.reference_s
    late = latency_s > cap
    return RewardTerms(
        reward=-(quality + cost) - scenario.violation_penalty * late,
        weighted_ll=quality + cost,
        latency_s=np.where(np.isinf(latency_s), cap, latency_s),
        violations=late.astype(np.int64),
    )


def worst_user(lpips: np.ndarray, latency_s: np.ndarray, scenario: Scenario) -> RewardTerms:
    """Reward (24) with the worst user's LPIPS in place of the mean, as its latency is the worst user's already.

    Args:
        lpips: (B, K) float64.
        latency_s: (B,) float64 in seconds; inf counts as tau_max, violated.
        scenario: Weights and limits.
    """
    return weighted_sum(lpips.max(axis=-1, keepdims=True), latency_s, scenario)


REWARDS: Final[dict[str, Reward]] = {"weighted_sum": weighted_sum, "worst_user": worst_user}
