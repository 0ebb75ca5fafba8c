"""What limits everyone: noise of the table, and knowledge of what recoveries will be worth.

    python -m noma_semcom_benchmarks.knowledge --page docs/leaderboard.md

*Noise.* An entry of a table is the mean over a few diffusion seeds. A search is let see some of them, and scored on the
others, against the oracle of these others: a policy that knew each image's LPIPS as well as n seeds tell it would still
have this regret. An oracle that sees few seeds picks lucky entries, so regret to it cannot reach 0; the last row
extrapolates to perfect knowledge of the expected LPIPS, against the oracle that all other tables here refer to
(:func:`by_series` says how).

*Knowledge.* Set networks learn from a rising number of training images and are tried on test images, each by the regret
of a search that believes it. What falls with more images is a want of knowledge; what stays is the observation's, which
does not show the image, and the noise's.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.predictor import SetNetworkSettings, train_set_quality
from noma_semcom_agents.quality import TabulatedImages, Trial
from noma_semcom_benchmarks.pages import make_parser, new_figure, publish, run_figure
from noma_semcom_env import load_table
from noma_semcom_env.recovery.subsets import subset_numbers

COUNTS: Final = (16, 32, 64, 128, 256, 512)
LEAST_UPDATES: Final = 640
_IMAGES_AT_ONCE: Final = 16
_RESAMPLES: Final = 1000


def noise_rows(images: str, trial: Trial) -> list[dict[str, Any]]:
    """Regret by number of seeds seen and scored, mean over all ways to divide them.

    Args:
        images: A table with at least two diffusion seeds.
        trial: Steps on these images.

    Returns:
        The rows, ``least`` and ``most`` over the ways; and a last one, extrapolated by :func:`by_series`: perfect
        knowledge of the expected LPIPS, against the oracle of the whole table. There ``least`` and ``most`` bound
        95 % bootstrap intervals over images, by :func:`by_series` and by :func:`by_power`.

    Raises:
        ValueError: If it has one seed.
    """
    by_seed = load_table(images).lpips_by_seed.astype(np.float64)
    count = by_seed.shape[1]
    if count < 2:
        raise ValueError(f"the table of {images} has {count} diffusion seed; at least two are needed")
    everyone = tuple(range(count))
    parts = [part for size in range(1, count + 1) for part in combinations(everyone, size)]
    mean = {part: by_seed[:, list(part)].mean(axis=1) for part in parts}
    oracle = {part: Oracle(trial.images.scenario, mean[part], trial.images.bank) for part in parts}
    best = {part: oracle[part].solve(trial.steps) for part in parts}

    def scored_on(other: tuple[int, ...], one: tuple[int, ...]) -> np.ndarray:
        """(B,) objective by the seeds ``other`` of what is best by the seeds ``one``."""
        lpips = mean[other][trial.steps["image_index"], subset_numbers(best[one].selection)]
        return oracle[other].value(lpips, best[one].latency_s)

    rows, gaps = [], []
    for seen in range(1, count):
        for scored in range(1, count - seen + 1):
            regrets = []
            for one in combinations(everyone, seen):
                for other in combinations([seed for seed in everyone if seed not in one], scored):
                    reference = best[other].objective.mean()
                    regrets.append(float(scored_on(other, one).mean() / reference - 1.0))
            row = {"seeds_seen": seen, "seeds_scored": scored, "ways": len(regrets)}
            rows.append(row | {"regret": float(np.mean(regrets)), "least": min(regrets), "most": max(regrets)})
        rest = {one: tuple(seed for seed in everyone if seed not in one) for one in combinations(everyone, seen)}
        gaps.append(np.mean([scored_on(rest[one], one) - best[one].objective for one in rest], axis=0))
    exceeded, reference = np.array(gaps), best[everyone].objective
    low, high = _interval(exceeded, reference, trial.steps["image_index"], len(trial.images))
    last = {"seeds_seen": "unlimited", "seeds_scored": count, "ways": "extrapolated"}
    return [
        *rows,
        last | {"regret": float(by_series(exceeded.mean(axis=1)) / reference.mean()), "least": low, "most": high},
    ]


def by_series(exceeded: np.ndarray) -> np.ndarray:
    """What the oracle of a whole table is lucky by, from what can be observed with parts of its seeds.

    Let v be the variance of a mean over n seeds, s^2 / n. The search that sees n seeds loses A(v) by what it does not
    know; the oracle promises itself B(v) too much, by luck, and against it a policy that knows everything has a regret
    of B. Scored on other seeds, the search exceeds what it promised itself by R(v) = A + B, which is observed for n
    below the number of seeds. For Gaussian noise, correlated between subsets or not, integration by parts gives
    R = 2 v dB/dv. To second order in v, R = a v + b v^2, and so B = a v / 2 + b v^2 / 4; with two seeds, to the first.

    Args:
        exceeded: (..., n) R for 1 to n seeds, n at least 1.

    Returns:
        (...) B for n + 1 seeds, a and b by least squares.
    """
    count = exceeded.shape[-1] + 1
    orders = np.arange(1, min(count, 3))
    observed = 1.0 / np.arange(1, count)[:, None] ** orders
    luck: np.ndarray = exceeded @ np.linalg.pinv(observed).T @ (1.0 / (2 * orders * float(count) ** orders))
    return luck


def by_power(exceeded: np.ndarray) -> np.ndarray:
    """:func:`by_series`, with R = c v^p and so B = R / (2 p): exact where all is noise, p = 1/2, and where v is small.

    p is at least 1/2, since A is not negative; NaN where some R is not positive, or only one is known.
    """
    count = exceeded.shape[-1] + 1
    if count < 3:
        return np.full(exceeded.shape[:-1], np.nan)
    x = np.log(np.arange(1, count)) - np.log(count)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.log(exceeded)
        p = -((y - y.mean(axis=-1, keepdims=True)) @ (x - x.mean())) / ((x - x.mean()) ** 2).sum()
        p = np.maximum(p, 0.5)
        luck: np.ndarray = np.exp(y.mean(axis=-1) + p * x.mean()) / (2.0 * p)
    return luck


def _interval(exceeded: np.ndarray, reference: np.ndarray, image_index: np.ndarray, images: int) -> tuple[float, float]:
    """Bounds of mean luck over mean reference.

    Images are drawn anew, a step counts as often as all of its images together; the interval covers both ways to
    extrapolate.

    Args:
        exceeded: (n, B).
        reference: (B,).
        image_index: (B, K).
        images: Number of images.
    """
    drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1.0 / images), _RESAMPLES)
    times = drawn[:, image_index].prod(axis=-1)
    times = times[times.any(axis=1)]
    sums = times @ exceeded.T
    spread = [way(sums) / (times @ reference) for way in (by_series, by_power)]
    bounds = [np.quantile(one[np.isfinite(one)], [0.025, 0.975]) for one in spread if np.isfinite(one).any()]
    return float(min(low for low, _ in bounds)), float(max(high for _, high in bounds))


def settings_for(count: int, base: SetNetworkSettings) -> SetNetworkSettings:
    """The base settings, with more epochs where few images would make for too few updates."""
    updates = -(-count // _IMAGES_AT_ONCE)
    return replace(base, epochs=max(base.epochs, -(-LEAST_UPDATES // updates)))


def knowledge_rows(
    trial: Trial, counts: Sequence[int], draws: int, base: SetNetworkSettings, folder: Path | None
) -> list[dict[str, Any]]:
    """Regret on the trial's images by number of training images.

    Args:
        trial: Steps on images that are not trained on.
        counts: Numbers of training images.
        draws: Subsets of the training images for each number; all images make one.
        base: Of the networks.
        folder: Where finished networks are kept and taken up again; None keeps nothing.
    """
    images = TabulatedImages.of({})
    rows = []
    jobs = [(n, d) for n in counts if n <= len(images) for d in range(draws if n < len(images) else 1)]
    regrets: dict[int, list[float]] = {}
    for count, draw in track(jobs, "set networks", disable=folder is None):
        index = np.random.default_rng([draw, count]).permutation(len(images))[:count]
        settings = settings_for(count, base)
        place = None if folder is None else folder / f"images-{count}-draw-{draw}"
        model = train_set_quality(images.rows(np.sort(index)), settings, place)
        regrets.setdefault(count, []).append(trial.regret(model.predict(trial.images.bank)))
    for count, found in regrets.items():
        epochs = settings_for(count, base).epochs
        row = {"training_images": count, "draws": len(found), "epochs": epochs, "regret": float(np.mean(found))}
        rows.append(row | {"least": min(found), "most": max(found)})
    return rows


def make(arguments: argparse.Namespace) -> None:
    """Measure, draw and publish."""
    quick = arguments.quick
    trial = Trial({"images": arguments.images}, arguments.episodes)
    noise = noise_rows(arguments.images, trial)
    publish("knowledge-noise", arguments, noise)
    base = SetNetworkSettings(members=1, epochs=1, width=16) if quick else SetNetworkSettings(members=arguments.members)
    counts = (16, 64) if quick else COUNTS
    if quick:
        rows = knowledge_rows(trial, counts, 1, base, None)
    else:
        rows = knowledge_rows(trial, counts, arguments.draws, base, arguments.networks)
    figure = new_figure(6.2, 4.2)
    axes = figure.subplots()
    x = [row["training_images"] for row in rows]
    value, least, most = (np.array([100.0 * row[key] for row in rows]) for key in ("regret", "least", "most"))
    axes.errorbar(x, value, yerr=[value - least, most - value], marker="o", capsize=3, label="set network")
    for row in noise:
        if row["seeds_seen"] in (row["seeds_scored"], "unlimited"):
            label = f"perfect knowledge of {row['seeds_seen']} other seeds"
            style = "--" if row["seeds_seen"] == "unlimited" else ":"
            axes.axhline(100.0 * row["regret"], color="0.5", linestyle=style, label=label)
    axes.set(xlabel="training images", ylabel="regret, %", ylim=(0.0, None))
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [str(one) for one in x])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    publish("knowledge", arguments, rows, figure=figure)


def main() -> None:
    """Measure what limits the regret."""
    parser = make_parser(__doc__, 1000)
    parser.add_argument("--networks", type=Path, default=Path("runs/knowledge"), help="folder of the set networks")
    parser.add_argument("--members", type=int, default=4, help="networks that are averaged")
    parser.add_argument("--draws", type=int, default=3, help="subsets of training images for each number")
    run_figure(make, parser, 1000)


if __name__ == "__main__":
    main()
