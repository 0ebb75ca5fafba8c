"""Solvers by name and the options of a scenario, composed."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import noma_semcom_env  # noqa: F401  registers the ids
from noma_semcom_env import scenario
from noma_semcom_env.link.channel import drop_distances, path_gain, sample_estimates
from noma_semcom_env.link.decoding_order import MAX_EXHAUSTIVE_USERS
from noma_semcom_env.link.orthogonal import frequency_division, time_division
from noma_semcom_env.link.sic import transmit
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.transmission import SOLVERS, link_options, make_solver, near_first

ACCESSES = [
    {"access": "noma"},
    {"access": "tdma"},
    {"access": "fdma"},
    {"transmission": "distance"},
    {"transmission": "strength"},
    {"transmission": "exhaustive"},
]


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    rng = np.random.default_rng(50)
    distances = drop_distances(rng.random((64, 3)), 50.0, 200.0)
    fading = rng.standard_normal((64, 3, 2, 2)).view(complex)[..., 0] / np.sqrt(2)
    return {
        "channel": np.sqrt(path_gain(distances))[..., None] * fading,
        "power_w": Scenario().power_w,
        "noise_power_w": Scenario().noise_power_w,
        "bandwidth_hz": 1e6,
        "demand_bits": rng.uniform(100, 800, (64, 3)) * (rng.random((64, 3)) > 0.1),
        "distances_m": distances,
    }


def of_link(case: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in case.items() if name != "distances_m"}


def test_scenario_and_link_agree_on_names_and_limits() -> None:
    assert {*SOLVERS, "model_free"} == set(scenario.TRANSMISSIONS)
    assert scenario.MAX_EXHAUSTIVE_USERS == MAX_EXHAUSTIVE_USERS


@pytest.mark.parametrize("gain_db", [-1200, 1900])
@pytest.mark.parametrize(
    "knobs", [{"access": "tdma"}, {"access": "fdma"}, {"blocklength": "normal"}, {"sic_residual": 1}]
)
def test_absurd_powers_give_numbers(knobs: dict[str, Any], gain_db: float, case: dict[str, Any]) -> None:
    sent = make_solver(Scenario(**knobs))(**(case | {"power_w": case["power_w"] * 10 ** (gain_db / 10)}))
    assert not np.isnan(sent.rate_bps).any()
    assert (sent.latency_s[(case["demand_bits"] > 0).any(axis=-1)] > 0).all()


def test_without_options_solvers_are_what_they_are() -> None:
    for name, solver in SOLVERS.items():
        assert make_solver(Scenario(transmission=name)) is solver
    assert make_solver(Scenario(transmission=near_first)) is near_first
    assert link_options(Scenario()) == {}


def test_every_name_transmits(case: dict[str, Any]) -> None:
    active = case["demand_bits"] > 0
    best = SOLVERS["optimal"](**case).latency_s
    np.testing.assert_allclose(SOLVERS["exhaustive"](**case).latency_s, best, rtol=1e-9)
    received = case["power_w"] * (np.abs(case["channel"]) ** 2).sum(axis=-1)
    sent = SOLVERS["strength"](**case)
    ranked = np.take_along_axis(np.where(active, received, 0.0), sent.order, axis=-1)
    assert (np.diff(ranked, axis=-1) <= 0).all()


def test_orthogonal_access_is_the_links(case: dict[str, Any]) -> None:
    for access, divide in (("tdma", time_division), ("fdma", frequency_division)):
        sent = make_solver(Scenario(access=access))(**case)
        np.testing.assert_array_equal(sent.rate_bps, divide(**of_link(case)).rate_bps)
    short = make_solver(Scenario(access="tdma", blocklength="normal"))(**case)
    expected = time_division(**of_link(case), error_probability=1e-3)
    np.testing.assert_array_equal(short.rate_bps, expected.rate_bps)


@pytest.mark.parametrize("name", ["optimal", "exhaustive", "distance", "strength"])
def test_options_reach_the_solvers(name: str, case: dict[str, Any]) -> None:
    one = Scenario(transmission=name, blocklength="normal", error_probability=1e-5, sic_residual=0.02)
    options = link_options(one)
    assert options == {"error_probability": 1e-5, "sic_residual": 0.02}
    sent = make_solver(one)(**case)
    true = transmit(**of_link(case), beams=sent.beams, order=sent.order, **options)
    np.testing.assert_allclose(sent.rate_bps, true.rate_bps, rtol=1e-9)
    np.testing.assert_allclose(sent.latency_s, true.latency_s, rtol=1e-9)
    assert (sent.latency_s >= SOLVERS[name](**case).latency_s * (1 - 1e-9)).all()
    best = make_solver(Scenario(blocklength="normal", error_probability=1e-5, sic_residual=0.02))(**case)
    assert (sent.latency_s >= best.latency_s * (1 - 1e-9)).all()


def test_solvers_that_know_no_options_are_priced_under_them(case: dict[str, Any]) -> None:
    def by_index(channel: Any, power: Any, noise: Any, bandwidth: Any, demand: Any, distances: Any) -> Any:
        return transmit(channel, power, noise, bandwidth, demand, channel, [0, 1, 2])

    assert make_solver(Scenario(transmission=by_index)) is by_index
    sent = make_solver(Scenario(transmission=by_index, sic_residual=0.1))(**case)
    priced = transmit(**of_link(case), beams=case["channel"], order=[0, 1, 2], sic_residual=0.1)
    np.testing.assert_allclose(sent.rate_bps, priced.rate_bps, rtol=1e-12)


def test_the_papers_solver_is_priced_under_the_options(case: dict[str, Any]) -> None:
    pytest.importorskip("cvxpy")
    few = {name: value[:2] if np.ndim(value) > 1 else value for name, value in case.items()}
    plain = SOLVERS["paper"](**few)
    sent = make_solver(Scenario(transmission="paper", sic_residual=0.1))(**few)
    np.testing.assert_array_equal(sent.order, plain.order)
    assert (sent.latency_s >= plain.latency_s).all()


@pytest.mark.parametrize("knobs", ACCESSES)
def test_estimates_choose_and_channels_decide(knobs: dict[str, Any], case: dict[str, Any]) -> None:
    solver: Any = make_solver(Scenario(**knobs, csi_error=0.1))
    known = make_solver(Scenario(**knobs))(**case)
    np.testing.assert_allclose(solver(**case).latency_s, known.latency_s, rtol=1e-9)
    np.testing.assert_allclose(solver(**case, estimate=case["channel"]).latency_s, known.latency_s, rtol=1e-9)
    means = []
    for csi_error in (1e-8, 1e-4, 0.1):
        estimate = sample_estimates(np.random.default_rng(51), case["channel"], csi_error)
        sent = solver(**case, estimate=estimate)
        assert np.isfinite(sent.latency_s).all()
        if knobs in ({"access": "noma"}, {"access": "tdma"}, {"access": "fdma"}):
            assert (sent.latency_s >= known.latency_s * (1 - 1e-9)).all()
        means.append(sent.latency_s.mean())
    assert np.all(np.diff(means) > 0)


@pytest.mark.parametrize("knobs", [*ACCESSES, {"blocklength": "normal"}, {"sic_residual": 0.1}, {"csi_error": 0.1}])
def test_solvers_survive_pickling(knobs: dict[str, Any], case: dict[str, Any]) -> None:
    solver = make_solver(Scenario(**knobs))
    again = pickle.loads(pickle.dumps(solver))  # noqa: S301
    np.testing.assert_array_equal(again(**case).latency_s, solver(**case).latency_s)


@pytest.mark.parametrize(
    "knobs",
    [
        {"access": "tdma", "blocklength": "normal"},
        {"access": "fdma", "csi_error": 0.05},
        {"transmission": "exhaustive", "sic_residual": 0.01},
        {"transmission": "strength", "blocklength": "normal", "csi_error": 0.05},
    ],
)
def test_environments_transmit_under_the_options(knobs: dict[str, Any], table_path: str) -> None:
    env = gym.make("NomaSemCom-v0", images=table_path, **knobs)
    env.reset(seed=3)
    settled = env.unwrapped.scenario
    for _ in range(20):
        env.action_space.seed(4)
        *_, info = env.step(env.action_space.sample())
        hidden = info["privileged"]
        link = (hidden["power_w"], settled.noise_power_w, settled.bandwidth_hz, info["demand_bits"].astype(float)[None])
        known = make_solver(Scenario(**knobs))(hidden["channel"][None], *link, hidden["distances_m"][None])
        if "csi_error" in knobs:
            assert info["latency_s"] > 0
        else:
            np.testing.assert_allclose(info["rate_bps"], known.rate_bps[0], rtol=1e-9)
