"""Scenes of a split, through extraction, to a table of their recoveries: what ``noma-semcom tabulate`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.recovery.tabulate import Recipe, tabulate
from noma_semcom_env.scenes.street import render, split_seeds
from noma_semcom_env.semantics.extraction import load_extractor
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.presets import load_preset


def tabulate_street(
    split: str,
    count: int,
    output: Path,
    seeds: Sequence[int] = (0, 1),
    steps: int | None = None,
    processes: int | None = None,
) -> RecoveryTable:
    """Tabulate the first scenes of a split with the bundled models.

    Args:
        split: ``"policy"``, ``"validation"`` or ``"test"``.
        count: Number of scenes.
        output: The ``.npz`` to write; an interrupted run is taken up again.
        seeds: Diffusion seeds.
        steps: Denoising steps; the preset's by default.
        processes: Worker processes; all cores by default.

    Raises:
        ValueError: If the split is unknown or too small, or the output is no ``.npz``.
    """
    if split not in ("policy", "validation", "test"):
        raise ValueError(
            f"split={split!r} must be 'policy', 'validation' or 'test'; 'model' is what the models trained on"
        )
    if output.suffix != ".npz":
        raise ValueError(f"output={str(output)!r} must end in .npz")
    preset = load_preset("street")
    scene_seeds = split_seeds(split, count)
    images = np.stack([render(seed).image for seed in scene_seeds])
    ids = [f"street:{split}:{i:04d}" for i in range(count)]
    features = load_extractor("street").extract(images, ids)
    recipe = Recipe("street", preset.denoising_steps if steps is None else steps, tuple(seeds))
    record = {
        "split": split,
        "scene_seeds": [scene_seeds[0], scene_seeds[-1]],
        "extraction_sha256": models_digest([preset.captioner, preset.segmenter]),
        "text_unit": preset.text_unit,
        "thresholds": {"text": preset.text_threshold, "visual": preset.visual_threshold},
    }
    return tabulate(images, features, output, recipe, processes, record)
