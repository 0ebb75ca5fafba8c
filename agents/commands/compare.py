"""``noma-semcom compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noma_semcom_agents.commands.options import (
    Episodes,
    EpisodeSeed,
    Images,
    Knob,
    Output,
    read_knobs,
    read_names,
    refusals,
)
from noma_semcom_agents.lineup import EVALUATION_SEED


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of trainings: several seeds of each agent.")
    ],
    images: Images = "street-test",
    episodes: Episodes = 256,
    seed: EpisodeSeed = EVALUATION_SEED,
    references: Annotated[
        str, typer.Option(help="References beside the oracle, separated by commas, as of evaluate.")
    ] = "all,random",
    output: Output = Path("runs/comparison"),
    allow_unfinished: Annotated[
        bool,
        typer.Option(
            "--allow-unfinished", help="Take runs as they are that were trained over different budgets or cut off."
        ),
    ] = False,
    knobs: Knob = None,
) -> None:
    """Compare agents over several training seeds: interquartile means, intervals and paired differences."""
    from noma_semcom_agents.comparison import compare_runs, print_comparison, write_comparison
    from noma_semcom_agents.lineup import read_runs
    from noma_semcom_agents.report import make_console

    fields = read_knobs(knobs, taken=("images",))
    names = read_names(references)
    with refusals():
        found = read_runs(runs, images)
        comparison = compare_runs(found, images, episodes, seed, fields, names, allow_unfinished)
    print_comparison(comparison, make_console(), f"{episodes} episodes of images {images!r}")
    evaluated = {"images": images, "episodes": episodes, "evaluation_seed": seed, "set": fields}
    configuration = {"runs": {run.label: run.record for run in found}, "evaluation": evaluated}
    with refusals():
        files = write_comparison(comparison, output, configuration)
    for file in files:
        typer.echo(str(file))
