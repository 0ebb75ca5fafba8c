"""Builds recovery tables: LPIPS of subsets of every image's features, by the real pipeline, resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.subsets import SAMPLE, sample_subsets
from noma_semcom_env.recovery.table import PADDING, RecoveryTable, load_table
from noma_semcom_env.recovery.workers import Computation, Job, compute_here, compute_on_ray
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.presets import Models, load_preset

MAX_TABLE_ENTRIES: Final = 4096
"""Subsets of an image that are tabulated at most, unless told otherwise."""

_JOB_PIXELS: Final = 256 * 64**2
_GPU_JOB_PIXELS: Final = 4096 * 64**2
"""Pixels of the recoveries of a job: a few batches, so that little is lost with a job and little waits between two."""

_DENSE_WIDTH: Final = 16


@dataclass(frozen=True)
class Recipe:
    """What an entry depends on besides image and features.

    Attributes:
        models: Name of a preset or a mapping.
        steps: Denoising steps T; None is the preset's number.
        seeds: Diffusion seeds, common to all subsets of all images.
        lpips_net: LPIPS backbone.

    Raises:
        ValueError: If there is no seed, one twice or a negative one, or fewer than one step.
    """

    models: Models = "street"
    steps: int | None = None
    seeds: tuple[int, ...] = (0, 1)
    lpips_net: str = "alex"

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds={self.seeds!r} must be distinct whole numbers of at least 0, one or more")
        if self.steps is None:
            object.__setattr__(self, "steps", load_preset(self.models).denoising_steps)
        if int(self.steps or 0) < 1:
            raise ValueError(f"steps={self.steps!r} must be at least 1")

    def computation(self, device: str | None = None) -> Computation:
        """What is done with each job, on a device of torch's or the one that suits the preset."""
        return Computation(self.models, int(self.steps or 0), self.lpips_net, device)

    def origin(self) -> dict[str, Any]:
        """What an entry of any seed depends on, with a SHA-256 sum over the recovery models' files."""
        preset = load_preset(self.models)
        return {
            "models": preset.name,
            "models_sha256": models_digest([preset.diffusion, preset.controlnet]),
            "palette": hashlib.sha256(json.dumps(preset.palette, sort_keys=True).encode()).hexdigest()[:16],
            "denoising_steps": self.steps,
            "decoder_precision": preset.decoder_precision,
            "lpips_net": self.lpips_net,
        }

    def provenance(self) -> dict[str, Any]:
        """Record for the table."""
        return {**self.origin(), "diffusion_seeds": list(self.seeds)}


def tabulate(
    images: np.ndarray,
    features: Sequence[SemanticFeatures],
    output: Path,
    recipe: Recipe,
    processes: int | None = None,
    record: dict[str, Any] | None = None,
    ray_address: str | None = None,
    max_table_entries: int = MAX_TABLE_ENTRIES,
    device: str | None = None,
) -> RecoveryTable:
    """Compute and save a table; what an interrupted run has finished is taken up again.

    Entries that a table at ``output`` already holds are taken over, so that images and seeds can be added, and sizes
    and pruning can change, without computing anything again. What is computed is written beside ``output`` as soon as
    it is there, one file an image and seed, under a name that holds a hash of the image, its features and the recipe,
    and removed once the table is saved.

    Args:
        images: (I, H, W, 3) uint8.
        features: I entries; the width F is the preset's ``max_features``.
        output: The ``.npz`` to write.
        recipe: Models, steps and seeds.
        processes: Worker processes, one thread each; all cores by default.
        record: More provenance to store.
        ray_address: Of a Ray cluster that computes instead of this machine; ``"auto"`` finds a running one,
            ``"local"`` starts one here.
        max_table_entries: Where an image has more subsets, so many of them are tabulated, a sample that
            :func:`~noma_semcom_env.recovery.subsets.sample_subsets` draws.
        device: Where the models run; None is a GPU if this machine has one, except for the bundled models. On a GPU one
            process is the default, and on Ray each job asks for a whole one.

    Returns:
        The finished table.

    Raises:
        ValueError: If an image has more features than the preset's width, the lengths differ, the images are not of
            uint8, two images have one id, ``max_table_entries`` is too small, or ``output`` holds entries that would be
            lost.
        TableError: If ``output`` is there and damaged.
        ModelLoadError: If the preset's models are missing or damaged.
    """
    preset = load_preset(recipe.models)
    width = preset.max_features
    if len(images) != len(features) or not len(images):
        raise ValueError(f"images has {len(images)} entries and features {len(features)}; one each is needed")
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images has shape {images.shape} and dtype {images.dtype}; (I, H, W, 3) of uint8 is needed")
    ids = [one.image_id for one in features]
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise ValueError(f"features hold the image ids {twice} more than once; give each image its own")
    for one in features:
        if one.count > width:
            raise ValueError(f"image {one.image_id!r} has {one.count} features; at most {width} can be tabulated")
    subsets = [sample_subsets(one, max_table_entries) for one in features]
    shards = _Shards(images, features, subsets, recipe, output)
    compute = recipe.computation(device)
    jobs = shards.jobs(_GPU_JOB_PIXELS if compute.on_gpu(cluster=ray_address is not None) else _JOB_PIXELS)
    computing = compute_on_ray(compute, jobs, ray_address) if ray_address else compute_here(compute, jobs, processes)
    with closing(computing), _progress() as bar:
        total, missing = sum(map(len, subsets)) * len(recipe.seeds), sum(len(job.subsets) for job in jobs)
        task = bar.add_task("recoveries", total=total, completed=total - missing, rate="")
        for job, values in computing:
            shards.add(job, values)
            bar.advance(task, len(values))
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")
            if not bar.console.is_terminal:  # there a bar shows at its end alone
                left = bar.tasks[0].time_remaining
                bar.console.print(f"{bar.tasks[0].completed:.0f} of {total} recoveries, {left or 0:.0f} s left")
    full = all(len(numbers) == 1 << one.count for numbers, one in zip(subsets, features, strict=True))
    dense = full and width <= _DENSE_WIDTH
    table = RecoveryTable(
        tuple(features),
        images,
        _stacked(shards.values, 1 << width if dense else max(map(len, subsets)), np.nan, np.float32),
        preset.labels,
        {
            **(record or {}),
            **recipe.provenance(),
            **({} if full else {"max_table_entries": max_table_entries, "sample": SAMPLE}),
        },
        output,
        None if dense else _stacked(subsets, max(map(len, subsets)), PADDING, np.int64),
        width,
    )
    table.save(output)
    shards.remove()
    return table


