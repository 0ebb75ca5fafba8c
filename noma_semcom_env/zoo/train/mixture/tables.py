"""Tabulates what mixtures of street scenes are worth, with the bundled models, into the package.

    python -m noma_semcom_env.zoo.train.mixture.tables --split policy --device cuda

Every visible object of a scene is asked for by its referring expression, whose box the scene knows; the rest is what
the captioner says of the scene without the object's phrase. PSNR-ROI is measured over the region that is sent
(``--targets region``), or over the object's true pixels (``--targets object``), which makes a margin around the region
worth its symbols:

    python -m noma_semcom_env.zoo.train.mixture.tables --name street-margins --targets object --margins 0 2 4

The bundled tables are smaller than the defaults here; these three commands make them:

    python -m noma_semcom_env.zoo.train.mixture.tables --split policy --scenes 32 --seeds 0 --off-grid 40
    python -m noma_semcom_env.zoo.train.mixture.tables --split validation --scenes 12 --seeds 0 --off-grid 40
    python -m noma_semcom_env.zoo.train.mixture.tables --split test --scenes 16 --seeds 0 --off-grid 40

``--items FILE`` keeps what the sender sees of the scenes; with ``--look`` nothing else is done, so that another machine
can tabulate it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from noma_semcom_env.mixture.items import MixtureItems
from noma_semcom_env.mixture.offering import make_items
from noma_semcom_env.mixture.regions import RegionError
from noma_semcom_env.mixture.table import BUNDLED
from noma_semcom_env.mixture.tabulate import MixtureRecipe, tabulate_mixtures
from noma_semcom_env.mixture.transceiver import Transceiver
from noma_semcom_env.mixture_models import load_transceiver
from noma_semcom_env.scenes.street import CLASSES, SPLITS, render, split_seeds

SCENES = {"policy": 64, "validation": 32, "test": 48}
TARGETS = ("region", "object")


def ask_for_objects(
    transceiver: Transceiver, seeds: list[int], style: str, targets: str, margins: list[int]
) -> MixtureItems:
    """All visible objects of scenes, but for those that the segmenter does not find.

    Args:
        transceiver: Looks at them.
        seeds: Of the scenes.
        style: Of the scenes.
        targets: One of :data:`TARGETS`.
        margins: Pixels, ascending from 0.
    """
    side = transceiver.image_codec.side
    pictures: list[np.ndarray] = []
    ids, picture, prompts, kinds, named, objects = [], [], [], [], [], []
    for seed in track(seeds, "looking at scenes"):
        scene = render(seed, side, style)
        known = list(zip(scene.expressions, scene.boxes.tolist(), strict=True))
        for item, expression in zip(scene.items, scene.expressions, strict=True):
            try:
                transceiver.finder.find(scene.image, [expression], known)
            except RegionError as error:
                print(f"scene {seed}: {error}")
                continue
            ids.append(f"street:{seed}:{item.kind}")
            picture.append(len(pictures))
            prompts.append(expression)
            kinds.append(item.kind)
            named.append(known)
            objects.append(scene.labels == CLASSES.index(item.kind))
        pictures.append(scene.image)
    return make_items(
        transceiver,
        ids,
        np.stack(pictures),
        picture,
        prompts,
        kinds=kinds,
        named=named,
        targets=np.stack(objects) if targets == "object" else None,
        margins=margins,
    )


def add_table_options(parser: argparse.ArgumentParser, off_grid: int) -> None:
    """Options that the scripts of tables share: seeds, points off the grid and the file of the items."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[*MixtureRecipe.seeds], help="of noise and painting")
    parser.add_argument("--off-grid", type=int, default=off_grid, help="points at which the interpolation is measured")
    parser.add_argument("--items", type=Path, help="file to read the items from, or to write them to if there is none")


def write_table(
    items: MixtureItems,
    transceiver: Transceiver,
    output: Path,
    recipe: MixtureRecipe,
    record: Mapping[str, Any],
    off_grid: int,
) -> None:
    """:func:`~noma_semcom_env.mixture.tabulate.tabulate_mixtures`, with its size and errors printed."""
    table = tabulate_mixtures(items, transceiver, output, recipe, record, off_grid)
    print(f"{len(items)} items, {output.stat().st_size / 1e6:.1f} MB in {output}")
    print(json.dumps(table.provenance["interpolation_error"], indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=[split for split in SPLITS if split in SCENES], default="policy")
    parser.add_argument("--scenes", type=int, help="64, 32 or 48 of the split by default")
    parser.add_argument("--style", default="plain", help="of the scenes")
    parser.add_argument("--targets", choices=TARGETS, default="region")
    parser.add_argument("--margins", type=int, nargs="+", default=[0])
    parser.add_argument("--models", default="street_mixture")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    add_table_options(parser, off_grid=200)
    parser.add_argument("--look", action="store_true", help="write the items and stop")
    parser.add_argument("--name", help="street-SPLIT by default")
    parser.add_argument("--folder", type=Path, default=BUNDLED)
    given = parser.parse_args()
    transceiver = load_transceiver(given.models, given.device)
    if given.items and given.items.is_file():
        items = MixtureItems.load(given.items)
    else:
        seeds = split_seeds(given.split, given.scenes or SCENES[given.split])
        items = ask_for_objects(transceiver, seeds, given.style, given.targets, given.margins)
        if given.items:
            items.save(given.items)
    if given.look:
        print(f"{len(items)} items")
        return
    output = given.folder / f"{given.name or 'street-' + given.split}.npz"
    record = {"split": given.split, "style": given.style, "targets": given.targets}
    recipe = MixtureRecipe(seeds=tuple(given.seeds))
    write_table(items, transceiver, output, recipe, record, given.off_grid)


if __name__ == "__main__":
    main()
