"""Images, through extraction, to a table of their recoveries: what ``noma-semcom tabulate`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.recovery.tabulate import MAX_TABLE_ENTRIES, Recipe, tabulate
from noma_semcom_env.recovery.workers import ray_cluster
from noma_semcom_env.scenes.sets import ImageSource, load_images
from noma_semcom_env.scenes.street import SPLITS
from noma_semcom_env.semantics.extraction import load_extractor
from noma_semcom_env.zoo.loading import models_digest, resolution_of
from noma_semcom_env.zoo.presets import Models, load_preset


def tabulate_images(
    source: ImageSource,
    output: Path,
    models: Models = "street",
    seeds: Sequence[int] = (0, 1),
    steps: int | None = None,
    count: int | None = None,
    offset: int = 0,
    lpips_net: str = "alex",
    processes: int | None = None,
    ray_address: str | None = None,
    max_table_entries: int = MAX_TABLE_ENTRIES,
    device: str | None = None,
) -> RecoveryTable:
    """Tabulate images of any set with any models.

    Args:
        source: Image set; see :func:`noma_semcom_env.scenes.sets.load_images`.
        output: The ``.npz`` to write; an interrupted run is taken up again.
        models: Name of a preset or a mapping.
        seeds: Diffusion seeds.
        steps: Denoising steps; the preset's by default.
        count: Number of images; all by default.
        offset: Images of the set to pass over.
        lpips_net: ``"alex"`` or ``"vgg"``.
        processes: Worker processes; all cores by default.
        ray_address: Of a Ray cluster that computes instead; ``"auto"`` finds one, ``"local"`` starts one.
        max_table_entries: Where an image has more subsets, a sample of so many is tabulated.
        device: Where the models run, see :func:`noma_semcom_env.recovery.tabulate.tabulate`.

    Raises:
        ValueError: If the images, models, seeds or steps are refused, or the output is no ``.npz``.
        ModelLoadError: If a model cannot be loaded.
        ConnectionError: If there is no Ray cluster at the address.
    """
    if output.suffix != ".npz":
        raise ValueError(f"output={str(output)!r} must end in .npz")
    if isinstance(source, str) and source.split(":")[:2] == ["street", "model"]:
        raise ValueError(
            f"source={source!r} is what the bundled models trained on; take one of "
            f"{[f'street:{split}' for split in SPLITS if split != 'model']}"
        )
    recipe, preset = Recipe(models, steps, tuple(seeds), lpips_net), load_preset(models)
    # A cluster that is not there is told of before the images are extracted.
    with ray_cluster(ray_address):
        pictures = load_images(source, resolution_of(preset), count, offset)
        features = load_extractor(models, device).extract(pictures.images, pictures.image_ids)
        record: dict[str, Any] = {
            "source": pictures.source,
            "offset": offset,
            "extraction_sha256": models_digest([preset.captioner, preset.segmenter]),
            "text_unit": preset.text_unit,
            "thresholds": {"text": preset.text_threshold, "visual": preset.visual_threshold},
        }
        return tabulate(
            pictures.images, features, output, recipe, processes, record, ray_address, max_table_entries, device
        )