class _Shards:
    """The entries under way: one file an image and seed, NaN where nothing is computed yet."""

    def __init__(
        self,
        images: np.ndarray,
        features: Sequence[SemanticFeatures],
        subsets: Sequence[np.ndarray],
        recipe: Recipe,
        output: Path,
    ) -> None:
        self._images, self._features, self._subsets, self._recipe = images, features, subsets, recipe
        self._folder = output.with_name(output.stem + ".parts")
        origin = recipe.origin()
        names = [
            _entry_digest(image, one, numbers, origin)
            for image, one, numbers in zip(images, features, subsets, strict=True)
        ]
        known = _known_entries(output, origin)
        dropped = known.keys() - {(name, seed) for name in names for seed in recipe.seeds}
        if dropped:
            raise ValueError(
                f"{output} holds {len(dropped)} pairs of image and diffusion seed that this run would drop; name "
                "another file, or delete it"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self._paths = [[self._folder / f"{name}-{seed}.npy" for seed in recipe.seeds] for name in names]
        self.values = [
            np.stack(
                [
                    known.get((name, seed), _read_shard(path, len(numbers)))
                    for path, seed in zip(paths, recipe.seeds, strict=True)
                ]
            )
            for name, paths, numbers in zip(names, self._paths, subsets, strict=True)
        ]
        """I arrays (S, n) float32."""

    def jobs(self, pixels: int) -> list[Job]:
        """What is not computed yet, image by image, in jobs of so many pixels of recoveries."""
        together = max(1, pixels // int(np.prod(self._images.shape[1:3])))
        return [
            Job(row, self._images[row], self._features[row], seed, numbers[start : start + together], start)
            for row, numbers in enumerate(self._subsets)
            for place, seed in enumerate(self._recipe.seeds)
            for start in range(0, len(numbers), together)
            if np.isnan(self.values[row][place, start : start + together]).any()
        ]

    def add(self, job: Job, values: np.ndarray) -> None:
        """Keep what a job gave, on disk as well."""
        place = self._recipe.seeds.index(job.seed)
        entries = self.values[job.row][place]
        entries[job.start : job.start + len(values)] = values
        path = self._paths[job.row][place]
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, entries)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)

    def remove(self) -> None:
        """Remove this run's files; those of another run on the same output stay for it."""
        for path in (path for paths in self._paths for path in paths):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            self._folder.rmdir()


def _read_shard(path: Path, entries: int) -> np.ndarray:
    """What an earlier run left, all NaN if that is nothing or cannot be read."""
    with suppress(OSError, EOFError, ValueError):
        shard: np.ndarray = np.load(path, allow_pickle=False)
        if shard.shape == (entries,) and shard.dtype == np.float32:
            return shard
    return np.full(entries, np.nan, dtype=np.float32)


def _known_entries(output: Path, origin: dict[str, Any]) -> dict[tuple[str, int], np.ndarray]:
    """The entries (n,) of a table at ``output``, by digest of image and features, and seed.

    Raises:
        ValueError: If another recipe made it.
    """
    if not output.is_file():
        return {}
    table = load_table(output)
    if not origin.items() <= table.provenance.items():
        raise ValueError(
            f"{output} was made by another recipe, {dict(table.provenance)}; name another file, or delete it"
        )
    known = {}
    for row, (image, one) in enumerate(zip(table.images, table.features, strict=True)):
        numbers = table.subsets_of(row)
        name = _entry_digest(image, one, numbers, origin)
        for seed, values in zip(table.provenance["diffusion_seeds"], table.lpips_by_seed[row], strict=True):
            known[name, seed] = values[: len(numbers)]
    return known


def _stacked(rows: Iterable[np.ndarray], length: int, padding: float, dtype: Any) -> np.ndarray:
    """Arrays (..., n_i) in one array (I, ..., length)."""
    rows = list(rows)
    stacked = np.full((len(rows), *rows[0].shape[:-1], length), padding, dtype=dtype)
    for target, row in zip(stacked, rows, strict=True):
        target[..., : row.shape[-1]] = row
    return stacked


def _progress() -> Any:
    try:
        from rich import progress
    except ImportError as error:
        raise ImportError("tabulation needs the extra 'models': pip install 'noma-semcom-env[models]'") from error
    return progress.Progress(
        progress.TextColumn("recoveries"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )


def _entry_digest(image: np.ndarray, features: SemanticFeatures, subsets: np.ndarray, origin: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(origin, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    digest.update(np.packbits(features.masks).tobytes())
    digest.update(json.dumps([features.image_id, features.mask_labels, features.phrases]).encode())
    digest.update(subsets.tobytes())
    return digest.hexdigest()[:32]
