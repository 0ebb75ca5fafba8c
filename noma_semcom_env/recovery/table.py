"""Tabulated recovery: L(image, subset of features) for every subset, computed by the real pipeline beforehand.

A table is one ``.npz`` without objects. It holds the images' features and pictures, the LPIPS of every subset for each
diffusion seed, a JSON record of what made it, and a SHA-256 sum over all of that. Reading needs NumPy alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_env.features import FeatureBank, SemanticFeatures

FORMAT: Final = 1
BUNDLED: Final = Path(__file__).parent / "tables"


_CONTENT: Final = frozenset("format lpips images masks size_bits importance kept texts labels provenance".split())


class TableError(ValueError):
    """A recovery table is missing, damaged, or does not say what it must."""


@dataclass(frozen=True, eq=False)
class RecoveryTable:
    """LPIPS of every subset of every image's features.

    Attributes:
        features: One entry an image.
        images: (I, H, W, 3) uint8 raw images.
        lpips_by_seed: (I, S, 2**F) float32. Subset ``sum_f selection[f] << f``; NaN where a subset holds features that
            the image does not have.
        labels: Label vocabulary, entry 0 empty; see :class:`~noma_semcom_env.features.FeatureBank`.
        provenance: What made the table: models' hashes, denoising steps, diffusion seeds, split, LPIPS network.
        path: The file that it was read from, or None.
    """

    features: tuple[SemanticFeatures, ...]
    images: np.ndarray
    lpips_by_seed: np.ndarray
    labels: tuple[str, ...]
    provenance: Mapping[str, Any]
    path: Path | None = None

    def __post_init__(self) -> None:
        entries = self.lpips_by_seed.shape[-1]
        if self.lpips_by_seed.ndim != 3 or entries != 1 << self.width or len(self.lpips_by_seed) != len(self.features):
            raise TableError(
                f"lpips_by_seed has shape {self.lpips_by_seed.shape}; ({len(self.features)}, seeds, 2**F) is needed"
            )
        if self.lpips_by_seed.shape[1] == 0:
            raise TableError("lpips_by_seed holds no diffusion seed; at least one is needed")
        if len(self.images) != len(self.features):
            raise TableError(f"images has {len(self.images)} entries for {len(self.features)} images' features")
        possible = _possible(self.features, entries)
        values = np.moveaxis(self.lpips_by_seed, 1, 2)
        if not np.isfinite(values[possible]).all():
            raise TableError(
                "the table is incomplete: some subset of an image's features has no LPIPS; tabulate it again"
            )

    @property
    def width(self) -> int:
        """F, the padded number of features."""
        return int(self.lpips_by_seed.shape[-1]).bit_length() - 1

    @cached_property
    def bank(self) -> FeatureBank:
        """The images' features in padded arrays."""
        return FeatureBank.stack(self.features, self.width, self.labels)

    @cached_property
    def mean(self) -> np.ndarray:
        """(I, 2**F) float64 mean over the diffusion seeds; NaN where a subset cannot be."""
        mean: np.ndarray = self.lpips_by_seed.astype(np.float64).mean(axis=1)
        return mean

    def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
        """Look up the LPIPS of selections.

        Args:
            images: (...) int index of the image.
            selection: (..., F) bool; bits on features that the image does not have are ignored.

        Returns:
            (...) float64.
        """
        values: np.ndarray = self.mean[images, subset_numbers(selection & self.bank.exists[images])]
        return values

    def __deepcopy__(self, memo: dict[int, Any]) -> RecoveryTable:
        """Itself: nothing in it changes, and Gymnasium copies a spec's keywords at every look."""
        return self

    def save(self, path: Path) -> None:
        """Write the table with its sum, by a temporary file that is renamed."""
        arrays = _to_arrays(self)
        arrays["sha256"] = np.array(_digest(arrays))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # the stub takes names for flags
        os.replace(part, path)


def load_table(source: str | Path) -> RecoveryTable:
    """Read and verify a table; one that has not changed since is not read twice.

    Args:
        source: Name of a bundled table such as ``"street-test"``, or the path of an ``.npz`` file.

    Raises:
        TableError: If there is no such table, the file is damaged, or its sum does not fit.
    """
    path = Path(source)
    if path.suffix != ".npz":
        path = BUNDLED / f"{source}.npz"
        if not path.is_file():
            known = sorted(p.stem for p in BUNDLED.glob("*.npz"))
            raise TableError(
                f"images={str(source)!r} names no bundled table; choose one of {known} or the path of an .npz"
            )
    if not path.is_file():
        raise TableError(f"there is no recovery table at {path}; make one with 'noma-semcom tabulate'")
    state = path.stat()
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int, size: int) -> RecoveryTable:
    """Read and verify a file; its time of change and size tell the cache when it is another one."""
    try:
        # NumPy leaves a file it opened itself open when the archive is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and NumPy have a dozen for flipped, missing and foreign bytes
        raise TableError(
            f"recovery table {path} cannot be read ({error}); restore the file or tabulate it again"
        ) from error
    if "sha256" not in arrays or str(arrays.pop("sha256")) != _digest(arrays):
        raise TableError(f"recovery table {path} does not fit its SHA-256 sum; restore the file or tabulate it again")
    missing = sorted(_CONTENT - arrays.keys())
    if missing:
        raise TableError(f"recovery table {path} holds no {', '.join(missing)}; tabulate it again")
    return _from_arrays(arrays, path)


def subset_numbers(selection: np.ndarray) -> np.ndarray:
    """(...) int64 number ``sum_f selection[f] << f`` of the subset that each selection (..., F) is."""
    numbers: np.ndarray = selection @ (1 << np.arange(selection.shape[-1], dtype=np.int64))
    return numbers


def subset_members(numbers: np.ndarray, width: int) -> np.ndarray:
    """(..., width) bool selection that each number (...) of a subset stands for; undoes :func:`subset_numbers`."""
    members: np.ndarray = (np.asarray(numbers)[..., None] >> np.arange(width)) & 1 == 1
    return members


def subset_selections(count: int, width: int) -> np.ndarray:
    """(2**count, width) bool: the selection of each subset of the first ``count`` features, in table order."""
    return subset_members(np.arange(1 << count), width)


def _possible(features: Sequence[SemanticFeatures], entries: int) -> np.ndarray:
    limit = np.array([1 << one.count for one in features])
    possible: np.ndarray = np.arange(entries) < limit[:, None]
    return possible


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{value.dtype.str}:{value.shape};".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


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
        "format": np.array(FORMAT),
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


def _from_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> RecoveryTable:
    if int(arrays["format"]) != FORMAT:
        raise TableError(
            f"recovery table {path} has format {int(arrays['format'])}; this version reads format {FORMAT}"
        )
    side = arrays["images"].shape[2]
    masks = np.unpackbits(arrays["masks"], axis=-1, count=side).astype(bool)
    features, mask_start, start = [], 0, 0
    for text in json.loads(str(arrays["texts"])):
        mask_end = mask_start + len(text["mask_labels"])
        end = start + len(text["mask_labels"]) + len(text["phrases"])
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
            )
        )
        mask_start, start = mask_end, end
    return RecoveryTable(
        features=tuple(features),
        images=arrays["images"],
        lpips_by_seed=arrays["lpips"],
        labels=tuple(json.loads(str(arrays["labels"]))),
        provenance=json.loads(str(arrays["provenance"])),
        path=path,
    )
