"""Does Grad-CAM find what a word names? Peaks of the heatmaps (19) against true class maps, and ranks of words by (22).

    python -m noma_semcom_benchmarks.attribution --scenes 500 --json runs/attribution.json

BLIP captions held-out validation scenes, and every word is a feature. A word that names an object of the scene is a hit
if its heatmap peaks on the object: strictly, if at least half of the peak region's pixels belong to it; loosely, if
one does. Textbook Grad-CAM, which averages the gradient over all regions first, is counted likewise as a control.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from noma_semcom_env.scenes.street import (
    ATTRIBUTES,
    CLASSES,
    TIME_PHRASE,
    WEATHER_PHRASE,
    StreetScene,
    render,
    split_seeds,
)
from noma_semcom_env.semantics import importance
from noma_semcom_env.semantics.attribution import AttributedCaption, attribute_captions
from noma_semcom_env.semantics.phrases import FUNCTION_WORDS, group_words
from noma_semcom_env.zoo.loading import load_model
from noma_semcom_env.zoo.presets import load_preset

HELD_OUT: Final = 10_000
"""Scenes are the last of this many at the start of the validation split; the bundled table holds the first few."""

HALF: Final = 0.5

ALL: Final = "all"

_BATCH: Final = 32

Heatmaps = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(M, R) maps of (M, R, D) gradients and (R, D) regions."""

_ATTRIBUTE_WORDS: Final = frozenset(colour for colours in ATTRIBUTES.values() for colour in colours) | {"tall", "low"}
_OUTDOOR_WORDS: Final = frozenset(
    word for phrase in (*WEATHER_PHRASE.values(), *TIME_PHRASE.values()) for word in phrase.split()
)


@dataclass(frozen=True)
class ReadWord:
    """A word of a caption.

    Attributes:
        caption: Index of its caption.
        text: The word.
        kind: One of :func:`kinds_of_words`'.
        importance: Equation (22), in [0, 1].
        on_object: Share of the peak region's pixels that belong to the object which the word names, in [0, 1]; None if
            the word names no object of the scene.
    """

    caption: int
    text: str
    kind: str
    importance: float
    on_object: float | None


@dataclass(frozen=True)
class Rate:
    """A share of hits with its 95 % Wilson interval, which takes the words of a caption as independent."""

    hits: int
    count: int

    @property
    def share(self) -> float:
        """Hits by count, in [0, 1]."""
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end, in [0, 1]."""
        from scipy.stats import binomtest

        found = binomtest(self.hits, self.count).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


def kinds_of_words(words: Sequence[str]) -> list[str]:
    """Sort the words of a caption by what they speak of.

    Returns:
        ``"object"``, ``"attribute"``, ``"weather or time"``, ``"function word"``, ``"joining word"`` (the "in" of
        "person in red", which stays inside its phrase) or ``"other"`` for each word.
    """
    inside = {i for group in group_words(list(words), "phrase") for i in group}
    kinds = []
    for i, word in enumerate(words):
        if word in ATTRIBUTES:
            kinds.append("object")
        elif word in _ATTRIBUTE_WORDS:
            kinds.append("attribute")
        # "by" and "at" stand in the phrases for the time of day, and are function words all the same.
        elif word in FUNCTION_WORDS:
            kinds.append("joining word" if i in inside else "function word")
        else:
            kinds.append("weather or time" if word in _OUTDOOR_WORDS else "other")
    return kinds


def textbook_heatmaps(gradients: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Grad-CAM as first published, in the place of (19): the gradient is averaged over regions before the product.

    Args:
        gradients: (M, R, D) gradients (18).
        regions: (R, D) features V of the regions.

    Returns:
        (M, R) float64, at least 0.
    """
    weights = gradients.mean(axis=1, dtype=np.float64)
    return np.maximum(weights @ regions.T, 0.0)


def caption_scenes(scenes: Sequence[StreetScene]) -> list[AttributedCaption]:
    """The street preset's captions of the scenes, with the gradients of their words."""
    model, processor = load_model("captioner", load_preset("street").captioner)
    images = [scene.image for scene in scenes]
    captions: list[AttributedCaption] = []
    for start in track(range(0, len(images), _BATCH), "captions"):
        captions += attribute_captions(model, processor, images[start : start + _BATCH])
    return captions


def read_words(
    captions: Sequence[AttributedCaption], scenes: Sequence[StreetScene], heatmaps: Heatmaps
) -> list[ReadWord]:
    """Compare the peak of every word's heatmap with the true class map.

    Peaks are sought before the maps are scaled: scaling clips them, and a clipped map has many highest regions.

    Args:
        captions: One caption a scene.
        scenes: The scenes.
        heatmaps: What stands for (19).
    """
    words = []
    for row, (caption, scene) in enumerate(zip(captions, scenes, strict=True)):
        maps = heatmaps(caption.gradients, caption.regions)
        areas = importance.activated_areas(importance.scale_heatmaps(maps))
        scores = importance.textual_importance(importance.dependency(areas), importance.contribution(areas))
        kinds = kinds_of_words(caption.words)
        heats = maps.reshape(len(maps), *caption.grid)
        for word, kind, heat, score in zip(caption.words, kinds, heats, scores, strict=True):
            share = None
            if word in ATTRIBUTES and (of_object := scene.labels == CLASSES.index(word)).any():
                share = peak_share(heat, of_object)
            words.append(ReadWord(row, word, kind, float(score), share))
    return words


