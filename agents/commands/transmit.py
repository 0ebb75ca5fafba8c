"""``noma-semcom transmit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from noma_semcom_agents.commands.options import Knob, Output, read_knobs, refusals

OF_ITS_USERS = ("num_users", "images", "image_ids", "distances_m", "recovery")
"""Fields that a transmission of the user's own pictures sets itself, or that name a training's own users."""


def transmit(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, one a user.", exists=True, dir_okay=False)],
    output: Output = Path("runs/transmit"),
    select: Annotated[
        str, typer.Option(help="kept (what survives pruning), all, or none; not used if a trained policy is given.")
    ] = "kept",
    run: Annotated[Path | None, typer.Option(help="Folder of a trained policy, which then selects.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of positions and channel.")] = 0,
    knobs: Knob = None,
) -> None:
    """Send pictures of your own once, end to end, and leave a figure and a report."""
    from noma_semcom_agents.evaluation import Contender
    from noma_semcom_agents.schemes import AllSelection, NoSelection
    from noma_semcom_agents.transmit import transmit as send

    choices = {
        "kept": Contender(AllSelection(), label="Kept features"),
        "all": Contender(AllSelection(), {"prune": False}),
        "none": Contender(NoSelection()),
    }
    if select not in choices:
        raise typer.BadParameter(f"--select {select!r} must be one of {', '.join(choices)}")
    chosen, scenario = choices[select], dict[str, Any]()
    with refusals():
        if run is not None:
            from noma_semcom_agents.runs import load_policy, read_whole_record

            recorded = read_whole_record(run)["scenario"].items()
            scenario = {name: value for name, value in recorded if name not in OF_ITS_USERS}
            chosen = Contender(load_policy(run))
        files = send(pictures, chosen, output, seed, {**scenario, **read_knobs(knobs, len(pictures), OF_ITS_USERS)})
    for file in files:
        typer.echo(str(file))
