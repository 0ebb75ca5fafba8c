"""Fig. 3 for any image: heatmaps of the phrases, their dependency, and the matching of masks and phrases.

    python -m noma_semcom_benchmarks.fig03 --scene 11000004 --output runs/fig03.png
    python -m noma_semcom_benchmarks.fig03 --image street.jpg

Top: the image, and the heatmap (19) of every phrase with its importance (22). Bottom: the dependency matrix (20), the
masks, and the matching of (23) with the masks' importance. Names of features that pruning removes are grey.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.scenes.files import read_square
from noma_semcom_env.scenes.street import CLASSES, PALETTE, render
from noma_semcom_env.semantics.extraction import TextualFeatures, load_extractor

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Matching:
    """What Fig. 3 shows of one image.

    Attributes:
        image: (H, W, 3) uint8.
        text: Maps, areas and (20) to (22), before pruning.
        features: Features with importance and pruning.
        match: (V, T) the matching of (23), all phrases, pruned ones included.
    """

    image: np.ndarray
    text: TextualFeatures
    features: SemanticFeatures
    match: np.ndarray


def explain(image: np.ndarray, models: str = "street") -> Matching:
    """Extract the features of an (H, W, 3) uint8 image and keep what importance was computed from."""
    extractor = load_extractor(models)
    (features,) = extractor.extract(image[None], ["image"])
    (text,) = extractor.read(image[None])
    match = extractor.reading.mask_word_match(features.masks, text.areas)
    return Matching(image, text, features, match)


def draw(matching: Matching, path: Path) -> None:
    """Write the picture."""
    from matplotlib.figure import Figure

    text, features = matching.text, matching.features
    visual = len(features.masks)
    kept_masks, kept_phrases = features.kept[:visual], features.kept[visual:]
    columns = max(1 + len(text.phrases), 4)
    figure = Figure(figsize=(2.3 * columns, 6.6), layout="constrained")
    figure.suptitle(f'"{text.caption}"')
    halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.35])
    top, bottom = halves
    cells = top.subplots(1, columns, squeeze=False)[0]
    for axes in cells:
        axes.axis("off")
    _show(cells[0], matching.image, "raw image")
    extent = (-0.5, matching.image.shape[1] - 0.5, matching.image.shape[0] - 0.5, -0.5)
    shown = zip(cells[1:], text.phrases, text.maps, text.importance, kept_phrases, strict=False)
    for axes, phrase, heat, score, kept in shown:
        _show(axes, matching.image, f"{phrase}\ns = {score:.2f}", kept)
        axes.imshow(heat, cmap="jet", alpha=0.5, vmin=0, vmax=1, extent=extent, interpolation="bilinear")
    dependency, masks, match = bottom.subplots(1, 3, width_ratios=[1, 0.8, 1])
    _matrix(dependency, text.dependency, text.phrases, text.phrases, "dependency (20)")
    picture = np.full((*features.masks.shape[1:], 3), 255, dtype=np.uint8)
    for mask, label in zip(features.masks, features.mask_labels, strict=True):
        picture[mask] = PALETTE[CLASSES.index(label)] if label in CLASSES else 128
    _show(masks, picture, "masks")
    names = [f"{name}  v = {v:.2f}" for name, v in zip(features.mask_labels, features.importance, strict=False)]
    _matrix(match, matching.match, names, text.phrases, "matching (23)")
    for axes, kept in ((dependency, kept_phrases), (match, kept_masks)):
        _grey(axes.get_yticklabels(), kept)
        _grey(axes.get_xticklabels(), kept_phrases)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _show(axes: Axes, picture: np.ndarray, title: str, kept: bool = True) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=9, color="black" if kept else "0.6")
    axes.axis("off")


def _matrix(axes: Axes, values: np.ndarray, rows: Any, columns: Any, title: str) -> None:
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_title(title, fontsize=10)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=25, ha="right")
    for (row, column), value in np.ndenumerate(values):
        ink = "white" if value > 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)


def _grey(labels: Any, kept: np.ndarray) -> None:
    for label, stays in zip(labels, kept, strict=True):
        label.set_color("black" if stays else "0.6")


def main() -> None:
    """Draw the figure of a scene or of a picture file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--scene", type=int, default=11_000_004, help="seed of a street scene")
    what.add_argument("--image", type=Path, help="a picture file, cut to a square and reduced to 64 x 64")
    parser.add_argument("--output", type=Path, default=Path("runs/fig03.png"))
    arguments = parser.parse_args()
    image = render(arguments.scene).image if arguments.image is None else read_square(arguments.image, 64)
    draw(explain(image), arguments.output)
    Console().print(str(arguments.output))


if __name__ == "__main__":
    main()
