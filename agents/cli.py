"""The command line ``noma-semcom``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ImportError as error:
    raise ImportError("the command line needs typer and rich: pip install 'noma-semcom-env[cli]'") from error

from noma_semcom_agents.runs import EVALUATION_SEED, RECORD

app = typer.Typer(
    name="noma-semcom",
    help="Semantic communication over uplink NOMA: train and compare agents, and tabulate recoveries.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Knob = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="A field of Scenario, its value as JSON or plain text. Repeatable."
    ),
]
ModelsText = Annotated[str, typer.Option(help="Model preset: a name, or a JSON object that swaps parts of one.")]
Output = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]
Seconds = Annotated[float, typer.Option(help="Ends the training earlier; 0 sets no limit.", min=0.0)]
Episodes = Annotated[int, typer.Option(help="Test episodes.", min=1)]


@app.command()
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

    chain.run_demo(
        output=output,
        seed=seed,
        steps=steps or chain.STEPS,
        seconds=chain.SECONDS if seconds is None else seconds or None,
        episodes=episodes or chain.EPISODES,
        knobs=read_knobs(knobs, taken=("images", "image_ids")),
    )


@app.command()
def train(
    output: Output = Path("runs/im-ppo"),
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(help="Environment steps.", min=1)] = 300_000,
    seconds: Seconds = 0.0,
    validation: Annotated[str, typer.Option(help="Image set of the regret that is shown.")] = "street-validation",
    knobs: Knob = None,
) -> None:
    """Train IM-PPO and leave a checkpoint, the learning curve and the full configuration."""
    from noma_semcom_agents.runs import train_policy
    from noma_semcom_env import load_table

    with refusals():
        load_table(validation)
    training = train_policy(output.resolve(), seed, steps, seconds or None, read_knobs(knobs), validation)
    typer.echo(f"checkpoint: {training.checkpoint}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder that 'noma-semcom train' or 'demo' left.")],
    images: Annotated[str, typer.Option(help="Image set to evaluate on.")] = "street-test",
    episodes: Episodes = 256,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.")] = EVALUATION_SEED,
    knobs: Knob = None,
) -> None:
    """Compare a trained policy with the schemes and the oracle, with common random numbers."""
    from noma_semcom_agents import LearnedPolicy
    from noma_semcom_agents.evaluation import evaluate as compare
    from noma_semcom_agents.report import make_console, print_tables, write_results
    from noma_semcom_agents.runs import contenders
    from noma_semcom_agents.training import CHECKPOINT
    from noma_semcom_env import load_table

    record = read_record(run)
    with refusals():
        if tuple(record["labels"]) != load_table(images).labels:
            raise ValueError(f"images {images!r} have other labels than those that {run} was trained on")
        policy = LearnedPolicy.from_checkpoint(run / CHECKPOINT)
    scenario = {**record["scenario"], "image_ids": None, **read_knobs(knobs, taken=("images",)), "images": images}
    evaluation = compare(contenders(policy), scenario, episodes, seed)
    print_tables(evaluation, policy.name, make_console(), f"{episodes} episodes of images {images!r}")
    evaluated = {"episodes": episodes, "evaluation_seed": seed, "scenario": scenario}
    for file in write_results(evaluation, policy.name, run / "evaluation", {**record, "evaluation": evaluated}):
        typer.echo(str(file))


@app.command()
def tabulate(
    source: Annotated[
        str,
        typer.Argument(
            help="street:policy, street:validation or street:test (add :crayon for the other style), coco:ROOT:SPLIT, "
            "voc:ROOT:SET, or a folder of pictures."
        ),
    ],
    output: Annotated[Path, typer.Option(help="The .npz to write; an interrupted run is taken up again.")],
    count: Annotated[int | None, typer.Option(help="Number of images; all by default.", min=1)] = None,
    offset: Annotated[int, typer.Option(help="Images to pass over.", min=0)] = 0,
    models: ModelsText = "street",
    seeds: Annotated[str, typer.Option(help="Diffusion seeds, separated by commas.")] = "0,1",
    steps: Annotated[int | None, typer.Option(help="Denoising steps; the preset's by default.", min=1)] = None,
    lpips_net: Annotated[str, typer.Option(help="alex or vgg.")] = "alex",
    processes: Annotated[int | None, typer.Option(help="Worker processes; all cores by default.", min=1)] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Compute on a Ray cluster: auto finds one, local starts one.")
    ] = None,
    max_table_entries: Annotated[
        int, typer.Option(help="Tabulate a sample of images with more subsets.", min=1)
    ] = 4096,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or cuda; by default a GPU if there is one, but not for street. Give it for Ray."),
    ] = None,
) -> None:
    """Compute the LPIPS of every subset of the features of images."""
    from noma_semcom_agents.tabulation import tabulate_images

    try:
        numbers = tuple(int(text) for text in seeds.split(","))
    except ValueError:
        raise typer.BadParameter(f"seeds={seeds!r} must be whole numbers separated by commas, such as 0,1") from None
    if ray is not None and processes is not None:
        raise typer.BadParameter("--processes would have no effect on a Ray cluster; leave out one of the two")
    with refusals():
        table = tabulate_images(
            source,
            output,
            read_models(models),
            numbers,
            steps,
            count,
            offset,
            lpips_net,
            processes,
            ray,
            max_table_entries,
            device,
        )
    typer.echo(f"{table.path}: {len(table.features)} images, {table.lpips_by_seed[0].size} entries each")


@app.command()
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
            from noma_semcom_agents import LearnedPolicy
            from noma_semcom_agents.training import CHECKPOINT

            recorded = read_record(run)["scenario"].items()
            scenario = {name: value for name, value in recorded if name not in OF_ITS_USERS}
            chosen = Contender(LearnedPolicy.from_checkpoint(run / CHECKPOINT))
        files = send(pictures, chosen, output, seed, {**scenario, **read_knobs(knobs, len(pictures), OF_ITS_USERS)})
    for file in files:
        typer.echo(str(file))


OF_ITS_USERS = ("num_users", "images", "image_ids", "distances_m", "recovery")
"""Fields that a transmission of the user's own pictures sets itself, or that name a training's own users."""


@contextmanager
def refusals() -> Iterator[None]:
    """Shows what is refused as a usage error instead of a traceback."""
    from noma_semcom_env.recovery.pipeline import RecoveryError
    from noma_semcom_env.zoo.loading import ModelLoadError

    try:
        yield
    except (ValueError, FileNotFoundError, ImportError, ConnectionError, ModelLoadError, RecoveryError) as error:
        raise typer.BadParameter(str(error)) from error


def read_models(text: str) -> str | dict[str, Any]:
    """The preset that ``--models`` names, or the mapping that it spells out.

    Raises:
        typer.BadParameter: If the text starts like a JSON object and is none.
    """
    if not text.startswith("{"):
        return text
    try:
        mapping: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"--models {text!r} is no JSON object ({error})") from error
    return with_folders(mapping)


def with_folders(mapping: dict[str, Any]) -> dict[str, Any]:
    """A mapping of models with its relative folders and files made absolute: workers run in folders of their own."""
    return {
        name: str(Path(value).resolve()) if isinstance(value, str) and Path(value).exists() else value
        for name, value in mapping.items()
    }


def read_record(run: Path) -> dict[str, Any]:
    """The ``run.json`` of a training's folder.

    Raises:
        typer.BadParameter: If there is none.
    """
    if not (run / RECORD).is_file():
        raise typer.BadParameter(f"{run} holds no {RECORD}; name a folder that 'noma-semcom train' left")
    record: dict[str, Any] = json.loads((run / RECORD).read_text())
    return record


def read_knobs(texts: list[str] | None, users: int | None = None, taken: Sequence[str] = ()) -> dict[str, Any]:
    """Turn ``field=value`` texts into keywords; a value that is no JSON is taken as text.

    Args:
        texts: What ``--set`` was given.
        users: Number of users, if the command sets it.
        taken: Fields that the command sets itself.

    Raises:
        typer.BadParameter: If a text has no ``=``, is no field of Scenario, or the command sets that field.
    """
    from noma_semcom_env import Scenario

    knobs: dict[str, Any] = {}
    for text in texts or []:
        name, sign, value = text.partition("=")
        if not sign:
            raise typer.BadParameter(f"--set {text!r} must have the form field=value")
        if name in taken:
            raise typer.BadParameter(f"--set {text!r} would have no effect: this command chooses {name} itself")
        try:
            knobs[name] = json.loads(value)
            if name == "models" and isinstance(knobs[name], dict):
                knobs[name] = with_folders(knobs[name])
        except json.JSONDecodeError:
            # Tune's trials run in folders of their own, where a relative path would lead nowhere.
            knobs[name] = str(Path(value).resolve()) if name == "images" and value.endswith(".npz") else value
    try:
        Scenario.of(None, knobs if users is None else {**knobs, "num_users": users})
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    return knobs


if __name__ == "__main__":
    app()
