"""Recovered images for display."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from noma_semcom_env.dynamics import Dynamics

Value = TypeVar("Value")

_CACHED: Final = 512
"""Pictures that a cache holds before it is emptied."""


class Recoveries:
    """Images as the pipeline recovers them, for display: one diffusion seed, the first of those that made the table.

    Args:
        dynamics: Names the models and holds the features.

    Raises:
        ValueError: If the recovery has no features.
    """

    def __init__(self, dynamics: Dynamics) -> None:
        recovery, scenario = dynamics.recovery, dynamics.scenario
        if not hasattr(recovery, "features"):
            raise ValueError(
                f"recovered images are drawn from features, which recovery={scenario.recovery!r} does not have; give "
                "it an attribute 'features', one SemanticFeatures an image, or leave the recovered images out"
            )
        if isinstance(scenario.recovery, str):
            from noma_semcom_env.recovery.table import load_table

            made_by = load_table(scenario.images).provenance
        else:
            made_by = getattr(recovery, "provenance", {})
        self._features = recovery.features
        self._models = scenario.models
        self._steps: int | None = made_by.get("denoising_steps")
        self._seed = int(made_by.get("diffusion_seeds", [0])[0])
        self._known: dict[Hashable, np.ndarray] = {}

    def image(self, image: int, selection: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8, recovered from the (F,) bool ``selection`` of an image's features."""
        from noma_semcom_env.recovery.pipeline import load_recovery

        def recover() -> np.ndarray:
            pipeline = load_recovery(self._models, self._steps)
            recovered: np.ndarray = pipeline.recover([self._features[image]], selection[None], [self._seed])[0, 0]
            return recovered

        return remember(self._known, (image, selection.tobytes()), recover)


def remember(cache: dict[Hashable, Value], key: Hashable, make: Callable[[], Value]) -> Value:
    """The cached value of a key, made if there is none; a plain dict, so that its owner can be copied and pickled."""
    if key not in cache:
        if len(cache) >= _CACHED:
            cache.clear()
        cache[key] = make()
    return cache[key]
