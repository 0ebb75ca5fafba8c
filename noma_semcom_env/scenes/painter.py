"""Paints a street script: pixels and class labels, drawn at twice the resolution and reduced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from noma_semcom_env.scenes.canvas import CLASS_INDEX, Canvas, clip, darker
from noma_semcom_env.scenes.street import BACKGROUND, FOREGROUND

if TYPE_CHECKING:
    from noma_semcom_env.scenes.street import Item, Script

_VEHICLE = {"red": (205, 30, 35), "blue": (35, 70, 205), "white": (238, 238, 238), "yellow": (240, 205, 30)}
_COLOUR = {
    "mountain": {"grey": (112, 116, 132), "brown": (136, 104, 80)},
    "building": {"grey": (142, 144, 150), "brown": (122, 80, 52), "beige": (220, 200, 160), "red": (170, 66, 48)},
    "tree": {"green": (38, 122, 42), "orange": (214, 118, 28)},
    "car": _VEHICLE,
    "bus": _VEHICLE,
    "person": _VEHICLE,
    "sign": {"red": (214, 26, 32), "blue": (28, 76, 214), "yellow": (248, 210, 28)},
}
_SKY = {
    ("day", "clear"): ((62, 130, 225), (178, 216, 246)),
    ("day", "cloudy"): ((136, 146, 160), (202, 207, 214)),
    ("day", "foggy"): ((188, 193, 198), (206, 209, 212)),
    ("day", "rainy"): ((92, 102, 118), (150, 158, 170)),
    ("day", "snowy"): ((186, 196, 212), (226, 231, 239)),
    ("sunset", "clear"): ((84, 60, 142), (250, 150, 60)),
    ("sunset", "cloudy"): ((104, 74, 110), (230, 140, 90)),
    ("sunset", "foggy"): ((160, 126, 126), (226, 176, 140)),
    ("sunset", "rainy"): ((84, 64, 86), (186, 120, 90)),
    ("sunset", "snowy"): ((140, 116, 146), (240, 190, 166)),
    ("night", "clear"): ((6, 8, 30), (24, 30, 72)),
    ("night", "cloudy"): ((20, 22, 32), (48, 50, 62)),
    ("night", "foggy"): ((44, 48, 56), (68, 72, 78)),
    ("night", "rainy"): ((12, 14, 22), (36, 40, 50)),
    ("night", "snowy"): ((30, 34, 50), (70, 76, 96)),
}
_SUN = {"day": (255, 244, 170), "sunset": (255, 200, 90), "night": (236, 236, 222)}
_AMBIENT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.78, 0.64), "night": (0.52, 0.56, 0.74)}
_FOG = {"day": (200, 203, 207), "sunset": (210, 168, 138), "night": (58, 62, 70)}


def paint(script: Script, rng: np.random.Generator, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Paint a script.

    Args:
        script: What to show.
        rng: Source of the shades and small shapes that the script leaves open.
        resolution: Side in pixels.

    Returns:
        (H, W, 3) uint8 image and (H, W) uint8 class map.
    """
    canvas = Canvas(2 * resolution, rng)
    horizon = 128 * script.horizon
    lake_end = _paint_ground(canvas, script, horizon)
    _paint_sky(canvas, script, horizon)
    for kind in BACKGROUND:
        for item in script.items:
            if item.kind == kind:
                _PAINTERS[kind](canvas, script, item, horizon, lake_end)
    front = sorted((i for i in script.items if i.kind in FOREGROUND), key=lambda i: i.depth)
    for item in front:
        _PAINTERS[item.kind](canvas, script, item, horizon, lake_end)
    return _finish(canvas, script, horizon, resolution)


