"""The comparison of feature codes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from noma_semcom_benchmarks.feature_sizes import measure, png_bits
from noma_semcom_env.recovery.table import RecoveryTable


def test_every_feature_is_measured_once(table: RecoveryTable) -> None:
    masks, phrases = measure(list(table.features))
    assert {len(bits) for bits in masks.bits.values()} == {sum(len(one.masks) for one in table.features)}
    assert {len(bits) for bits in phrases.bits.values()} == {sum(len(one.phrases) for one in table.features)}
    assert (masks.bits["raw"] == 64).all()
    assert masks.bits["ours"].sum() + phrases.bits["ours"].sum() == sum(one.size_bits.sum() for one in table.features)


def test_png_is_a_real_one_of_one_bit_a_pixel() -> None:
    mask = np.random.default_rng(0).random((64, 64)) < 0.5
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "png", optimize=True)
    assert Image.open(file).mode == "1"
    assert png_bits(mask) == 8 * len(file.getvalue()) > mask.size
