"""The curve of an episode's rewards, as every frame has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw

from noma_semcom_env.rendering.strokes import LINE, SOFT, dot, text_width, user_colour, write


def draw_rewards(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], rewards: Sequence[float], step: int, length: int
) -> None:
    """Draw the curve on an axis that grows with the rewards.

    Args:
        draw: Of the frame.
        box: Left, top, right and bottom of the card, whose title stands above the curve.
        rewards: One a step that was seen, the last at ``step``.
        step: Steps taken.
        length: Steps of an episode.
    """
    left, top, right, bottom = box
    first, last, high, low = left + 50, right - 12, top + 32, bottom - 12
    draw.line((first, high - 4, first, low), LINE)
    if not rewards:
        return
    span = _nice_span(min(rewards), max(rewards))
    ticks = np.linspace(*span, 3)
    heights = np.interp(rewards, span, (low, high))
    for tick in ticks:
        y = float(np.interp(tick, span, (low, high)))
        draw.line((first, y, last, y), LINE)
        label = f"{tick:.3g}"
        write(draw, first - 6 - text_width(label, 11), y - 7, label, 11, SOFT)
    length = max(length, step)
    steps = np.arange(step - len(rewards) + 1, step + 1)
    columns = first + (last - first) * steps / length
    points = [(float(x), float(y)) for x, y in zip(columns, heights, strict=True)]
    draw.line(points, user_colour(0), 2, "curve")
    for point in points if length <= 60 else points[-1:]:
        dot(draw, np.array(point), 2.5, user_colour(0))


def _nice_span(low: float, high: float) -> tuple[float, float]:
    """Round ends of an axis that holds both."""
    width = max(high - low, 0.05 * max(abs(low), abs(high)), 1e-9)
    step = 10.0 ** np.floor(np.log10(width))
    step *= next(one for one in (1.0, 2.0, 5.0, 10.0) if one * step >= width / 2)
    start = float(np.floor(low / step) * step)
    return start, float(max(np.ceil(high / step), np.floor(low / step) + 1) * step)
