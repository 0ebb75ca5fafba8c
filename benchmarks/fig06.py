"""Fig. 6: LPIPS over the number of denoising steps, of what JTSC selects and of everything, with recovered pictures.

    python -m noma_semcom_benchmarks.fig06 --page docs/figures.md

Reads IM-PPO's trainings of the campaign "main"; no policy is retrained, since nothing that it sees depends on them.
Each test image is drawn as often as it comes in the evaluation episodes, with what each run selects there; the same
(image, selection) is recovered once for each number of steps and diffusion seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.recovery.pipeline import load_recovery
from noma_semcom_env.recovery.subsets import subset_members

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)
QUICK_STEPS: Final = (1, 3, 5)
SHOWN: Final = (1, 2, 5, 20)
STABLE_FROM: Final = 5
"""The paper: JTSC is more stable beyond five denoising steps."""

EPISODES: Final = 48
PICTURES: Final = 3


class Recoveries:
    """LPIPS of (image, subset) pairs, each computed once for a number of steps.

    Args:
        table: Whose images and features they are.
        seeds: Diffusion seeds that LPIPS is averaged over.
    """

    def __init__(self, table: RecoveryTable, seeds: Sequence[int]) -> None:
        self.table = table
        self.seeds = tuple(seeds)
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
        features, raw, selection = self._of(pairs)
        values = load_recovery("street", steps).distances(features, raw, selection, self.seeds, self._distance)
        found: np.ndarray = values.mean(axis=1)[index.ravel()].reshape(images.shape)
        return found

    def pictures(self, pairs: np.ndarray, steps: int) -> np.ndarray:
        """(n, H, W, 3) uint8 recoveries of pairs (n, 2) with the first seed."""
        features, _, selection = self._of(pairs)
        return load_recovery("street", steps).recover(features, selection, self.seeds[:1])[:, 0]

    def _of(self, pairs: np.ndarray) -> tuple[list[Any], np.ndarray, np.ndarray]:
        features = [self.table.features[row] for row in pairs[:, 0]]
        return features, self.table.images[pairs[:, 0]], subset_members(pairs[:, 1], self.table.width)


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
    scheme = learned(JTSC, Point("im-ppo"), arguments.root, "main", arguments.quick)
    everything: Scheme = single(ALL, Contender(AllSelection(), {"prune": False}))
    knobs = {"images": arguments.images, "episode_length": 1}
    acts = {one.name: uplinks_of(one, knobs, arguments.episodes) for one in (scheme, everything)}
    seeds = {one.name: one.seeds for one in (scheme, everything)}
    recoveries = Recoveries(load_table(arguments.images), range(1 if arguments.quick else arguments.seeds))
    values: dict[str, dict[int, Sample]] = {name: {} for name in acts}
    counts = QUICK_STEPS if arguments.quick else STEPS
    for steps in track(counts, "denoising steps", disable=arguments.quick):
        images, subsets = (
            np.stack([getattr(a, n)[:, 0] for some in acts.values() for a in some]) for n in ("image_index", "subset")
        )
        lpips = recoveries.lpips(images, subsets, steps).mean(axis=-1)
        start = 0
        for name, some in acts.items():
            values[name][steps] = Sample(lpips[start : start + len(some)], seeds[name])
            start += len(some)
    rows = [
        {"denoising_steps": steps, "scheme": name, "runs": len(seeds[name]) or None, **columns("lpips", one.mean())}
        for name, by_steps in values.items()
        for steps, one in by_steps.items()
    ]
    first = acts[JTSC][0].image_index[:, 0, 0]
    episodes = np.sort(np.unique(first, return_index=True)[1])[:PICTURES]
    pairs = {
        name: np.stack([some[0].image_index[episodes, 0, 0], some[0].subset[episodes, 0, 0]], axis=1)
        for name, some in acts.items()
    }
    figure = draw(recoveries, values, pairs, counts if arguments.quick else SHOWN)
    publish("fig06", arguments, rows, claims(values), figure, len(scheme.runs))


def main() -> None:
    """Draw the figure."""
    parser = make_parser(__doc__, EPISODES)
    parser.add_argument("--seeds", type=int, default=4, help="diffusion seeds that LPIPS is averaged over")
    run_figure(make, parser, EPISODES)


if __name__ == "__main__":
    main()
