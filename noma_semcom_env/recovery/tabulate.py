"""Builds recovery tables: LPIPS of every subset of every image's features, by the real pipeline, resumable."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.table import RecoveryTable, load_table, subset_selections
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.presets import load_preset

_CHUNK = 256


@dataclass(frozen=True)
class Recipe:
    """What an entry depends on besides image and features.

    Attributes:
        models: Preset name.
        steps: Denoising steps T.
        seeds: Diffusion seeds, common to all subsets of all images.
        lpips_net: LPIPS backbone.
    """

    models: str
    steps: int
    seeds: tuple[int, ...]
    lpips_net: str = "alex"

    def provenance(self) -> dict[str, Any]:
        """Record for the table, with a SHA-256 sum over the recovery models' files."""
        preset = load_preset(self.models)
        return {
            "models": self.models,
            "models_sha256": models_digest([preset.diffusion, preset.controlnet]),
            "denoising_steps": self.steps,
            "diffusion_seeds": list(self.seeds),
            "lpips_net": self.lpips_net,
        }


def tabulate(
    images: np.ndarray,
    features: Sequence[SemanticFeatures],
    output: Path,
    recipe: Recipe,
    processes: int | None = None,
    record: dict[str, Any] | None = None,
) -> RecoveryTable:
    """Compute and save a table; what an interrupted run has finished is taken up again.

    Entries that a table at ``output`` already holds are taken over, so that sizes and pruning can change without
    computing anything again. Each image's entries are written beside ``output`` as soon as they are computed, under a
    name that holds a hash of the image, its features and the recipe, and removed once the table is saved.

    Args:
        images: (I, H, W, 3) uint8.
        features: I entries; the width F is the preset's ``max_features``.
        output: The ``.npz`` to write.
        recipe: Models, steps and seeds.
        processes: Worker processes, one thread each; all cores by default.
        record: More provenance to store.

    Returns:
        The finished table.

    Raises:
        ValueError: If an image has more features than the preset's width, the lengths differ, the images are not of
            uint8, or ``output`` holds entries that would be lost.
        TableError: If ``output`` is there and damaged.
        ModelLoadError: If the preset's models are missing or damaged.
    """
    preset = load_preset(recipe.models)
    width = preset.max_features
    if len(images) != len(features):
        raise ValueError(f"images has {len(images)} entries but features has {len(features)}; one each is needed")
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(f"images has shape {images.shape} and dtype {images.dtype}; (I, H, W, 3) of uint8 is needed")
    for one in features:
        if one.count > width:
            raise ValueError(f"image {one.image_id!r} has {one.count} features; at most {width} can be tabulated")
    provenance = recipe.provenance()
    parts = output.with_name(output.stem + ".parts")
    digests = [_entry_digest(image, one, provenance) for image, one in zip(images, features, strict=True)]
    known = _known_entries(output, provenance)
    dropped = len(known.keys() - set(digests))
    if dropped:
        raise ValueError(f"{output} holds {dropped} images that this run would drop; name another file, or delete it")
    parts.mkdir(parents=True, exist_ok=True)
    shards = [parts / f"{digest}.npy" for digest in digests]
    waiting = [i for i, digest in enumerate(digests) if digest not in known and not shards[i].is_file()]
    work = [len(recipe.seeds) << one.count for one in features]
    with _progress() as bar, _one_thread_each():
        task = bar.add_task("recoveries", total=sum(work), completed=sum(work) - sum(work[i] for i in waiting), rate="")
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(recipe,))
        try:
            jobs = {pool.submit(_tabulate_one, images[i], features[i], shards[i]): i for i in waiting}
            for job in as_completed(jobs):
                job.result()
                bar.advance(task, work[jobs[job]])
                speed = bar.tasks[0].speed
                bar.update(task, rate=f"{speed:.1f}/s" if speed else "")
                if not bar.console.is_terminal:  # there a bar shows at its end alone
                    left = bar.tasks[0].time_remaining
                    bar.console.print(f"{bar.tasks[0].completed:.0f} of {sum(work)} recoveries, {left or 0:.0f} s left")
        finally:
            # On an error or Ctrl-C, images that wait are given up; those in hand are finished and kept.
            pool.shutdown(cancel_futures=True)
    values = np.full((len(features), len(recipe.seeds), 1 << width), np.nan, dtype=np.float32)
    for i, (digest, one) in enumerate(zip(digests, features, strict=True)):
        entries = known[digest] if digest in known else np.load(shards[i], allow_pickle=False)
        values[i, :, : 1 << one.count] = entries
    table = RecoveryTable(tuple(features), images, values, preset.labels, {**(record or {}), **provenance}, output)
    table.save(output)
    shutil.rmtree(parts)
    return table


def _known_entries(output: Path, provenance: dict[str, Any]) -> dict[str, np.ndarray]:
    """The entries (S, 2**n) of a table at ``output``, by the digest of image and features.

    Raises:
        ValueError: If another recipe made it.
    """
    if not output.is_file():
        return {}
    table = load_table(output)
    if not provenance.items() <= table.provenance.items():
        raise ValueError(
            f"{output} was made by another recipe, {dict(table.provenance)}; name another file, or delete it"
        )
    rows = zip(table.images, table.features, table.lpips_by_seed, strict=True)
    return {_entry_digest(image, one, provenance): row[:, : 1 << one.count] for image, one, row in rows}


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


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Workers read the thread count at start-up: two processes beat two threads on small images."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_worker: dict[str, Any] = {}


def _start_worker(recipe: Recipe) -> None:
    # A worker whose parent was killed would go on beside those of the next run.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C at a terminal reaches workers too; theirs is to finish the image in hand.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from noma_semcom_env.recovery.perceptual import PerceptualDistance
    from noma_semcom_env.recovery.pipeline import load_recovery

    torch.set_num_threads(1)
    _worker["recovery"] = load_recovery(recipe.models, recipe.steps)
    _worker["distance"] = PerceptualDistance(recipe.lpips_net)
    _worker["seeds"] = recipe.seeds


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _tabulate_one(image: np.ndarray, features: SemanticFeatures, shard: Path) -> None:
    selections = subset_selections(features.count, features.count)
    raw = np.broadcast_to(image, (_CHUNK, *image.shape))
    rows = []
    for start in range(0, len(selections), _CHUNK):
        chunk = selections[start : start + _CHUNK]
        rows.append(
            _worker["recovery"].distances(
                [features] * len(chunk), raw[: len(chunk)], chunk, _worker["seeds"], _worker["distance"]
            )
        )
    part = shard.with_name(f"{shard.stem}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.save(file, np.concatenate(rows).T)
    os.replace(part, shard)


def _entry_digest(image: np.ndarray, features: SemanticFeatures, provenance: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    digest.update(np.packbits(features.masks).tobytes())
    digest.update(json.dumps([features.image_id, features.mask_labels, features.phrases]).encode())
    return digest.hexdigest()[:32]
