"""Gymnasium's checks over every id, and what they miss."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import MultiBinary
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

from noma_semcom_env import ENVIRONMENTS

ROWS = {row.id: row for row in ENVIRONMENTS}
STEPS = 500

Sampler = Callable[[Any, int], Callable[[Any], Any]]
Same = Callable[..., None]


@pytest.fixture
def env(name: str, images: str) -> Any:
    return gymnasium.make(name, images=images)


def build(name: str, **knobs: Any) -> Any:
    """The single form of an id, without Gymnasium's wrappers."""
    module, _, kind = ROWS[name].entry_point.partition(":")
    return getattr(importlib.import_module(module), kind)(**{**ROWS[name].knobs, **knobs})


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


def test_gymnasium_checks(env: Any) -> None:
    check_env(env.unwrapped)


def test_spec_round_trip(name: str, images: str, assert_same: Same) -> None:
    changed: dict[str, Any] = {"channel": "awgn", "snr_values_db": (3.0, 9.0)}
    if hasattr(gymnasium.make(name, images=images).unwrapped.scenario, "num_users"):
        changed = {"transmit_power_dbm": (20.0, 23.0), "distances_m": (60.0, 90.0), "num_users": 2, "doppler_hz": 5.0}
    env = gymnasium.make(name, images=images, **changed)
    twin = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert twin.unwrapped.scenario == env.unwrapped.scenario
    for knob, value in {**ROWS[name].knobs, **changed}.items():
        assert getattr(twin.unwrapped.scenario, knob) == value
    assert_same(twin.reset(seed=1)[0], env.reset(seed=1)[0])


def test_pickling(env: Any, sample: Sampler) -> None:
    """A copy made in the middle of an episode goes on alike, through the following resets without a seed."""
    policy = sample(env.action_space, 0)
    env.reset(seed=1)
    env.step(policy(None))
    twin = pickle.loads(pickle.dumps(env))  # noqa: S301 (its own)
    for _ in range(45):
        action = policy(None)
        one, other = env.step(action), twin.step(action)
        assert one[1] == other[1]
        np.testing.assert_array_equal(one[4]["privileged"]["channel"], other[4]["privileged"]["channel"])
        if one[3]:
            env.reset()
            twin.reset()


def test_a_seed_means_the_same_numbers_after_other_episodes(env: Any, sample: Sampler) -> None:
    """Exactly, over 500 steps."""
    once = rollout(env, 1, STEPS, sample(env.action_space, 0))
    rollout(env, 2, 33, sample(env.action_space, 3))
    again = rollout(env, 1, STEPS, sample(env.action_space, 0))
    for (seen, reward, state), (seen_again, reward_again, state_again) in zip(once, again, strict=True):
        assert reward == reward_again
        for key in seen:
            np.testing.assert_array_equal(seen[key], seen_again[key])
        np.testing.assert_array_equal(state["channel"], state_again["channel"])


def test_different_seeds_mean_different_numbers(env: Any, sample: Sampler) -> None:
    one, other = (rollout(env, seed, 5, sample(env.action_space, 0)) for seed in (1, 2))
    for (_, _, state), (_, _, other_state) in zip(one, other, strict=True):
        for key in ("channel", "distances_m" if "distances_m" in state else "snr_db"):
            assert np.all(state[key] != other_state[key])


def test_every_policy_and_every_id_faces_the_same_numbers(table_path: str, sample: Sampler) -> None:
    """Bit for bit, among ids of as many users and antennas."""
    sizes: dict[tuple[int, int], list[list[tuple[Any, ...]]]] = {}
    for name in (name for name in ROWS if name.startswith("Noma")):
        for seed, transmission in enumerate([None, "optimal", "distance", "model_free"]):
            knobs = {} if transmission is None else {"transmission": transmission}
            env = gymnasium.make(name, images=table_path, **knobs)
            size = env.unwrapped.scenario.num_users, env.unwrapped.scenario.num_antennas
            sizes.setdefault(size, []).append(rollout(env, 4, 25, sample(env.action_space, seed)))
    assert len(sizes) > 3
    for runs in sizes.values():
        assert len(runs) == 12
        for steps in zip(*runs, strict=True):
            for _, _, state in steps[1:]:
                for key in ("channel", "distances_m", "image_index"):
                    np.testing.assert_array_equal(state[key], steps[0][2][key])


