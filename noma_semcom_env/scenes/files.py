"""Pictures of the user's own, from files."""

from __future__ import annotations

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
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("reading pictures needs pillow: pip install 'noma-semcom-env[render]'") from error

    try:
        with Image.open(path) as picture:
            return np.array(
                ImageOps.fit(_plain(ImageOps.exif_transpose(picture)), (side, side), Image.Resampling.LANCZOS)
            )
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); give an image file such as a PNG") from error


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
