"""What the references of the mixture earn: fixed shares, Table I, thresholds fitted on training images, the oracle.

    python -m noma_semcom_benchmarks.mos_references --images street-test

All meet the same items, SNRs and fades. The thresholds are fitted on the policy images; intervals are 95 % bootstrap
intervals over episodes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.table import Table

from noma_semcom_agents.mixture_references import ENVIRONMENT, MixtureRecord, compare, references
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_env.mixture.table import load_mixture_table


def measure(images: str, training: str, channel: str, episodes: int, seed: int = 0) -> list[dict[str, Any]]:
    """One row a reference: mean reward with its interval, and the means of its terms.

    Args:
        images: Image set that they are compared on.
        training: Image set that the thresholds are fitted on.
        channel: ``"awgn"`` or ``"rayleigh"``.
        episodes: Of 20 steps each.
        seed: Of the first episode.
    """
    knobs: dict[str, Any] = {"images": images, "channel": channel}
    env = gym.make(ENVIRONMENT, **knobs)
    dynamics: Any = env.unwrapped.dynamics  # type: ignore[attr-defined]
    policies = references(dynamics, load_mixture_table(training))
    env.close()
    return [_row(channel, record, seed) for record in compare(policies, knobs, episodes, seed)]


def _row(channel: str, record: MixtureRecord, seed: int) -> dict[str, Any]:
    from scipy.stats import bootstrap

    by_episode = record.reward.mean(axis=1)
    found = bootstrap((by_episode,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(seed))
    return {
        "channel": channel,
        "reference": record.name,
        "reward": by_episode.mean(),
        "low": found.confidence_interval.low,
        "high": found.confidence_interval.high,
        **{name: value.mean() for name, value in record.terms.items()},
    }


def main() -> None:
    """Print the table, and write it as CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="street-test")
    parser.add_argument("--training", default="street-policy")
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    asked = given.images, given.training
    rows = [row for channel in ("awgn", "rayleigh") for row in measure(*asked, channel, given.episodes)]
    shown = Table(title=f"References of {ENVIRONMENT} on {given.images}, {given.episodes} episodes")
    numbers = [name for name in rows[0] if name not in ("channel", "reference", "reward", "low", "high")]
    for heading in ("channel", "reference", "reward", *numbers):
        shown.add_column(heading, justify="left" if heading in ("channel", "reference") else "right")
    for row in rows:
        interval = f"{row['reward']:.4f} ({row['low']:.4f} to {row['high']:.4f})"
        shown.add_row(row["channel"], row["reference"], interval, *(f"{row[name]:.4g}" for name in numbers))
    make_console().print(shown)
    if given.csv:
        write_rows(rows, given.csv)


if __name__ == "__main__":
    main()
