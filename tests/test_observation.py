"""What agents see: every entry is what the layout promises, finite and in range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from noma_semcom_env.dynamics import Dynamics, State
from noma_semcom_env.link.decoding_order import minimize_latency_order
from noma_semcom_env.link.sic import Transmission
from noma_semcom_env.observation import SNR_RANGE_DB
from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.scenario import Scenario

BATCH = 7


def begun(table: RecoveryTable, seed: int = 0, **knobs: Any) -> tuple[Dynamics, State]:
    dynamics = Dynamics(Scenario(recovery=table, **knobs))
    return dynamics, dynamics.reset([np.random.default_rng(seed + i) for i in range(BATCH)])


def random_selection(dynamics: Dynamics, seed: int = 0) -> np.ndarray:
    shape = (BATCH, dynamics.scenario.num_users, dynamics.bank.width)
    return np.random.default_rng(seed).random(shape) < 0.5


def test_observation_says_what_it_promises(table: RecoveryTable) -> None:
    dynamics, state = begun(table, num_antennas=3, bandwidth_hz=1e5)
    seen = dynamics.observe(state)
    assert seen.keys() == dynamics.observation_space.keys()
    h, scenario, bank = state.channel, dynamics.scenario, table.bank
    snr_db = 10 * np.log10(scenario.power_w * (np.abs(h) ** 2).sum(axis=-1) / scenario.noise_power_w)
    low, high = SNR_RANGE_DB
    scaled = np.clip(2 * (snr_db - low) / (high - low) - 1, -1, 1)
    np.testing.assert_allclose(seen["snr"], scaled, atol=1e-6)
    unit = seen["direction"].reshape(BATCH, 3, 2, 3)
    direction = unit[:, :, 0] + 1j * unit[:, :, 1]
    np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1.0, atol=1e-6)
    aligned = np.abs((direction.conj() * h).sum(axis=-1)) / np.linalg.norm(h, axis=-1)
    np.testing.assert_allclose(aligned, 1.0, atol=1e-6)
    np.testing.assert_allclose(direction[..., 0].imag, 0.0, atol=1e-7)
    assert (direction[..., 0].real >= 0).all()
    np.testing.assert_array_equal(seen["last_order"], 0.0)
    np.testing.assert_allclose(seen["bandwidth"], (5 - 6) / 3, atol=1e-6)
    images = state.image_index
    exists, modality = bank.exists[images], bank.modality[images]
    bits = np.exp((seen["size"].reshape(BATCH, 3, 6) + 1) / 2 * np.log(2**14)) - 1
    np.testing.assert_allclose(bits, bank.size_bits[images], rtol=1e-4, atol=1e-3)
    importance = np.where(exists, 2 * bank.importance[images] - 1, -1)
    np.testing.assert_allclose(seen["importance"].reshape(BATCH, 3, 6), importance, atol=1e-6)
    np.testing.assert_array_equal(
        seen["modality"].reshape(BATCH, 3, 6), np.select([modality == 1, modality == 2], [1, -1])
    )
    label = (seen["label"].reshape(BATCH, 3, 6) + 1) / 2 * (len(bank.labels) - 1)
    np.testing.assert_allclose(label, bank.label[images], atol=1e-5)
    np.testing.assert_array_equal(seen["action_mask"].reshape(BATCH, 3, 6), bank.kept[images])
    assert seen["action_mask"].dtype == np.int8


def test_last_order_is_each_users_position(table: RecoveryTable) -> None:
    def fixed(channel: np.ndarray, *others: Any) -> Transmission:
        sent = minimize_latency_order(channel, *others[:-1])
        order = np.tile([2, 0, 1], (len(channel), 1))
        return Transmission(order, sent.rate_bps, sent.latency_s, sent.beams, sent.fallback)

    dynamics, state = begun(table, transmission=fixed)
    moved = dynamics.step(state, random_selection(dynamics))
    np.testing.assert_array_equal(dynamics.observe(moved.state)["last_order"], np.tile([0.0, 1.0, -1.0], (BATCH, 1)))


@pytest.mark.parametrize(
    "knobs",
    [
        {"num_users": 1, "num_antennas": 1},
        {"num_users": 6, "num_antennas": 4},
        {"transmit_power_dbm": 100.0, "noise_psd_dbm_hz": -300.0, "min_distance_m": 1.0},
        {"transmit_power_dbm": -100.0, "noise_psd_dbm_hz": 0.0, "path_loss_intercept_db": 300.0, "bandwidth_hz": 1e12},
        {"bandwidth_hz": 1e-3, "path_loss_slope_db": 200.0, "max_distance_m": 1e6},
    ],
)
def test_observation_and_reward_stay_in_range(table: RecoveryTable, knobs: dict[str, Any]) -> None:
    dynamics, state = begun(table, **knobs)
    moved = dynamics.step(state, random_selection(dynamics))
    for one in (state, moved.state):
        seen = dynamics.observe(one)
        for row in range(BATCH):
            assert dynamics.observation_space.contains({name: value[row] for name, value in seen.items()})
    for name, space in dynamics.observation_space.items():
        assert len(space.shape or ()) == 1
        if name != "action_mask":
            assert isinstance(space, spaces.Box)
            assert space.dtype == np.float32
            assert (space.low == -1).all()
            assert (space.high == 1).all()
    assert np.isfinite(moved.reward).all()
    assert (moved.reward >= -(1.0 + 10.0 + 1.0)).all()
    assert np.isfinite(moved.info["latency_s"]).all()


def test_a_dead_channel_has_no_direction_and_violates(table: RecoveryTable) -> None:
    class Dead:
        def sample(self, rng: np.random.Generator, distances_m: np.ndarray, antennas: int, steps: int) -> np.ndarray:
            return np.zeros((steps, len(distances_m), antennas), complex)

    dynamics, state = begun(table, fading=Dead())
    seen = dynamics.observe(state)
    np.testing.assert_array_equal(seen["snr"], -1.0)
    np.testing.assert_array_equal(seen["direction"], 0.0)
    moved = dynamics.step(state, np.ones((BATCH, 3, 6), bool))
    np.testing.assert_array_equal(moved.info["violations"], 1)
    np.testing.assert_allclose(moved.info["latency_s"], dynamics.scenario.latency_cap_s)
    assert np.isfinite(moved.reward).all()
