"""The public suites over every id, and what they miss."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FlattenObservation

from noma_semcom_env import ENVIRONMENTS

IDS = [row.id for row in ENVIRONMENTS]


@pytest.fixture(params=IDS)
def env(request: pytest.FixtureRequest, table_path: str) -> Any:
    return gymnasium.make(request.param, images=table_path)


def rollout(env: Any, seed: int, steps: int, policy: Any) -> list[tuple[Any, ...]]:
    """(observation, reward, privileged) of ``steps`` steps from a seeded reset, over as many episodes as it takes."""
    observation, info = env.reset(seed=seed)
    seen = [(observation, 0.0, info["privileged"])]
    while len(seen) <= steps:
        observation, reward, _, truncated, info = env.step(policy(observation))
        seen.append((observation, reward, info["privileged"]))
        if truncated:
            observation, info = env.reset()
            seen.append((observation, 0.0, info["privileged"]))
    return seen


def masked(observation: dict[str, np.ndarray]) -> np.ndarray:
    return observation["action_mask"]


def test_gymnasium_checks(env: Any) -> None:
    check_env(env.unwrapped)


def test_stable_baselines3_checks(env: Any) -> None:
    from stable_baselines3.common.env_checker import check_env as check_for_stable_baselines3

    check_for_stable_baselines3(env.unwrapped)


@pytest.mark.parametrize(("policy", "flat"), [("MultiInputPolicy", False), ("MlpPolicy", True)])
def test_stable_baselines3_trains(table_path: str, policy: str, flat: bool) -> None:
    from stable_baselines3 import PPO

    env = gymnasium.make("NomaSemCom-v0", images=table_path)
    model = PPO(policy, FlattenObservation(env) if flat else env, n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    model.learn(32)
    action, _ = model.predict(model.get_env().reset())
    assert action.shape == (1, 18)


def test_spec_round_trip(table_path: str) -> None:
    knobs = {"images": table_path, "num_users": 2, "transmit_power_dbm": (20.0, 23.0), "distances_m": (60.0, 90.0)}
    for row in ENVIRONMENTS:
        env = gymnasium.make(row.id, **knobs)
        spec = EnvSpec.from_json(env.spec.to_json())
        twin = gymnasium.make(spec)
        assert twin.unwrapped.scenario == env.unwrapped.scenario
        assert twin.unwrapped.scenario.prune is row.knobs.get("prune", True)
        np.testing.assert_array_equal(twin.reset(seed=1)[0]["snr"], env.reset(seed=1)[0]["snr"])


def test_pickling(env: Any) -> None:
    """A copy made in the middle of an episode goes on alike, through the following resets without a seed."""
    observation, _ = env.reset(seed=1)
    env.step(masked(observation))
    twin = pickle.loads(pickle.dumps(env))  # noqa: S301 (its own)
    for _ in range(45):
        one, other = env.step(masked(observation)), twin.step(masked(observation))
        assert one[1] == other[1]
        np.testing.assert_array_equal(one[4]["privileged"]["channel"], other[4]["privileged"]["channel"])
        if one[3]:
            (observation, _), (_, _) = env.reset(), twin.reset()


def test_a_seed_means_the_same_numbers_after_other_episodes(env: Any) -> None:
    once = rollout(env, 1, 500, masked)
    rollout(env, 2, 33, masked)
    again = rollout(env, 1, 500, masked)
    for (seen, reward, state), (seen_again, reward_again, state_again) in zip(once, again, strict=True):
        assert reward == reward_again
        for name in seen:
            np.testing.assert_array_equal(seen[name], seen_again[name])
        np.testing.assert_array_equal(state["channel"], state_again["channel"])


def test_different_seeds_mean_different_numbers(env: Any) -> None:
    one, other = rollout(env, 1, 5, masked), rollout(env, 2, 5, masked)
    for (_, _, state), (_, _, other_state) in zip(one, other, strict=True):
        assert (state["channel"] != other_state["channel"]).all()
        assert (state["distances_m"] != other_state["distances_m"]).all()


def test_every_policy_and_every_id_faces_the_same_numbers(table_path: str) -> None:
    rng = np.random.default_rng(0)
    policies = [masked, lambda seen: np.zeros(18, np.int8), lambda seen: rng.integers(0, 2, 18, np.int8)]
    transmissions = ["optimal", "optimal", "distance"]
    runs = [
        rollout(gymnasium.make(name, images=table_path, transmission=transmission), 4, 60, policy)
        for name in IDS
        for policy, transmission in zip(policies, transmissions, strict=True)
    ]
    for steps in zip(*runs, strict=True):
        for _, _, state in steps[1:]:
            for name in ("channel", "distances_m", "image_index"):
                np.testing.assert_array_equal(state[name], steps[0][2][name])


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point", None])
@pytest.mark.parametrize("name", IDS)
def test_make_vec(table_path: str, name: str, mode: str | None) -> None:
    env = gymnasium.make_vec(name, num_envs=3, vectorization_mode=mode, images=table_path)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.action_space.seed(0)
    for _ in range(25):
        observation, rewards, *_ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert rewards.shape == (3,)
    env.close()


def test_wrappers_for_vectors_take_it(table_path: str) -> None:
    env = gymnasium.make_vec("NomaSemCom-v0", num_envs=3, images=table_path)
    flat = gymnasium.wrappers.vector.FlattenObservation(gymnasium.wrappers.vector.DictInfoToList(env))
    observation, infos = flat.reset(seed=0)
    assert flat.observation_space.contains(observation)
    assert len(infos) == 3
    *_, infos = flat.step(np.ones((3, 18)))
    assert [info["privileged"]["channel"].shape for info in infos] == [(3, 2)] * 3


@pytest.mark.parametrize("name", IDS)
def test_remote_workers_find_the_ids_by_module(table_path: str, name: str) -> None:
    code = (
        "import gymnasium, sys\n"
        f"env = gymnasium.make('noma_semcom_env:{name}', images={table_path!r})\n"
        "env.reset(seed=0)\n"
        "env.step(env.action_space.sample())\n"
        f"gymnasium.make_vec('noma_semcom_env:{name}', num_envs=2, images={table_path!r}).reset(seed=0)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_no_id_sets_a_length_that_a_keyword_contradicts(table_path: str) -> None:
    for row in ENVIRONMENTS:
        assert gymnasium.spec(row.id).max_episode_steps is None
        assert len(rollout(gymnasium.make(row.id, images=table_path, episode_length=70), 0, 65, masked)) == 66


@pytest.mark.parametrize("images", ["street-policy", "street-validation", "street-test"])
def test_bundled_image_sets_need_no_path(images: str) -> None:
    env = gymnasium.make("NomaSemCom-v0", images=images)
    assert len(rollout(env, 0, 5, masked)) == 6
    assert gymnasium.make("NomaSemCom-v0").unwrapped.scenario.images == "street-policy"
