"""What the commands share: their options, how those are read, and how refusals are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Knob = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="A field of Scenario, its value as JSON or plain text. Repeatable."
    ),
]
Output = Annotated[Path, typer.Option(help="Folder for the results.")]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]
Images = Annotated[str, typer.Option(help="Image set to evaluate on.")]
Episodes = Annotated[int, typer.Option(help="Test episodes.", min=1)]
EpisodeSeed = Annotated[int, typer.Option(help="Episode i is drawn from this plus i.")]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to run on: host:port, or auto for the one on this machine; else Ray is started here."
    ),
]


@contextmanager
def refusals() -> Iterator[None]:
    """Shows what is refused as a usage error instead of a traceback."""
    from noma_semcom_env.recovery.pipeline import RecoveryError
    from noma_semcom_env.zoo.loading import ModelLoadError

    refused = (
        ValueError,
        FileNotFoundError,
        FileExistsError,
        ImportError,
        ConnectionError,
        ModelLoadError,
        RecoveryError,
    )
    try:
        yield
    except refused as error:
        raise typer.BadParameter(str(error)) from error


def with_folders(mapping: dict[str, Any]) -> dict[str, Any]:
    """A mapping of models with its relative folders and files made absolute: workers run in folders of their own."""
    return {
        name: str(Path(value).resolve()) if isinstance(value, str) and Path(value).exists() else value
        for name, value in mapping.items()
    }


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

    knobs = read_pairs(texts, "--set")
    for name, value in knobs.items():
        if name in taken:
            raise typer.BadParameter(f"--set {name}={value} would have no effect: this command chooses {name} itself")
        if name == "models" and isinstance(value, dict):
            knobs[name] = with_folders(value)
        elif name == "images" and isinstance(value, str) and value.endswith(".npz"):
            # Workers run in folders of their own, where a relative path would lead nowhere.
            knobs[name] = str(Path(value).resolve())
    try:
        Scenario.of(None, knobs if users is None else {**knobs, "num_users": users})
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    return knobs


def read_names(text: str) -> list[str]:
    """The names in a text that separates them by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_pairs(texts: list[str] | None, option: str) -> dict[str, Any]:
    """Turn ``name=value`` texts into a mapping; a value that is no JSON is taken as text.

    Raises:
        typer.BadParameter: If a text has no ``=``.
    """
    pairs: dict[str, Any] = {}
    for text in texts or []:
        name, sign, value = text.partition("=")
        if not sign:
            raise typer.BadParameter(f"{option} {text!r} must have the form name=value")
        try:
            pairs[name] = json.loads(value)
        except json.JSONDecodeError:
            pairs[name] = value
    return pairs
