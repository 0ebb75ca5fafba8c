from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noma_semcom_env.backlog import Queue
from noma_semcom_env.dynamics import Dynamics, State, Transition
from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.scenario import Scenario

BATCH = 6


def begun(table: RecoveryTable, **knobs: Any) -> tuple[Dynamics, State]:
    dynamics = Dynamics(Scenario(recovery=table, prune=False, **knobs))
    return dynamics, dynamics.reset([np.random.default_rng(i) for i in range(BATCH)])


def run(table: RecoveryTable, wanted: np.ndarray, **knobs: Any) -> list[Transition]:
    """The transitions of (T, B, K, F) selections."""
    dynamics, state = begun(table, **knobs)
    moved = []
    for one in wanted:
        moved.append(dynamics.step(state, one))
        state = moved[-1].state
    return moved


def selections(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((steps, BATCH, 3, 6)) < 0.6


def test_older_frames_go_first_and_features_by_index() -> None:
    """Against sending bit by bit."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        queue = Queue.empty(1, 1, 0, 4)
        for _ in range(3):
            queue = queue.with_frame(rng.random((1, 1, 4)) < 0.7, rng.integers(1, 6, (1, 1, 4)))
        left = queue.left_bits[0, 0].copy()
        budget = int(rng.integers(0, 40))
        for _ in range(budget):
            for frame in (2, 1, 0):
                if left[frame].any():
                    left[frame, np.flatnonzero(left[frame])[0]] -= 1
                    break
        served = queue.served(np.full((1, 1), float(budget)))
        np.testing.assert_array_equal(served.left_bits[0, 0], left)
        np.testing.assert_array_equal(served.arrived, queue.chosen & (served.left_bits == 0))


def test_parts_of_bits_are_sent_too() -> None:
    queue = Queue.empty(1, 1, 0, 2).with_frame(np.ones((1, 1, 2), bool), np.array([[[3, 5]]]))
    left = queue.served(np.array([[4.25]]))
    np.testing.assert_allclose(left.left_bits, [[[[0.0, 3.75]]]])
    np.testing.assert_array_equal(left.arrived, [[[[True, False]]]])
    np.testing.assert_allclose(left.observe(np.array([[[3, 5]]])), [[1.0, -0.75]])


def test_with_time_enough_and_a_deadline_of_one_step_nothing_changes(table: RecoveryTable) -> None:
    wanted = selections(8)
    plain = run(table, wanted)
    timed = run(table, wanted, backlog=True, backlog_deadline_steps=1, step_period_s=1e3)
    for one, other in zip(plain, timed, strict=True):
        np.testing.assert_allclose(one.reward, other.reward, rtol=1e-9)
        np.testing.assert_array_equal(one.info["decoding_order"], other.info["decoding_order"])
        for name in ("lpips", "latency_s", "rate_bps", "demand_bits"):
            np.testing.assert_allclose(one.info[name], other.info[name], rtol=1e-9)
        assert not other.info["expired_bits"].any()


def test_frames_are_recovered_at_their_deadline(table: RecoveryTable) -> None:
    """With time enough: the LPIPS of the step before the last one, that of nothing before the first frame is due."""
    wanted = selections(8)
    plain = run(table, wanted)
    timed = run(table, wanted, backlog=True, backlog_deadline_steps=3, step_period_s=1e3)
    nothing = table.mean[plain[0].state.image_index, 0]
    for step, one in enumerate(timed):
        expected = nothing if step < 2 else plain[step - 2].info["lpips"]
        np.testing.assert_allclose(one.info["lpips"], expected)
        np.testing.assert_allclose(one.info["latency_s"], plain[step].info["latency_s"], rtol=1e-9)
        assert not one.info["backlog_bits"].any()


@pytest.mark.parametrize("deadline", [1, 2, 4])
def test_no_bit_is_lost_or_sent_twice(table: RecoveryTable, deadline: int) -> None:
    period = 1e-5
    wanted = selections(12)
    moved = run(table, wanted, backlog=True, backlog_deadline_steps=deadline, step_period_s=period)
    before: Any = np.zeros((BATCH, 3))
    dropped = 0.0
    for one in moved:
        info = one.info
        entered = (info["selection"] * table.bank.size_bits[one.state.image_index]).sum(axis=-1)
        np.testing.assert_allclose(info["demand_bits"], before + entered)
        sent = info["demand_bits"] - info["backlog_bits"] - info["expired_bits"]
        np.testing.assert_allclose(sent, np.minimum(info["rate_bps"] * period, info["demand_bits"]))
        assert (deadline > 1) or not info["backlog_bits"].any()
        before, dropped = info["backlog_bits"], dropped + info["expired_bits"].sum()
    assert dropped > 0


def test_an_action_costs_later(table: RecoveryTable) -> None:
    """The selection of the first step alone differs; only with a backlog do later rewards."""
    much, little = selections(4), selections(4)
    much[0], little[0] = True, False
    knobs: dict[str, Any] = {"step_period_s": 1e-5, "backlog_deadline_steps": 2}
    for backlog in (True, False):
        busy, idle = (run(table, one, backlog=backlog, **knobs) for one in (much, little))
        later = np.array([[one.reward - other.reward] for one, other in zip(busy[2:], idle[2:], strict=True)])
        second = busy[1].info["latency_s"] - idle[1].info["latency_s"]
        assert (second > 0).any() is np.bool_(backlog)
        assert later.any() or not backlog
        if not backlog:
            np.testing.assert_array_equal(busy[1].reward, idle[1].reward)


def test_the_queue_is_observed(table: RecoveryTable) -> None:
    knobs: dict[str, Any] = {"backlog": True, "step_period_s": 1e-4}
    dynamics, state = begun(table, backlog_deadline_steps=3, **knobs)
    assert dynamics.observation_space["queue"].shape == (3 * 2 * 6,)
    assert not dynamics.observe(state)["queue"].any()
    wanted = selections(1)[0] & dynamics.available[state.image_index]
    seen = dynamics.observe(dynamics.step(state, wanted).state)["queue"].reshape(BATCH, 3, 2, 6)
    np.testing.assert_array_equal(seen[:, :, 0] != 0, wanted)
    assert not seen[:, :, 1].any()
    assert (seen == 1).any()
    assert ((seen < 0) & (seen >= -1)).any()
    dynamics, state = begun(table, backlog_deadline_steps=1, **knobs)
    assert "queue" not in dynamics.observation_space.spaces
    assert "queue" not in dynamics.observe(dynamics.step(state, wanted).state)
