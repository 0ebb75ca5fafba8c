"""What can be asked of a set of images: pairs of image and prompt, with what sending them costs. NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from noma_semcom_env.archives import read_arrays, write_arrays

_TEXTS: Final = ("item_ids", "prompts", "captions")
_MASKS: Final = ("rois", "targets")
_NUMBERS: Final = ("least_symbols", "most_symbols", "max_roi_symbols")


@dataclass(frozen=True, eq=False, repr=False)
class MixtureItems:
    """I pairs of image and prompt, over P pictures and M margins of the region of interest (ROI).

    Attributes:
        item_ids: I names.
        pictures: (P, H, W, 3) uint8.
        picture: (I,) int64, each item's picture.
        prompts: I texts that say what was asked for.
        captions: I captions of what is not the region, as they are sent.
        tokens: (I,) int64 tokens of each caption, its end token included.
        rois: (I, H, W) bool, the regions at margin 0.
        targets: (I, H, W) bool, the pixels that count as the object; PSNR-ROI is measured over them.
        margins: (M,) int64 pixels by which a region is grown before it is sent.
        mask_bits: (I, M) int64 bits of the coded masks.
        roi_share: (I, M) float64 share of the picture that is sent as an image.
        importance: (I,) float64 in [0, 1], see :func:`~noma_semcom_env.mixture.saliency.roi_importance`.
        least_symbols: Fewest complex symbols a token of the text codec.
        most_symbols: Most complex symbols a token.
        max_roi_symbols: Most complex symbols that the image codec sends.

    Raises:
        ValueError: If the arrays do not fit one another.
    """

    item_ids: tuple[str, ...]
    pictures: np.ndarray
    picture: np.ndarray
    prompts: tuple[str, ...]
    captions: tuple[str, ...]
    tokens: np.ndarray
    rois: np.ndarray
    targets: np.ndarray
    margins: np.ndarray
    mask_bits: np.ndarray
    roi_share: np.ndarray
    importance: np.ndarray
    least_symbols: int
    most_symbols: int
    max_roi_symbols: int

    def __post_init__(self) -> None:
        count, grown = len(self.item_ids), len(self.margins)
        shapes = {
            "picture": (count,),
            "tokens": (count,),
            "rois": (count, *self.pictures.shape[1:3]),
            "targets": (count, *self.pictures.shape[1:3]),
            "mask_bits": (count, grown),
            "roi_share": (count, grown),
            "importance": (count,),
        }
        for name, shape in shapes.items():
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} has shape {np.shape(getattr(self, name))}; {shape} is needed")
        for name in ("prompts", "captions"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries; {count} are needed, one an item")
        if not count or len(set(self.item_ids)) < count:
            raise ValueError("item_ids must hold at least one name, none of them twice")
        if not ((self.picture >= 0) & (self.picture < len(self.pictures))).all():
            raise ValueError(f"picture must hold rows of the {len(self.pictures)} pictures")
        if not (self.tokens >= 1).all():
            raise ValueError("tokens must be at least 1: an empty caption has its end token")
        if grown == 0 or self.margins[0] != 0 or (np.diff(self.margins) <= 0).any():
            raise ValueError(f"margins={self.margins.tolist()} must ascend from 0")

    def __repr__(self) -> str:
        return f"MixtureItems({len(self)} items from {self.item_ids[0]!r} to {self.item_ids[-1]!r})"

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def source_samples(self) -> int:
        """3HW, real source samples of a picture."""
        return int(np.prod(self.pictures.shape[1:]))

    @cached_property
    def ids(self) -> np.ndarray:
        """(I,) object array of the names."""
        return np.array(self.item_ids, dtype=object)

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Rows, int64, of items by name.

        Raises:
            ValueError: If a name is unknown.
        """
        place = {name: row for row, name in enumerate(self.item_ids)}
        for name in item_ids:
            if name not in place:
                raise ValueError(
                    f"image_ids holds {name!r}, which the image set does not; its {len(place)} ids run from "
                    f"{self.item_ids[0]!r} to {self.item_ids[-1]!r}"
                )
        return np.array([place[name] for name in item_ids], dtype=np.int64)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it in arrays without objects, by the fields' names."""
        arrays = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _TEXTS:
                value = json.dumps(list(value))
            elif field.name in _MASKS:
                value = np.packbits(value, axis=-1)
            arrays[field.name] = np.asarray(value)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """What :meth:`to_arrays` gave.

        Raises:
            KeyError: If an array is missing.
            ValueError: If they do not fit one another.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            value: Any = arrays[field.name]
            if field.name in _TEXTS:
                value = tuple(json.loads(str(value)))
            elif field.name in _MASKS:
                value = np.unpackbits(value, axis=-1, count=arrays["pictures"].shape[2]).astype(bool)
            elif field.name in _NUMBERS:
                value = int(value)
            values[field.name] = value
        return cls(**values)

    def save(self, path: Path) -> None:
        """Write the items, by a temporary file that is renamed, for a tabulation elsewhere."""
        write_arrays(path, self.to_arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        return cls.from_arrays(read_arrays(path))

    def region(self, row: int, margin: int = 0) -> np.ndarray:
        """(H, W) bool, the region of an item grown by the margin at index ``margin``."""
        return grow(self.rois[row], int(self.margins[margin]))


def grow(region: np.ndarray, margin: int) -> np.ndarray:
    """A region with all pixels within a margin, in a square neighbourhood.

    Args:
        region: (H, W) bool.
        margin: Pixels, at least 0.

    Raises:
        ValueError: If the margin is negative.
    """
    if margin < 0:
        raise ValueError(f"margin={margin!r} must be at least 0 pixels")
    grown = region
    for axis in (0, 1):
        padded = np.pad(grown, [(margin, margin) if i == axis else (0, 0) for i in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * margin + 1, axis=axis)
        grown = np.asarray(windows.any(axis=-1))
    return grown
