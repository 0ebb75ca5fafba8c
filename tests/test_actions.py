from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noma_semcom_env.actions import ModelFreeForm, SelectionForm, action_form
from noma_semcom_env.dynamics import Dynamics
from noma_semcom_env.link.sic import transmit
from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.scenario import Scenario

SELECTION = SelectionForm(3, 6)
MODEL_FREE = ModelFreeForm(3, 6, 2)


def control(**parts: Any) -> dict[str, Any]:
    return {"selection": np.ones(18, np.int8), "beams": np.ones(12), "priorities": np.zeros(3), **parts}


def test_a_selection_takes_every_kind_of_number() -> None:
    bits = np.arange(18) % 3 == 0
    for kind in (bool, np.int8, np.int64, np.float32, np.uint8):
        wanted, nothing = SELECTION.decode(bits.astype(kind), ())
        np.testing.assert_array_equal(wanted.ravel(), bits)
        assert nothing is None
    np.testing.assert_array_equal(SELECTION.decode(bits.tolist(), ())[0], bits.reshape(3, 6))


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (np.zeros(17), ValueError, r"action has shape \(17,\); \(18,\) is needed: num_users=3 times 6 features"),
        (np.zeros((1, 18)), ValueError, r"action has shape \(1, 18\); \(18,\) is needed"),
        (0, ValueError, r"action has shape \(\); \(18,\) is needed"),
        (np.r_[np.zeros(17), np.nan], ValueError, r"action\[17\]=.*nan.* is not allowed; every entry must be 0 or 1"),
        (np.r_[np.zeros(3), 2, np.zeros(14)], ValueError, r"action\[3\]=.*2.* is not allowed"),
        (np.r_[np.zeros(3), -1, np.zeros(14)].astype(np.int8), ValueError, r"action\[3\]=.*-1.* is not allowed"),
        ([[1], [1, 2]], ValueError, "action is no array"),
        (["a"] * 18, TypeError, "action has entries of type .*; numbers are needed"),
        (None, TypeError, "action has entries of type object"),
        (np.zeros(18, complex), TypeError, "action has entries of type complex128"),
    ],
)
def test_bad_selections_are_refused(action: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SELECTION.decode(action, ())


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (np.zeros(33), TypeError, "action is a ndarray; a dict of selection, beams, priorities is needed"),
        ({"selection": np.zeros(18)}, ValueError, r"action holds \['selection'\]; selection, beams, priorities are"),
        (control(power=1.0), ValueError, "action holds .*'power'"),
        (control(selection=np.full(18, 0.5)), ValueError, r"action\['selection'\]\[0\]=.*0.5.* must be 0 or 1"),
        (control(beams=np.ones(6)), ValueError, r"action\['beams'\] has shape \(6,\); \(12,\) is needed"),
        (control(beams=np.ones(12, complex)), TypeError, r"action\['beams'\] has entries of type complex128"),
        (control(priorities=[0, np.inf, 1]), ValueError, r"action\['priorities'\]\[1\]=.*inf.* must be finite"),
        (control(priorities=None), TypeError, r"action\['priorities'\] has entries of type object"),
    ],
)
def test_bad_model_free_actions_are_refused(action: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MODEL_FREE.decode(action, ())


def test_beams_are_laid_out_user_by_user_and_priorities_sort() -> None:
    beams = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, -30, 0, 0]]) / 10
    wanted, given = MODEL_FREE.decode(control(beams=beams.ravel(), priorities=[0.1, 0.7, 0.7]), ())
    assert wanted.shape == (3, 6)
    assert given is not None
    np.testing.assert_allclose(given.beams[:2], [[0.1 + 0.3j, 0.2 + 0.4j], [0.5 + 0.7j, 0.6 + 0.8j]])
    np.testing.assert_allclose(given.beams[2], [0.9, -1.0])  # clipped
    np.testing.assert_array_equal(given.order, [1, 2, 0])
    batch = {name: np.stack([value, value]) for name, value in control().items()}
    wanted, given = MODEL_FREE.decode(batch, (2,))
    assert given is not None
    assert (wanted.shape, given.beams.shape, given.order.shape) == ((2, 3, 6), (2, 3, 2), (2, 3))
    np.testing.assert_array_equal(given.order, [[0, 1, 2]] * 2)