def compare_scalar_with_vector(
    name: str, steps: int, num: int, sample: Sampler, assert_same: Same, **knobs: Any
) -> None:
    """Each sub-environment equals the single one of its seed, the last observation of an episode included."""
    knobs = {"episode_length": 4, **ROWS[name].knobs, **knobs}
    ours = gymnasium.make_vec(name, num, "vector_entry_point", **knobs)
    theirs = SyncVectorEnv([lambda: build(name, **knobs)] * num)
    for here, there in zip(ours.reset(seed=21), theirs.reset(seed=21), strict=True):
        assert_same(here, there)
    policy = sample(ours.action_space, 0)
    ends = 0
    for _ in range(steps):
        action = policy(None)
        one, other = ours.step(action), theirs.step(action)
        for here, there in zip(one, other, strict=True):
            assert_same(here, there)
        ends += int(one[3].sum())
    assert ends == num * ((steps + 1) // 5)


def test_scalar_equals_vector(name: str, images: str, sample: Sampler, assert_same: Same) -> None:
    compare_scalar_with_vector(name, 14, 3, sample, assert_same, images=images)


@pytest.mark.parametrize("transmission", ["optimal", "exhaustive", "distance", "strength", "paper", "model_free"])
def test_scalar_equals_vector_under_every_transmission(
    table_path: str, transmission: str, sample: Sampler, assert_same: Same
) -> None:
    knobs: dict[str, Any] = {"images": table_path, "transmission": transmission}
    if transmission == "paper":
        knobs |= {"num_users": 2, "num_antennas": 1}
    compare_scalar_with_vector("NomaSemComUnpruned-v0", 9, 2, sample, assert_same, **knobs)


@pytest.mark.parametrize(
    "knobs",
    [
        {"access": "tdma"},
        {"backlog": True, "step_period_s": 2e-4, "backlog_deadline_steps": 3},
        {"access": "fdma"},
        {"blocklength": "normal"},
        {"csi_error": 0.1, "sic_residual": 0.05},
        {"csi_error": 0.1, "blocklength": "normal", "transmission": "model_free"},
    ],
    ids=str,
)
def test_scalar_equals_vector_under_every_option(
    table_path: str, knobs: dict[str, Any], sample: Sampler, assert_same: Same
) -> None:
    compare_scalar_with_vector("NomaSemCom-v0", 9, 3, sample, assert_same, images=table_path, **knobs)


def test_the_terminal_observation_is_the_ended_episodes(
    name: str, images: str, sample: Sampler, assert_same: Same
) -> None:
    """NEXT_STEP autoreset: the truncated step shows the old episode's last observation, the next one the new one's."""
    ours = gymnasium.make_vec(name, 2, "vector_entry_point", images=images, episode_length=3)
    single = [build(name, images=images, episode_length=3) for _ in range(2)]
    ours.reset(seed=8)
    for i, one in enumerate(single):
        one.reset(seed=8 + i)
    policy = sample(single[0].action_space, 0)
    for step in range(3):
        action = policy(None)
        batch = (
            {key: np.stack([value] * 2) for key, value in action.items()}
            if isinstance(action, dict)
            else np.stack([action] * 2)
        )
        final, _, _, truncations, _ = ours.step(batch)
        last = [one.step(action)[0] for one in single]
        assert truncations.tolist() == [step == 2] * 2
    for i in range(2):
        assert_same({key: value[i] for key, value in final.items()}, last[i])
    begun, rewards, _, truncations, _ = ours.step(batch)
    assert not rewards.any()
    assert not truncations.any()
    for i, one in enumerate(single):
        assert_same({key: value[i] for key, value in begun.items()}, one.reset()[0])


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point", None])
def test_make_vec(images: str, name: str, mode: str | None) -> None:
    env = gymnasium.make_vec(name, num_envs=3, vectorization_mode=mode, images=images)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.action_space.seed(0)
    for _ in range(22):
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


def test_remote_workers_find_the_ids_by_module(table_path: str, mixture_path: str) -> None:
    images = {name: mixture_path if name.startswith("Mixture") else table_path for name in ROWS}
    code = (
        "import gymnasium, sys\n"
        f"for name, images in {images!r}.items():\n"
        "    env = gymnasium.make('noma_semcom_env:' + name, images=images)\n"
        "    env.reset(seed=0)\n"
        "    env.step(env.action_space.sample())\n"
        "    gymnasium.make_vec('noma_semcom_env:' + name, num_envs=2, images=images).reset(seed=0)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_no_id_sets_a_length_that_a_keyword_contradicts(name: str, images: str, sample: Sampler) -> None:
    assert gymnasium.spec(name).max_episode_steps is None
    env = gymnasium.make(name, images=images, episode_length=70)
    assert len(rollout(env, 0, 65, sample(env.action_space, 0))) == 66


def test_ids_name_their_size(selecting: str, table_path: str) -> None:
    env = gymnasium.make(selecting, images=table_path)
    scenario = env.unwrapped.scenario
    family = f"-K{scenario.num_users}N{scenario.num_antennas}-" in selecting
    assert family or (scenario.num_users, scenario.num_antennas) == (3, 2)
    assert isinstance(env.action_space, MultiBinary) is ("ModelFree" not in selecting)
    assert scenario.prune is selecting.startswith("NomaSemCom-")


@pytest.mark.parametrize("images", ["street-policy", "street-validation", "street-test"])
def test_bundled_image_sets_need_no_path(images: str, sample: Sampler) -> None:
    env = gymnasium.make("NomaSemCom-v0", images=images)
    assert len(rollout(env, 0, 5, sample(env.action_space, 0))) == 6
    assert gymnasium.make("NomaSemCom-v0").unwrapped.scenario.images == "street-policy"
