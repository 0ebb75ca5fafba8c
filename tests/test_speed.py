"""What a step may cost beside others of the same run; absolute figures belong to a machine."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from timeit import repeat
from typing import Any

import gymnasium
import numpy as np
import pytest

from noma_semcom_env import NomaSemComVectorEnv


def least(call: Callable[[], Any], times: int) -> float:
    """Least processor time of a call in s; what else runs on the machine only adds."""
    call()
    return min(repeat(call, number=1, repeat=times, timer=process_time))


@pytest.mark.slow
def test_a_reset_costs_no_more_than_ten_steps() -> None:
    env = gymnasium.make("NomaSemCom-v0", episode_length=20)
    env.reset(seed=0)
    reset = least(env.reset, 400)
    action = env.action_space.sample()
    steps = []
    for _ in range(40):
        env.reset()
        steps += [least(lambda: env.step(action), 10)]
    assert reset <= 10 * min(steps)


@pytest.mark.slow
@pytest.mark.parametrize("antennas", [2, 4])
def test_cost_grows_no_faster_than_the_cube_of_the_users(antennas: int) -> None:
    def step_s(users: int) -> float:
        env = NomaSemComVectorEnv(64, num_users=users, num_antennas=antennas, episode_length=1000)
        env.reset(seed=0)
        actions = np.ones(env.action_space.shape, np.int8)
        return least(lambda: env.step(actions), 60)

    cost = [step_s(users) for users in (4, 8, 16, 32)]
    growth = np.divide(cost[1:], cost[:-1])
    assert (growth <= 2**3).all(), f"{growth} times the cost for twice the users"
