"""The compiled default step and observation are the NumPy ones, whatever the batch, and stand in for nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from noma_semcom_env import dynamics as heart
from noma_semcom_env import observation as seen
from noma_semcom_env.dynamics import Dynamics, State, Transition
from noma_semcom_env.link import decoding_order
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.transmission import optimal

pytest.importorskip("numba")

FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "one antenna": {"num_users": 2, "num_antennas": 1},
    "many users": {"num_users": 8, "num_antennas": 4, "transmit_power_dbm": list(range(10, 26, 2))},
    "a single user": {"num_users": 1, "num_antennas": 1},
    "all features": {"prune": False, "lpips_weight": 0.2},
    "often too late": {"max_latency_s": 5e-4, "violation_penalty": 3.0},
    "weak": {"transmit_power_dbm": -100.0},
    "moving": {"doppler_hz": 20.0, "fading": "rician"},
}


def run(knobs: dict[str, Any], batch: int = 9) -> tuple[list[State], list[Transition], list[dict[str, np.ndarray]]]:
    dynamics = Dynamics(Scenario(episode_length=6, **knobs))
    rng = np.random.default_rng(3)
    state = dynamics.reset([np.random.default_rng([7, i]) for i in range(batch)])
    states, moves, observations = [state], [], [dynamics.observe(state)]
    for _ in range(6):
        wanted = rng.random((batch, dynamics.scenario.num_users, dynamics.bank.width)) < rng.random((batch, 1, 1))
        wanted[0] = False
        moves.append(dynamics.step(states[-1], wanted))
        states.append(moves[-1].state)
        observations.append(dynamics.observe(states[-1]))
    return states, moves, observations


def flat(info: dict[str, Any]) -> dict[str, np.ndarray]:
    nested = {key: value for key, value in info.items() if isinstance(value, dict)}
    return {**info, **{f"{key}/{k}": v for key, inner in nested.items() for k, v in inner.items()}}


@pytest.mark.parametrize("form", FORMS)
def test_they_equal_the_numpy_forms(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = FORMS[form]
    assert Dynamics(Scenario(**knobs))._compiled is not None
    states, moves, observations = run(knobs)
    monkeypatch.setattr(heart, "_compiled_step", lambda *_: None)
    monkeypatch.setattr(seen, "_compiled_observation", lambda: None)
    monkeypatch.setattr(decoding_order, "_compiled_joint_optimum", lambda: None)
    for state, other in zip(states, run(knobs)[0], strict=True):
        np.testing.assert_array_equal(state.last_order, other.last_order)
        np.testing.assert_array_equal(state.elapsed, other.elapsed)
    _, plain_moves, plain_observations = run(knobs)
    for move, other in zip(moves, plain_moves, strict=True):
        np.testing.assert_allclose(move.reward, other.reward, rtol=1e-9)
        np.testing.assert_allclose(move.beams, other.beams, atol=1e-8)
        ours, theirs = flat(move.info), flat(other.info)
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            if isinstance(value, dict):
                continue
            assert value.dtype == theirs[name].dtype, name
            if value.dtype.kind == "f":
                np.testing.assert_allclose(value, theirs[name], rtol=1e-9, err_msg=name)
            else:
                np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    for ours, theirs in zip(observations, plain_observations, strict=True):
        assert list(ours) == list(theirs)
        for name, value in ours.items():
            assert value.dtype == theirs[name].dtype
            np.testing.assert_allclose(value, theirs[name], atol=2e-7, err_msg=name)


def test_a_batch_is_its_environments_one_by_one() -> None:
    dynamics = Dynamics(Scenario())
    generators = [np.random.default_rng([5, i]) for i in range(4)]
    state = dynamics.reset(generators)
    wanted = np.random.default_rng(0).random((4, 3, dynamics.bank.width)) < 0.5
    together = dynamics.step(state, wanted)
    for i in range(4):
        alone = dynamics.step(state.rows(np.array([i])), wanted[i : i + 1])
        assert alone.reward[0] == together.reward[i]
        np.testing.assert_array_equal(alone.info["rate_bps"][0], together.info["rate_bps"][i])


@pytest.mark.parametrize(
    "knobs",
    [
        {"transmission": "distance"},
        {"access": "tdma"},
        {"csi_error": 0.1},
        {"sic_residual": 0.1},
        {"blocklength": "normal"},
        {"backlog": True},
        {"reward": lambda *_: None},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
def test_other_scenarios_take_the_numpy_forms(knobs: dict[str, Any]) -> None:
    assert Dynamics(Scenario(**knobs))._compiled is None


def test_what_a_step_gives_away_is_nobody_elses() -> None:
    dynamics = Dynamics(Scenario())
    state = dynamics.reset([np.random.default_rng(0)])
    wanted = np.ones((1, 3, dynamics.bank.width), dtype=bool)
    first = dynamics.step(state, wanted)
    first.info["decoding_order"][:] = -5
    first.info["privileged"]["channel"][:] = np.nan
    first.info["privileged"]["image_index"][:] = 0
    again = dynamics.step(state, wanted)
    assert np.isfinite(again.info["privileged"]["channel"]).all()
    assert (first.state.last_order >= 0).all()
    np.testing.assert_array_equal(again.reward, first.reward)


def test_what_is_past_the_end_is_refused() -> None:
    dynamics = Dynamics(Scenario(episode_length=2))
    state = dynamics.reset([np.random.default_rng(0)])
    wanted = np.ones((1, 3, dynamics.bank.width), dtype=bool)
    for _ in range(3):
        state = dynamics.step(state, wanted).state
    with pytest.raises(IndexError, match="elapsed=3 is past the 3 channels"):
        dynamics.step(state, wanted)
    with pytest.raises(IndexError, match="elapsed=3"):
        dynamics.observe(state)
    with pytest.raises(IndexError):
        dynamics.reset([np.random.default_rng(0)], np.full(3, len(dynamics.bank)))


def test_an_order_that_is_none_is_refused() -> None:
    def from_one(*link: Any) -> Any:
        return replace(optimal(*link), order=np.tile(np.arange(1, 4), (len(link[0]), 1)))

    dynamics = Dynamics(Scenario(transmission=from_one))
    state = dynamics.reset([np.random.default_rng(0)])
    with pytest.raises(ValueError, match="each user"):
        dynamics.step(state, np.ones((1, 3, dynamics.bank.width), dtype=bool))