def _paint_sky(canvas: Canvas, script: Script, horizon: float) -> None:
    rng = canvas.rng
    rows = round(horizon * canvas.unit)
    top, bottom = (np.asarray(c, dtype=float) for c in _SKY[(script.time, script.weather)])
    fraction = np.linspace(0, 1, rows)[:, None]
    gradient = np.clip(top * (1 - fraction) + bottom * fraction + rng.normal(0, 3), 0, 255).astype(np.uint8)
    strip = np.repeat(gradient[:, None], canvas.side, axis=1)
    canvas.picture.paste(Image.fromarray(strip), (0, 0))
    canvas.label_map.paste(CLASS_INDEX["sky"], (0, 0, canvas.side, rows))
    if script.weather == "cloudy":
        cloud = clip(bottom + (26 if script.time != "night" else 16))
        for i in range(4):
            x, y = 16 + 32 * i + rng.uniform(-9, 9), rng.uniform(8, horizon - 16)
            for dx, dy in ((-8, 1), (0, -2), (8, 1)):
                canvas.disc(x + dx, y + dy, 10, 4.5, cloud)
    if script.has_sun:
        radius = rng.uniform(8, 10)
        x = rng.uniform(16, 112)
        y = horizon - radius - 2 if script.time == "sunset" else rng.uniform(14, 24)
        canvas.disc(x, y, radius, radius, _SUN[script.time], "sun")


def _paint_ground(canvas: Canvas, script: Script, horizon: float) -> float:
    """Ground, water and road; returns the row where water ends (the horizon without water)."""
    rng = canvas.rng
    snow = script.weather == "snowy"
    grass = canvas.shade((230, 234, 241) if snow else (86, 146, 60))
    road = canvas.shade((188, 192, 200) if snow else (70, 72, 80) if script.weather == "rainy" else (98, 98, 103))
    line = (228, 224, 200)
    end = horizon
    if script.layout == "avenue":
        canvas.box(0, horizon, 128, 128, grass, "grass")
        vanishing, centre = rng.uniform(48, 80), rng.uniform(54, 74)
        half = rng.uniform(40, 56)
        canvas.polygon(
            [(vanishing - 5, horizon), (vanishing + 5, horizon), (centre + half, 128), (centre - half, 128)],
            road,
            "road",
        )
        for i in range(4):
            near, far = ((i + 0.55) / 4) ** 1.6, (i / 4) ** 1.6
            y0, y1 = horizon + far * (128 - horizon), horizon + near * (128 - horizon)
            x0, x1 = vanishing + (centre - vanishing) * far, vanishing + (centre - vanishing) * near
            w0, w1 = 0.4 + 2.2 * far, 0.4 + 2.2 * near
            canvas.polygon([(x0 - w0, y0), (x0 + w0, y0), (x1 + w1, y1), (x1 - w1, y1)], line)
    elif script.layout == "street":
        canvas.box(0, horizon, 128, 128, grass, "grass")
        top = horizon + rng.uniform(12, 20)
        bottom = top + rng.uniform(34, 42)
        canvas.box(0, top, 128, bottom, road, "road")
        middle = (top + bottom) / 2
        for x in range(2, 128, 20):
            canvas.box(x, middle - 1, x + 10, middle + 1, line)
    elif script.layout == "lakeside":
        end = horizon + rng.uniform(16, 28)
        water = {"day": (52, 108, 158), "sunset": (150, 104, 120), "night": (60, 92, 150)}[script.time]
        canvas.box(0, horizon, 128, end, canvas.shade(water), "water")
        for y in np.arange(horizon + 4, end - 2, 6):
            canvas.box(14 + (y * 7) % 30, y, 44 + (y * 7) % 30, y + 0.8, clip(np.asarray(water) * 1.25))
        canvas.box(0, end, 128, 128, road, "road")
        canvas.box(0, end, 128, end + 3, darker(road, 1.35))
        for x in range(2, 128, 20):
            canvas.box(x, (end + 136) / 2 - 1, x + 10, (end + 136) / 2 + 1, line)
    else:
        canvas.box(0, horizon, 128, 128, road, "road")
        seam = darker(road, 0.84)
        for i in range(1, 5):
            y = horizon + (128 - horizon) * (i / 5) ** 1.5
            canvas.box(0, y, 128, y + 1, seam)
        for i in range(-3, 12):
            far = 64 + (i - 4.5) * 14
            canvas.polygon([(64 + (far - 64) * 0.4, horizon), (far * 2 - 64, 128), (far * 2 - 62, 128)], seam)
    return end