def peak_share(heat: np.ndarray, of_object: np.ndarray) -> float:
    """Share of the pixels of a heatmap's highest region that belong to an object; 0 if the map is empty.

    Args:
        heat: (h, w) map on the encoder's grid.
        of_object: (H, W) bool, True on the object; H and W are multiples of h and w.
    """
    if not heat.any():
        return 0.0
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    high, wide = of_object.shape[0] // heat.shape[0], of_object.shape[1] // heat.shape[1]
    return float(of_object[row * high : (row + 1) * high, column * wide : (column + 1) * wide].mean())


def hit_rates(words: Sequence[ReadWord]) -> dict[str, tuple[Rate, Rate]]:
    """Loose and strict rate of each class that a caption names, and of all together under :data:`ALL`."""
    rates = {}
    for name in (*ATTRIBUTES, ALL):
        shares = [w.on_object for w in words if w.on_object is not None and name in (w.text, ALL)]
        if shares:
            loose, strict = sum(share > 0 for share in shares), sum(share >= HALF for share in shares)
            rates[name] = (Rate(loose, len(shares)), Rate(strict, len(shares)))
    return rates


@dataclass(frozen=True)
class Order:
    """How well the importance (22) puts words that name nothing below those that name something, within a caption.

    Attributes:
        separated: Share of captions in which every such word lies below the least object noun.
        pairs: Mean over captions of the share of pairs (such a word, object noun or attribute) that are in order.
    """

    separated: float
    pairs: float


def rank_words(words: Sequence[ReadWord], low_kinds: Sequence[str] = ("function word", "joining word")) -> Order:
    """Compare words of some kinds with nouns and attributes, within the captions that have both."""
    captions: dict[int, list[ReadWord]] = {}
    for word in words:
        captions.setdefault(word.caption, []).append(word)
    separated, pairs = [], []
    for caption in captions.values():
        low = np.array([word.importance for word in caption if word.kind in low_kinds])
        nouns = np.array([word.importance for word in caption if word.kind == "object"])
        high = np.array([word.importance for word in caption if word.kind in ("object", "attribute")])
        if len(low) and len(nouns):
            separated.append(low.max() < nouns.min())
            pairs.append((low[:, None] < high).mean())
    return Order(float(np.mean(separated)), float(np.mean(pairs)))


def importance_by_kind(words: Sequence[ReadWord]) -> dict[str, np.ndarray]:
    """Kind to the importance (22) of each of its words in [0, 1]; the kind of the largest mean first."""
    found = {kind: np.array([w.importance for w in words if w.kind == kind]) for kind in {w.kind for w in words}}
    return dict(sorted(found.items(), key=lambda pair: -pair[1].mean()))


def _plain(rates: dict[str, tuple[Rate, Rate]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "words": loose.count,
            "one_pixel": {"share": loose.share, "interval": loose.interval},
            "half_of_region": {"share": strict.share, "interval": strict.interval},
        }
        for name, (loose, strict) in rates.items()
    }


def _cell(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.share:.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    """Print the tables, and write all figures as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500, help=f"at most {HELD_OUT}")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not 0 < arguments.scenes <= HELD_OUT:
        parser.error(f"--scenes {arguments.scenes} must lie in [1, {HELD_OUT}]")
    scenes = [render(seed) for seed in split_seeds("validation", HELD_OUT)[-arguments.scenes :]]
    captions = caption_scenes(scenes)
    words = read_words(captions, scenes, importance.heatmaps)
    control = hit_rates(read_words(captions, scenes, textbook_heatmaps))
    rates, console = hit_rates(words), Console(width=100)
    table = Table(title=f"Share of object words whose heatmap peaks on the object, {len(scenes)} scenes (95 % Wilson)")
    table.add_column("word")
    for heading in ("n", "one pixel", "half of the region", "textbook: pixel", "half"):
        table.add_column(heading, justify="right")
    for name, (loose, strict) in rates.items():
        if name == ALL:
            table.add_section()
        cells = (_cell(loose), _cell(strict), *(f"{rate.share:.3f}" for rate in control[name]))
        table.add_row(name, str(loose.count), *cells)
    console.print(table)
    table = Table(title="Importance (22) by kind of word")
    table.add_column("kind")
    for heading in ("n", "mean", "median"):
        table.add_column(heading, justify="right")
    by_kind = importance_by_kind(words)
    for kind, values in by_kind.items():
        table.add_row(kind, str(len(values)), f"{values.mean():.3f}", f"{np.median(values):.3f}")
    console.print(table)
    table = Table(title="Words that name nothing against those that do")
    for heading in ("", "all below the least noun, captions", "pairs in order"):
        table.add_column(heading, justify="right" if heading else "left")
    orders = {"all function words": rank_words(words), "without joining words": rank_words(words, ("function word",))}
    for name, order in orders.items():
        table.add_row(name, f"{order.separated:.3f}", f"{order.pairs:.3f}")
    console.print(table)
    if arguments.json:
        found = {
            "peaks_on_object": _plain(rates),
            "peaks_on_object_textbook": _plain(control),
            "mean_importance": {kind: values.mean() for kind, values in by_kind.items()},
            "order": {name: asdict(order) for name, order in orders.items()},
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
