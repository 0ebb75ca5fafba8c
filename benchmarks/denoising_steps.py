"""LPIPS by the number of denoising steps, the data of JTSC's Fig. 6, from which a preset's number is chosen.

    python -m noma_semcom_benchmarks.denoising_steps --csv steps.csv --figure steps.png

Validation scenes beyond those of the bundled table, features extracted, with all of them received, a random half, masks
alone, words alone and none. The fewest steps are chosen that are nowhere more than 2 % worse than the most.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from rich.progress import track
from rich.table import Table

from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_env.features import FeatureKind, SemanticFeatures, select_kind
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.recovery.pipeline import load_recovery
from noma_semcom_env.scenes.sets import load_images
from noma_semcom_env.semantics.extraction import load_extractor
from noma_semcom_env.zoo.loading import resolution_of
from noma_semcom_env.zoo.presets import Models, load_preset

RECEIVED: Final[tuple[FeatureKind | Literal["half"], ...]] = ("all", "half", "masks", "words", "none")
TOLERANCE: Final = 0.02
OFFSET: Final = 5_000
"""Scenes that are passed over, so that those of the table are not among them."""


def received(features: Sequence[SemanticFeatures], what: FeatureKind | Literal["half"], seed: int = 0) -> np.ndarray:
    """(B, F) bool: all features of each image, its masks, its words, none, or a random half of all."""
    if what != "half":
        return select_kind(features, what)
    everything = select_kind(features, "all")
    return everything & (np.random.default_rng(seed).random(everything.shape) < 0.5)


def sweep(
    images: np.ndarray,
    features: Sequence[SemanticFeatures],
    steps: Sequence[int],
    seeds: Sequence[int],
    models: Models = "street",
) -> list[dict[str, Any]]:
    """One row a number of steps: mean LPIPS by what was received, and its standard error over images.

    Args:
        images: (B, H, W, 3) uint8.
        features: B entries.
        steps: Numbers of denoising steps.
        seeds: Diffusion seeds.
        models: Name of a preset or a mapping.
    """
    distance, rows = PerceptualDistance(), []
    for count in track(steps, "denoising steps"):
        recovery = load_recovery(models, count)
        row: dict[str, Any] = {"steps": count}
        for what in RECEIVED:
            values = recovery.distances(features, images, received(features, what), seeds, distance).mean(axis=1)
            row |= {what: float(values.mean()), f"{what}_error": float(values.std(ddof=1) / len(values) ** 0.5)}
        rows.append(row)
    return rows


def fewest_steps(rows: Sequence[dict[str, Any]], tolerance: float = TOLERANCE) -> int:
    """The fewest steps whose LPIPS is within a tolerance of that of the last row, or better, whatever was received."""
    last = rows[-1]
    good = [row["steps"] for row in rows if all(row[what] <= (1 + tolerance) * last[what] for what in RECEIVED)]
    return int(min(good))


def draw(rows: Sequence[dict[str, Any]], chosen: int, path: Path) -> None:
    """The curves with bands of two standard errors, and the chosen number of steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    steps = [row["steps"] for row in rows]
    for what in RECEIVED:
        mean, error = (np.array([row[key] for row in rows]) for key in (what, f"{what}_error"))
        axes.plot(steps, mean, marker=".", label=what if what != "half" else "a random half")
        axes.fill_between(steps, mean - 2 * error, mean + 2 * error, alpha=0.2)
    axes.axvline(chosen, color="grey", linestyle=":", label=f"chosen, T = {chosen}")
    axes.set(xlabel="denoising steps T", ylabel="LPIPS", ylim=(0, None), xlim=(1, max(steps)))
    axes.locator_params(axis="x", integer=True)
    axes.legend(title="features received", ncols=3, loc="upper right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Print the curve, and write it as CSV and as a figure if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="street", help="name of a preset, or a JSON object that swaps its parts")
    parser.add_argument("--source", default="street:validation", help="image set")
    parser.add_argument("--offset", type=int, default=OFFSET, help="images to pass over")
    parser.add_argument("--scenes", type=int, default=64, help="number of images")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, nargs="+", default=list(range(1, 21)))
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    models = arguments.models
    pictures = load_images(arguments.source, resolution_of(load_preset(models)), arguments.scenes, arguments.offset)
    features = load_extractor(models).extract(pictures.images, pictures.image_ids)
    rows = sweep(pictures.images, features, sorted(arguments.steps), range(arguments.seeds), models)
    chosen, shown = fewest_steps(rows), Table(title=f"LPIPS of {len(features)} images, {arguments.seeds} seeds")
    shown.add_column("T", justify="right")
    for what in RECEIVED:
        shown.add_column(what, justify="right")
    for row in rows:
        shown.add_row(str(row["steps"]), *(f"{row[what]:.4f}" for what in RECEIVED))
    console = make_console()
    console.print(shown)
    console.print(f"fewest steps nowhere more than {TOLERANCE:.0%} worse than {rows[-1]['steps']}: {chosen}")
    if arguments.csv:
        write_rows(rows, arguments.csv)
    if arguments.figure:
        draw(rows, chosen, arguments.figure)


if __name__ == "__main__":
    main()
