"""The benchmark schemes that need no training: ALL-Selection and Random-Selection.

Both are meant for ``NomaSemComUnpruned-v0``, where ``action_mask`` tells which features exist: there ALL-Selection
sends every feature. In ``NomaSemCom-v0`` pruned features cannot be sent, so both draw from what pruning keeps. The
decoding order is the environment's business, optimized by default.
"""

from __future__ import annotations

import numpy as np

from noma_semcom_agents.policies import Info, Observation


class AllSelection:
    """ALL-Selection: every user sends every feature that the environment lets it send."""

    name = "ALL-Selection"

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8, the action mask itself."""
        return np.array(observation["action_mask"], dtype=np.int8)


class NoSelection:
    """Sends nothing at all: the other extreme, at the price of latency zero."""

    name = "No-Selection"

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8 zeros."""
        return np.zeros_like(observation["action_mask"], dtype=np.int8)


class RandomSelection:
    """Random-Selection: each available feature is sent with one probability, whatever its importance.

    Args:
        probability: Chance of each feature, in [0, 1].

    Raises:
        ValueError: If ``probability`` lies outside [0, 1].
    """

    name = "Random-Selection"

    def __init__(self, probability: float = 0.5) -> None:
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability={probability!r} of Random-Selection must lie in [0, 1]")
        self.probability = probability

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8; draws B * K * F uniforms."""
        mask = observation["action_mask"]
        chosen: np.ndarray = ((rng.random(mask.shape) < self.probability) & (mask != 0)).astype(np.int8)
        return chosen
