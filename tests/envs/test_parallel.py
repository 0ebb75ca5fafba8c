from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Dict, MultiBinary

from noma_semcom_env import NomaSemComEnv
from noma_semcom_env.envs.parallel import NomaSemComParallelEnv, env, parallel_env
from noma_semcom_env.observation import FeatureObservation

AGENTS = ["su_0", "su_1", "su_2"]


def split(action: Any, users: int = 3) -> dict[str, Any]:
    """The agents' parts of the single form's action."""
    if isinstance(action, dict):
        parts = {name: value.reshape(users, -1) for name, value in action.items()}
        return {f"su_{k}": {name: value[k] for name, value in parts.items()} for k in range(users)}
    return {f"su_{k}": part for k, part in enumerate(action.reshape(users, -1))}


@pytest.mark.parametrize("transmission", ["optimal", "model_free"])
def test_it_is_the_single_environment_seen_by_many(table_path: str, transmission: str) -> None:
    knobs: dict[str, Any] = {"images": table_path, "episode_length": 5, "transmission": transmission}
    many, one = parallel_env(**knobs), NomaSemComEnv(**knobs)
    mask = "action_mask" if transmission == "optimal" else "selection_mask"
    one.action_space.seed(0)
    for seed in (7, None):
        observations, infos = many.reset(seed=seed)
        whole, info = one.reset(seed=seed)
        for step in range(5):
            assert many.agents == list(observations) == list(infos) == AGENTS
            for k, agent in enumerate(AGENTS):
                assert many.observation_space(agent).contains(observations[agent])
                np.testing.assert_array_equal(observations[agent][mask], whole["action_mask"].reshape(3, -1)[k])
                np.testing.assert_array_equal(infos[agent][mask], observations[agent][mask])
                for name, place in many.slices.items():
                    own = whole[name] if name == "bandwidth" else whole[name].reshape(3, -1)[k]
                    np.testing.assert_array_equal(observations[agent]["observation"][place], own)
                np.testing.assert_array_equal(
                    infos[agent]["common"]["privileged"]["channel"], info["privileged"]["channel"]
                )
            np.testing.assert_array_equal(many.state(), np.concatenate([whole[name] for name in many.slices]))
            assert many.state_space.contains(many.state())
            action = one.action_space.sample()
            actions = dict(reversed(split(action).items()))  # their order means nothing
            observations, rewards, terminations, truncations, infos = many.step(actions)
            whole, reward, _, truncated, info = one.step(action)
            assert rewards == dict.fromkeys(AGENTS, reward)
            assert truncations == dict.fromkeys(AGENTS, truncated)
            assert not any(terminations.values())
            assert truncated is (step == 4)
            for k, agent in enumerate(AGENTS):
                for name in ("lpips", "rate_bps", "demand_bits", "selection"):
                    np.testing.assert_array_equal(infos[agent][name], info[name][k])
        assert many.agents == []
        with pytest.raises(ResetNeeded, match="call reset"):
            many.step({})


def test_own_rewards(table_path: str) -> None:
    knobs: dict[str, Any] = {"images": table_path, "max_latency_s": 1e-4}
    own, shared = parallel_env(reward_sharing="own", **knobs), parallel_env(**knobs)
    own.reset(seed=1)
    shared.reset(seed=1)
    for _ in range(10):
        actions = split(np.ones(18, np.int8))
        _, rewards, *_, infos = own.step(actions)
        common = shared.step(actions)[1]["su_0"]
        for agent in AGENTS:
            tau = infos[agent]["demand_bits"] / infos[agent]["rate_bps"]
            expected = -0.5 * infos[agent]["lpips"] - 0.5 * min(tau, 1e-4) / 1e-3 - (tau > 1e-4)
            np.testing.assert_allclose(rewards[agent], expected)
            np.testing.assert_allclose(infos[agent]["latency_s"], tau)
            assert type(rewards[agent]) is float
        assert np.mean(list(rewards.values())) >= common
        assert max(info["latency_s"] for info in infos.values()) == infos["su_0"]["common"]["latency_s"]


