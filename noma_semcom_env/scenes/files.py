"""Pictures of the user's own, from files."""

from __future__ import annotations

from os import PathLike

import numpy as np


def read_square(path: str | PathLike[str], side: int) -> np.ndarray:
    """The largest square in the middle of a picture file, resized.

    Args:
        path: Any format that Pillow reads; transparency and palettes become plain colours.
        side: Side of the result in pixels.

    Returns:
        (side, side, 3) uint8.

    Raises:
        ValueError: If the file is missing or no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(ImageOps.fit(upright.convert("RGB"), (side, side), Image.Resampling.LANCZOS))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); give an image file such as a PNG") from error
