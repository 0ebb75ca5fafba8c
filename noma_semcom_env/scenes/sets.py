"""Image sets from anywhere: the street world, COCO, Pascal VOC, a folder, or pictures that are already in memory."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from os.path import abspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_env.scenes.annotated import Reader, Truth, open_coco, open_voc
from noma_semcom_env.scenes.files import read_square, require_pillow, square_picture
from noma_semcom_env.scenes.street import CLASSES, RESOLUTIONS, SPLITS, render, split_seeds
from noma_semcom_env.scenes.styles import STYLES

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SIDES", "SUFFIXES", "ImageSet", "ImageSource", "Truth", "load_images", "open_images"]

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""What marks a file of a folder as a picture, in small or capital letters."""

SIDES: Final = range(31, 2049)
"""Sides in pixels; LPIPS needs 31."""

ImageSource = str | PathLike[str] | np.ndarray | Sequence["Image | np.ndarray"]
"""What :func:`load_images` reads."""

_FORMS: Final = (
    "'street:SPLIT' or 'street:SPLIT:STYLE', 'coco:ROOT:SPLIT', 'voc:ROOT:SET', the path of a folder of pictures, "
    "a list of pictures (PIL or (H, W, 3) uint8) or one (I, H, W, 3) uint8 array"
)
_MEMORY: Final = "memory"
_FLOATS: Final = (
    "holds floats, whose range is anyone's guess; a float image in [0,1] must be converted to uint8 in 0..255, "
    "as (image * 255).round().astype(np.uint8) does"
)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square pictures of one size, each with a name of its own.

    Attributes:
        images: (I, H, H, 3) uint8.
        image_ids: I names, all different.
        source: Where they come from, as :func:`load_images` was told; ``"memory"`` for pictures handed over.
        truth: What is known to be on each picture; None where nothing is.
    """

    images: np.ndarray
    image_ids: tuple[str, ...]
    source: str
    truth: tuple[Truth, ...] | None

    def __post_init__(self) -> None:
        shape, count = self.images.shape, len(self.image_ids)
        square = len(shape) == 4 and shape[1] == shape[2] and shape[3] == 3
        if not square or self.images.dtype != np.uint8:
            raise ValueError(
                f"{self.source!r}: images has shape {shape} and dtype {self.images.dtype}; "
                "(I, H, H, 3) of uint8 in 0..255 is needed"
            )
        for name, length in (("image_ids", count), ("truth", count if self.truth is None else len(self.truth))):
            if length != len(self.images):
                raise ValueError(f"{self.source!r}: {name} has {length} entries for {len(self.images)} images")
        if len(set(self.image_ids)) < count:
            twice = sorted(name for name in set(self.image_ids) if self.image_ids.count(name) > 1)
            raise ValueError(f"{self.source!r}: image_ids holds {', '.join(twice)} more than once; make them unique")

    def __len__(self) -> int:
        return len(self.images)


def load_images(source: ImageSource, side: int, count: int | None = None, offset: int = 0) -> ImageSet:
    """Load pictures, cut to the largest square in the middle and resized; masks and boxes follow.

    Args:
        source: One of

            * ``"street:SPLIT"``, ``"street:SPLIT:STYLE"``: scenes of :data:`~noma_semcom_env.scenes.street.SPLITS`,
              rendered at that side in one of :data:`~noma_semcom_env.scenes.styles.STYLES`; ``count`` is required;
            * ``"coco:ROOT:SPLIT"``: the pictures of ROOT/SPLIT with ROOT/annotations/instances_SPLIT.json and, if it is
              there, captions_SPLIT.json, by image id. Crowds are in the class map and not among the boxes; pictures
              whose annotations do not fit them are left out;
            * ``"voc:ROOT:SET"``: the pictures that ROOT/ImageSets/Segmentation/SET.txt names, in its order, with their
              class maps and boxes;
            * a folder: its files whose names end in one of :data:`SUFFIXES` and do not start with a dot, by name, no
              folders within;
            * a sequence of PIL images or uint8 arrays of shape (H, W), (H, W, 3) or (H, W, 4), or one array of shape
              (I, H, W, 3). Transparency becomes white.
        side: Side of the pictures in pixels, one of :data:`SIDES`; street scenes have
            :data:`~noma_semcom_env.scenes.street.RESOLUTIONS`, in steps of 2.
        count: How many pictures; None means all that are left.
        offset: How many pictures of the source to pass over. A picture's id does not depend on it.

    Returns:
        The pictures in the source's order, read one by one.

    Raises:
        ImportError: If Pillow or pycocotools is needed and not installed.
        TypeError: If the source or a number has a type that is not listed above.
        ValueError: If something is missing, broken, out of range or of another kind; the message says what and where.
    """
    name = _name(source)
    offset = _whole(name, "offset", offset, range(2**31))
    if count is not None:
        count = _whole(name, "count", count, range(1, 2**31))
    available, read = open_images(source, side, None if count is None else offset + count)
    if offset + (count or 1) > available:
        raise ValueError(
            f"{name!r} holds {available} pictures; count={count} from offset={offset} goes beyond them, lower one"
        )
    stop = available if count is None else offset + count
    images = np.empty((stop - offset, side, side, 3), dtype=np.uint8)
    image_ids, truths = [], []
    for row, index in enumerate(range(offset, stop)):
        image_id, images[row], truth = read(index)
        image_ids.append(image_id)
        if truth is not None:
            truths.append(truth)
    return ImageSet(images, tuple(image_ids), name, tuple(truths) or None)


def open_images(source: ImageSource, side: int, stop: int | None = None) -> tuple[int, Reader]:
    """Open pictures that are read one by one, for sets that do not fit into memory.

    Args:
        source: As of :func:`load_images`; likewise ``side``.
        side: Side of the pictures in pixels.
        stop: How many pictures will be asked for at most; None means all, which street scenes do not allow.

    Returns:
        How many pictures there are, at least one, counted no further than need be; and their reader: index to name,
        (side, side, 3) uint8 and truth.

    Raises:
        ImportError: If Pillow or pycocotools is needed and not installed.
        TypeError: If the source or a number has another type.
        ValueError: If something is missing, broken, out of range or of another kind; the message says what and where.
    """
    name = _name(source)
    side = _whole(name, "side", side, SIDES)
    require_pillow()
    available, read = _open(source, name, side, stop)
    if available == 0:
        raise ValueError(f"{name!r} holds no pictures; {_FORMS} is needed, with at least one picture")
    return available, read


def _name(source: Any) -> str:
    """What messages call a source."""
    if isinstance(source, str | PathLike):
        name = str(fspath(source))
        if not name:
            raise ValueError(f"source={source!r} is empty; {_FORMS} is needed")
        return name
    if isinstance(source, np.ndarray | list | tuple):
        return _MEMORY
    raise TypeError(f"source={source!r} is a {type(source).__name__}; {_FORMS} is needed")


def _whole(source: str, name: str, value: Any, allowed: range) -> int:
    wanted = f"a whole number from {allowed.start} to {allowed.stop - 1} is needed"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{source!r}: {name}={value!r} is a {type(value).__name__}; {wanted}")
    if int(value) not in allowed:
        raise ValueError(f"{source!r}: {name}={value!r} is out of range; {wanted}")
    return int(value)


def _open(source: Any, name: str, side: int, stop: int | None) -> tuple[int, Reader]:
    """How many pictures a source holds (counted no further than ``stop``), and what reads them."""
    if isinstance(source, np.ndarray | list | tuple):
        return _open_memory(source, side)
    scheme, colon, _ = name.partition(":")
    if isinstance(source, str) and colon:
        if scheme == "street":
            return _open_street(name, side, stop)
        if scheme == "coco":
            return open_coco(name, side, stop)
        if scheme == "voc":
            return open_voc(name, side)
    return _open_folder(name, side)


def _open_street(name: str, side: int, stop: int | None) -> tuple[int, Reader]:
    split, *rest = name.split(":")[1:]
    style = rest[0] if rest else STYLES[0]
    if split not in SPLITS or style not in STYLES or len(rest) > 1:
        raise ValueError(
            f"{name!r} is unknown; write street:SPLIT or street:SPLIT:STYLE with SPLIT one of {', '.join(SPLITS)} "
            f"and STYLE one of {', '.join(STYLES)}"
        )
    if stop is None:
        raise ValueError(f"{name!r}: count=None; say how many scenes, there are {len(SPLITS[split])}")
    if side not in RESOLUTIONS or side % 2:
        low, high = RESOLUTIONS.start, RESOLUTIONS.stop - 1
        raise ValueError(f"{name!r}: side={side} is out of range; street scenes have an even side from {low} to {high}")
    prefix = f"street:{split}:" if style == STYLES[0] else f"street:{split}:{style}:"
    seeds = split_seeds(split, min(stop, len(SPLITS[split])))

    def read(index: int) -> tuple[str, np.ndarray, Truth]:
        scene = render(seeds[index], side, style)
        kinds = tuple(item.kind for item in scene.items)
        truth = Truth((scene.caption,), scene.labels.astype(np.int32), CLASSES, scene.boxes, kinds)
        return f"{prefix}{index:04d}", scene.image, truth

    return len(SPLITS[split]), read


def _open_folder(name: str, side: int) -> tuple[int, Reader]:
    # Not resolved: a link to a folder keeps the name that the user gave it.
    folder = Path(abspath(Path(name).expanduser()))
    if not folder.is_dir():
        raise ValueError(f"{name!r} is no folder and no known source; {_FORMS} is needed")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise ValueError(f"{name!r} holds no pictures; put files there that end in {', '.join(SUFFIXES)}")

    def read(index: int) -> tuple[str, np.ndarray, None]:
        return f"{folder.name}/{paths[index].name}", read_square(paths[index], side), None

    return len(paths), read


def _open_memory(pictures: Any, side: int) -> tuple[int, Reader]:
    if isinstance(pictures, np.ndarray) and (pictures.ndim != 4 or pictures.shape[3] != 3):
        raise ValueError(
            f"{_MEMORY!r}: the array has shape {pictures.shape}; (I, H, W, 3) is needed, or a list of arrays (H, W), "
            "(H, W, 3) or (H, W, 4); a single picture goes into a list"
        )

    def read(index: int) -> tuple[str, np.ndarray, None]:
        picture = _upright(pictures[index], f"{_MEMORY!r}: image {index}")
        return f"image:{index:04d}", square_picture(picture, side), None

    return len(pictures), read


def _upright(picture: Any, name: str) -> Image:
    """A picture in memory as PIL has it, turned as its EXIF says."""
    from PIL import Image, ImageOps

    if isinstance(picture, Image.Image):
        # Pillow would cut a float picture off at 0 and 255, and leave one in [0, 1] black.
        if picture.mode == "F":
            raise ValueError(f"{name} {_FLOATS}")
        try:
            return ImageOps.exif_transpose(picture)
        except (AssertionError, OSError, ValueError) as error:
            # Pillow asserts that the file of a picture not yet decoded is still open.
            raise ValueError(f"{name} cannot be read as a picture ({error!r}); give an open, whole one") from error
    if not isinstance(picture, np.ndarray):
        raise TypeError(f"{name} is a {type(picture).__name__}; a PIL image or a uint8 array is needed")
    if np.issubdtype(picture.dtype, np.floating):
        raise ValueError(f"{name} {_FLOATS}")
    if picture.dtype != np.uint8:
        raise ValueError(f"{name} has dtype {picture.dtype}; uint8 in 0..255 is needed")
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (3, 4)) or picture.size == 0:
        raise ValueError(f"{name} has shape {picture.shape}; (H, W), (H, W, 3) or (H, W, 4) is needed, none of them 0")
    return Image.fromarray(picture)
