"""Recoveries a second of tabulation, once its workers have loaded their models.

    python -m noma_semcom_benchmarks.recovery_speed

Scenes of the validation split beyond those of the bundled table go through the worker processes of ``noma-semcom
tabulate``; nothing is kept. The clock starts with the first result of the last worker to begin.
"""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from time import perf_counter

import numpy as np

from noma_semcom_agents.report import make_console
from noma_semcom_env.recovery.tabulate import Recipe
from noma_semcom_env.recovery.workers import Job, compute_here
from noma_semcom_env.scenes.sets import load_images
from noma_semcom_env.semantics.extraction import load_extractor
from noma_semcom_env.zoo.loading import resolution_of
from noma_semcom_env.zoo.presets import Models, load_preset

OFFSET = 7_000
"""Scenes that are passed over."""


def measure(seconds: float, processes: int, models: Models = "street", together: int = 256) -> float:
    """Recoveries a second over at least so many seconds.

    Args:
        seconds: How long to measure.
        processes: Worker processes.
        models: Name of a preset or a mapping.
        together: Recoveries of a job.
    """
    pictures = load_images("street:validation", resolution_of(load_preset(models)), 8, OFFSET)
    features = load_extractor(models).extract(pictures.images, pictures.image_ids)
    rng = np.random.default_rng(0)
    jobs = []
    for number in range(10_000):
        row = number % len(features)
        subsets = rng.integers(1 << features[row].count, size=together)
        jobs.append(Job(row, pictures.images[row], features[row], number, subsets, 0))
    recipe, count, start = Recipe(models), 0, 0.0
    with closing(compute_here(recipe.computation(), jobs, processes)) as computing:
        for number, (_, values) in enumerate(computing):
            if number < 2 * processes:  # models load meanwhile
                start = perf_counter()
                continue
            count += len(values)
            if perf_counter() - start >= seconds:
                break
    return count / (perf_counter() - start)


def main() -> None:
    """Print the rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--models", default="street", help="name of a preset, or a JSON object that swaps its parts")
    arguments = parser.parse_args()
    rate = measure(arguments.seconds, arguments.processes, arguments.models)
    make_console().print(f"{rate:.0f} recoveries/s in {arguments.processes} processes")


if __name__ == "__main__":
    main()
