"""``noma-semcom evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from noma_semcom_agents.commands.options import Episodes, EpisodeSeed, Images, Knob, read_knobs, read_names, refusals
from noma_semcom_agents.lineup import EVALUATION_SEED


def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders that train, demo or sweep (its best/) left.")
    ],
    images: Images = "street-test",
    episodes: Episodes = 256,
    seed: EpisodeSeed = EVALUATION_SEED,
    references: Annotated[
        str,
        typer.Option(
            help="References beside the oracle, separated by commas: all, random, location, none, greedy, linucb, "
            "predictor, set-network. greedy, linucb and predictor first learn from the training images."
        ),
    ] = "all,random,location",
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results.", show_default="RUN/evaluation, or runs/evaluation")
    ] = None,
    knobs: Knob = None,
) -> None:
    """Evaluate trained policies beside references and the oracle, with common random numbers."""
    from noma_semcom_agents.evaluation import evaluate as evaluate_contenders
    from noma_semcom_agents.lineup import common_knobs, contenders_of, read_runs
    from noma_semcom_agents.report import make_console, print_tables, write_results

    fields = read_knobs(knobs, taken=("images",))
    names = read_names(references)
    with refusals():
        found = read_runs(runs, images)
        common = common_knobs(found, images, fields)
        evaluation = evaluate_contenders(contenders_of(found, common, names), common, episodes, seed)
    subject = found[0].label
    print_tables(evaluation, subject, make_console(), f"{episodes} episodes of images {images!r}")
    evaluated = {"episodes": episodes, "evaluation_seed": seed, "scenario": common}
    configuration = {"runs": {run.label: run.record for run in found}, "evaluation": evaluated}
    folder = output or (runs[0] / "evaluation" if len(runs) == 1 else Path("runs/evaluation"))
    for file in write_results(evaluation, subject, folder, configuration):
        typer.echo(str(file))
