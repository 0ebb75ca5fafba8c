"""What pruning costs, and what its importance is worth."""

from __future__ import annotations

import numpy as np
import pytest

from noma_semcom_benchmarks.pruning import _extractor, _kept, withhold
from noma_semcom_env import RecoveryTable, load_table
from noma_semcom_env.zoo.presets import load_preset


def test_withholding_is_the_table_without_one_feature(table: RecoveryTable) -> None:
    found = withhold(table)
    assert len(found.rise) == len(found.kept) == sum(one.count for one in table.features)
    one = table.features[0]
    everything = np.ones((1, table.width), dtype=bool)
    without = everything.copy()
    without[0, 1] = False
    image = np.array([0])
    expected = table.lpips(image, without) - table.lpips(image, everything)
    assert found.rise[1] == pytest.approx(expected[0])
    assert found.kept[: one.count].tolist() == one.kept.tolist()
    assert -1.0 <= found.correlation <= 1.0


def test_the_presets_thresholds_give_the_bundled_pruning() -> None:
    table, preset = load_table("street-validation"), load_preset("street")
    assert np.array_equal(_kept(table, _extractor(preset.text_threshold, preset.visual_threshold)), table.bank.kept)
    assert np.array_equal(_kept(table, _extractor(0.0, 0.0)), table.bank.exists)
    assert _kept(table, _extractor(0.5, 0.2)).sum() < table.bank.kept.sum()
