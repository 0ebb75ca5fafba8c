"""Colours, and the strokes that frames are made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

PAPER: Final[Colour] = (240, 242, 245)
CARD: Final[Colour] = (255, 255, 255)
LINE: Final[Colour] = (214, 219, 226)
INK: Final[Colour] = (28, 33, 40)
SOFT: Final[Colour] = (110, 118, 129)
FAINT: Final[Colour] = (178, 184, 193)
ALARM: Final[Colour] = (200, 30, 30)
# Told apart by colour-blind eyes too (Okabe and Ito).
USERS: Final[tuple[Colour, ...]] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (180, 90, 150),
    (60, 165, 220),
    (215, 150, 0),
)
# Classes that the preset's palette lacks.
OTHERS: Final[tuple[Colour, ...]] = ((127, 127, 127), (188, 143, 143), (112, 128, 144), (189, 183, 107), (95, 158, 160))

UNSENT: Final = 0.75
"""How far the colour of what was not sent is moved towards white."""


@lru_cache(maxsize=32)
def _font(size: int) -> Any:
    # Part of Pillow: frames are the same wherever they are drawn.
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> float:
    """Pixels that a text takes."""
    return float(_font(size).getlength(text))


def user_colour(user: int) -> Colour:
    """The colour of a user, everywhere in a frame."""
    return USERS[user % len(USERS)]


def pale(colour: Sequence[int]) -> Colour:
    """The colour of what was not sent."""
    red, green, blue = (round(one + (255 - one) * UNSENT) for one in colour)
    return red, green, blue


def scaled(image: np.ndarray, side: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """An (H, W, 3) uint8 image as a square."""
    return Image.fromarray(np.ascontiguousarray(image)).resize((side, side), how)


def write(draw: Any, x: float, y: float, text: str, size: int, ink: Colour, bold: bool = False) -> float:
    """Write, and say where the text ends."""
    draw.text((x, y), text, ink, _font(size), stroke_width=0.35 if bold else 0)
    return x + text_width(text, size)


def badge_width(text: str) -> float:
    """Pixels that a badge takes."""
    return text_width(text, 11) + 10


def badge(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: Colour) -> float:
    """A pill with white text on it; returns its right end."""
    end = x + badge_width(text)
    draw.rounded_rectangle((x, y, end, y + 15), 7, colour)
    write(draw, x + 5, y + 1, text, 11, CARD)
    return end


def dot(draw: ImageDraw.ImageDraw, at: np.ndarray, radius: float, fill: Colour, outline: Colour | None = None) -> None:
    """A disc around a point (2,)."""
    draw.ellipse((*(at - radius), *(at + radius)), fill, outline, 2)


def dashes(draw: ImageDraw.ImageDraw, x: float, top: int, bottom: int, ink: Colour) -> None:
    """A dashed line from top to bottom."""
    for y in range(top, bottom, 6):
        draw.line((x, y, x, min(y + 3, bottom)), ink)
