"""A colour picture and its class map, drawn together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

try:
    from PIL import Image, ImageDraw
except ImportError as error:
    raise ImportError("rendering scenes needs pillow: pip install 'noma-semcom-env[render]'") from error

from noma_semcom_env.scenes.street import CLASSES

Colour = tuple[int, int, int]

CLASS_INDEX = {name: i for i, name in enumerate(CLASSES)}


class Canvas:
    """A colour picture and its label map, drawn together; coordinates are in 1/128 of the side."""

    def __init__(self, side: int, rng: np.random.Generator) -> None:
        self.side = side
        self.unit = side / 128
        self.rng = rng
        self.picture = Image.new("RGB", (side, side))
        self.label_map = Image.new("L", (side, side), 0)
        self.glow_map = Image.new("L", (side, side), 0)
        self._draw = ImageDraw.Draw(self.picture)
        self._label = ImageDraw.Draw(self.label_map)
        self._glow = ImageDraw.Draw(self.glow_map)

    def shade(self, colour: Sequence[float], spread: float = 5.0) -> Colour:
        """The colour with a little random shade, the same on all channels."""
        return clip(np.asarray(colour, dtype=float) + self.rng.normal(0.0, spread))

    def _points(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self.unit, y * self.unit) for x, y in points]

    def polygon(self, points: Sequence[tuple[float, float]], colour: Colour, kind: str | None = None) -> None:
        """A filled polygon; with a class, it is labelled too."""
        scaled = self._points(points)
        self._draw.polygon(scaled, fill=colour)
        if kind is not None:
            self._label.polygon(scaled, fill=CLASS_INDEX[kind])

    def box(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, kind: str | None = None, glow: bool = False
    ) -> None:
        """A filled rectangle; with ``glow`` it keeps its colour in the dark."""
        corners = self._points([(x0, y0), (x1, y1)])
        self._draw.rectangle(corners, fill=colour)
        if kind is not None:
            self._label.rectangle(corners, fill=CLASS_INDEX[kind])
        if glow:
            self._glow.rectangle(corners, fill=255)

    def rounded(self, x0: float, y0: float, x1: float, y1: float, r: float, colour: Colour, kind: str) -> None:
        """A filled rectangle with corners of radius ``r``, labelled."""
        corners = self._points([(x0, y0), (x1, y1)])
        self._draw.rounded_rectangle(corners, r * self.unit, fill=colour)
        self._label.rounded_rectangle(corners, r * self.unit, fill=CLASS_INDEX[kind])

    def disc(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        colour: Colour,
        kind: str | None = None,
        glow: bool = False,
    ) -> None:
        """A filled ellipse around (x, y)."""
        corners = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(corners, fill=colour)
        if kind is not None:
            self._label.ellipse(corners, fill=CLASS_INDEX[kind])
        if glow:
            self._glow.ellipse(corners, fill=255)

    def shadow(self, x: float, y: float, rx: float, ry: float) -> None:
        """Darken what lies under an object, leaving its label."""
        left, top = int((x - rx) * self.unit), int((y - ry) * self.unit)
        right, bottom = int((x + rx) * self.unit) + 1, int((y + ry) * self.unit) + 1
        stamp = Image.new("L", (right - left, bottom - top), 0)
        ImageDraw.Draw(stamp).ellipse((0, 0, right - left - 1, bottom - top - 1), fill=110)
        self.picture.paste((20, 20, 26), (left, top), stamp)


def clip(values: np.ndarray) -> Colour:
    """The nearest colour of 8-bit channels."""
    r, g, b = np.clip(values, 0, 255).astype(int)
    return int(r), int(g), int(b)


def darker(colour: Colour, factor: float) -> Colour:
    """The colour with every channel scaled; a factor above 1 lightens it."""
    return clip(np.asarray(colour, dtype=float) * factor)