def test_entries_are_split_by_user_where_they_can_be(table_path: str) -> None:
    """Of a layout of the user's own: entries whose length is no multiple of K are common to all agents."""

    class Layout(FeatureObservation):
        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            self.space = Dict({name: self.space[name] for name in ("snr", "bandwidth", "action_mask")})

        def observe(self, state: Any) -> dict[str, np.ndarray]:
            seen = super().observe(state)
            return {name: seen[name] for name in self.space}

    many = parallel_env(images=table_path, observation=Layout)
    assert many.slices == {"bandwidth": slice(0, 1), "snr": slice(1, 2)}
    observations, _ = many.reset(seed=0)
    assert len({seen["observation"][0] for seen in observations.values()}) == 1
    assert len({seen["observation"][1] for seen in observations.values()}) == 3
    alone = parallel_env(images=table_path, num_users=1)
    assert alone.observation_space("su_0")["action_mask"] == MultiBinary(6)
    assert alone.reset(seed=0)[0]["su_0"]["observation"].shape == (1 + 4 + 1 + 1 + 4 * 6,)


def test_images_can_be_given_and_other_options_are_left_alone(table_path: str) -> None:
    many = parallel_env(images=table_path)
    ids = ["synthetic:0:1", "synthetic:0:1", "synthetic:0:3"]
    _, infos = many.reset(seed=0, options={"image_ids": ids, "options": 1})
    assert infos["su_1"]["common"]["privileged"]["image_ids"].tolist() == ids


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        ({"su_0": np.zeros(6)}, ValueError, r"actions are of \['su_0'\]; one of each of \['su_0', 'su_1', 'su_2'\]"),
        (split(np.zeros(24), 4), ValueError, r"'su_3'\]; one of each"),
        ({**split(np.zeros(18)), "su_1": np.zeros(5)}, ValueError, r"action of su_1 has shape \(5,\); \(6,\)"),
        ({**split(np.zeros(18)), "su_1": np.full(6, 2)}, ValueError, r"action\[6\]=.*2.* is not allowed"),
        ({**split(np.zeros(18)), "su_1": ["a"] * 6}, TypeError, "action has entries of type"),
    ],
)
def test_bad_actions_are_refused(table_path: str, actions: Any, error: type[Exception], message: str) -> None:
    many = parallel_env(images=table_path)
    many.reset(seed=0)
    with pytest.raises(error, match=message):
        many.step(actions)


def test_bad_model_free_actions_are_refused(table_path: str) -> None:
    many = parallel_env(images=table_path, transmission="model_free")
    many.reset(seed=0)
    good = {"selection": np.zeros(6), "beams": np.zeros(4), "priorities": np.zeros(1)}
    for bad, message in (
        (np.zeros(6), "action of su_2 is .*; a dict of beams, priorities, selection is needed"),
        ({"selection": np.zeros(6)}, "a dict of beams, priorities, selection is needed"),
        ({**good, "beams": np.zeros(3)}, r"action of su_2\['beams'\] has shape \(3,\); \(4,\) is needed"),
    ):
        with pytest.raises(ValueError, match=message):
            many.step({"su_0": good, "su_1": good, "su_2": bad})


def test_bad_arguments_are_refused(table_path: str) -> None:
    with pytest.raises(ValueError, match="reward_sharing='mine' is unknown; choose one of 'shared', 'own'"):
        parallel_env(images=table_path, reward_sharing="mine")
    with pytest.raises(TypeError, match="did you mean 'num_users'"):
        parallel_env(images=table_path, num_user=3)
    with pytest.raises(ValueError, match="render_mode='svg' is not offered"):
        parallel_env(images=table_path, render_mode="svg")


def test_pickled_in_mid_episode_it_goes_on_alike(table_path: str) -> None:
    many = NomaSemComParallelEnv(images=table_path)
    many.reset(seed=0)
    twin = pickle.loads(pickle.dumps(many))  # noqa: S301 (its own)
    actions = split(np.ones(18, np.int8))
    assert many.step(actions)[1] == twin.step(actions)[1]


def test_agents_in_turn(table_path: str) -> None:
    """The cycle form takes the step once the last agent has acted."""
    cycle = env(images=table_path, episode_length=2)
    single = NomaSemComEnv(images=table_path, episode_length=2)
    cycle.reset(seed=3)
    single.reset(seed=3)
    for _ in range(2):
        for _ in range(3):
            cycle.step(np.ones(6, np.int8))
        assert cycle.rewards["su_1"] == single.step(np.ones(18, np.int8))[1]
