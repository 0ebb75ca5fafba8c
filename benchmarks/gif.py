"""The moving picture of the README: one episode, played by the oracle, with what the pipeline recovers.

    python -m noma_semcom_benchmarks.gif --output docs/environment.gif

The users have a line of sight, so that beams point at them, and the channel moves little from step to step.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from gymnasium.utils import seeding
from PIL import Image
from rich.console import Console

from noma_semcom_agents.oracle import Oracle
from noma_semcom_env import Scenario
from noma_semcom_env.dynamics import Dynamics
from noma_semcom_env.rendering import Renderer

KNOBS: Final[Mapping[str, Any]] = {
    "images": "street-test",
    "num_antennas": 4,
    "fading": "rician",
    "rician_factor_db": 6.0,
    "doppler_hz": 15.0,
    "latency_ref_s": 2e-4,
}
"""Latency weighs more than by default, so that the oracle has to choose among the features."""

SEED: Final = 55
FRAME_S: Final = 0.8
COLOURS: Final = 256


def episode_frames(knobs: Mapping[str, Any], seed: int, recovered: bool = True) -> list[np.ndarray]:
    """Frames of an episode in which the oracle acts: one at its beginning, one a step.

    Args:
        knobs: Scenario fields; the recovery must be a full table.
        seed: What the environment is seeded with.
        recovered: Whether the pipeline draws recovered images.

    Returns:
        (height, width, 3) uint8 each.
    """
    dynamics = Dynamics(Scenario(**knobs))
    table: Any = dynamics.recovery
    oracle = Oracle(dynamics.scenario, table.mean, dynamics.bank, pruned=dynamics.scenario.prune)
    renderer = Renderer("rgb_array", dynamics, recovered=recovered)
    state = dynamics.reset([seeding.np_random(seed)[0]])
    renderer.begin(state)
    frames = [_frame(renderer)]
    for _ in range(dynamics.scenario.episode_length):
        moved = dynamics.step(state, oracle.solve(dynamics.privileged(state)).selection)
        state = moved.state
        renderer.record(moved)
        frames.append(_frame(renderer))
    return frames


def _frame(renderer: Renderer) -> np.ndarray:
    rendered = renderer.render()
    assert rendered is not None
    return np.asarray(rendered[0])


def write_gif(frames: Sequence[np.ndarray], path: Path) -> None:
    """Write a gif that runs on and on, with one palette for all frames, so that what stands still takes no bytes."""
    pictures = [Image.fromarray(frame) for frame in frames]
    # A palette of the first and last frames, one above the other, knows every colour of an episode.
    sample = Image.fromarray(np.concatenate([frames[0], frames[len(frames) // 2], frames[-1]]))
    palette = sample.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    first, *others = (one.quantize(palette=palette, dither=Image.Dither.NONE) for one in pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others, duration=int(1e3 * FRAME_S), loop=0, optimize=True)


def main() -> None:
    """Write the gif."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/environment.gif"))
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the episode")
    arguments = parser.parse_args()
    write_gif(episode_frames(KNOBS, arguments.seed), arguments.output)
    size = arguments.output.stat().st_size
    Console().print(f"{arguments.output}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
