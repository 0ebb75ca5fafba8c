"""The one interface of every policy: observations of B steps in, B joint selections out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

Observation = Mapping[str, np.ndarray]
"""A batched observation of the environment: name to (B, ...) array, ``action_mask`` (B, K * F) int8 included."""

Info = Mapping[str, Any]
"""The ``info`` of a vector environment's ``reset`` or ``step``: name to (B, ...) array or nested mapping."""


@runtime_checkable
class Policy(Protocol):
    """Chooses which features each user sends.

    Attributes:
        name: How tables and pictures call it.
    """

    name: str

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """Choose the selections of B steps.

        Args:
            observation: What the environment shows.
            info: The environment's ``info``. ``info["privileged"]`` is for references alone.
            rng: The only source of chance, so that equal seeds give equal actions.

        Returns:
            (B, K * F) int8 of 0 and 1, user by user, 0 where ``action_mask`` is 0.
        """
        ...
