"""The fitted importance finds a law that is there, and the shipped one is what the bundled images give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from noma_semcom_env import RecoveryTable, load_table
from noma_semcom_env.importance import load_fitted
from noma_semcom_env.recovery.subsets import subset_selections
from noma_semcom_env.zoo.train.importance import fit, rank_correlation


def test_savings_that_follow_the_label_are_found(make_table: Callable[..., RecoveryTable]) -> None:
    table = make_table(images=24)
    worth = {label: 0.01 * number for number, label in enumerate(table.labels)}
    values = np.full_like(table.lpips_by_seed, np.nan)
    for row, one in enumerate(table.features):
        gain = np.array([worth[label] for label in one.labels])
        values[row, :, : 1 << one.count] = 0.8 - subset_selections(one.count, one.count) @ gain
    lawful = replace(table, lpips_by_seed=values)
    fitted, left_out = fit(lawful)
    assert left_out > 0.9
    assert rank_correlation(lawful, fitted) > 0.95 > rank_correlation(lawful, None)
    for one in lawful.features:
        np.testing.assert_allclose(fitted.saving(one), [worth[label] for label in one.labels], atol=5e-3)


def test_the_shipped_fit_is_that_of_the_policy_images() -> None:
    fitted, _ = fit(load_table("street-policy"))
    shipped = load_fitted("street")
    assert shipped.scale == pytest.approx(fitted.scale, abs=1e-5)
    assert shipped.labels == pytest.approx(fitted.labels, abs=1e-5)
    assert shipped.visual == pytest.approx(fitted.visual, abs=1e-5)
    assert shipped.textual == pytest.approx(fitted.textual, abs=1e-5)