def test_the_scenario_picks_the_form() -> None:
    assert isinstance(action_form(Scenario(transmission="model_free"), 6), ModelFreeForm)
    for transmission in ("optimal", lambda *_: None):
        assert isinstance(action_form(Scenario(transmission=transmission), 6), SelectionForm)


def test_the_model_free_form_transmits_as_it_is_told(table: RecoveryTable) -> None:
    dynamics = Dynamics(Scenario(recovery=table, transmission="model_free"))
    state = dynamics.reset([np.random.default_rng(i) for i in range(4)])
    rng = np.random.default_rng(0)
    actions = {"selection": rng.integers(0, 2, (4, 18)), "beams": rng.uniform(-1, 1, (4, 12))}
    actions["priorities"] = rng.uniform(-1, 1, (4, 3))
    wanted, given = dynamics.decode(actions, (4,))
    assert given is not None
    info = dynamics.step(state, wanted, given).info
    link = (state.channel, dynamics.power_w, dynamics.noise_power_w, 1e6)
    sent = transmit(*link, info["demand_bits"], given.beams, given.order)
    np.testing.assert_array_equal(info["rate_bps"], sent.rate_bps)
    np.testing.assert_array_equal(info["decoding_order"], sent.order)
    optimum = Dynamics(Scenario(recovery=table)).step(state, wanted).info
    assert (info["latency_s"] >= optimum["latency_s"] * (1 - 1e-9)).all()
    # Neither the norm of a beam nor the scale of priorities matters; nothing else is solved.
    again = dynamics.step(state, wanted, given._replace(beams=given.beams * 1e-3)).info
    np.testing.assert_allclose(again["rate_bps"], info["rate_bps"], rtol=1e-12)
    with pytest.raises(ValueError, match="leaves beams and order to the action, which has none"):
        dynamics.step(state, wanted)


def test_a_beam_of_zero_receives_nothing(table: RecoveryTable) -> None:
    dynamics = Dynamics(Scenario(recovery=table, transmission="model_free", max_latency_s=10.0))
    state = dynamics.reset([np.random.default_rng(0)])
    wanted, given = dynamics.decode({name: np.asarray(value)[None] for name, value in control().items()}, (1,))
    assert given is not None
    given.beams[0, 1] = 0
    moved = dynamics.step(state, wanted, given)
    assert moved.info["rate_bps"][0, 1] == 0
    assert moved.info["rate_bps"][0, [0, 2]].all()
    assert moved.info["latency_s"][0] == dynamics.scenario.latency_cap_s
    assert moved.info["violations"][0] == 1
    wanted[0, 1] = False  # a silent user needs no beam
    assert dynamics.step(state, wanted, given).info["violations"][0] == 0


def test_the_matched_filter_is_the_observed_direction(table: RecoveryTable) -> None:
    dynamics = Dynamics(Scenario(recovery=table, transmission="model_free"))
    state = dynamics.reset([np.random.default_rng(0)])
    selection = np.zeros((1, 18), np.int8)
    selection[0, :6] = 1
    action = {"selection": selection, "beams": dynamics.observe(state)["direction"], "priorities": np.zeros((1, 3))}
    info = dynamics.step(state, *dynamics.decode(action, (1,))).info
    snr = dynamics.power_w[0] * (np.abs(state.channel[0, 0]) ** 2).sum() / dynamics.noise_power_w
    np.testing.assert_allclose(info["rate_bps"][0, 0], 1e6 * np.log2(1 + snr), rtol=1e-5)
