"""Tabulated recovery: L(image, subset of features) for every subset, computed by the real pipeline beforehand.

A table is one ``.npz`` without objects. It holds the images' features and pictures, the LPIPS of every subset for each
diffusion seed, a JSON record of what made it, and a SHA-256 sum over all of that. Reading needs NumPy alone. Where an
image has too many subsets, a table holds a declared sample of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_env.archives import ArchiveKind
from noma_semcom_env.features import FeatureBank, SemanticFeatures
from noma_semcom_env.recovery.subsets import subset_numbers

FORMAT: Final = 2
BUNDLED: Final = Path(__file__).parent / "tables"

PADDING: Final = np.iinfo(np.int64).max
"""Fills up the rows of :attr:`RecoveryTable.subsets`; larger than the number of any subset."""

_CONTENT: Final = frozenset("format width lpips images masks size_bits importance kept texts labels provenance".split())


class TableError(ValueError):
    """A recovery table is missing, damaged, or does not say what it must."""


_KIND: Final = ArchiveKind("recovery table", BUNDLED, FORMAT, _CONTENT, "'noma-semcom tabulate'", TableError)


@dataclass(frozen=True, eq=False)
class RecoveryTable:
    """LPIPS of subsets of every image's features: of all, or of a sample.

    Attributes:
        features: One entry an image.
        images: (I, H, W, 3) uint8 raw images.
        lpips_by_seed: (I, S, E) float32. In a full table E is 2**F and the entry of subset
            ``sum_f selection[f] << f`` stands at that place; NaN where a subset holds features that the image does not
            have. In a sample the entries stand in the order of ``subsets``, NaN at the end of short rows.
        labels: Label vocabulary, entry 0 empty; see :class:`~noma_semcom_env.features.FeatureBank`.
        provenance: What made the table: models' hashes, denoising steps, diffusion seeds, split, LPIPS network.
        path: The file that it was read from, or None.
        subsets: (I, E) int64 numbers of the subsets of a sample, ascending, :data:`PADDING` at the end of short rows;
            None for a full table.
        width: F, the padded number of features; that of a full table follows from E.
    """

    features: tuple[SemanticFeatures, ...]
    images: np.ndarray
    lpips_by_seed: np.ndarray
    labels: tuple[str, ...]
    provenance: Mapping[str, Any]
    path: Path | None = None
    subsets: np.ndarray | None = None
    width: int = -1

    def __post_init__(self) -> None:
        values = self.lpips_by_seed
        if self.width < 0 and values.ndim == 3 and self.subsets is None:
            object.__setattr__(self, "width", values.shape[2].bit_length() - 1)
        images, entries = len(self.features), 1 << self.width if self.subsets is None else self.subsets.shape[-1]
        if values.ndim != 3 or values.shape[::2] != (images, entries):
            raise TableError(f"lpips_by_seed has shape {values.shape}; ({images}, seeds, {entries}) is needed")
        if values.shape[1] == 0:
            raise TableError("lpips_by_seed holds no diffusion seed; at least one is needed")
        if len(self.images) != images:
            raise TableError(f"images has {len(self.images)} entries for {images} images' features")
        if self.subsets is not None and (len(self.subsets) != images or (np.diff(self.subsets) < 0).any()):
            raise TableError("subsets must hold a row of ascending numbers for each image; tabulate it again")
        for row in range(images):
            if not np.isfinite(values[row][:, : len(self.subsets_of(row))]).all():
                raise TableError(
                    "the table is incomplete: some subset of an image's features has no LPIPS; tabulate it again"
                )

    @property
    def is_full(self) -> bool:
        """Whether every subset of every image has its entry; exactness and the oracle need that."""
        return self.subsets is None

    @property
    def thresholds(self) -> tuple[float, float] | None:
        """eps_t and eps_v that the images' features were pruned with, None if that is not recorded."""
        made_with = self.provenance.get("thresholds")
        return None if made_with is None else (float(made_with["text"]), float(made_with["visual"]))

    def subsets_of(self, row: int) -> np.ndarray:
        """(n,) int64, ascending: the numbers of the subsets of an image that have an entry."""
        if self.subsets is None:
            return np.arange(1 << self.features[row].count, dtype=np.int64)
        return self.subsets[row, : np.searchsorted(self.subsets[row], PADDING)]

    @cached_property
    def bank(self) -> FeatureBank:
        """The images' features in padded arrays."""
        return FeatureBank.stack(self.features, self.width, self.labels)

    @cached_property
    def mean(self) -> np.ndarray:
        """(I, E) float64 mean over the diffusion seeds; NaN where a subset cannot be."""
        mean: np.ndarray = self.lpips_by_seed.mean(axis=1, dtype=np.float64)
        return mean

    def savings(self, row: int, received: float) -> np.ndarray:
        """What each feature of an image takes away from LPIPS when it arrives besides others.

        Args:
            row: Index of the image; the table must be full.
            received: Probability in [0, 1] that each other feature arrives, independently: 1 is what withholding a
                feature costs, 1/2 the mean over all subsets of the others.

        Returns:
            (n,) float64.

        Raises:
            TableError: If the table holds a sample of the image's subsets.
        """
        count = self.features[row].count
        if not self.is_full:
            raise TableError("the table holds a sample of its images' subsets; savings need all of them")
        # One axis of length 2 a feature, the last feature first.
        values = self.mean[row, : 1 << count].reshape((2,) * count)
        weights = np.array([1.0 - received, received])
        saved = []
        for axis in range(count - 1, -1, -1):
            saving = values.take(0, axis) - values.take(1, axis)
            for _ in range(count - 1):
                saving = weights @ saving
            saved.append(float(saving))
        return np.array(saved)

    def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
        """Look up the LPIPS of selections.

        Args:
            images: (...) int index of the image.
            selection: (..., F) bool; bits on features that the image does not have are ignored.

        Returns:
            (...) float64.

        Raises:
            TableError: If the table holds a sample without one of the selections.
        """
        values = self.known_lpips(images, selection)
        if not self.is_full and np.isnan(values).any():
            image = self.features[int(images[np.isnan(values)].flat[0])]
            raise TableError(
                f"recovery table {self.path or '(in memory)'} holds a sample of the {1 << image.count} subsets of "
                f"{image.image_id!r}, and not this one; recovery='live' computes any"
            )
        return values

    def known_lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
        """Like :meth:`lpips`, with NaN where a sample lacks the selection."""
        numbers = subset_numbers(selection & self.bank.exists[images])
        if self.subsets is None:
            found: np.ndarray = self.mean[images, numbers]
            return found
        values = np.full(numbers.shape, np.nan)
        for row in np.unique(images):
            here = images == row
            place = np.minimum(np.searchsorted(self.subsets[row], numbers[here]), self.subsets.shape[1] - 1)
            values[here] = np.where(self.subsets[row, place] == numbers[here], self.mean[row, place], np.nan)
        return values

    def __deepcopy__(self, memo: dict[int, Any]) -> RecoveryTable:
        """Itself: nothing in it changes, and Gymnasium copies a spec's keywords at every look."""
        return self

    def save(self, path: Path) -> None:
        """Write the table with its sum, by a temporary file that is renamed."""
        _KIND.write(path, _to_arrays(self))


