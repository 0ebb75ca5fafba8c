from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import SyncVectorEnv

from noma_semcom_env import NomaSemComEnv, NomaSemComVectorEnv
from noma_semcom_env.recovery.table import RecoveryTable

NUM = 5

Same = Callable[..., None]


def pair(table_path: str, **knobs: Any) -> tuple[NomaSemComVectorEnv, SyncVectorEnv]:
    knobs = {"images": table_path, "episode_length": 4, **knobs}
    return NomaSemComVectorEnv(NUM, **knobs), SyncVectorEnv([lambda: NomaSemComEnv(**knobs)] * NUM)


def step_both(
    both: tuple[NomaSemComVectorEnv, SyncVectorEnv], rng: np.random.Generator, assert_same: Same
) -> tuple[Any, ...]:
    actions = (rng.random((NUM, both[0].single_action_space.shape[0])) < 0.5).astype(np.int8)  # type: ignore[index]
    here, there = (each.step(actions) for each in both)
    for ours, theirs in zip(here, there, strict=True):
        assert_same(ours, theirs)
    return here


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"transmission": "distance", "prune": False},
        {"num_users": 4, "num_antennas": 1, "fading": "rician", "doppler_hz": 5.0},
        {"same_image": True, "latency_ref_s": 1e-5},
    ],
)
def test_equals_single_environments_over_several_autoresets(
    table_path: str, knobs: dict[str, Any], assert_same: Same
) -> None:
    both = pair(table_path, **knobs)
    assert both[0].observation_space == both[1].observation_space
    assert both[0].action_space == both[1].action_space
    here, there = (each.reset(seed=11) for each in both)
    assert_same(here[0], there[0])
    assert_same(here[1], there[1])
    rng, resets = np.random.default_rng(0), 0
    for _ in range(23):
        *_, infos = step_both(both, rng, assert_same)
        resets += "lpips" not in infos
    assert resets == 4


def test_equals_single_environments_out_of_step(table_path: str, assert_same: Same) -> None:
    both = pair(table_path)
    for each in both:
        each.reset(seed=2)
    rng = np.random.default_rng(1)
    step_both(both, rng, assert_same)
    mask = np.array([True, False, False, True, False])
    here, there = (each.reset(seed=40, options={"reset_mask": mask.copy()}) for each in both)
    assert_same(here[0], there[0])
    assert_same(here[1], there[1])
    step_both(both, rng, assert_same)
    here, there = (each.reset(options={"reset_mask": ~mask}) for each in both)
    assert_same(here[1], there[1])
    ends = np.zeros((0, NUM), bool)
    for _ in range(17):
        _, rewards, _, truncations, infos = step_both(both, rng, assert_same)
        ends = np.vstack([ends, truncations])
        if "_lpips" in infos:
            np.testing.assert_array_equal(infos["lpips"].any(axis=1), infos["_lpips"])
            np.testing.assert_array_equal(rewards != 0, infos["_lpips"])
        assert infos["_privileged"].all()
    assert (ends.any(axis=1) & ~ends.all(axis=1)).any()


def test_vector_equals_scalar_bit_for_bit_in_draws(table_path: str) -> None:
    vector = NomaSemComVectorEnv(NUM, images=table_path)
    _, infos = vector.reset(seed=100)
    for i in range(NUM):
        _, info = NomaSemComEnv(images=table_path).reset(seed=100 + i)
        for name in ("channel", "distances_m", "image_index"):
            np.testing.assert_array_equal(infos["privileged"][name][i], info["privileged"][name])


def test_the_final_observation_is_the_ended_episodes(table_path: str) -> None:
    env = NomaSemComVectorEnv(2, images=table_path, episode_length=3)
    start, _ = env.reset(seed=0)
    actions = np.ones((2, 18), np.int8)
    for _ in range(3):
        final, _, _, truncations, _ = env.step(actions)
    assert truncations.all()
    np.testing.assert_array_equal(final["action_mask"], start["action_mask"])
    assert final["last_order"].any()
    after, rewards, terminations, truncations, infos = env.step(np.zeros((2, 18)))
    assert not np.concatenate([truncations, terminations, rewards]).any()
    assert infos.keys() == {"privileged", "_privileged"}
    np.testing.assert_array_equal(after["last_order"], 0.0)
    again = NomaSemComVectorEnv(2, images=table_path, episode_length=3)
    again.reset(seed=0)
    np.testing.assert_array_equal(after["snr"], again.reset()[0]["snr"])


def test_observations_and_infos_are_not_overwritten_later(table_path: str, assert_same: Same) -> None:
    env = NomaSemComVectorEnv(2, images=table_path)
    observation, infos = env.reset(seed=0)
    kept = {name: value.copy() for name, value in observation.items()}
    channel = infos["privileged"]["channel"].copy()
    env.step(np.ones((2, 18)))
    assert_same(observation, kept)
    np.testing.assert_array_equal(infos["privileged"]["channel"], channel)


