r"""Tabulates what mixtures of RefCOCO's references are worth, with a preset whose models and codecs are there.

    python -m noma_semcom_env.zoo.train.mixture.reference_tables --references refcoco:ROOT:testA --count 64 \
        --models '{"preset": "sd15_mixture", "image_codec": "FOLDER/image_roi", "text_codec": "FOLDER/text_codec"}' \
        --output refcoco-testA.npz --device cuda

Every reference is an item: a picture, the first expression that points at an object in it, and the object's box and
mask. The expression is the prompt. It stands for the annotated box, of which the segmenter makes the region
(``--find box``), or is resolved by the preset's detector (``--find detector``). PSNR-ROI is measured over the region
that is sent (``--targets region``), or over the annotated mask (``--targets object``).

``--items FILE`` keeps what the sender sees of the references, and what was asked for. Where the file is there already,
the references are not read again; options that ask for others than it holds end the script.

An environment plays the file: ``gym.make("MixtureOfSemantics-v0", images="refcoco-testA.npz", cbr_values=...)``; with
``recovery="live"`` and the same ``models`` it sends the items in its steps.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_env.archives import read_arrays, write_arrays
from noma_semcom_env.mixture.captions import head_of
from noma_semcom_env.mixture.items import MixtureItems, grow
from noma_semcom_env.mixture.offering import make_items
from noma_semcom_env.mixture.regions import NamedBoxes, RegionError
from noma_semcom_env.mixture.tabulate import ROI_SYMBOLS, MixtureRecipe
from noma_semcom_env.mixture.transceiver import Transceiver
from noma_semcom_env.mixture_models import PEOPLE, load_transceiver
from noma_semcom_env.scenes.refcoco import RefCOCO, open_refcoco
from noma_semcom_env.zoo.train.mixture.annotated import LEAST_SHARE
from noma_semcom_env.zoo.train.mixture.tables import TARGETS, add_table_options, write_table

FINDERS: Final = ("box", "detector")
MORE_SYMBOLS: Final = (*ROI_SYMBOLS, 8192, 12288)
"""Complex symbols of the ROI up to the most of the paper's codec."""

_PERSON: Final = "person"
_RECORD: Final = "record"
_ASKED: Final[Mapping[str, Any]] = {"count": 64, "find": "box", "targets": "region", "margins": [0]}
"""Options that tell which items are made, with their defaults."""


