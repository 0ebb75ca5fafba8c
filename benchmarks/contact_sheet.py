"""The street world on one page: scenes with their ground truth, sides, styles, weather and time of day.

    python -m noma_semcom_benchmarks.contact_sheet --output docs/street-world.png

Above, scenes of the policy split, a row each; below, one scene in every weather at every time of day, and a part of it
at several sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console

from noma_semcom_env.scenes.painter import paint
from noma_semcom_env.scenes.street import CLASSES, PALETTE, TIMES, WEATHERS, StreetScene, compose, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

SEEDS: Final = (10_000_384, 10_000_424, 10_000_133, 10_000_829, 10_000_638)
"""Scenes of the policy split that together show every class, layout, weather and time of day."""

VARIED: Final = 10_001_051
"""A scene whose lights show at night, and whose sun or moon does in a clear sky."""

SIDE: Final = 128
SIDES: Final = (64, 128, 256)
COLUMNS: Final = ("plain", "class map", "crayon", "boxes")
INK: Final = ("#d7191c", "#1a5fd0", "#d98200")
"""Colours of the boxes of a scene's items and of what points at them; a scene has at most three items."""


def every_weather(seed: int, side: int = SIDE) -> dict[tuple[str, str], np.ndarray]:
    """One scene at every time of day in every weather.

    Args:
        seed: The scene; its layout and items stay.
        side: Side in pixels.

    Returns:
        (time, weather) to an (H, W, 3) uint8 image.
    """
    images = {}
    for time in TIMES:
        for weather in WEATHERS:
            rng = np.random.default_rng(seed)
            script = compose(rng)
            # As in compose, the sun or the moon stands in a clear sky alone.
            changed = replace(script, time=time, weather=weather, has_sun=weather == "clear")
            images[time, weather], _ = paint(changed, rng, side)
    return images


def close_up(scene: StreetScene) -> np.ndarray:
    """A square of half the side around the first item, the middle if there is none; (H / 2, W / 2, 3) uint8."""
    side = len(scene.image)
    left, top, right, bottom = scene.boxes[0] if scene.items else (0, 0, side, side)
    x, y = (int(np.clip(middle - side / 4, 0, side / 2)) for middle in ((left + right) / 2, (top + bottom) / 2))
    return scene.image[y : y + side // 2, x : x + side // 2]


def draw(path: Path, seeds: Sequence[int], varied: int) -> None:
    """Write the page as a PNG of 256 colours.

    Args:
        path: The file.
        seeds: Scenes of the upper part, of any split.
        varied: Scene that is shown in every weather, and at every side.
    """
    from matplotlib.figure import Figure

    top, legend, bottom = 1.62 * len(seeds) + 0.3, 0.45, 4.55
    figure = Figure(figsize=(10.2, top + legend + bottom))
    parts: Any = figure.subfigures(3, 1, height_ratios=[top, legend, bottom], hspace=0)
    _draw_scenes(parts[0], seeds)
    _draw_legend(parts[1])
    _draw_variants(parts[2], varied)
    _write(figure, path)


def _draw_scenes(part: SubFigure, seeds: Sequence[int]) -> None:
    """A row a scene: its four pictures, and what is said of it."""
    cells = part.subplots(len(seeds), 5, squeeze=False, width_ratios=[1, 1, 1, 1, 2.05])
    part.subplots_adjust(left=0.01, right=0.995, top=1 - 0.3 / _inches(part), bottom=0.005, wspace=0.05, hspace=0.06)
    for axes, name in zip(cells[0], COLUMNS, strict=False):
        axes.set_title(name, fontsize=11)
    cells[0, -1].set_title(" caption and expressions", fontsize=11, loc="left")
    for row, seed in zip(cells, seeds, strict=True):
        scene = render(seed, SIDE)
        pictures = (scene.image, PALETTE[scene.labels], render(seed, SIDE, "crayon").image, scene.image)
        for axes, picture, name in zip(row, pictures, COLUMNS, strict=False):
            _show(axes, picture, "nearest" if name == "class map" else "auto")
        _frame_items(row[3], scene)
        _tell(row[4], scene)


def _frame_items(axes: Axes, scene: StreetScene) -> None:
    """The bounding boxes, each on a white line of its own so that it shows on any ground."""
    from matplotlib.patches import Rectangle

    for (left, top, right, bottom), colour in zip(scene.boxes, INK, strict=False):
        for width, edge in ((3.4, "white"), (1.8, colour)):
            corner = (left - 0.5, top - 0.5)
            axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, linewidth=width, edgecolor=edge))


