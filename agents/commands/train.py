"""``noma-semcom train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from noma_semcom_agents.commands.options import Address, Knob, read_knobs, read_pairs, refusals
from noma_semcom_agents.roster import AGENTS

DEFAULTS = {"agent": "im-ppo", "seed": 0, "steps": 300_000, "validation": "street-validation", "num_env_runners": 0}


def train(
    agent: Annotated[
        str | None, typer.Option(help=f"{', '.join(AGENTS)}.", show_default=str(DEFAULTS["agent"]))
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/AGENT")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in the folder; all but --seconds and --address is as it was begun."
        ),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.", show_default="0")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Environment steps.", min=1, show_default=str(DEFAULTS["steps"]))
    ] = None,
    seconds: Annotated[float, typer.Option(help="Ends the training earlier; 0 sets no limit.", min=0.0)] = 0.0,
    num_env_runners: Annotated[
        int | None,
        typer.Option(
            help="Processes that sample, besides the one that learns; 0 lets one do both.", min=0, show_default="0"
        ),
    ] = None,
    address: Address = None,
    validation: Annotated[
        str | None,
        typer.Option(help="Image set of the regret that is shown.", show_default=str(DEFAULTS["validation"])),
    ] = None,
    knobs: Knob = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--setting",
            metavar="NAME=VALUE",
            help="A setting of the algorithm, such as lr=0.001 or model.width=128. Repeatable.",
        ),
    ] = None,
    save_every: Annotated[float, typer.Option(help="Seconds between two checkpoints.", min=0.0)] = 30.0,
) -> None:
    """Train an agent; leave checkpoints, the learning curve, TensorBoard's events and the full configuration."""
    given: dict[str, Any] = {"agent": agent, "seed": seed, "steps": steps, "validation": validation}
    given |= {"num_env_runners": num_env_runners}
    given |= {"knobs": read_knobs(knobs) if knobs else None}
    given |= {"settings": read_pairs(settings, "--setting") if settings else None}
    given = {name: value for name, value in given.items() if value is not None}
    with refusals():
        start_training(given, output, resume, seconds or None, address, save_every)


def start_training(
    given: dict[str, Any],
    output: Path | None,
    resume: bool,
    seconds: float | None,
    address: str | None,
    save_every: float,
) -> None:
    """Check everything that can be checked, then start Ray and train."""
    from noma_semcom_agents.roster import find_agent
    from noma_semcom_agents.runs import (
        Request,
        check_same,
        connect,
        prepare,
        read_request,
        refuse_other_run,
        train_policy,
    )

    name = find_agent(given.get("agent", DEFAULTS["agent"])).name
    folder = (output or Path("runs", name)).resolve()
    if resume:
        recorded = read_request(folder)
        request = Request(**{**vars(recorded), **given, "seconds": seconds})
        check_same(folder, request)
    else:
        refuse_other_run(folder)
        request = Request(**{**DEFAULTS, **given, "seconds": seconds})
    prepare(request)
    connect(address, request.num_env_runners)
    training = train_policy(folder, request, resume=resume, save_every_s=save_every)
    typer.echo(f"checkpoint: {training.checkpoint}")
