"""Training scenes of the model split, rendered once into memory-mapped arrays.

python -m noma_semcom_env.zoo.train.data --scenes 40000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from noma_semcom_env.scenes.street import SPLITS, render

DEFAULT_FOLDER = Path("build/zoo")
HELD_OUT = 10_000
"""Scenes at the end of the model split that no training may read."""

_CHUNK = 500


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes.

    Attributes:
        images: (n, H, W, 3) uint8.
        labels: (n, H, W) uint8.
        captions: n sentences.
    """

    images: np.ndarray
    labels: np.ndarray
    captions: list[str]


def _chunk(first: int, count: int, resolution: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    scenes = [render(seed, resolution) for seed in range(first, first + count)]
    return (
        np.stack([scene.image for scene in scenes]),
        np.stack([scene.labels for scene in scenes]),
        [scene.caption for scene in scenes],
    )


def held_out(count: int, resolution: int = 64) -> Scenes:
    """The last ``count`` scenes of the model split, which no training script reads.

    Raises:
        ValueError: If more than :data:`HELD_OUT` are asked for.
    """
    if not 0 < count <= HELD_OUT:
        raise ValueError(f"count={count!r} held-out scenes; a number in [1, {HELD_OUT}] is needed")
    images, labels, captions = _chunk(SPLITS["model"].stop - count, count, resolution)
    return Scenes(images, labels, captions)


def training_scenes(count: int, folder: Path = DEFAULT_FOLDER, resolution: int = 64) -> Scenes:
    """The first ``count`` scenes of the model split, rendered into ``folder`` if they are not there yet.

    Raises:
        ValueError: If they would reach the held-out scenes.
    """
    most = len(SPLITS["model"]) - HELD_OUT
    if not 0 < count <= most:
        raise ValueError(f"count={count!r} training scenes; a number in [1, {most}] is needed, the rest is held out")
    target = folder / f"scenes-{resolution}-{count}"
    if not target.is_dir():
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        part.mkdir(parents=True, exist_ok=True)
        shape = (count, resolution, resolution)
        images = np.lib.format.open_memmap(part / "images.npy", "w+", np.uint8, (*shape, 3))
        labels = np.lib.format.open_memmap(part / "labels.npy", "w+", np.uint8, shape)
        captions: list[str] = []
        starts = range(0, count, _CHUNK)
        with ProcessPoolExecutor() as pool:
            jobs = [pool.submit(_chunk, s, min(_CHUNK, count - s), resolution) for s in starts]
            for start, job in zip(starts, track(jobs, "rendering scenes"), strict=True):
                chunk_images, chunk_labels, chunk_captions = job.result()
                images[start : start + len(chunk_images)] = chunk_images
                labels[start : start + len(chunk_labels)] = chunk_labels
                captions += chunk_captions
        images.flush()
        labels.flush()
        (part / "captions.json").write_text(json.dumps(captions))
        try:
            os.replace(part, target)
        except OSError:  # another process has rendered the same scenes meanwhile
            if not target.is_dir():
                raise
            shutil.rmtree(part)
    return Scenes(
        np.load(target / "images.npy", mmap_mode="r"),
        np.load(target / "labels.npy", mmap_mode="r"),
        json.loads((target / "captions.json").read_text()),
    )


def make_parser(description: str | None, steps: int | None = None) -> argparse.ArgumentParser:
    """Options that all training scripts share: ``--scenes``, ``--folder`` and, with a default for it, ``--steps``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if steps is not None:
        parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--scenes", type=int, default=40_000)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    return parser


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--resolution", type=int, default=64, help="side of the scenes in pixels")
    arguments = parser.parse_args()
    training_scenes(arguments.scenes, arguments.folder, arguments.resolution)


if __name__ == "__main__":
    main()
