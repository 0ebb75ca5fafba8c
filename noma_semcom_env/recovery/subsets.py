"""Subsets of an image's features: their numbers, and which of them a table holds. NumPy alone."""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np

from noma_semcom_env.features import SemanticFeatures

SAMPLE: Final = (
    "none, all, all masks, all phrases, each feature alone, each left out; the rest uniform over sizes, then subsets, "
    "from a generator seeded with the CRC-32 of the image id"
)
"""What :func:`sample_subsets` draws where not all subsets fit, in words for the table's record."""


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


def sample_subsets(features: SemanticFeatures, entries: int) -> np.ndarray:
    """Numbers of the subsets of an image's features that a table holds: all of them, or :data:`SAMPLE`.

    Args:
        features: The image's features, n of them.
        entries: Most subsets to take.

    Returns:
        (min(2**n, entries),) int64, ascending.

    Raises:
        ValueError: If ``entries`` has no room for the subsets that every sample holds.
    """
    count, visual = features.count, len(features.mask_labels)
    if 1 << count <= entries:
        return np.arange(1 << count, dtype=np.int64)
    everything, masks = (1 << count) - 1, (1 << visual) - 1
    alone = [1 << i for i in range(count)]
    fixed = {0, everything, masks, everything - masks, *alone, *(everything - one for one in alone)}
    if len(fixed) > entries:
        raise ValueError(
            f"max_table_entries={entries!r} is too small for {features.image_id!r}: with {count} features at least "
            f"{len(fixed)} subsets are needed"
        )
    rng = np.random.default_rng(zlib.crc32(features.image_id.encode()))
    while len(fixed) < entries:
        members = rng.permutation(count)[: rng.integers(2, count - 1)]
        fixed.add(int((1 << members.astype(np.int64)).sum()))
    return np.array(sorted(fixed), dtype=np.int64)
