"""The comparison of feature codes."""

from __future__ import annotations

import numpy as np

from noma_semcom_benchmarks.feature_sizes import measure, png_bits
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
