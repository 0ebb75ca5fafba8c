from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from noma_semcom_env.dynamics import NO_ORDER, Dynamics, State
from noma_semcom_env.features import FeatureBank
from noma_semcom_env.link.decoding_order import exhaustive_latency_order
from noma_semcom_env.link.sic import latency_s
from noma_semcom_env.recovery.table import RecoveryTable, TableError
from noma_semcom_env.reward import RewardTerms, weighted_sum
from noma_semcom_env.scenario import Scenario

BATCH = 7


def begun(table: RecoveryTable, seed: int = 0, **knobs: Any) -> tuple[Dynamics, State]:
    dynamics = Dynamics(Scenario(recovery=table, **knobs))
    return dynamics, dynamics.reset([np.random.default_rng(seed + i) for i in range(BATCH)])


def random_selection(dynamics: Dynamics, seed: int = 0) -> np.ndarray:
    shape = (BATCH, dynamics.scenario.num_users, dynamics.bank.width)
    return np.random.default_rng(seed).random(shape) < 0.5


# The transition


@pytest.mark.parametrize("prune", [True, False])
def test_terms_of_a_step(table: RecoveryTable, prune: bool) -> None:
    dynamics, state = begun(table, prune=prune)
    wanted = random_selection(dynamics)
    info = (moved := dynamics.step(state, wanted)).info
    may = (table.bank.kept if prune else table.bank.exists)[state.image_index]
    np.testing.assert_array_equal(info["selection"], wanted & may)
    np.testing.assert_array_equal(info["unavailable_bits"], (wanted & ~may).sum(axis=(1, 2)))
    assert info["unavailable_bits"].any()
    bits = np.einsum("bkf,bkf->bk", info["selection"], table.bank.size_bits[state.image_index])
    np.testing.assert_array_equal(info["demand_bits"], bits)
    index = (info["selection"] << np.arange(dynamics.bank.width)).sum(axis=-1)
    expected = table.lpips_by_seed.astype(np.float64).mean(axis=1)[state.image_index, index]
    np.testing.assert_allclose(info["lpips"], expected, rtol=1e-12)
    np.testing.assert_allclose(info["latency_s"], latency_s(bits, info["rate_bps"]), rtol=1e-12)
    bracket = 0.5 * info["lpips"].mean(axis=1) + 0.5 * info["latency_s"] / 1e-3
    np.testing.assert_allclose(info["weighted_ll"], bracket)
    np.testing.assert_allclose(moved.reward, -bracket)
    np.testing.assert_array_equal(np.sort(info["decoding_order"]), np.tile(np.arange(3), (BATCH, 1)))


def test_default_transmission_is_the_joint_optimum(table: RecoveryTable) -> None:
    dynamics, state = begun(table)
    info = dynamics.step(state, random_selection(dynamics)).info
    seen = info["privileged"]
    best = exhaustive_latency_order(
        seen["channel"], seen["power_w"], seen["noise_power_w"], dynamics.scenario.bandwidth_hz, info["demand_bits"]
    )
    np.testing.assert_allclose(info["latency_s"], best.latency_s, rtol=1e-9)


def test_near_first_order(table: RecoveryTable) -> None:
    dynamics, state = begun(table, transmission="distance")
    info = dynamics.step(state, np.ones((BATCH, 3, 6), bool)).info
    np.testing.assert_array_equal(info["decoding_order"], np.argsort(state.distances_m))
    best = dynamics_latency(table, state)
    assert (info["latency_s"] >= best * (1 - 1e-9)).all()
    assert (info["latency_s"] > best * (1 + 1e-9)).any()


def test_paper_transmission(table: RecoveryTable) -> None:
    dynamics, state = begun(table, transmission="paper")
    two = state.rows(np.arange(2))
    info = dynamics.step(two, np.ones((2, 3, 6), bool)).info
    assert (info["latency_s"] >= dynamics_latency(table, state)[:2] * (1 - 1e-9)).all()
    assert info["solver_fallbacks"].shape == (2,)


def dynamics_latency(table: RecoveryTable, state: State) -> np.ndarray:
    """Latency of the joint optimum with every available feature sent."""
    best, _ = begun(table)
    latency: np.ndarray = best.step(state, np.ones((BATCH, 3, 6), bool)).info["latency_s"]
    return latency