def _paint_mountain(canvas: Canvas, script: Script, item: Item, horizon: float, lake_end: float) -> None:
    x, width, height = 128 * item.x, 64 * item.scale, 30 * item.scale
    body = canvas.shade(_COLOUR["mountain"][item.colour])
    canvas.polygon(
        [(x - width, horizon), (x - 0.45 * width, horizon - 0.6 * height), (x - 0.2 * width, horizon - 0.5 * height),
         (x, horizon - height), (x + 0.5 * width, horizon - 0.45 * height), (x + width, horizon)],
        body, "mountain",
    )  # fmt: skip
    canvas.polygon([(x, horizon - height), (x + 0.5 * width, horizon - 0.45 * height), (x + width, horizon),
                    (x + 0.1 * width, horizon)], darker(body, 0.82))  # fmt: skip
    cap = (242, 244, 248) if script.weather == "snowy" else darker(body, 1.25)
    canvas.polygon([(x - 0.09 * width, horizon - 0.78 * height), (x, horizon - height),
                    (x + 0.17 * width, horizon - 0.8 * height), (x + 0.03 * width, horizon - 0.7 * height)],
                   cap)  # fmt: skip


def _paint_building(canvas: Canvas, script: Script, item: Item, horizon: float, lake_end: float) -> None:
    wide = (34 if item.tall else 56) * item.scale
    high = (min(50.0, horizon - 2) if item.tall else 24) * min(item.scale, 1.05)
    x0, base = 128 * item.x - wide / 2, lake_end + 8 * item.depth / 0.15
    body = canvas.shade(_COLOUR["building"][item.colour])
    canvas.box(x0, base - high, x0 + wide, base, body, "building")
    canvas.box(x0 + 0.8 * wide, base - high, x0 + wide, base, darker(body, 0.78))
    canvas.box(x0 - 1, base - high, x0 + wide + 1, base - high + 3,
               (242, 244, 248) if script.weather == "snowy" else darker(body, 0.65), "building")  # fmt: skip
    night = script.time == "night"
    pane = (255, 222, 120) if night else darker(body, 0.42)
    columns, rows = max(2, int(wide // 9)), max(1, int((high - 12) // 11))
    step_x, step_y = wide / columns, (high - 10) / rows
    for row in range(rows):
        for column in range(columns):
            x, y = x0 + column * step_x + step_x * 0.25, base - high + 6 + row * step_y
            canvas.box(x, y, x + step_x * 0.5, y + step_y * 0.55, pane, glow=night)
    canvas.box(x0 + 0.42 * wide, base - 7, x0 + 0.56 * wide, base, darker(body, 0.35))


def _paint_tree(canvas: Canvas, script: Script, item: Item, horizon: float, lake_end: float) -> None:
    x, base, radius = 128 * item.x, lake_end + 6 + 40 * item.depth, 17 * item.scale
    canvas.shadow(x, base, 0.8 * radius, 2.5)
    canvas.box(x - 2.5, base - 1.2 * radius, x + 2.5, base, (86, 60, 40), "tree")
    leaf = canvas.shade(_COLOUR["tree"][item.colour])
    centre = base - 1.75 * radius
    blobs = [(0.0, 0.45), (-0.6, 0.25), (0.6, 0.25), (-0.4, -0.35), (0.4, -0.35), (0.0, -0.6)]
    for dx, dy in blobs:
        canvas.disc(x + dx * radius, centre + dy * radius, 0.6 * radius, 0.55 * radius, darker(leaf, 0.8), "tree")
    top = (240, 243, 248) if script.weather == "snowy" else darker(leaf, 1.2)
    for dx, dy in blobs[3:]:
        canvas.disc(x + (dx - 0.08) * radius, centre + (dy - 0.1) * radius, 0.4 * radius, 0.34 * radius, top)


def _paint_sign(canvas: Canvas, script: Script, item: Item, horizon: float, lake_end: float) -> None:
    x, y, r = 128 * item.x, lake_end + (128 - lake_end) * item.depth, 10 * item.scale
    top = y - 36 * item.scale
    canvas.box(x - 1.4, top, x + 1.4, y, (122, 122, 128), "sign")
    face = canvas.shade(_COLOUR["sign"][item.colour])
    if item.colour == "red":
        angles = np.pi / 8 + np.arange(8) * np.pi / 4
        canvas.polygon([(x + r * np.cos(a), top + r * np.sin(a)) for a in angles], face, "sign")
        canvas.box(x - 0.62 * r, top - 0.2 * r, x + 0.62 * r, top + 0.2 * r, (250, 250, 250))
    elif item.colour == "blue":
        canvas.disc(x, top, r, r, face, "sign")
        canvas.polygon([(x, top - 0.6 * r), (x + 0.55 * r, top + 0.4 * r), (x - 0.55 * r, top + 0.4 * r)], (250,) * 3)
    else:
        canvas.polygon([(x, top - r), (x + r, top + 0.8 * r), (x - r, top + 0.8 * r)], face, "sign")
        canvas.box(x - 1.2, top - 0.3 * r, x + 1.2, top + 0.45 * r, (24, 24, 24))


def _wheel(canvas: Canvas, x: float, y: float, radius: float, kind: str) -> None:
    canvas.disc(x, y, radius, radius, (20, 20, 22), kind)
    canvas.disc(x, y, 0.45 * radius, 0.45 * radius, (150, 150, 156))


def _paint_car(canvas: Canvas, script: Script, item: Item, horizon: float, lake_end: float) -> None:
    size = item.scale * (0.8 + 0.35 * item.depth)
    x, y = 128 * item.x, lake_end + 10 + (110 - lake_end) * item.depth
    half, low, body_h, cabin_h, r = 24 * size, y - 4 * size, 10 * size, 9 * size, 5 * size
    paint_colour = canvas.shade(_COLOUR["car"][item.colour])
    canvas.shadow(x, y, 1.05 * half, 3 * size)
    deck = low - body_h
    canvas.polygon([(x - 0.62 * half, deck + 1), (x - 0.4 * half, deck - cabin_h), (x + 0.34 * half, deck - cabin_h),
                    (x + 0.68 * half, deck + 1)], darker(paint_colour, 0.88), "car")  # fmt: skip
    glass = (255, 226, 140) if script.time == "night" else (66, 92, 116)
    canvas.polygon([(x - 0.5 * half, deck), (x - 0.34 * half, deck - 0.78 * cabin_h),
                    (x - 0.06 * half, deck - 0.78 * cabin_h), (x - 0.06 * half, deck)], glass)  # fmt: skip
    canvas.polygon([(x + 0.04 * half, deck), (x + 0.04 * half, deck - 0.78 * cabin_h),
                    (x + 0.29 * half, deck - 0.78 * cabin_h), (x + 0.54 * half, deck)], glass)  # fmt: skip
    canvas.rounded(x - half, deck, x + half, low, 3.5 * size, paint_colour, "car")
    canvas.box(x - half + 1, low - 3 * size, x + half - 1, low - 1 * size, darker(paint_colour, 0.7))
    canvas.box(x + half - 4 * size, deck + 2.5 * size, x + half, deck + 5.5 * size, (255, 246, 190),
               glow=script.time == "night")  # fmt: skip
    canvas.box(x - half, deck + 2.5 * size, x - half + 3 * size, deck + 5.5 * size, (150, 16, 20))
    for dx in (-0.56, 0.56):
        _wheel(canvas, x + dx * half, y - r, r, "car")


def _paint_bus(canvas: Canvas, script: Script, item: Item, horizon: float, lake_end: float) -> None:
    size = item.scale * (0.8 + 0.3 * item.depth)
    x, y = 128 * item.x, lake_end + 10 + (106 - lake_end) * item.depth
    half, high, r = 33 * size, 32 * size, 5 * size
    paint_colour = canvas.shade(_COLOUR["bus"][item.colour])
    canvas.shadow(x, y, 1.03 * half, 3 * size)
    top, low = y - 4 * size - high, y - 4 * size
    canvas.rounded(x - half, top, x + half, low, 3.5 * size, paint_colour, "bus")
    night = script.time == "night"
    glass = (255, 226, 140) if night else (58, 80, 102)
    pane = (2 * half - 8 * size) / 5
    for i in range(5):
        left = x - half + 4 * size + i * pane
        canvas.box(left, top + 5 * size, left + 0.8 * pane, top + 15 * size, glass, glow=night)
    canvas.box(x - half, low - 11 * size, x + half, low - 8 * size, darker(paint_colour, 0.62))
    canvas.box(x + half - 3 * size, low - 6 * size, x + half, low - 3 * size, (255, 246, 190), glow=night)
    for dx in (-0.6, 0.6):
        _wheel(canvas, x + dx * half, y - r, r, "bus")


def _paint_person(canvas: Canvas, script: Script, item: Item, horizon: float, lake_end: float) -> None:
    size = item.scale * (0.85 + 0.4 * item.depth)
    x, y, h = 128 * item.x, lake_end + 14 + (110 - lake_end) * item.depth, 46 * size
    trousers, skin = (44, 46, 74), (228, 178, 144)
    shirt = canvas.shade(_COLOUR["person"][item.colour])
    canvas.shadow(x, y, 0.24 * h, 2.2 * size)
    for side in (-1, 1):
        canvas.polygon([(x + side * 0.02 * h, y - 0.46 * h), (x + side * 0.12 * h, y - 0.46 * h),
                        (x + side * 0.15 * h, y), (x + side * 0.05 * h, y)], trousers, "person")  # fmt: skip
        canvas.polygon([(x + side * 0.1 * h, y - 0.78 * h), (x + side * 0.17 * h, y - 0.76 * h),
                        (x + side * 0.25 * h, y - 0.46 * h), (x + side * 0.18 * h, y - 0.44 * h)],
                       darker(shirt, 0.8), "person")  # fmt: skip
    canvas.rounded(x - 0.14 * h, y - 0.8 * h, x + 0.14 * h, y - 0.42 * h, 0.05 * h, shirt, "person")
    canvas.disc(x, y - 0.9 * h, 0.09 * h, 0.1 * h, skin, "person")
    canvas.disc(x, y - 0.955 * h, 0.09 * h, 0.05 * h, (60, 40, 28), "person")


_PAINTERS = {
    "mountain": _paint_mountain,
    "building": _paint_building,
    "tree": _paint_tree,
    "sign": _paint_sign,
    "car": _paint_car,
    "bus": _paint_bus,
    "person": _paint_person,
}


def _finish(canvas: Canvas, script: Script, horizon: float, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Light, fog, rain and snow; reduction to the final resolution."""
    rng = canvas.rng
    labels = np.asarray(canvas.label_map)[1::2, 1::2].copy()
    pixels = _halve(np.asarray(canvas.picture, dtype=np.float32))
    glow = _halve(np.asarray(canvas.glow_map, dtype=np.float32)[..., None]) / 255
    ambient = np.asarray(_AMBIENT[script.time], dtype=np.float32)
    if script.weather in ("cloudy", "rainy"):
        ambient = ambient * 0.86
    lit = pixels * (ambient * (1 - glow) + glow)
    above = (labels <= CLASS_INDEX["sun"])[..., None]
    pixels = np.where(above, pixels, lit)
    if script.weather == "foggy":
        rows = (np.arange(resolution, dtype=np.float32) + 0.5) * 128 / resolution
        depth = 0.68 * np.clip(1 - (rows - horizon) / (128 - horizon), 0, 1) + 0.06
        depth = depth[:, None, None] * (1 - 0.5 * glow)
        pixels = pixels * (1 - depth) + np.asarray(_FOG[script.time], dtype=np.float32) * depth
    if script.weather in ("rainy", "snowy"):
        pixels = _precipitation(pixels, script, rng, resolution)
    pixels += rng.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None] * 1.5
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def _halve(pixels: np.ndarray) -> np.ndarray:
    mean: np.ndarray = 0.25 * (pixels[0::2, 0::2] + pixels[1::2, 0::2] + pixels[0::2, 1::2] + pixels[1::2, 1::2])
    return mean


def _precipitation(pixels: np.ndarray, script: Script, rng: np.random.Generator, side: int) -> np.ndarray:
    """Rain streaks or snow flakes on a jittered grid, so that their density does not vary."""
    veil = Image.new("L", (side, side))
    draw = ImageDraw.Draw(veil)
    cells = 7
    jitter = rng.uniform(0.35, 0.65, (cells, cells, 2)) * side / cells
    length = side / 16
    for row in range(cells):
        for column in range(cells):
            x, y = jitter[row, column] + np.array([column, row]) * side / cells
            if script.weather == "rainy":
                draw.line((x, y, x - length / 4, y + length), fill=80)
            else:
                size = side / 128
                draw.ellipse((x - size, y - size, x + size, y + size), fill=190)
    share = np.asarray(veil, dtype=np.float32)[..., None] / 255
    light = np.array([232, 236, 244], dtype=np.float32) * (0.7 if script.time == "night" else 1.0)
    return pixels * (1 - share) + light * share
