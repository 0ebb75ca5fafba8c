"""The comparison of feature codes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from noma_semcom_benchmarks.feature_sizes import measure, png_bits, rle_bits
from noma_semcom_env.recovery.table import RecoveryTable


def test_every_feature_is_measured_once(table: RecoveryTable) -> None:
    masks, phrases = measure(list(table.features))
    assert {len(bits) for bits in masks.bits.values()} == {sum(len(one.masks) for one in table.features)}
    assert {len(bits) for bits in phrases.bits.values()} == {sum(len(one.phrases) for one in table.features)}
    assert (masks.bits["raw"] == 64).all()
    assert masks.bits["ours"].sum() + phrases.bits["ours"].sum() == sum(one.size_bits.sum() for one in table.features)


def test_png_counts_the_whole_file() -> None:
    """Signature, header, data and end chunk alone take 57 bytes; noise cannot be packed below a bit a pixel."""
    assert png_bits(np.zeros((64, 64), dtype=bool)) > 8 * 57
    noise = np.random.default_rng(0).random((64, 64)) < 0.5
    assert noise.size + 8 * 57 <= png_bits(noise) < 1.2 * noise.size + 8 * 57


def test_rle_counts_the_run_lengths_alone() -> None:
    """A plain mask is one run (and an empty one before it, if it is full); noise has a run every other pixel."""
    empty = np.zeros((64, 64), dtype=bool)
    assert rle_bits(empty) < rle_bits(~empty) <= 8 * 5
    band = empty.copy()
    band[:, 10:20] = True
    assert rle_bits(band) < rle_bits(band.T)  # runs go down the columns
    noise = np.random.default_rng(0).random((64, 64)) < 0.5
    assert rle_bits(noise) > 2 * noise.size


def test_without_pycocotools_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ImportError, match=r"noma-semcom-env\[data\]"):
        rle_bits(np.zeros((4, 4), dtype=bool))
