"""``noma-semcom sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noma_semcom_agents.commands.options import Address, refusals


def sweep(
    file: Annotated[
        Path,
        typer.Argument(help="A .yaml or .py file that describes the sweep, or one of the bundled grid, asha and pbt."),
    ],
    output: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/sweep-FILE")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the sweep in the folder; ended trials stay as they are.")
    ] = False,
    address: Address = None,
) -> None:
    """Train many variants of an agent with Ray Tune (grid, random, ASHA, PBT), and leave the best one as a run."""
    from noma_semcom_agents.report import make_console
    from noma_semcom_agents.runs import connect
    from noma_semcom_agents.sweep import check_folder, describe, print_rows, run_sweep
    from noma_semcom_agents.sweep_plan import find_file, read_plan

    console = make_console()
    with refusals():
        place = find_file(file)
        plan, text = read_plan(place), place.read_text()
        folder = (output or Path("runs", f"sweep-{place.stem}")).resolve()
        check_folder(folder, text, resume)
        connect(address, plan.num_env_runners)
    console.print(
        f"{plan.trials} trials of at most {plan.steps} steps, scheduler {plan.scheduler}, in {folder}", soft_wrap=True
    )
    done = run_sweep(plan, text, folder, resume)
    print_rows(plan, done, console)
    if done.best is None:
        typer.echo(f"no trial reported anything; see error.txt in the folders of {folder / 'trials'}", err=True)
        raise typer.Exit(1)
    console.print(
        f"best: trial {done.best['trial']}, {plan.metric} {done.best[plan.metric]:.4g} ({describe(plan, done.best)})",
        soft_wrap=True,
        highlight=False,
    )
    for name in ("results.csv", "best"):
        typer.echo(str(folder / name))