def load_table(source: str | Path) -> RecoveryTable:
    """Read and verify a table; one that has not changed since is not read twice.

    Args:
        source: Name of a bundled table such as ``"street-test"``, or the path of an ``.npz`` file.

    Raises:
        TableError: If there is no such table, the file is damaged, or its sum does not fit.
    """
    path = _KIND.find(source)
    state = path.stat()
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int, size: int) -> RecoveryTable:
    """Read and verify a file; its time of change and size tell the cache when it is another one."""
    return _from_arrays(_KIND.read(path), path)


def _to_arrays(table: RecoveryTable) -> dict[str, np.ndarray]:
    texts = [
        {
            "image_id": one.image_id,
            "caption": one.caption,
            "mask_labels": one.mask_labels,
            "phrases": one.phrases,
            "phrase_labels": one.phrase_labels,
        }
        for one in table.features
    ]
    return {
        **({} if table.subsets is None else {"subsets": table.subsets}),
        **_matches(table.features),
        "width": np.array(table.width),
        "lpips": table.lpips_by_seed,
        "images": table.images,
        "masks": np.packbits(np.concatenate([one.masks for one in table.features]), axis=-1),
        "size_bits": np.concatenate([one.size_bits for one in table.features]),
        "importance": np.concatenate([one.importance for one in table.features]),
        "kept": np.concatenate([one.kept for one in table.features]),
        "texts": np.array(json.dumps(texts)),
        "labels": np.array(json.dumps(list(table.labels))),
        "provenance": np.array(json.dumps(dict(table.provenance), sort_keys=True)),
    }


def _matches(features: Sequence[SemanticFeatures]) -> dict[str, np.ndarray]:
    """The images' matchings one after the other, if all are known."""
    known = [one.matches.ravel() for one in features if one.matches is not None]
    return {"matches": np.concatenate(known)} if known and len(known) == len(features) else {}


def _from_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> RecoveryTable:
    side = arrays["images"].shape[2]
    masks = np.unpackbits(arrays["masks"], axis=-1, count=side).astype(bool)
    features, mask_start, start, match_start = [], 0, 0, 0
    all_matches = arrays.get("matches")
    for text in json.loads(str(arrays["texts"])):
        mask_end = mask_start + len(text["mask_labels"])
        shape = len(text["mask_labels"]), len(text["phrases"])
        end, match_end = start + sum(shape), match_start + shape[0] * shape[1]
        features.append(
            SemanticFeatures(
                image_id=text["image_id"],
                caption=text["caption"],
                masks=masks[mask_start:mask_end],
                mask_labels=tuple(text["mask_labels"]),
                phrases=tuple(text["phrases"]),
                phrase_labels=tuple(text["phrase_labels"]),
                size_bits=arrays["size_bits"][start:end],
                importance=arrays["importance"][start:end],
                kept=arrays["kept"][start:end],
                matches=None if all_matches is None else all_matches[match_start:match_end].reshape(shape),
            )
        )
        mask_start, start, match_start = mask_end, end, match_end
    return RecoveryTable(
        features=tuple(features),
        images=arrays["images"],
        lpips_by_seed=arrays["lpips"],
        labels=tuple(json.loads(str(arrays["labels"]))),
        provenance=json.loads(str(arrays["provenance"])),
        path=path,
        subsets=arrays.get("subsets"),
        width=int(arrays["width"]),
    )
