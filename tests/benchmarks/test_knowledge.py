"""What noise of a table leaves to a policy that knows everything: the extrapolation against a truth that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_agents.quality import Trial
from noma_semcom_benchmarks.knowledge import by_power, by_series, noise_rows
from noma_semcom_env import RecoveryTable
from noma_semcom_env.recovery.subsets import subset_selections

IMAGES, WIDTH = 24, 8


def save(table: RecoveryTable, by_seed: np.ndarray, path: Path) -> str:
    record = {**table.provenance, "diffusion_seeds": list(range(by_seed.shape[1]))}
    replace(table, lpips_by_seed=by_seed.astype(np.float32), provenance=record, path=path).save(path)
    return str(path)


def test_perfect_knowledge_is_told_from_four_seeds(make_table: Callable[..., RecoveryTable], tmp_path: Path) -> None:
    table = make_table(images=IMAGES, width=WIDTH)
    gain = np.random.default_rng(5).uniform(0.1, 1.0, (WIDTH, IMAGES))
    expected = 0.05 + 0.5 * np.exp(-(subset_selections(WIDTH, WIDTH) @ gain).T)
    expected = np.where(np.isfinite(table.lpips_by_seed[:, 0]), expected, np.nan)
    found, true = [], []
    for seed in range(4):
        noise = 0.04 * np.random.default_rng(seed).standard_normal((IMAGES, 4, expected.shape[1]))
        images = save(table, expected[:, None] + noise, tmp_path / f"{seed}.npz")
        trial = Trial({"images": images}, episodes=150)
        *_, last = noise_rows(images, trial)
        assert last["seeds_seen"] == "unlimited"
        found.append([last[key] for key in ("regret", "least", "most")])
        true.append(trial.regret(expected))
    regret, least, most = np.mean(found, axis=0)
    assert regret == pytest.approx(np.mean(true), rel=0.12)
    assert least < np.mean(true) < most
    assert least < regret < most


def test_seeds_that_agree_leave_no_regret(table: RecoveryTable, tmp_path: Path) -> None:
    images = save(table, np.repeat(table.lpips_by_seed[:, :1], 3, axis=1), tmp_path / "x.npz")
    rows = noise_rows(images, Trial({"images": images}, episodes=20))
    numbers = [row[key] for row in rows for key in ("regret", "least", "most")]
    np.testing.assert_allclose(numbers, 0.0, atol=1e-9)
    one = save(table, table.lpips_by_seed[:, :1], tmp_path / "one.npz")
    with pytest.raises(ValueError, match="has 1 diffusion seed; at least two"):
        noise_rows(one, Trial({"images": one}, episodes=2))


def test_the_luck_of_laws_that_can_be_integrated() -> None:
    seen = np.arange(1, 4)
    smooth = 3.0 / seen + 2.0 / seen**2
    assert by_series(smooth) == pytest.approx(3.0 / (2 * 4) + 2.0 / (4 * 16))
    assert by_series(smooth[:1]) == pytest.approx(5.0 / (2 * 2))
    # Where all is noise the search loses nothing, and the luck is all that it promised itself too much.
    assert by_power(7.0 * seen**-0.5) == pytest.approx(7.0 / 2.0)
    assert by_power(7.0 / seen) == pytest.approx(7.0 / (2 * 4))
    assert np.isnan(by_power(np.array([1.0, 0.5, 0.0])))


def test_the_identity_that_it_rests_on() -> None:
    rng, draws, worth = np.random.default_rng(0), 400_000, np.array([0.0, 0.3, 0.5, 1.1])

    def outcome(v: float, noise: np.ndarray) -> dict[str, Any]:
        seen = worth + v**0.5 * noise
        best = seen.argmin(axis=1)
        return {"promised": seen.min(axis=1).mean(), "kept": worth[best].mean()}

    noise = rng.standard_normal((draws, 4)) + rng.standard_normal((draws, 1))
    low, middle, high = (outcome(v, noise) for v in (0.9, 1.0, 1.1))
    slope = (low["promised"] - high["promised"]) / 0.2
    assert middle["kept"] - middle["promised"] == pytest.approx(2.0 * slope, rel=0.02)
