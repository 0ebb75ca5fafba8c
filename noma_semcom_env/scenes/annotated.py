"""Pictures with annotations, read from the standard layouts of COCO and Pascal VOC."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

# VOC's annotations are files of the user's own, and expat neither fetches external entities nor lets them swell.
from xml.etree import ElementTree

import numpy as np

from noma_semcom_env.scenes.files import open_picture, square_boxes, square_labels, square_picture

if TYPE_CHECKING:
    from PIL.Image import Image

UNLABELLED: Final = -1
"""Class index of pixels without a class."""

VOC_CLASSES: Final = tuple(
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor".split()
)
"""The 21 classes of VOC's segmentation, by their value in its maps."""

COCO_CLASSES: Final = tuple(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,"
    "snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,"
    "fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush".split(",")
)
"""The 80 classes of COCO's objects, RefCOCO's among them."""

_VOC_VOID: Final = 255
_EXIF_ORIENTATION: Final = 0x0112


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known to be on a picture.

    Attributes:
        captions: Sentences that describe it; may be empty.
        labels: (H, W) int32 class index into ``classes`` for every pixel, -1 where no class is given; None where there
            is no map.
        classes: Names of the map's classes.
        boxes: (n, 4) int32 bounding boxes (left, top, right, bottom), right and bottom exclusive, in pixels.
        box_labels: n names, one for each box.
    """

    captions: tuple[str, ...]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    boxes: np.ndarray
    box_labels: tuple[str, ...]


Reader = Callable[[int], tuple[str, np.ndarray, "Truth | None"]]
"""Reads one picture of a source: its index there -> (id, (H, W, 3) uint8, truth)."""


def open_coco(source: str, side: int, stop: int | None) -> tuple[int, Reader]:
    """A folder in COCO's layout.

    Left out are pictures whose annotations do not fit them: another size, an unknown category, a broken outline. Those
    without any object count, as do pictures that EXIF turns, whichever way they were annotated.

    Args:
        source: ``"coco:ROOT:SPLIT"``.
        side: Side of the pictures in pixels.
        stop: How many pictures will be asked for at most; None means all.

    Returns:
        How many pictures there are, counted no further than ``stop``, and their reader.

    Raises:
        ImportError: If pycocotools is not installed.
        ValueError: If a folder or file is missing or broken, or no picture can be used.
    """
    root, split = _root_and_set(source, "coco:ROOT:SPLIT", "coco:/data/coco:val2017")
    folder = _existing(source, root / split, "the folder of its pictures")
    instances = _existing(source, root / "annotations" / f"instances_{split}.json", "its annotations")
    coco = _coco(source, instances)
    sentences = instances.with_name(f"captions_{split}.json")
    said = _coco(source, sentences).imgToAnns if sentences.is_file() else {}
    positions = {category: index for index, category in enumerate(sorted(coco.cats))}
    classes = tuple(str(coco.cats[category]["name"]) for category in positions)
    images = list(islice(_usable(coco, folder), stop))
    if not images:
        raise ValueError(
            f"{source!r}: none of the {len(coco.imgs)} images listed in {instances} can be used; each needs its file "
            f"in {folder}, of the listed width and height, and annotations in COCO's format"
        )

    def read(index: int) -> tuple[str, np.ndarray, Truth]:
        image = images[index]
        size = image["width"], image["height"]
        annotations = coco.imgToAnns.get(image["id"], [])
        try:
            labels = _painted(coco, annotations, size, positions)
        except ValueError as error:
            raise ValueError(
                f"{source!r}: an outline of image {image['id']} in {instances} is broken ({error}); restore the file"
            ) from error
        objects = [one for one in annotations if not one.get("iscrowd")]
        edges = [one["bbox"] for one in objects]
        corners: list[tuple[float, ...]] = [(x, y, x + width, y + height) for x, y, width, height in edges]
        names = [classes[positions[one["category_id"]]] for one in objects]
        captions = tuple(str(one["caption"]).strip() for one in said.get(image["id"], []))
        truth = _squared(captions, labels, classes, (corners, names), side)
        with open_picture(folder / image["file_name"]) as picture:
            return f"coco:{split}:{image['id']:012d}", square_picture(_as_annotated(picture, size), side), truth

    return len(images), read


def open_voc(source: str, side: int) -> tuple[int, Reader]:
    """A folder in Pascal VOC's layout; torchvision's reader wants its own folders around it, and knows no other sets.

    Args:
        source: ``"voc:ROOT:SET"``.
        side: Side of the pictures in pixels.

    Returns:
        How many pictures there are, and their reader; boxes include the objects that VOC calls difficult.

    Raises:
        ValueError: If a folder or file is missing, the set is empty or names a picture twice.
    """
    root, chosen = _root_and_set(source, "voc:ROOT:SET", "voc:/data/VOCdevkit/VOC2012:val")
    folder = _existing(source, root / "JPEGImages", "the folder of its pictures")
    listing = _existing(source, root / "ImageSets" / "Segmentation" / f"{chosen}.txt", "the list of its pictures")
    names = [words[0] for words in map(str.split, listing.read_text(encoding="utf-8").splitlines()) if words]
    if len(set(names)) < len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise ValueError(f"{source!r}: {listing} names {', '.join(twice)} more than once; keep one line each")
    if not names:
        raise ValueError(f"{source!r}: {listing} names no pictures; give a set that has some")

    def read(index: int) -> tuple[str, np.ndarray, Truth]:
        name = names[index]
        path = _existing(source, root / "SegmentationClass" / f"{name}.png", f"the class map of {name}")
        with open_picture(path) as drawn:
            # Palettes keep their indices, which are the classes.
            labels = np.array(drawn).astype(np.int32)
        labels[labels == _VOC_VOID] = UNLABELLED
        if labels.ndim != 2 or labels.max() >= len(VOC_CLASSES):
            raise ValueError(f"{source!r}: {path} is no class map; a palette or grey PNG of 0..20 and 255 is needed")
        size = labels.shape[1], labels.shape[0]
        objects = _voc_objects(source, root / "Annotations" / f"{name}.xml")
        truth = _squared((), labels, VOC_CLASSES, objects, side)
        with open_picture(folder / f"{name}.jpg") as picture:
            if not _fits(picture, size):
                raise ValueError(
                    f"{source!r}: {path} is of {size[0]} x {size[1]} pixels but its picture of "
                    f"{picture.width} x {picture.height}; restore the file as it was published"
                )
            return f"voc:{chosen}:{name}", square_picture(_as_annotated(picture, size), side), truth

    return len(names), read


def _root_and_set(source: str, form: str, example: str) -> tuple[Path, str]:
    # Parted from both ends, since a Windows root holds a colon of its own.
    root, _, chosen = source.partition(":")[2].rpartition(":")
    if not root or not chosen:
        raise ValueError(f"{source!r} is incomplete; write {form}, for example {example!r}")
    return Path(root).expanduser(), chosen


def _existing(source: str, path: Path, what: str) -> Path:
    if not path.exists():
        raise ValueError(f"{source!r}: {path} is missing, {what}; check the root, or put it there")
    return path


def _coco(source: str, path: Path) -> Any:
    """COCO's own index of an annotation file."""
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise ImportError("COCO annotations need pycocotools: pip install 'noma-semcom-env[data]'") from error

    try:
        # It tells of its progress on standard output, which belongs to the caller.
        with redirect_stdout(io.StringIO()):
            coco = COCO(str(path))
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source!r}: {path} is no annotation file of COCO ({error!r}); download it anew") from error
    return coco


