"""Pictures of the user's own, from files: the largest square in the middle, and what is drawn on it, resized."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image


def read_square(path: str | PathLike[str], side: int) -> np.ndarray:
    """The largest square in the middle of a picture file, resized.

    Args:
        path: Any format that Pillow reads; palettes become plain colours, transparency white.
        side: Side of the result in pixels.

    Returns:
        (side, side, 3) uint8.

    Raises:
        ValueError: If the file is missing or no picture.
    """
    with open_picture(path) as picture:
        from PIL import ImageOps

        return square_picture(ImageOps.exif_transpose(picture), side)


@contextmanager
def open_picture(path: str | PathLike[str]) -> Iterator[Image]:
    """A picture file as it is stored; whatever goes wrong while its pixels are read names the file.

    Args:
        path: Any format that Pillow reads.

    Yields:
        The picture, neither turned upright nor decoded yet.

    Raises:
        ImportError: If Pillow is not installed.
        ValueError: If the file is missing or no picture.
    """
    require_pillow()
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); give an image file such as a PNG") from error


def square_picture(picture: Image, side: int) -> np.ndarray:
    """The largest square in the middle of an upright picture of any mode, resized.

    Returns:
        (side, side, 3) uint8.
    """
    from PIL.Image import Resampling

    return np.array(_plain(picture).resize((side, side), Resampling.LANCZOS, central_box(*picture.size)))


def square_labels(labels: np.ndarray, side: int) -> np.ndarray:
    """The part of a class map that :func:`square_picture` shows of its picture, each pixel the class at its centre.

    Args:
        labels: (H, W) int.
        side: Side of the result in pixels.

    Returns:
        (side, side) int32.
    """
    # In whole numbers: Pillow's nearest pixel depends on rounding where a centre lies between two pixels.
    square = min(labels.shape)
    rows, columns = (
        ((length - square) * side + (2 * np.arange(side) + 1) * square) // (2 * side) for length in labels.shape
    )
    return labels[np.ix_(rows, columns)].astype(np.int32)


def square_boxes(boxes: np.ndarray, size: tuple[int, int], side: int) -> np.ndarray:
    """Bounding boxes as they lie on what :func:`square_picture` shows of their picture.

    Args:
        boxes: (n, 4) left, top, right, bottom in pixels of the picture.
        size: (width, height) of the picture.
        side: Side of the square in pixels.

    Returns:
        (n, 4) int32, right and bottom exclusive, cut at the square's edges: the pixels whose centres a box covers, as
        in :func:`square_labels`. A box that covers none has right <= left or bottom <= top.
    """
    left, top, right, _ = central_box(*size)
    moved = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) - (left, top, left, top)) * side / (right - left)
    return np.clip(np.ceil(moved - 0.5), 0, side).astype(np.int32)


def require_pillow() -> None:
    """Refuse to go on without Pillow.

    Raises:
        ImportError: If it is not installed; the message names the extra.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures need pillow: pip install 'noma-semcom-env[render]'") from error


def central_box(width: int, height: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest square in the middle, at half a pixel where the margin is odd."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _plain(picture: Image) -> Image:
    """A picture of any mode in RGB: 16-bit grey scaled down, transparency laid on white."""
    from PIL import Image

    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
