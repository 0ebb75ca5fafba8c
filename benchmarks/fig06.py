"""Fig. 6: LPIPS over the number of denoising steps, of what JTSC selects and of everything, with recovered pictures.

    python -m noma_semcom_benchmarks.fig06 --page docs/figures.md

Reads IM-PPO's trainings of the campaign "main"; no policy is retrained, since nothing that it sees depends on them.
Recovering is what takes time, a number of steps at a time: so a few runs and a few distinct test images are drawn, each
image in one evaluation episode, with what each run selects for it there. LPIPS is kept in ROOT/fig06, by number of
steps, diffusion seeds, models and images, so that what was cut off goes on and a second call recovers nothing again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_agents.evaluation import Contender
from noma_semcom_agents.schemes import AllSelection
from noma_semcom_benchmarks.pages import (
    Claim,
    columns,
    judge,
    make_parser,
    new_figure,
    plot_intervals,
    publish,
    run_figure,
)
from noma_semcom_benchmarks.sweeps import ALL, COLOURS, JTSC, Sample, Scheme, learned, single, uplinks_of
from noma_semcom_benchmarks.trainings import Point
from noma_semcom_env import RecoveryTable, load_table
from noma_semcom_env.archives import read_arrays, write_arrays
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.recovery.pipeline import load_recovery
from noma_semcom_env.recovery.subsets import subset_members
from noma_semcom_env.recovery.tabulate import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS: Final = (1, 2, 3, 5, 8, 12, 20)
QUICK_STEPS: Final = (1, 3, 5)
QUICK_IMAGES: Final = 4
SHOWN: Final = (1, 2, 5, 20)
STABLE_FROM: Final = 5
"""The paper: JTSC is more stable beyond five denoising steps."""

EPISODES: Final = 48
DRAWN_RUNS: Final = 5
DRAWN_IMAGES: Final = 24
"""At most so many; with 51 denoising steps and two diffusion seeds a pair takes 102, of about 0.033 s on one core."""

DIFFUSION_SEEDS: Final = 2
PICTURES: Final = 3
FOLDER: Final = "fig06"
_AT_ONCE: Final = 16


class Recoveries:
    """LPIPS of (image, subset) pairs, each computed once for a number of steps and kept in a folder.

    Args:
        table: Whose images and features they are, read from a file.
        seeds: Diffusion seeds that LPIPS is averaged over.
        folder: Where it is kept.
    """

    def __init__(self, table: RecoveryTable, seeds: Sequence[int], folder: Path) -> None:
        self.table = table
        self.seeds = tuple(seeds)
        self.folder = folder
        self._distance = PerceptualDistance()

    def lpips(self, images: np.ndarray, subsets: np.ndarray, steps: int) -> np.ndarray:
        """LPIPS of pairs.

        Args:
            images: (...) int, rows of the table.
            subsets: (...) int, numbers of subsets.
            steps: Denoising steps.

        Returns:
            (...).
        """
        pairs, index = np.unique(np.stack([images.ravel(), subsets.ravel()], axis=1), axis=0, return_inverse=True)
        path = self.path(steps)
        known: dict[tuple[int, int], float] = {}
        if path.is_file():
            kept = read_arrays(path)
            known = {(int(a), int(b)): float(value) for (a, b), value in zip(kept["pairs"], kept["lpips"], strict=True)}
        lacking = np.array([pair for pair in pairs.tolist() if tuple(pair) not in known], dtype=np.int64)
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            features, raw, selection = self._of(some)
            values = load_recovery("street", steps).distances(features, raw, selection, self.seeds, self._distance)
            known |= {(a, b): float(value) for (a, b), value in zip(some.tolist(), values.mean(axis=1), strict=True)}
            write_arrays(path, {"pairs": np.array(list(known)), "lpips": np.array(list(known.values()))})
        found: np.ndarray = np.array([known[a, b] for a, b in pairs.tolist()])[index.ravel()].reshape(images.shape)
        return found

    def path(self, steps: int) -> Path:
        """The file of a number of steps; its name tells models, seeds and images apart.

        Raises:
            ValueError: If the table was read from no file.
        """
        if self.table.path is None:
            raise ValueError("the table was read from no file, so that nothing says which images are meant; save it")
        origin = Recipe("street", steps, self.seeds).provenance()
        total = hashlib.sha256(json.dumps(origin, sort_keys=True).encode())
        total.update(self.table.path.read_bytes())
        return self.folder / f"steps-{steps}-{total.hexdigest()[:16]}.npz"

    def pictures(self, pairs: np.ndarray, steps: int) -> np.ndarray:
        """(n, H, W, 3) uint8 recoveries of pairs (n, 2) with the first seed."""
        features, _, selection = self._of(pairs)
        return load_recovery("street", steps).recover(features, selection, self.seeds[:1])[:, 0]

    def _of(self, pairs: np.ndarray) -> tuple[list[Any], np.ndarray, np.ndarray]:
        features = [self.table.features[row] for row in pairs[:, 0]]
        return features, self.table.images[pairs[:, 0]], subset_members(pairs[:, 1], self.table.width)


def draw_cells(images: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Cells of an array that hold distinct images, drawn at random.

    Args:
        images: (E, K) int, the image of each user in each episode.
        count: At most so many are drawn.
        seed: Of the draw.

    Returns:
        (n, 2) rows and columns.
    """
    order = np.random.default_rng(seed).permutation(images.size)
    first = np.sort(np.unique(images.ravel()[order], return_index=True)[1])[:count]
    return np.stack(np.unravel_index(order[first], images.shape), axis=1)


