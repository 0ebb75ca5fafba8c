"""What limits everyone: noise of the table, and knowledge of what recoveries will be worth.

    python -m noma_semcom_benchmarks.knowledge --page docs/leaderboard.md

*Noise.* An entry of a table is the mean over a few diffusion seeds. A search is let see some of them, and scored on the
others, against the oracle of these others: a policy that knew each image's LPIPS as well as n seeds tell it would still
have this regret. An oracle that sees few seeds picks lucky entries, so regret to it cannot reach 0; the last row
extrapolates to perfect knowledge of the expected LPIPS, against the oracle that all other tables here refer to.

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

from noma_semcom_agents.predictor import SetNetworkSettings, train_set_quality
from noma_semcom_agents.quality import TabulatedImages, Trial
from noma_semcom_benchmarks.pages import make_parser, new_figure, publish, run_figure
from noma_semcom_env import load_table

COUNTS: Final = (16, 32, 64, 128, 256, 512)
LEAST_UPDATES: Final = 640
_IMAGES_AT_ONCE: Final = 16


def noise_rows(images: str, trial: Trial) -> list[dict[str, Any]]:
    """Regret by number of seeds seen and scored, mean over all ways to divide them.

    Args:
        images: A table with at least two diffusion seeds.
        trial: Steps on these images.

    Returns:
        The rows, and one that is extrapolated from them by c (1 / seen + 1 / scored): perfect knowledge of the expected
        LPIPS, against the oracle of the whole table.

    Raises:
        ValueError: If it has one seed.
    """
    by_seed = load_table(images).lpips_by_seed.astype(np.float64)
    count = by_seed.shape[1]
    if count < 2:
        raise ValueError(f"the table of {images} has {count} diffusion seed; at least two are needed")
    rows = []
    for seen in range(1, count):
        for scored in range(1, count - seen + 1):
            regrets = []
            for one in combinations(range(count), seen):
                for other in combinations([seed for seed in range(count) if seed not in one], scored):
                    believed, true = (by_seed[:, list(part)].mean(axis=1) for part in (one, other))
                    regrets.append(trial.regret(believed, true))
            row = {"seeds_seen": seen, "seeds_scored": scored, "ways": len(regrets)}
            rows.append(row | {"regret": float(np.mean(regrets)), "least": min(regrets), "most": max(regrets)})
    # Regret is quadratic in a small error of belief, so it grows with the sum of both means' variances.
    inverse = np.array([1.0 / row["seeds_seen"] + 1.0 / row["seeds_scored"] for row in rows])
    slope = float(inverse @ [row["regret"] for row in rows] / (inverse @ inverse))
    last = {"seeds_seen": "unlimited", "seeds_scored": count, "ways": "extrapolated"}
    return [*rows, last | {"regret": slope / count, "least": None, "most": None}]


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