def test_seeds_may_be_given_one_by_one(table_path: str, assert_same: Same) -> None:
    env = NomaSemComVectorEnv(3, images=table_path)
    one, _ = env.reset(seed=[7, 8, 9])
    other, _ = env.reset(seed=7)
    assert_same(one, other)
    kept, _ = env.reset(seed=[7, None, 9])
    np.testing.assert_array_equal(kept["snr"][[0, 2]], one["snr"][[0, 2]])
    assert not np.array_equal(kept["snr"][1], one["snr"][1])
    with pytest.raises(ValueError, match="seed has 2 entries; one for each of num_envs=3"):
        env.reset(seed=[1, 2])


def test_without_a_seed_every_episode_differs(table_path: str) -> None:
    env = NomaSemComVectorEnv(3, images=table_path)
    one, _ = env.reset()
    other, _ = env.reset()
    assert len({tuple(row) for row in np.vstack([one["snr"], other["snr"]])}) == 6


def test_image_ids_for_all_or_for_each(table: RecoveryTable, table_path: str) -> None:
    env = NomaSemComVectorEnv(2, images=table_path)
    ids = table.bank.image_ids
    _, infos = env.reset(seed=0, options={"image_ids": [ids[1], ids[2], ids[3]]})
    np.testing.assert_array_equal(infos["privileged"]["image_index"], [[1, 2, 3]] * 2)
    each = [[ids[0], ids[0], ids[4]], [ids[2], ids[1], ids[0]]]
    _, infos = env.reset(seed=0, options={"image_ids": each})
    np.testing.assert_array_equal(infos["privileged"]["image_index"], [[0, 0, 4], [2, 1, 0]])
    with pytest.raises(ValueError, match="image_ids has 1 rows; num_envs=2"):
        env.reset(options={"image_ids": each[:1]})
    with pytest.raises(ValueError, match=r"reset_mask.* must be \(2,\) of bool"):
        env.reset(options={"reset_mask": [1, 0, 1]})
    with pytest.raises(ValueError, match="at least one True"):
        env.reset(options={"reset_mask": np.zeros(2, bool)})
    with pytest.raises(ResetNeeded, match="leave options"):
        NomaSemComVectorEnv(2, images=table_path).reset(options={"reset_mask": np.array([True, False])})


def test_max_episode_steps_as_the_time_limit_has_it(table_path: str, assert_same: Same) -> None:
    knobs: dict[str, Any] = {"images": table_path, "episode_length": 9, "max_episode_steps": 3}
    ours = gymnasium.make_vec("NomaSemCom-v0", 2, "vector_entry_point", **knobs)
    theirs = gymnasium.make_vec("NomaSemCom-v0", 2, "sync", **knobs)
    for one, other in zip(ours.reset(seed=1), theirs.reset(seed=1), strict=True):
        assert_same(one, other)
    for _ in range(9):
        for one, other in zip(ours.step(np.ones((2, 18))), theirs.step(np.ones((2, 18))), strict=True):
            assert_same(one, other)


@pytest.mark.parametrize(
    ("knobs", "error", "message"),
    [
        ({"num_envs": 0}, ValueError, "num_envs=0 is out of range; a whole number of at least 1"),
        ({"num_envs": 2.5}, TypeError, "num_envs=2.5 is a float"),
        ({"max_episode_steps": -1}, ValueError, "max_episode_steps=-1 is out of range"),
        ({"num_users": 0}, ValueError, "num_users=0 is out of range"),
        ({"render_mode": "svg"}, ValueError, "render_mode='svg' is not offered"),
    ],
)
def test_bad_arguments_are_refused(
    table_path: str, knobs: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace(".", r"\.")):
        NomaSemComVectorEnv(**{"images": table_path, **knobs})


def test_bad_steps_are_refused(table_path: str) -> None:
    env = NomaSemComVectorEnv(2, images=table_path)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(np.zeros((2, 18)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action has shape \(18,\); \(2, 18\) is needed"):
        env.step(np.zeros(18))
    with pytest.raises(ValueError, match=r"action\[1, 0\]=.*nan"):
        env.step(np.r_[np.zeros(18), np.nan, np.zeros(17)].reshape(2, 18))


def test_pickled_in_mid_episode_it_goes_on_alike(table_path: str, assert_same: Same) -> None:
    env = NomaSemComVectorEnv(2, images=table_path, episode_length=3)
    env.reset(seed=0)
    env.step(np.ones((2, 18)))
    twin = pickle.loads(pickle.dumps(env))  # noqa: S301 (its own)
    for _ in range(5):
        for one, other in zip(env.step(np.ones((2, 18))), twin.step(np.ones((2, 18))), strict=True):
            assert_same(one, other)
