"""Live recovery: the diffusion pipeline runs inside ``step()``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from noma_semcom_env.features import FeatureBank, SemanticFeatures
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.recovery.pipeline import load_recovery
from noma_semcom_env.recovery.subsets import subset_members, subset_numbers
from noma_semcom_env.recovery.table import RecoveryTable, TableError
from noma_semcom_env.recovery.tabulate import Recipe
from noma_semcom_env.zoo.presets import Models, load_preset


class LiveRecovery:
    """Recovers and scores what was received, by the mean over a few diffusion seeds.

    What was scored once is kept, because an episode often repeats a selection.

    Args:
        features: Features of I images.
        images: (I, H, W, 3) uint8.
        labels: Label vocabulary of the observation, entry 0 empty.
        seeds: Diffusion seeds.
        steps: Denoising steps; None is the preset's number.
        models: Name of a preset or a mapping.
        lpips_net: ``"alex"`` or ``"vgg"``.
        cache_entries: Number of scored (image, subset) pairs that are kept.
        width: F; None is the preset's ``max_features``.
        thresholds: eps_t and eps_v that the features were pruned with, if they are not the preset's.
    """

    def __init__(
        self,
        features: Sequence[SemanticFeatures],
        images: np.ndarray,
        labels: Sequence[str],
        seeds: Sequence[int] = (0, 1),
        steps: int | None = None,
        models: Models = "street",
        lpips_net: str = "alex",
        cache_entries: int = 65_536,
        width: int | None = None,
        thresholds: tuple[float, float] | None = None,
    ) -> None:
        self._made_of = (features, images, labels, seeds, steps, models, lpips_net, cache_entries, width, thresholds)
        self.features = tuple(features)
        self.images = images
        self.thresholds = thresholds
        self.bank = FeatureBank.stack(self.features, width or load_preset(models).max_features, labels)
        self.seeds = tuple(int(seed) for seed in seeds)
        self.recovery = load_recovery(models, steps)
        self.distance = PerceptualDistance(lpips_net)
        self._score = lru_cache(maxsize=cache_entries)(self._score_one)

    @classmethod
    def from_table(cls, table: RecoveryTable, models: Models = "street", lpips_net: str = "alex") -> LiveRecovery:
        """The live counterpart of a table, on its images and features, with its seeds and steps.

        Its LPIPS equals the table's entry to 1e-3.

        Args:
            table: Made by the same models.
            models: Name of a preset or a mapping.
            lpips_net: ``"alex"`` or ``"vgg"``.

        Raises:
            TableError: If the table does not say what made it, or other models or another LPIPS network made it.
        """
        _check_origin(table, models, lpips_net)
        made_by = table.provenance
        seeds, steps = made_by["diffusion_seeds"], int(made_by["denoising_steps"])
        return cls(
            table.features,
            table.images,
            table.labels,
            seeds,
            steps,
            models,
            lpips_net,
            width=table.width,
            thresholds=table.thresholds,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveRecovery:
        """Itself: the models are not changed by use, and Gymnasium copies a spec's keywords at every look."""
        return self

    def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
        """Recover and score.

        Args:
            images: (...) int index of the image.
            selection: (..., F) bool; bits on features that the image does not have are ignored.

        Returns:
            (...) float64, the mean over the diffusion seeds.
        """
        subsets = subset_numbers(selection & self.bank.exists[images])
        values = [self._score(int(i), int(s)) for i, s in zip(images.flat, subsets.flat, strict=True)]
        return np.array(values, dtype=np.float64).reshape(images.shape)

    def _score_one(self, image: int, subset: int) -> float:
        selection = subset_members(np.array([subset]), self.bank.width)
        values = self.recovery.distances(
            [self.features[image]],
            self.images[image : image + 1],
            selection,
            self.seeds,
            self.distance,
        )
        return float(values.astype(np.float64).mean())


class SampledRecovery:
    """A table that holds a sample of the subsets, with the live pipeline for the others.

    The models are loaded when the first subset is met that the table lacks.

    Args:
        table: Holds a sample.
        models: Name of a preset or a mapping; must be what made the table.
        lpips_net: ``"alex"`` or ``"vgg"``.

    Raises:
        TableError: If the table does not say what made it, or other models or another LPIPS network made it.
    """

    is_full = False

    def __init__(self, table: RecoveryTable, models: Models = "street", lpips_net: str = "alex") -> None:
        _check_origin(table, models, lpips_net)
        self.table = table
        self.features = table.features
        self.images = table.images
        self.bank = table.bank
        self.thresholds = table.thresholds
        self._models, self._lpips_net = models, lpips_net

    @cached_property
    def _live(self) -> LiveRecovery:
        return LiveRecovery.from_table(self.table, self._models, self._lpips_net)

    def __deepcopy__(self, memo: dict[int, Any]) -> SampledRecovery:
        """Itself; see :class:`LiveRecovery`."""
        return self

    def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
        """Look up, or recover and score; see :meth:`LiveRecovery.lpips`."""
        values = self.table.known_lpips(images, selection)
        missing = np.isnan(values)
        if missing.any():
            values[missing] = self._live.lpips(images[missing], selection[missing])
        return values


def _check_origin(table: RecoveryTable, models: Models, lpips_net: str) -> None:
    """Refuse a table whose entries the live pipeline could not reproduce."""
    where, made_by = f"recovery table {table.path or '(in memory)'}", table.provenance
    for key in ("denoising_steps", "diffusion_seeds"):
        if key not in made_by:
            raise TableError(f"{where} does not say its {key}; recovery='live' needs them. Tabulate it again")
    wanted = Recipe(models, int(made_by["denoising_steps"]), made_by["diffusion_seeds"], lpips_net).origin()
    for key, value in wanted.items():
        if made_by.get(key) != value:
            raise TableError(
                f"{where} was made with {key}={made_by.get(key)!r} but recovery='live' would run {value!r}, so the two "
                "would not agree. Name what made the table (models=, lpips_net=), or tabulate the images again"
            )
