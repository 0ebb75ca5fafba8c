"""The fitted predictor: what it reads, that it learns, and that it is chosen on images that it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noma_semcom_agents.boosting import BoostedQuality, describe_subsets, fit_boosted
from noma_semcom_agents.quality import QualityModel, TabulatedImages, Trial
from noma_semcom_env.features import VISUAL


@pytest.fixture(scope="module")
def knobs(table_paths: dict[str, Path]) -> dict:
    return {"images": str(table_paths["policy"]), "latency_ref_s": 2e-4}


def test_description_counts_what_is_sent_and_what_there_is(knobs: dict) -> None:
    bank = TabulatedImages.of(knobs).bank
    numbers = np.arange(1 << int(bank.exists[0].sum()))
    table = describe_subsets(bank, 0, numbers)
    # Of each kind: sent by label (L), three sums of what is sent; then by label number, importance, bits; three sums.
    vocabulary = len(bank.labels)
    half = 4 * vocabulary + 6
    assert table.shape == (len(numbers), 2 * half)
    selected = (numbers[:, None] >> np.arange(bank.width)) & 1
    for start, here in ((0, bank.modality[0] == VISUAL), (half, bank.exists[0] & (bank.modality[0] != VISUAL))):
        sums = np.stack([here, here * bank.importance[0], here * bank.size_bits[0]], axis=1)
        np.testing.assert_allclose(table[:, start + vocabulary : start + vocabulary + 3], selected @ sums)
        np.testing.assert_array_equal(table[:, start : start + vocabulary].sum(axis=1), (selected * here).sum(axis=1))
        np.testing.assert_allclose(
            table[:, start + half - 3 : start + half], np.tile(sums.sum(axis=0), (len(table), 1))
        )


def test_boosting_learns_and_repeats_itself(knobs: dict) -> None:
    trial = Trial(knobs, episodes=60)
    few, many = (BoostedQuality.fit(trial.images, iterations=n) for n in (1, 40))
    assert isinstance(many, QualityModel)
    predicted = many.predict(trial.images.bank)
    np.testing.assert_array_equal(np.isfinite(predicted), np.isfinite(trial.images.lpips))
    assert trial.regret(predicted) < 0.5 * trial.regret(few.predict(trial.images.bank))
    again = BoostedQuality.fit(trial.images, iterations=40)
    np.testing.assert_array_equal(predicted, again.predict(trial.images.bank))


def test_leaves_are_chosen_by_regret_on_held_out_images(knobs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[tuple[int, int]] = []
    real = BoostedQuality.fit.__func__

    def fit(cls: type, images: TabulatedImages, leaves: int, seed: int) -> BoostedQuality:
        fitted.append((len(images), leaves))
        return real(cls, images, leaves, iterations=10, seed=seed)

    monkeypatch.setattr(BoostedQuality, "fit", classmethod(fit))
    model, regrets = fit_boosted(knobs, leaves=(2, 8), folds=3)
    best = min(regrets, key=lambda n: regrets[n])
    assert fitted == [(4, 2)] * 3 + [(4, 8)] * 3 + [(6, best)]
    assert all(regret > 0.0 for regret in regrets.values())
    assert model.labels == TabulatedImages.of(knobs).bank.labels
