"""RefCOCO: objects in COCO's pictures and what people say to point at them.

RefCOCO (and RefCOCO+ and RefCOCOg) is published as ``refs(unc).p``, a pickle, beside ``instances.json`` in COCO's
format. A pickle can run code when it is read and is refused; the same list as JSON is read, which many mirrors offer
and one command makes of a pickle that one trusts.
"""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from noma_semcom_env.scenes.files import open_picture, square_boxes, square_labels, square_picture

PREFIX: Final = "refcoco:"
"""What the name of such a source begins with."""

_PICKLES: Final = (".p", ".pkl", ".pickle")
_NEEDED: Final = ("ref_id", "ann_id", "image_id", "split", "sentences")


@dataclass(frozen=True, eq=False)
class Reference:
    """An object, and what was said to point at it.

    Attributes:
        ref_id: RefCOCO's number of it.
        image_id: COCO's number of its picture.
        file: The picture.
        box: (4,) float64 left, top, right, bottom in pixels, right and bottom exclusive.
        mask: (H, W) bool, its pixels.
        expressions: What was said, lower case as RefCOCO has it; at least one.
        category: Name of its kind; empty if the annotations do not tell.
        split: ``"train"``, ``"val"``, ``"testA"``, ``"testB"`` or whatever the file says.
    """

    ref_id: int
    image_id: int
    file: Path
    box: np.ndarray
    mask: np.ndarray
    expressions: tuple[str, ...]
    category: str
    split: str

    def squared(self, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The largest square in the middle of the picture, resized, with the object on it.

        Args:
            side: Side of the square in pixels.

        Returns:
            (side, side, 3) uint8 picture; (side, side) bool mask, empty if the object lies beside the square; and
            (4,) int32 box, cut at the square's edges, of no extent if it lies beside it.

        Raises:
            ValueError: If the picture cannot be read or is of another size than annotated.
        """
        height, width = self.mask.shape
        with open_picture(self.file) as picture:
            if picture.size != (width, height):
                raise ValueError(
                    f"{self.file} is of {picture.width} x {picture.height} pixels but annotated as {width} x {height}; "
                    "restore the file as COCO published it"
                )
            image = square_picture(picture, side)
        mask = square_labels(self.mask.astype(np.int32), side) > 0
        return image, mask, square_boxes(self.box[None], (width, height), side)[0]


class RefCOCO(Sequence[Reference]):
    """The references of one split, read one by one: masks are drawn when they are asked for.

    Args:
        references: The JSON file with the list of references.
        instances: RefCOCO's ``instances.json``.
        images: The folder of COCO's pictures, train2014.
        split: The split; None takes all.

    Raises:
        ImportError: If pycocotools is not installed.
        ValueError: If a file is missing, is a pickle or not of its format, or the split has no reference.
    """

    def __init__(self, references: Path | str, instances: Path | str, images: Path | str, split: str | None) -> None:
        try:
            import pycocotools  # noqa: F401
        except ImportError as error:
            raise ImportError("RefCOCO's masks need pycocotools: pip install 'noma-semcom-env[data]'") from error
        self._path, self._folder = Path(references).expanduser(), Path(images).expanduser()
        if not self._folder.is_dir():
            raise ValueError(f"images={str(images)!r} is no folder; give that of COCO's pictures, train2014")
        listed = _read_references(self._path)
        splits = sorted({str(one["split"]) for one in listed})
        self._listed = [one for one in listed if split in (None, one["split"])]
        if not self._listed:
            raise ValueError(f"split={split!r} has no reference in {self._path}; choose one of {splits}")
        source = Path(instances).expanduser()
        index = _read_json(source, "instances", "RefCOCO's instances.json")
        try:
            self._annotations = {one["id"]: one for one in index["annotations"]}
            self._images = {one["id"]: one for one in index["images"]}
            self._categories = {one["id"]: str(one["name"]) for one in index.get("categories", ())}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{source} is no annotation file of COCO ({error!r}); download it anew") from error
        for one in self._listed:
            if one["ann_id"] not in self._annotations or one["image_id"] not in self._images:
                raise ValueError(
                    f"reference {one['ref_id']} of {self._path} is of annotation {one['ann_id']} and image "
                    f"{one['image_id']}, which {source} does not have; give the instances.json that belongs to it"
                )

    def __len__(self) -> int:
        return len(self._listed)

    @property
    def picture_count(self) -> int:
        """Number of different pictures that the references point into."""
        return len({one["image_id"] for one in self._listed})

    @overload
    def __getitem__(self, index: int) -> Reference: ...

    @overload
    def __getitem__(self, index: slice) -> list[Reference]: ...

    def __getitem__(self, index: int | slice) -> Reference | list[Reference]:
        """The reference at an index, or a list of those of a slice.

        Raises:
            IndexError: If there is none.
            ValueError: If its annotation is broken.
        """
        if isinstance(index, slice):
            return [self._read(one) for one in self._listed[index]]
        return self._read(self._listed[index])

    def __iter__(self) -> Iterator[Reference]:
        return map(self._read, self._listed)

    def _read(self, listed: Mapping[str, Any]) -> Reference:
        annotation, image = self._annotations[listed["ann_id"]], self._images[listed["image_id"]]
        try:
            left, top, width, height = map(float, annotation["bbox"])
            mask = _drawn(annotation["segmentation"], int(image["height"]), int(image["width"]))
            file = self._folder / str(image["file_name"])
        # pycocotools raises whatever its C code trips over.
        except Exception as error:
            raise ValueError(
                f"annotation {listed['ann_id']} of reference {listed['ref_id']} is broken ({error!r}); restore "
                "RefCOCO's instances.json"
            ) from error
        return Reference(
            ref_id=int(listed["ref_id"]),
            image_id=int(listed["image_id"]),
            file=file,
            box=np.array([left, top, left + width, top + height]),
            mask=mask,
            expressions=tuple(_said(one) for one in listed["sentences"]),
            category=self._categories.get(annotation.get("category_id"), ""),
            split=str(listed["split"]),
        )


def open_refcoco(source: str) -> RefCOCO:
    """A split of RefCOCO in one folder.

    Args:
        source: ``"refcoco:ROOT:SPLIT"``. ROOT holds a list of references, ``refs(unc).json`` or another ``refs*.json``,
            its ``instances.json``, and COCO's pictures in ``train2014``, which may be a link to that folder.

    Raises:
        ImportError: If pycocotools is not installed.
        ValueError: If the source is incomplete, ROOT holds no list of references or several, or :class:`RefCOCO`
            refuses a file.
    """
    # Parted from both ends, since a Windows root holds a colon of its own.
    root, _, split = source.removeprefix(PREFIX).rpartition(":")
    if not source.startswith(PREFIX) or not root or not split:
        raise ValueError(
            f"{source!r} is incomplete; write refcoco:ROOT:SPLIT, for example 'refcoco:/data/refcoco:train'"
        )
    folder = Path(root).expanduser()
    lists = sorted(folder.glob("refs*.json"))
    if len(lists) > 1:
        raise ValueError(f"{source!r}: {folder} holds {', '.join(path.name for path in lists)}; keep one of them there")
    pickles = sorted(path for path in folder.glob("refs*") if path.suffix.lower() in _PICKLES)
    references = next(iter([*lists, *pickles]), folder / "refs(unc).json")
    return RefCOCO(references, folder / "instances.json", folder / "train2014", split)


def _read_references(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() in _PICKLES:
        made = path.with_suffix(".json")
        code = f"import json, pickle; json.dump(pickle.load(open({path.name!r}, 'rb')), open({made.name!r}, 'w'))"
        raise ValueError(
            f"references={str(path)!r} is a pickle, which can run code when it is read, so it is not. If you trust "
            f"where it came from, convert it once and give the result: python -c {shlex.quote(code)}"
        )
    listed = _read_json(path, "references", "the JSON form of RefCOCO's references")
    wrong = f"{path} is no list of RefCOCO's references; each needs {', '.join(_NEEDED)}, the last a list of sentences"
    if not isinstance(listed, list) or not listed:
        raise ValueError(wrong)
    for one in listed:
        if not isinstance(one, dict) or not set(_NEEDED) <= one.keys() or not isinstance(one["sentences"], list):
            raise ValueError(wrong)
        if not one["sentences"] or not all(_said(sentence) for sentence in one["sentences"]):
            raise ValueError(f"reference {one['ref_id']} of {path} has an empty sentence, or none; leave it out")
    return listed


def _read_json(path: Path, name: str, what: str) -> Any:
    if not path.is_file():
        raise ValueError(f"{name}={str(path)!r} does not exist; give {what}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name}={str(path)!r} is no JSON ({error}); give {what}") from error


def _said(sentence: Any) -> str:
    """The text of a sentence: plain, or a mapping with RefCOCO's tidied ``sent`` or its ``raw`` form."""
    if isinstance(sentence, Mapping):
        sentence = sentence.get("sent") or sentence.get("raw") or ""
    return str(sentence).strip()


def _drawn(outline: Any, height: int, width: int) -> np.ndarray:
    """(H, W) bool mask of COCO's polygons or run lengths."""
    from pycocotools import mask

    if isinstance(outline, list):
        if not outline or not all(isinstance(ring, list) and len(ring) in range(6, 2**31, 2) for ring in outline):
            # Four numbers would be read as a box, and an odd one as half a corner.
            raise ValueError("an outline needs three corners or more, two numbers each")
        code = mask.merge(mask.frPyObjects(outline, height, width))
    else:
        if list(outline["size"]) != [height, width]:
            raise ValueError(f"the run lengths are of {outline['size']} pixels, not of {[height, width]}")
        code = outline
        if isinstance(outline["counts"], list):
            if sum(outline["counts"]) != height * width:
                raise ValueError(f"the run lengths add up to {sum(outline['counts'])} pixels, not {height * width}")
            code = mask.frPyObjects(outline, height, width)
    with warnings.catch_warnings():
        # pycocotools 2.0.11 hands its arrays over in a way that NumPy 2 deprecates.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.asarray(mask.decode(code), dtype=np.bool_)