def ask_for_references(
    transceiver: Transceiver,
    references: RefCOCO,
    count: int,
    find: str = "box",
    targets: str = "region",
    margins: Sequence[int] = (0,),
) -> MixtureItems:
    """References as items, in their order.

    Left out are objects of less than one in 256 pixels of the largest square of their picture, those of which nothing
    is found, and those whose region fills the picture.

    Args:
        transceiver: Looks at them.
        references: What people pointed at.
        count: Most items.
        find: One of :data:`FINDERS`.
        targets: ``"region"`` or ``"object"``.
        margins: Pixels, ascending from 0.

    Raises:
        ValueError: If an argument is unknown or out of range, or no reference is left.
    """
    for name, value, known in (("find", find, FINDERS), ("targets", targets, TARGETS)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {known}")
    if count < 1:
        raise ValueError(f"count={count!r} items; at least 1 is needed")
    side = transceiver.image_codec.side
    pictures: dict[int, np.ndarray] = {}
    ids: list[str] = []
    picture, prompts, kinds, objects = [], [], [], []
    named: list[NamedBoxes] = []
    for one in track(references, "looking at references", total=len(references)):
        if len(ids) == count:
            break
        image, mask, box = one.squared(side)
        expression = one.expressions[0]
        boxes = [(expression, box.tolist())] if find == "box" else []
        if mask.sum() * LEAST_SHARE < mask.size:
            continue
        try:
            (region,) = transceiver.finder.find(image, [expression], boxes)
        except RegionError as error:
            print(f"reference {one.ref_id}: {error}")
            continue
        if grow(region, max(margins)).all():
            print(f"reference {one.ref_id}: the region of {expression!r} fills the picture")
            continue
        ids.append(f"refcoco:{one.split}:{one.ref_id}")
        pictures.setdefault(one.image_id, image)
        picture.append([*pictures].index(one.image_id))
        prompts.append(expression)
        kinds.append(kind_of(expression, one.category, transceiver.kinds))
        named.append(boxes)
        objects.append(mask)
    if not ids:
        raise ValueError(
            "references: none shows an object that is large enough and found; take another split or finder"
        )
    return make_items(
        transceiver,
        ids,
        np.stack([*pictures.values()]),
        picture,
        prompts,
        kinds=kinds,
        named=named,
        targets=np.stack(objects) if targets == "object" else None,
        margins=margins,
    )


def kind_of(expression: str, category: str, kinds: Sequence[str]) -> str | None:
    """What a caption is likely to call the object that an expression points at.

    The words of an expression name other things as well ("orange shirt guy"), so that what is annotated is trusted; but
    captions call nobody a person of whom people say "girl".

    Args:
        expression: What was said.
        category: Name of the object's kind; empty if it is not known.
        kinds: Names by which the expression tells the kind then.
    """
    if not category:
        return head_of(expression, kinds)
    return (head_of(expression, PEOPLE) if category == _PERSON else None) or category


def recipe_of(max_symbols: int, seeds: tuple[int, ...] = MixtureRecipe.seeds) -> MixtureRecipe:
    """The recipe whose region gets up to a codec's most symbols, the rest being painted around a sixth of them."""
    counts = (*(count for count in MORE_SYMBOLS if count < max_symbols), max_symbols)
    middle = min(counts, key=lambda count: abs(math.log(6 * count / max_symbols)))
    return MixtureRecipe(roi_symbols=counts, seeds=seeds, painted_symbols=middle)


def read_record(path: Path) -> dict[str, Any]:
    """What was asked for when a file of items was made, by the names of the options; empty if it does not tell."""
    arrays = read_arrays(path)
    return dict(json.loads(str(arrays[_RECORD]))) if _RECORD in arrays else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", metavar="SOURCE", help="refcoco:ROOT:SPLIT; needed where --items has none yet")
    parser.add_argument("--models", required=True, help="preset, or the JSON of a mapping that swaps parts of one")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--count", type=int, help="most items, 64 by default")
    parser.add_argument("--find", choices=FINDERS, help="box by default")
    parser.add_argument("--targets", choices=TARGETS, help="region by default")
    parser.add_argument("--margins", type=int, nargs="+", help="0 by default")
    parser.add_argument("--device", help="cpu or cuda; a GPU by default if there is one")
    add_table_options(parser, off_grid=40)
    given = parser.parse_args()
    options = {"source": given.references, **{name: getattr(given, name) for name in _ASKED}}
    asked = {name: value for name, value in options.items() if value is not None}
    if given.items and given.items.is_file():
        record = read_record(given.items)
        for name, value in asked.items():
            if record.get(name) != value:
                option = "references" if name == "source" else name
                known = f"were made with {record[name]!r}" if name in record else "do not tell theirs"
                parser.error(
                    f"--{option} {value!r} has no effect on the items in {given.items}, which {known}; leave it out, "
                    "or give another file"
                )
        transceiver = load_transceiver(given.models, given.device)
        items = MixtureItems.load(given.items)
    else:
        if given.references is None:
            parser.error("--references is needed, since there is no file of items to read them from")
        record = {**_ASKED, **asked}
        references = open_refcoco(given.references)
        transceiver = load_transceiver(given.models, given.device)
        items = ask_for_references(transceiver, references, **{name: record[name] for name in _ASKED})
        if given.items:
            write_arrays(given.items, {**items.to_arrays(), _RECORD: np.array(json.dumps(record))})
    recipe = recipe_of(transceiver.image_codec.max_symbols, tuple(given.seeds))
    write_table(items, transceiver, given.output, recipe, record, given.off_grid)


if __name__ == "__main__":
    main()
