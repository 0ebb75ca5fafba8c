"""The rendered street world: seeded scenes with image, class map, caption and objects.

A scene is a pure function of its seed, resolution and style. The *script* of a scene (layout, weather, time of day and
the items that stand in it) is drawn first by :func:`compose`; :mod:`noma_semcom_env.scenes.painter` turns it into
pixels and labels.

Scenes are built so that semantics decide the picture: given the class masks and the caption, little is left to chance
(shades, the shape of clouds and leaves). No scene has more than ten semantic features: at most four ground and sky
masks, two words for weather and time, and a mask and a phrase for each of at most three items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from noma_semcom_env.scenes.styles import STYLES, crayon

CLASSES: Final = (
    "sky",
    "sun",
    "mountain",
    "water",
    "building",
    "tree",
    "grass",
    "road",
    "car",
    "bus",
    "person",
    "sign",
)

PALETTE: Final = np.array(
    [
        [6, 230, 230],
        [255, 240, 80],
        [143, 140, 255],
        [9, 7, 230],
        [180, 120, 120],
        [4, 200, 3],
        [120, 170, 10],
        [140, 140, 140],
        [0, 102, 200],
        [255, 0, 245],
        [150, 5, 61],
        [255, 5, 153],
    ],
    dtype=np.uint8,
)
"""(12, 3) display and conditioning colour of each class, close to ADE20K's; black means "no mask sent"."""

LAYOUTS: Final = ("avenue", "street", "lakeside", "square")
TIMES: Final = ("day", "sunset", "night")
WEATHERS: Final = ("clear", "cloudy", "foggy", "rainy", "snowy")

ATTRIBUTES: Final = {
    "mountain": ("grey", "brown"),
    "building": ("grey", "brown", "beige", "red"),
    "tree": ("green", "orange"),
    "car": ("red", "blue", "white", "yellow"),
    "bus": ("red", "blue", "white", "yellow"),
    "person": ("red", "blue", "white", "yellow"),
    "sign": ("red", "blue", "yellow"),
}
"""Colours an item's class can take, as its phrase names them."""

BACKGROUND: Final = ("mountain", "building", "tree")
FOREGROUND: Final = ("sign", "bus", "car", "person")

_WEIGHTS: Final = {
    "mountain": 0.6,
    "building": 1.3,
    "tree": 1.2,
    "sign": 0.7,
    "bus": 0.9,
    "car": 1.5,
    "person": 1.3,
}
_CAPTION_ORDER: Final = ("car", "bus", "person", "sign", "building", "tree", "mountain")

WEATHER_PHRASE: Final = {
    "clear": "clear sky",
    "cloudy": "clouds",
    "foggy": "fog",
    "rainy": "rain",
    "snowy": "snow",
}
TIME_PHRASE: Final = {"day": "by day", "sunset": "at sunset", "night": "by night"}

SPLITS: Final = {
    "model": range(10_000_000),
    "policy": range(10_000_000, 11_000_000),
    "validation": range(11_000_000, 12_000_000),
    "test": range(12_000_000, 13_000_000),
}
"""Seed ranges of the four splits; they are disjoint, so no split sees another's scenes."""

RESOLUTIONS: Final = range(64, 257)


@dataclass(frozen=True)
class Item:
    """One object of a scene.

    Attributes:
        kind: Class name, one of :data:`ATTRIBUTES`.
        colour: Colour name as the caption gives it.
        tall: Whether a building is tall; False for other kinds.
        x: Horizontal centre as a share of the width, in [0, 1].
        depth: 0 at the horizon, 1 at the lower edge.
        scale: Size relative to the kind's usual size.
    """

    kind: str
    colour: str
    tall: bool
    x: float
    depth: float
    scale: float

    @property
    def phrase(self) -> str:
        """The words that name this item in the caption."""
        if self.kind == "person":
            return f"person in {self.colour}"
        if self.kind == "building":
            return f"{'tall' if self.tall else 'low'} {self.colour} building"
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Script:
    """What a scene shows, before it is painted."""

    layout: str
    weather: str
    time: str
    horizon: float
    has_sun: bool
    items: tuple[Item, ...]

    @property
    def caption(self) -> str:
        """The scene's sentence; phrases are separated by function words alone."""
        return sentence(self.weather, self.time, self.items)


@dataclass(frozen=True)
class StreetScene:
    """A rendered scene with its ground truth.

    Attributes:
        seed: The seed that made it.
        image: (H, W, 3) uint8 colour image.
        labels: (H, W) uint8 class index into :data:`CLASSES` for every pixel.
        caption: Sentence that names weather, time and every visible item.
        items: The visible items, in caption order.
        boxes: (len(items), 4) int32 bounding boxes (left, top, right, bottom), right and bottom exclusive, in pixels.
        style: One of :data:`~noma_semcom_env.scenes.styles.STYLES`.
    """

    seed: int
    image: np.ndarray
    labels: np.ndarray
    caption: str
    items: tuple[Item, ...]
    boxes: np.ndarray
    style: str

    @property
    def expressions(self) -> tuple[str, ...]:
        """What one would say to point at each item, such as "the red car on the left"; in the items' order."""
        centres = self.boxes[:, [0, 2]].mean(axis=1) / self.image.shape[1]
        return tuple(f"the {item.phrase} {_place(x)}" for item, x in zip(self.items, centres, strict=True))