def test_silence_costs_nothing(table: RecoveryTable) -> None:
    dynamics, state = begun(table)
    wanted = np.zeros((BATCH, 3, 6), bool)
    info = dynamics.step(state, wanted).info
    np.testing.assert_array_equal(info["latency_s"], 0.0)
    np.testing.assert_array_equal(info["rate_bps"], 0.0)
    np.testing.assert_array_equal(info["decoding_order"], np.tile([0, 1, 2], (BATCH, 1)))
    np.testing.assert_allclose(info["lpips"], table.mean[state.image_index, 0])
    wanted[:, 1] = True
    info = dynamics.step(state, wanted).info
    np.testing.assert_array_equal(info["decoding_order"], np.tile([1, 0, 2], (BATCH, 1)))


def test_channel_moves_and_privileged_tells_the_one_used(table: RecoveryTable) -> None:
    dynamics, state = begun(table, episode_length=4)
    assert state.channels.shape == (BATCH, 5, 3, 2)
    for step in range(4):
        before = dynamics.privileged(state)["channel"]
        moved = dynamics.step(state, random_selection(dynamics))
        np.testing.assert_array_equal(moved.info["privileged"]["channel"], before)
        np.testing.assert_array_equal(before, state.channels[:, step])
        assert not np.array_equal(moved.state.channel, before)
        state = moved.state
    np.testing.assert_array_equal(state.elapsed, 4)
    assert np.isfinite(dynamics.observe(state)["snr"]).all()


def test_states_do_not_share_what_infos_give_away(table: RecoveryTable) -> None:
    dynamics, state = begun(table)
    seen = dynamics.privileged(state)
    before = state.channel.copy()
    for name in ("channel", "distances_m", "image_index", "power_w"):
        seen[name][:] = 0
    np.testing.assert_array_equal(state.channel, before)
    assert state.distances_m.all()
    assert dynamics.power_w.all()
    moved = dynamics.step(state, random_selection(dynamics))
    moved.info["decoding_order"][:] = 9
    assert moved.state.last_order.max() < 3


def test_the_access_point_chooses_by_its_estimates(table: RecoveryTable) -> None:
    """Estimates are drawn last, so that the channels stay; agents see them, and rates follow from the channels."""
    dynamics, state = begun(table, csi_error=0.2)
    perfect, exact = begun(table)
    np.testing.assert_array_equal(state.channels, exact.channels)
    np.testing.assert_array_equal(state.image_index, exact.image_index)
    assert exact.estimates is None
    assert state.estimates is not None
    assert (state.estimates != state.channels).all()
    assert (dynamics.observe(state)["direction"] != perfect.observe(exact)["direction"]).mean() > 0.8
    wanted = random_selection(dynamics)
    known, best = (each.step(start, wanted).info for each, start in ((dynamics, state), (perfect, exact)))
    np.testing.assert_array_equal(known["privileged"]["channel"], state.channels[:, 0])
    assert (known["latency_s"] >= best["latency_s"] * (1 - 1e-9)).all()
    assert (known["latency_s"] > best["latency_s"] * 1.01).any()
    index = np.array([5, 2])
    mixed = state.with_rows(index, state.rows(index[::-1]))
    np.testing.assert_array_equal(mixed.estimates[index], state.estimates[index[::-1]])  # type: ignore[index]


def test_own_terms_are_those_of_a_system_of_one_user(table: RecoveryTable) -> None:
    dynamics, state = begun(table, latency_ref_s=2e-4, max_latency_s=5e-5)
    moved = dynamics.step(state, np.ones((BATCH, 3, 6), bool))
    means = []
    for row in range(BATCH):
        info = {name: value[row] for name, value in moved.info.items() if name != "privileged"}
        own = dynamics.own_terms(info)
        delay = info["demand_bits"] / info["rate_bps"]
        expected = -0.5 * info["lpips"] - 0.5 * np.minimum(delay, 5e-5) / 2e-4 - (delay > 5e-5)
        np.testing.assert_allclose(own.reward, expected)
        np.testing.assert_allclose(own.latency_s.max(), info["latency_s"])
        means.append(own.reward.mean())
    assert (np.array(means) >= moved.reward - 1e-12).all()
    assert moved.info["violations"].any()


