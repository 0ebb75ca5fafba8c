"""How a painted scene is rendered: the world's own plain look, and a second one that serves as an unseen data set."""

from __future__ import annotations

from typing import Final

import numpy as np

STYLES: Final = ("plain", "crayon")
"""``"plain"`` is what the bundled models are trained on; ``"crayon"`` shows the same scenes as drawn on rough paper."""

_PAPER: Final = np.array([246.0, 242.0, 230.0], dtype=np.float32)


def crayon(pixels: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Redraw a plain picture: paler colours, hatched strokes, dark outlines between classes, rough paper.

    What is where does not change, so labels, caption and boxes stay true.

    Args:
        pixels: (H, W, 3) uint8.
        labels: (H, W) uint8 class map.
        rng: Source of the strokes and of the paper's grain.

    Returns:
        (H, W, 3) uint8.
    """
    side = len(pixels)
    unit = side / 64
    colour = pixels.astype(np.float32)
    grey = colour.mean(axis=-1, keepdims=True)
    colour = 0.8 * (grey + 1.15 * (colour - grey)) + 0.2 * _PAPER
    row, column = np.indices(labels.shape, dtype=np.float32) / unit
    # Each class is hatched in its own direction, as a hand would.
    angle = rng.uniform(0.0, np.pi, 256).astype(np.float32)[labels]
    stroke = np.sin((row * np.sin(angle) + column * np.cos(angle)) * 2.4 + rng.uniform(0.0, 2.0 * np.pi))
    grain = rng.standard_normal((side // 2, side // 2), dtype=np.float32).repeat(2, axis=0).repeat(2, axis=1)
    cover = np.clip(0.86 + 0.1 * stroke + 0.06 * grain, 0.0, 1.0)[..., None]
    colour = _PAPER + cover * (colour - _PAPER)
    colour[_outline(labels, max(1, round(unit)))] *= 0.45
    drawn: np.ndarray = np.clip(colour, 0, 255).astype(np.uint8)
    return drawn


def _outline(labels: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool, the pixels within ``width`` above or left of another class."""
    edge = np.zeros(labels.shape, dtype=bool)
    for shift in range(1, width + 1):
        edge[:-shift] |= labels[:-shift] != labels[shift:]
        edge[:, :-shift] |= labels[:, :-shift] != labels[:, shift:]
    return edge
