"""``noma-semcom tabulate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from noma_semcom_agents.commands.options import refusals, with_folders

ModelsText = Annotated[str, typer.Option(help="Model preset: a name, or a JSON object that swaps parts of one.")]


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
