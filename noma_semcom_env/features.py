"""Semantic features of an image: the one word that scenes, semantics, recovery and dynamics share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

NONE: Final = 0
VISUAL: Final = 1
TEXTUAL: Final = 2


@dataclass(frozen=True, eq=False)
class SemanticFeatures:
    """One image's features: its V masks first, then its T phrases (or words) in caption order.

    Attributes:
        image_id: Names the image, for example ``"street:test:0003"``.
        caption: The caption that the phrases come from.
        masks: (V, H, W) bool, pairwise disjoint.
        mask_labels: V class names.
        phrases: T texts in the caption's order.
        phrase_labels: T words, each naming its phrase's thing.
        size_bits: (V + T,) int64, length of each feature's code in bits.
        importance: (V + T,) float64 in [0, 1], visual (23) and textual (22) importance.
        kept: (V + T,) bool, True for features that survive pruning; pruning never renumbers.
        matches: (V, T) float64 in [0, 1], the matching of masks and phrases in (23), by which pruning can be done anew
            with other thresholds; None if it is not known.
    """

    image_id: str
    caption: str
    masks: np.ndarray
    mask_labels: tuple[str, ...]
    phrases: tuple[str, ...]
    phrase_labels: tuple[str, ...]
    size_bits: np.ndarray
    importance: np.ndarray
    kept: np.ndarray
    matches: np.ndarray | None = None

    def __post_init__(self) -> None:
        visual, count = len(self.mask_labels), self.count
        if self.masks.ndim != 3 or len(self.masks) != visual or self.masks.dtype != np.bool_:
            raise ValueError(
                f"masks of {self.image_id!r} have shape {self.masks.shape} and dtype {self.masks.dtype}; "
                f"({visual}, H, W) of bool is needed, one for each mask label"
            )
        if len(self.phrase_labels) != len(self.phrases):
            raise ValueError(f"{self.image_id!r} has {len(self.phrases)} phrases but {len(self.phrase_labels)} labels")
        for name in ("size_bits", "importance", "kept"):
            if getattr(self, name).shape != (count,):
                raise ValueError(
                    f"{name} of {self.image_id!r} has shape {getattr(self, name).shape}; ({count},) is needed"
                )
        if (self.size_bits < 1).any():
            raise ValueError(
                f"size_bits of {self.image_id!r} holds {self.size_bits.min()}; every feature takes at least 1 bit"
            )
        shape = (visual, len(self.phrases))
        if self.matches is not None and self.matches.shape != shape:
            raise ValueError(f"matches of {self.image_id!r} has shape {self.matches.shape}; {shape} is needed")
        if not ((self.importance >= 0) & (self.importance <= 1)).all():
            raise ValueError(f"importance of {self.image_id!r} is {self.importance}; every entry must be in [0, 1]")

    @property
    def count(self) -> int:
        """Number of features, V + T."""
        return len(self.mask_labels) + len(self.phrases)

    @property
    def labels(self) -> tuple[str, ...]:
        """(V + T) label of each feature: a mask's class or the word that names a phrase's thing."""
        return self.mask_labels + self.phrase_labels

    def selected(self, selection: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """What a selection sends.

        Args:
            selection: (F,) bool with F >= V + T; entries beyond the image's features are ignored.

        Returns:
            (V,) bool telling which masks are sent, and the texts that are sent, in the caption's order.
        """
        visual = len(self.mask_labels)
        texts = tuple(p for p, on in zip(self.phrases, selection[visual : self.count], strict=True) if on)
        return np.asarray(selection[:visual], dtype=bool), texts


FeatureKind = Literal["all", "masks", "words", "none"]


def select_kind(features: Sequence[SemanticFeatures], kind: FeatureKind) -> np.ndarray:
    """(B, F) bool, F the most features of an image: everything that each has, its masks, its phrases, or nothing."""
    chosen = np.zeros((len(features), max(one.count for one in features)), dtype=bool)
    for row, one in zip(chosen, features, strict=True):
        visual = len(one.mask_labels)
        row[:visual] = kind in ("all", "masks")
        row[visual : one.count] = kind in ("all", "words")
    return chosen


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """The features of I images in padded arrays of one width F, as the dynamics read them.

    Attributes:
        image_ids: I names.
        exists: (I, F) bool, True where the image has a feature.
        kept: (I, F) bool, True where that feature survives pruning.
        size_bits: (I, F) int64, 0 where there is no feature.
        importance: (I, F) float64 in [0, 1].
        modality: (I, F) int8, :data:`NONE`, :data:`VISUAL` or :data:`TEXTUAL`.
        label: (I, F) int64 index into ``labels``; 0 where there is no feature.
        labels: The preset's label vocabulary; entry 0 is the empty string. Classes come first, then words.
    """

    image_ids: tuple[str, ...]
    exists: np.ndarray
    kept: np.ndarray
    size_bits: np.ndarray
    importance: np.ndarray
    modality: np.ndarray
    label: np.ndarray
    labels: tuple[str, ...]

    @property
    def width(self) -> int:
        """F, the padded number of features an image."""
        return int(self.exists.shape[1])

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def stack(cls, features: Sequence[SemanticFeatures], width: int, labels: Sequence[str]) -> FeatureBank:
        """Pad the features of several images to one width.

        Args:
            features: One entry an image.
            width: F, at least the largest number of features of an image.
            labels: Label vocabulary; a label outside it is index 0, like the empty string that must come first.

        Raises:
            ValueError: If an image has more than ``width`` features.
        """
        index = {label: i for i, label in enumerate(labels)}
        shape = (len(features), width)
        exists, kept = np.zeros(shape, bool), np.zeros(shape, bool)
        size_bits, label = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        importance, modality = np.zeros(shape), np.zeros(shape, np.int8)
        for row, one in enumerate(features):
            n, visual = one.count, len(one.mask_labels)
            if n > width:
                raise ValueError(f"image {one.image_id!r} has {n} features; at most {width} fit")
            exists[row, :n] = True
            kept[row, :n] = one.kept
            size_bits[row, :n] = one.size_bits
            importance[row, :n] = one.importance
            modality[row, :visual] = VISUAL
            modality[row, visual:n] = TEXTUAL
            label[row, :n] = [index.get(text, 0) for text in one.labels]
        ids = tuple(one.image_id for one in features)
        return cls(ids, exists, kept, size_bits, importance, modality, label, tuple(labels))