def _usable(coco: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """The listed images that are there and whose annotations fit them, by id."""
    for image_id in sorted(image_id for image_id in coco.imgs if isinstance(image_id, int)):
        image = coco.imgs[image_id]
        if not {"file_name", "width", "height"} <= image.keys() or not (folder / image["file_name"]).is_file():
            continue
        annotations = coco.imgToAnns.get(image_id, [])
        if all(_sound(one, image) and one.get("category_id") in coco.cats for one in annotations):
            with open_picture(folder / image["file_name"]) as picture:
                fits = _fits(picture, (image["width"], image["height"]))
            if fits:
                yield image


def _sound(annotation: dict[str, Any], image: dict[str, Any]) -> bool:
    """Whether an annotation's outline and box are what pycocotools takes them for."""
    outline, box = annotation.get("segmentation"), annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return False
    if isinstance(outline, list):
        # Four numbers would be read as a box, and an odd one as half a corner.
        return bool(outline) and all(isinstance(ring, list) and len(ring) in range(6, 2**31, 2) for ring in outline)
    return (
        isinstance(outline, dict) and outline.get("size") == [image["height"], image["width"]] and "counts" in outline
    )


def _painted(
    coco: Any, annotations: list[dict[str, Any]], size: tuple[int, int], positions: dict[int, int]
) -> np.ndarray:
    """(H, W) int32 class map of a picture; smaller outlines lie on larger ones, which would hide them."""
    from pycocotools import mask

    labels = np.full(size[::-1], UNLABELLED, dtype=np.int32)
    outlines = [(coco.annToRLE(one), positions[one["category_id"]]) for one in annotations]
    for outline, index in sorted(outlines, key=lambda pair: int(mask.area(pair[0])), reverse=True):
        with warnings.catch_warnings():
            # pycocotools 2.0.11 hands its arrays over in a way that NumPy 2 deprecates.
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            inside = mask.decode(outline).astype(bool)
        labels[inside] = index
    return labels


def _voc_objects(source: str, path: Path) -> tuple[list[tuple[float, ...]], list[str]]:
    """The boxes (left, top, right, bottom; right and bottom exclusive) and names of a VOC annotation file."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    _existing(source, path, "an annotation file")
    try:
        objects = ElementTree.parse(path).findall("object")
        names = [one.findtext("name", "").strip() for one in objects]
        ends = [[float(one.findtext(f"bndbox/{corner}", "")) for corner in corners] for one in objects]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{source!r}: {path} is no annotation file of VOC ({error}); restore it") from error
    # VOC counts pixels from 1 and includes the last one.
    return [(left - 1, top - 1, right, bottom) for left, top, right, bottom in ends], names


def _squared(
    captions: tuple[str, ...],
    labels: np.ndarray,
    classes: tuple[str, ...],
    objects: tuple[list[tuple[float, ...]], list[str]],
    side: int,
) -> Truth:
    """The truth about a picture's square, from what is known about the whole; boxes outside it fall away."""
    corners, names = objects
    boxes = square_boxes(np.array(corners, dtype=np.float64), (labels.shape[1], labels.shape[0]), side)
    inside = np.all(boxes[:, :2] < boxes[:, 2:], axis=1).nonzero()[0]
    return Truth(
        captions=captions,
        labels=square_labels(labels, side),
        classes=classes,
        boxes=boxes[inside],
        box_labels=tuple(names[index] for index in inside),
    )


def _fits(picture: Image, size: tuple[int, int]) -> bool:
    """Whether a picture has a size, as it is stored or as EXIF turns it; without decoding it."""
    turned = picture.getexif().get(_EXIF_ORIENTATION, 1) in range(5, 9)
    return size in (picture.size, picture.size[::-1] if turned else picture.size)


def _as_annotated(picture: Image, size: tuple[int, int]) -> Image:
    """A picture upright, unless it was annotated lying as it is stored: some tools follow EXIF, some do not."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(picture)
    return upright if upright.size == size else picture
