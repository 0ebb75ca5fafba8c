"""``noma-semcom demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noma_semcom_agents.commands.options import Knob, Output, Seed, read_knobs, refusals


def demo(
    output: Output = Path("runs/demo"),
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(help="Environment steps of the training.", min=1)] = None,
    seconds: Annotated[float | None, typer.Option(help="Ends the training earlier; 0 sets no limit.", min=0.0)] = None,
    episodes: Annotated[int | None, typer.Option(help="Test episodes.", min=1)] = None,
    knobs: Knob = None,
) -> None:
    """Train IM-PPO, compare it with the schemes and the oracle on test images, and draw two pictures."""
    from noma_semcom_agents import demo as chain

    fields = read_knobs(knobs, taken=("images", "image_ids"))
    with refusals():
        chain.run_demo(
            output=output,
            seed=seed,
            steps=steps or chain.STEPS,
            seconds=chain.SECONDS if seconds is None else seconds or None,
            episodes=episodes or chain.EPISODES,
            knobs=fields,
        )