def draw_runs(scheme: Scheme, count: int, seed: int = 0) -> Scheme:
    """At most so many of a scheme's runs, drawn at random."""
    names = list(scheme.contenders)
    kept = sorted(np.random.default_rng(seed).permutation(names)[:count].tolist())
    return replace(
        scheme,
        contenders={one: scheme.contenders[one] for one in kept},
        runs={one: scheme.runs[one] for one in kept},
    )


def claims(values: dict[str, dict[int, Sample]]) -> list[Claim]:
    """The verdicts; ``values`` is scheme, number of steps, LPIPS."""
    steps = list(values[JTSC])
    most, fewest = steps[-1], steps[0]
    ahead = {count: values[ALL][count] - values[JTSC][count] for count in steps}
    beyond = [count for count in steps if count >= STABLE_FROM]
    found = [
        judge("JTSC recovers more accurately than ALL-Selection in the end", {f"T = {most}": ahead[most].mean()}),
        judge(
            "JTSC gains on ALL-Selection as the steps grow",
            {f"lead at T = {most} less lead at T = {fewest}": (ahead[most] - ahead[fewest]).mean()},
        ),
    ]
    if len(beyond) > 1:
        spread = {name: _spread([values[name][count] for count in beyond]) for name in (JTSC, ALL)}
        calmer = {f"range of LPIPS over T from {beyond[0]}": (spread[ALL] - spread[JTSC]).mean()}
        found.append(judge("JTSC is more stable than ALL-Selection beyond five steps", calmer))
    return found


def _spread(samples: Sequence[Sample]) -> Sample:
    """Range of LPIPS over the numbers of steps, for each run and episode."""
    return Sample(np.ptp(np.stack([one.values for one in samples]), axis=0), samples[0].seeds)