def sentence(weather: str, time: str, items: tuple[Item, ...]) -> str:
    """Write the caption of a scene with the given weather, time of day and items."""
    text = f"{WEATHER_PHRASE[weather]} {TIME_PHRASE[time]}"
    front = [item.phrase for item in items if item.kind in FOREGROUND]
    back = [item.phrase for item in items if item.kind in BACKGROUND]
    if front:
        text += " with " + " and ".join(f"{_article(phrase)} {phrase}" for phrase in front)
    if back:
        text += " near " + " and ".join(f"{_article(phrase)} {phrase}" for phrase in back)
    return text


def _place(x: float) -> str:
    """Where a share of the width lies, in words."""
    return "on the left" if x < 0.4 else "on the right" if x > 0.6 else "in the middle"


def _article(phrase: str) -> str:
    return "an" if phrase[0] in "aeiou" else "a"


def compose(rng: np.random.Generator) -> Script:
    """Draw the script of a scene."""
    layout = str(rng.choice(LAYOUTS, p=(0.35, 0.3, 0.2, 0.15)))
    time = str(rng.choice(TIMES, p=(0.45, 0.25, 0.3)))
    weather = str(rng.choice(WEATHERS, p=(0.32, 0.17, 0.17, 0.17, 0.17)))
    if layout == "square":
        count = int(rng.choice((2, 3), p=(0.4, 0.6)))
        has_sun = False
    else:
        count = int(rng.choice((1, 2), p=(0.2, 0.8)))
        has_sun = weather == "clear" and bool(rng.random() < 0.6)
    weights = np.array([_WEIGHTS[kind] for kind in BACKGROUND + FOREGROUND])
    kinds = rng.choice(BACKGROUND + FOREGROUND, size=count, replace=False, p=weights / weights.sum())
    slots = rng.permutation(count)
    items = tuple(_draw_item(rng, str(kind), int(slot), count) for kind, slot in zip(kinds, slots, strict=True))
    return Script(
        layout=layout,
        weather=weather,
        time=time,
        horizon=float(rng.uniform(0.38, 0.5)),
        has_sun=has_sun,
        items=tuple(sorted(items, key=lambda item: _CAPTION_ORDER.index(item.kind))),
    )


def _draw_item(rng: np.random.Generator, kind: str, slot: int, count: int) -> Item:
    """Draw one item in its own slot of the width, so that items seldom hide one another."""
    depth = {"mountain": (0, 0), "building": (0.05, 0.15), "tree": (0.1, 0.3), "sign": (0.45, 0.8)}.get(
        kind, (0.35, 0.9)
    )
    return Item(
        kind=kind,
        colour=str(rng.choice(ATTRIBUTES[kind])),
        tall=kind == "building" and bool(rng.random() < 0.5),
        x=0.1 + 0.8 * (slot + float(rng.uniform(0.2, 0.8))) / count,
        depth=float(rng.uniform(*depth)),
        scale=float(rng.uniform(0.85, 1.15)),
    )


def render(seed: int, resolution: int = 64, style: str = "plain") -> StreetScene:
    """Render the scene of a seed.

    Args:
        seed: Non-negative integer; :data:`SPLITS` says which split it belongs to.
        resolution: Side of the square image in pixels, 64 to 256 in steps of 2.
        style: One of :data:`~noma_semcom_env.scenes.styles.STYLES`; what the scene shows does not depend on it.

    Returns:
        The scene, the same for the same arguments.

    Raises:
        ValueError: If ``seed`` is negative, ``resolution`` is out of range or the style is unknown.
    """
    from noma_semcom_env.scenes.painter import paint

    if seed < 0:
        raise ValueError(f"seed={seed!r} must be a non-negative integer")
    if resolution not in RESOLUTIONS or resolution % 2:
        raise ValueError(f"resolution={resolution!r} must be an even integer from 64 to 256")
    if style not in STYLES:
        raise ValueError(f"style={style!r} is unknown; choose one of {STYLES}")
    rng = np.random.default_rng(seed)
    script = compose(rng)
    image, labels = paint(script, rng, resolution)
    if style == "crayon":
        image = crayon(image, labels, rng)
    least = max(4, resolution * resolution // 512)
    visible, boxes = [], []
    for item in script.items:
        rows, columns = np.nonzero(labels == CLASSES.index(item.kind))
        if len(rows) >= least:
            visible.append(item)
            boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    items = tuple(visible)
    return StreetScene(
        seed=seed,
        image=image,
        labels=labels,
        caption=sentence(script.weather, script.time, items),
        items=items,
        boxes=np.array(boxes, dtype=np.int32).reshape(-1, 4),
        style=style,
    )


def split_seeds(split: str, count: int) -> list[int]:
    """First ``count`` seeds of a split.

    Raises:
        ValueError: If the split is unknown or holds fewer seeds.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown; choose one of {sorted(SPLITS)}")
    if not 0 <= count <= len(SPLITS[split]):
        raise ValueError(f"count={count!r} must lie in [0, {len(SPLITS[split])}] for split {split!r}")
    return list(SPLITS[split][:count])


def vocabulary() -> tuple[str, ...]:
    """Every word a street caption can hold, sorted."""
    words = {"a", "an", "and", "with", "near", "in", "person", "tall", "low"}
    for phrase in (*WEATHER_PHRASE.values(), *TIME_PHRASE.values()):
        words.update(phrase.split())
    for kind, colours in ATTRIBUTES.items():
        words.add(kind)
        words.update(colours)
    return tuple(sorted(words))
