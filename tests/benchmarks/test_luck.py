"""An oracle is as lucky as its table is noisy: not at all without noise, in everything where there is nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noma_semcom_benchmarks.luck import halves, standard_error
from noma_semcom_env import RecoveryTable


def saved(table: RecoveryTable, values: np.ndarray, path: Path) -> RecoveryTable:
    possible = np.isfinite(table.lpips_by_seed[:, :1])
    values = np.where(possible, values, np.nan).astype(np.float32)
    record = {**table.provenance, "diffusion_seeds": list(range(values.shape[1]))}
    made = replace(table, lpips_by_seed=values, provenance=record, path=path)
    made.save(path)
    return made


def test_without_noise_there_is_no_luck(table: RecoveryTable, tmp_path: Path) -> None:
    values = np.repeat(table.lpips_by_seed[:, :1], 4, axis=1)
    found = halves(saved(table, values, tmp_path / "x.npz"), episodes=40)
    assert found["luck"] == pytest.approx(0.0, abs=1e-6)
    assert found["promised"] == pytest.approx(found["all_seeds"]) == pytest.approx(found["kept"])
    assert found["sending_all"] > found["all_seeds"]
    assert standard_error(replace(table, lpips_by_seed=values)).max() == 0.0


def test_where_all_is_noise_the_other_half_keeps_less_than_was_promised(table: RecoveryTable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, _, entries = table.lpips_by_seed.shape
    noise = 0.4 + 0.1 * rng.standard_normal((images, 4, entries))
    made = saved(table, noise, tmp_path / "x.npz")
    found = halves(made, episodes=40)
    assert found["promised"] < found["all_seeds"] < found["kept"]
    assert found["luck"] > 0.1
    assert standard_error(made).mean() == pytest.approx(0.1 / 2, rel=0.15)


def test_one_seed_is_not_enough(table: RecoveryTable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the table has 1 diffusion seed; at least two"):
        halves(saved(table, table.lpips_by_seed[:, :1], tmp_path / "x.npz"), episodes=2)