def draw(
    recoveries: Recoveries, values: dict[str, dict[int, Sample]], pairs: dict[str, np.ndarray], shown: Sequence[int]
) -> Figure:
    """The curves, and below them raw images with recoveries of either scheme."""
    figure = new_figure(10.5, 4.2 + 1.4 * len(pairs[JTSC]))
    halves: Any = figure.subfigures(2, 1, height_ratios=[1.0, 0.45 * len(pairs[JTSC])])
    top, bottom = halves
    axes = top.subplots()
    for name in (JTSC, ALL):
        intervals = [one.mean() for one in values[name].values()]
        plot_intervals(axes, list(values[name]), intervals, color=COLOURS[name], label=name)
    axes.set(xlabel="denoising steps T", ylabel="LPIPS")
    axes.locator_params(axis="x", integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    count = len(shown)
    grid = bottom.subplots(len(pairs[JTSC]), 1 + 2 * count, squeeze=False)
    for row, line in enumerate(grid):
        line[0].imshow(recoveries.table.images[pairs[JTSC][row, 0]])
        line[0].set_title("raw" if row == 0 else "", fontsize=8)
    for place, (name, steps) in enumerate((name, steps) for name in (JTSC, ALL) for steps in shown):
        arrived = recoveries.pictures(pairs[name], steps)
        for row, picture in enumerate(arrived):
            grid[row, 1 + place].imshow(picture)
            grid[row, 1 + place].set_title(
                f"{name.removesuffix('-Selection')}, T = {steps}" if row == 0 else "", fontsize=8
            )
    for panel in grid.ravel():
        panel.set(xticks=[], yticks=[])
    return figure


def make(arguments: argparse.Namespace) -> None:
    """Recover, draw and publish."""
    scheme = draw_runs(learned(JTSC, Point("im-ppo"), arguments.root, "main", arguments.quick), DRAWN_RUNS)
    everything: Scheme = single(ALL, Contender(AllSelection(), {"prune": False}))
    knobs = {"images": arguments.images, "episode_length": 1}
    acts = {one.name: uplinks_of(one, knobs, arguments.episodes) for one in (scheme, everything)}
    seeds = {one.name: one.seeds for one in (scheme, everything)}
    faced = acts[JTSC][0].image_index[:, 0]
    row, column = draw_cells(faced, QUICK_IMAGES if arguments.quick else arguments.drawn).T
    images = faced[row, column]
    subsets = {name: np.stack([one.subset[row, 0, column] for one in some]) for name, some in acts.items()}
    number = 1 if arguments.quick else arguments.seeds
    recoveries = Recoveries(load_table(arguments.images), range(number), arguments.root / FOLDER)
    values: dict[str, dict[int, Sample]] = {name: {} for name in acts}
    counts = QUICK_STEPS if arguments.quick else STEPS
    for steps in track(counts, "denoising steps", disable=arguments.quick):
        together = np.concatenate(list(subsets.values()))
        lpips = recoveries.lpips(np.broadcast_to(images, together.shape), together, steps)
        for name, part in zip(subsets, np.split(lpips, [len(subsets[JTSC])]), strict=True):
            values[name][steps] = Sample(part, seeds[name])
    rows = [
        {"denoising_steps": steps, "scheme": name, "runs": len(seeds[name]) or None, **columns("lpips", one.mean())}
        for name, by_steps in values.items()
        for steps, one in by_steps.items()
    ]
    pairs = {name: np.stack([images, some[0]], axis=1)[:PICTURES] for name, some in subsets.items()}
    figure = draw(recoveries, values, pairs, counts if arguments.quick else SHOWN)
    note = (
        f"{len(images)} distinct images drawn from those of {len(faced)} evaluation episodes, what each of "
        f"{len(scheme.runs)} runs selects for them there, {number} diffusion seed{'s' if number > 1 else ''}."
    )
    publish("fig06", arguments, rows, claims(values), figure, len(scheme.runs), notes=[note])


def main() -> None:
    """Draw the figure."""
    parser = make_parser(__doc__, EPISODES)
    parser.add_argument(
        "--seeds", type=int, default=DIFFUSION_SEEDS, help="diffusion seeds that LPIPS is averaged over"
    )
    parser.add_argument("--drawn", type=int, default=DRAWN_IMAGES, help="distinct images to recover")
    run_figure(make, parser, EPISODES)


if __name__ == "__main__":
    main()