def test_rows_can_be_taken_and_put_back(table: RecoveryTable) -> None:
    dynamics, state = begun(table)
    index = np.array([1, 4])
    moved = dynamics.step(state, random_selection(dynamics)).state
    mixed = state.with_rows(index, moved.rows(index))
    np.testing.assert_array_equal(mixed.elapsed, [0, 1, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(state.elapsed, 0)
    np.testing.assert_array_equal(mixed.last_order[0], NO_ORDER)
    np.testing.assert_array_equal(mixed.last_order[index], moved.last_order[index])
    turned = np.arange(BATCH)[::-1]
    np.testing.assert_array_equal(state.with_rows(turned, state.rows(turned)).channels, state.channels)


# Draws


def test_draws_come_in_one_documented_order(table: RecoveryTable) -> None:
    class Recorder:
        def sample(self, rng: np.random.Generator, distances_m: np.ndarray, antennas: int, steps: int) -> np.ndarray:
            self.seen = (distances_m, antennas, steps)
            return rng.standard_normal((steps, len(distances_m), antennas)) + 0j

    recorder = Recorder()
    dynamics = Dynamics(Scenario(recovery=table, fading=recorder, num_antennas=4, episode_length=9))
    state = dynamics.reset([np.random.default_rng(5)])
    rng = np.random.default_rng(5)
    inner, outer = 50.0**2, 200.0**2
    np.testing.assert_allclose(state.distances_m[0], np.sqrt(inner + rng.random(3) * (outer - inner)))
    np.testing.assert_array_equal(state.image_index[0], np.floor(rng.random(3) * len(table.bank)))
    np.testing.assert_array_equal(state.channels[0], rng.standard_normal((10, 3, 4)))
    assert recorder.seen[1:] == (4, 10)


def test_draws_do_not_depend_on_what_is_fixed(table: RecoveryTable) -> None:
    ids = tuple(table.bank.image_ids[i] for i in (4, 0, 4))
    _, free = begun(table)
    _, shared = begun(table, same_image=True)
    _, given = begun(table, image_ids=ids)
    dynamics, placed = begun(table, distances_m=(100.0, 60.0, 200.0), prune=False, transmission="distance")
    np.testing.assert_array_equal(free.channels, given.channels)
    np.testing.assert_array_equal(free.distances_m, shared.distances_m)
    np.testing.assert_array_equal(free.image_index, placed.image_index)
    np.testing.assert_array_equal(given.image_index, np.tile([4, 0, 4], (BATCH, 1)))
    np.testing.assert_array_equal(shared.image_index, np.repeat(free.image_index[:, :1], 3, axis=1))
    np.testing.assert_array_equal(placed.distances_m, np.tile([100.0, 60.0, 200.0], (BATCH, 1)))
    # The fading is the same, only the path gain differs.
    phase = np.angle(placed.channels) - np.angle(free.channels)
    np.testing.assert_allclose(np.exp(1j * phase), 1.0, atol=1e-12)
    again = dynamics.reset([np.random.default_rng(i) for i in range(BATCH)], np.array([1, 2, 3]))
    np.testing.assert_array_equal(again.image_index, np.tile([1, 2, 3], (BATCH, 1)))
    np.testing.assert_array_equal(again.channels, placed.channels)


@pytest.mark.parametrize("fading", ["rayleigh", "rician"])
def test_doppler_correlates_steps_and_its_absence_does_not(table: RecoveryTable, fading: str) -> None:
    def correlation(**knobs: Any) -> float:
        dynamics = Dynamics(
            Scenario(recovery=table, fading=fading, rician_factor_db=-50.0, episode_length=400, **knobs)
        )
        h = dynamics.reset([np.random.default_rng(3)]).channels[0]
        h = h / np.sqrt((np.abs(h) ** 2).mean(axis=0))
        return float((h[1:] * h[:-1].conj()).mean().real)

    assert abs(correlation()) < 0.1
    assert correlation(doppler_hz=5.0, step_period_s=0.01) == pytest.approx(0.9755, abs=0.03)


def test_draws_do_not_depend_on_the_number_of_features(make_table: Callable[..., RecoveryTable]) -> None:
    channels, distances = [], []
    for width in (4, 6):
        _, state = begun(make_table(width=width))
        channels.append(state.channels)
        distances.append(state.distances_m)
    np.testing.assert_array_equal(*channels)
    np.testing.assert_array_equal(*distances)


# Parts given as objects


def test_reward_and_observation_of_the_users_own(table: RecoveryTable) -> None:
    def latency_alone(lpips: np.ndarray, latency_s: np.ndarray, scenario: Scenario) -> RewardTerms:
        terms = weighted_sum(lpips, latency_s, scenario)
        return RewardTerms(-terms.latency_s, terms.weighted_ll, terms.latency_s, terms.violations)

    class MaskAlone:
        def __init__(self, scenario: Scenario, bank: FeatureBank, available: np.ndarray) -> None:
            self.space = spaces.Dict({"action_mask": spaces.MultiBinary(scenario.num_users * bank.width)})
            self.available = available

        def observe(self, state: State) -> dict[str, np.ndarray]:
            return {"action_mask": self.available[state.image_index].reshape(len(state.elapsed), -1).astype(np.int8)}

    dynamics, state = begun(table, reward=latency_alone, observation=MaskAlone)
    moved = dynamics.step(state, random_selection(dynamics))
    np.testing.assert_array_equal(moved.reward, -moved.info["latency_s"])
    assert dynamics.observe(state).keys() == {"action_mask"}


@pytest.mark.parametrize("broken", [np.full((1, 3), np.nan), np.zeros(1), np.zeros((1, 3, 1))])
def test_recovery_that_gives_no_number_a_user_is_refused(table: RecoveryTable, broken: np.ndarray) -> None:
    class Broken:
        bank = table.bank

        def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
            return broken

    dynamics = Dynamics(Scenario(recovery=Broken()))
    state = dynamics.reset([np.random.default_rng(0)])
    with pytest.raises(ValueError, match=r"recovery=.* gave LPIPS of shape .*; \(1, 3\) is needed"):
        dynamics.step(state, np.zeros((1, 3, 6), bool))


def test_solver_that_gives_nan_is_refused(table: RecoveryTable) -> None:
    def broken(channel: np.ndarray, *rest: Any) -> Any:
        sent = Dynamics(Scenario(recovery=table))._transmit(channel, *rest)
        return replace(sent, latency_s=np.full(len(channel), np.nan))

    dynamics, state = begun(table, transmission=broken)
    with pytest.raises(ValueError, match="transmission=.* no latency NaN"):
        dynamics.step(state, random_selection(dynamics))


@pytest.mark.parametrize("fault", ["short", "nan"])
def test_channel_model_that_draws_nonsense_is_refused(table: RecoveryTable, fault: str) -> None:
    class Broken:
        def sample(self, rng: np.random.Generator, distances_m: np.ndarray, antennas: int, steps: int) -> np.ndarray:
            channel = np.ones((steps - (fault == "short"), len(distances_m), antennas), complex)
            return channel * (np.nan if fault == "nan" else 1.0)

    with pytest.raises(ValueError, match=r"fading=.* gave a channel of shape .*; \(21, 3, 2\) is needed"):
        begun(table, fading=Broken())


def test_live_recovery_is_loaded_by_name_alone(
    table: RecoveryTable, table_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LiveRecovery:
        def __init__(self, bank: FeatureBank, made_with: tuple[str, str]) -> None:
            self.bank, self.made_with = bank, made_with

        @classmethod
        def from_table(cls, table: RecoveryTable, models: str, lpips_net: str) -> LiveRecovery:
            return cls(table.bank, (models, lpips_net))

        def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
            return np.full(images.shape, 0.25)

    stand_in = ModuleType("noma_semcom_env.recovery.live")
    stand_in.LiveRecovery = LiveRecovery  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "noma_semcom_env.recovery.live", stand_in)
    dynamics = Dynamics(Scenario(images=table_path, recovery="live", models="sd15", lpips_net="vgg"))
    assert dynamics.recovery.made_with == ("sd15", "vgg")  # type: ignore[attr-defined]
    state = dynamics.reset([np.random.default_rng(0)])
    np.testing.assert_array_equal(dynamics.step(state, np.zeros((1, 3, 6), bool)).info["lpips"], 0.25)


# Images


def test_image_sets_that_are_missing_or_damaged(table: RecoveryTable, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="images='street-nowhere' names no bundled recovery table"):
        Dynamics(Scenario(images="street-nowhere"))
    with pytest.raises(TableError, match=r"no recovery table at .*nowhere\.npz"):
        Dynamics(Scenario(images=str(tmp_path / "nowhere.npz")))
    path = tmp_path / "damaged.npz"
    table.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TableError, match=r"damaged\.npz"):
        Dynamics(Scenario(images=str(path)))


def test_table_of_another_lpips_net_is_refused(table_path: str) -> None:
    with pytest.raises(ValueError, match=r"lpips_net='vgg' does not fit images=.*lpips_net='alex'"):
        Dynamics(Scenario(images=table_path, lpips_net="vgg"))


def test_unknown_image_ids_are_refused(table: RecoveryTable) -> None:
    with pytest.raises(ValueError, match="image_ids holds 'x', which the image set does not; its 5 ids run from"):
        begun(table, image_ids=(table.bank.image_ids[0], "x", "y"))
    dynamics, _ = begun(table)
    for ids in ([table.bank.image_ids[0]], table.bank.image_ids[0], 5):
        with pytest.raises(ValueError, match="one id for each of the 3 users"):
            dynamics.images_of(ids)
