"""How fast street scenes are rendered: images a second in one process, by side and style.

python -m noma_semcom_benchmarks.rendering --images 100
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from rich.console import Console
from rich.table import Table

from noma_semcom_env.scenes.street import render, split_seeds
from noma_semcom_env.scenes.styles import STYLES

SIDES: Final = (64, 128, 256)
ROUNDS: Final = 10


def images_per_second(seeds: Sequence[int], side: int, style: str) -> float:
    """Scenes a second, of the best of several rounds: the one least disturbed by whatever else runs.

    Args:
        seeds: Scenes of a round.
        side: Side of the images in pixels.
        style: Style of the images.
    """
    render(seeds[0], side, style)  # loads what is loaded lazily
    seconds = []
    for _ in range(ROUNDS):
        start = perf_counter()
        for seed in seeds:
            render(seed, side, style)
        seconds.append(perf_counter() - start)
    return len(seeds) / min(seconds)


def main() -> None:
    """Print one row a side, one column a style."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100, help="scenes a round")
    arguments = parser.parse_args()
    if arguments.images < 1:
        parser.error(f"--images {arguments.images} must be at least 1")
    seeds = split_seeds("model", arguments.images)
    table = Table(title="Scenes rendered a second, one process")
    table.add_column("side", justify="right")
    for style in STYLES:
        table.add_column(style, justify="right")
    for side in SIDES:
        table.add_row(str(side), *(f"{images_per_second(seeds, side, style):.0f}" for style in STYLES))
    Console().print(table)


if __name__ == "__main__":
    main()