def _tell(axes: Axes, scene: StreetScene) -> None:
    """Caption, expressions in the colours of their boxes, and seed."""
    axes.axis("off")
    line = 0.14  # of the height of the row: three lines of caption and three expressions leave room for the seed
    caption = fill(f'"{scene.caption}"', 42)
    axes.text(0.03, 0.96, caption, fontsize=9.5, va="top", style="italic", transform=axes.transAxes)
    y = 0.96 - line * (caption.count("\n") + 1) - 0.05
    for said, colour in zip(scene.expressions, INK, strict=False):
        axes.text(0.03, y, said, fontsize=9.5, va="top", color=colour, transform=axes.transAxes)
        y -= line
    axes.text(0.03, 0.03, f"seed {scene.seed}", fontsize=8, color="0.45", transform=axes.transAxes)


def _draw_legend(part: SubFigure) -> None:
    """The colour of each class."""
    from matplotlib.patches import Rectangle

    widths = np.array([4.0 + len(name) for name in CLASSES])
    axes = part.add_axes((0.01, 0, 0.985, 1))
    axes.set_xlim(0, widths.sum())
    axes.set_ylim(0, 1)
    axes.axis("off")
    for x, name, colour in zip(np.cumsum(widths) - widths, CLASSES, PALETTE / 255, strict=True):
        axes.add_patch(Rectangle((x, 0.3), 1.9, 0.4, facecolor=colour, edgecolor="0.3", linewidth=0.5))
        axes.text(x + 2.4, 0.48, name, fontsize=9.5, va="center")


def _draw_variants(part: SubFigure, seed: int) -> None:
    """A scene in every weather at every time; in the last column a part of it at three sides."""
    cells = part.subplots(len(TIMES), len(WEATHERS) + 2, width_ratios=[1, 1, 1, 1, 1, 0.12, 1])
    part.subplots_adjust(left=0.03, right=0.995, top=1 - 0.3 / _inches(part), bottom=0.005, wspace=0.05, hspace=0.04)
    images = every_weather(seed)
    for row, time, side in zip(cells, TIMES, SIDES, strict=True):
        for axes, weather in zip(row, WEATHERS, strict=False):
            _show(axes, images[time, weather])
        row[-2].axis("off")
        _show(row[-1], close_up(render(seed, side)), "nearest")
        _name_row(row[0], time)
        _name_row(row[-1], f"{side} pixels")
    for axes, name in zip(cells[0], (*WEATHERS, "", "a part, by side"), strict=True):
        axes.set_title(name, fontsize=11)


def _name_row(axes: Axes, name: str) -> None:
    axes.text(-0.03, 0.5, name, fontsize=11, rotation=90, ha="right", va="center", transform=axes.transAxes)


def _inches(part: SubFigure) -> float:
    return float(part.bbox.height / part.figure.dpi)


def _show(axes: Axes, picture: np.ndarray, interpolation: str = "auto") -> None:
    axes.imshow(picture, interpolation=interpolation)
    axes.axis("off")


def _write(figure: Figure, path: Path) -> None:
    """Save with 256 colours, those of the classes among them, lest the grain of the scenes fill the file."""
    from io import BytesIO

    from PIL import Image

    white = [255, 255, 255]
    fixed = [*PALETTE.tolist(), white]
    file = BytesIO()
    figure.savefig(file, dpi=110)
    page = Image.open(file).convert("RGB")
    found = page.quantize(256 - len(fixed), kmeans=3).getpalette() or []
    colours = Image.new("P", (1, 1))
    colours.putpalette([*np.ravel(fixed).tolist(), *found])
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = page.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG)
    # Pillow's search may settle for a neighbour of the paper's white.
    drawn.paste(fixed.index(white), mask=Image.fromarray((np.asarray(page) == white).all(axis=-1)))
    drawn.save(path, optimize=True)


def main() -> None:
    """Draw the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/street-world.png"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="scenes of the upper part")
    parser.add_argument("--varied", type=int, default=VARIED, help="the scene of the lower part")
    arguments = parser.parse_args()
    draw(arguments.output, arguments.seeds, arguments.varied)
    Console().print(str(arguments.output))


if __name__ == "__main__":
    main()
