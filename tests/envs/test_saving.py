from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from noma_semcom_env import NomaSemComEnv, NomaSemComVectorEnv

ACTION = np.ones(18, np.int8)


def outcomes(env: Any, steps: int, action: np.ndarray) -> list[Any]:
    """Rewards, channels and observations of ``steps`` steps, over as many episodes as it takes."""
    seen = []
    for _ in range(steps):
        observation, reward, _, truncated, info = env.step(action)
        seen.append((reward, info["privileged"]["channel"], observation["snr"]))
        if truncated is True:  # a single environment; vectorized ones reset themselves
            env.reset()
    return seen


def assert_equal(one: list[Any], other: list[Any]) -> None:
    for here, there in zip(one, other, strict=True):
        for ours, theirs in zip(here, there, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("vectorized", [False, True])
def test_what_follows_a_saved_state_is_the_same_each_time(table_path: str, vectorized: bool) -> None:
    knobs: dict[str, Any] = {"images": table_path, "episode_length": 4, "csi_error": 0.1}
    knobs |= {"backlog": True, "step_period_s": 1e-4}

    def make() -> Any:
        return NomaSemComVectorEnv(3, **knobs) if vectorized else NomaSemComEnv(**knobs)

    env, action = make(), np.stack([ACTION] * 3) if vectorized else ACTION
    env.reset(seed=5)
    outcomes(env, 3, action)
    saved = env.get_state()
    before = pickle.dumps(saved)
    once = outcomes(env, 10, action)  # over two ends of episodes, so that the generator counts
    for _ in range(2):
        env.set_state(saved)
        assert_equal(outcomes(env, 10, action), once)
    other = make()
    other.set_state(pickle.loads(before))  # noqa: S301 (its own)
    assert_equal(outcomes(other, 10, action), once)
    env.reset(seed=5)
    outcomes(env, 3, action)
    assert_equal(outcomes(env, 10, action), once)


def test_restoring_shows_what_was_seen_there(table_path: str) -> None:
    env = NomaSemComEnv(images=table_path)
    env.reset(seed=0)
    observation, *_ = env.step(ACTION)
    saved = env.get_state()
    env.step(np.zeros(18))
    for name, value in env.set_state(saved).items():
        np.testing.assert_array_equal(value, observation[name])


def test_a_search_finds_the_best_of_its_actions(table_path: str) -> None:
    """Trying actions from a saved state and going on with the best one changes nothing of what comes after."""
    env = gym.make("NomaSemCom-v0", images=table_path)
    env.reset(seed=0)
    base: Any = env.unwrapped
    rng = np.random.default_rng(0)
    saved = base.get_state()
    tried = []
    for action in rng.integers(0, 2, (20, 18), np.int8):
        base.set_state(saved)
        tried.append((env.step(action)[1], action))
    base.set_state(saved)
    value, action = max(tried, key=lambda one: one[0])
    *_, info = env.step(action)
    assert -info["weighted_ll"] == value
    assert base.get_state().episodes.elapsed[0] == 1


def test_an_ended_episode_stays_ended(table_path: str) -> None:
    env = NomaSemComEnv(images=table_path, episode_length=1)
    env.reset(seed=0)
    env.step(ACTION)
    saved = env.get_state()
    env.reset()
    env.set_state(saved)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(ACTION)
    vector = NomaSemComVectorEnv(1, images=table_path, episode_length=1)
    vector.set_state(saved)
    *_, infos = vector.step(ACTION[None])  # begins the next one
    np.testing.assert_array_equal(infos["privileged"]["channel"][0], env.reset()[1]["privileged"]["channel"])


def test_what_does_not_fit_is_refused(table_path: str) -> None:
    env, vector = NomaSemComEnv(images=table_path), NomaSemComVectorEnv(2, images=table_path)
    for one in (env, vector):
        with pytest.raises(ResetNeeded, match=r"before get_state\(\)"):
            one.get_state()
        assert one.state is None
        one.reset(seed=0)
    with pytest.raises(ValueError, match="the saved state is of 2 environments; 1 are needed"):
        env.set_state(vector.get_state())
    with pytest.raises(ValueError, match=r"the saved state is of Scenario\(num_users=3.*it does not fit"):
        NomaSemComEnv(images=table_path, lpips_weight=0.4).set_state(env.get_state())
    # A vectorized environment of one goes on where a single one stands.
    alone = NomaSemComVectorEnv(1, images=table_path)
    alone.set_state(env.get_state())
    assert alone.step(ACTION[None])[1][0] == env.step(ACTION)[1]
