"""The suites and training loops of the libraries that people come from."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import ClipAction, FlattenObservation, RecordEpisodeStatistics
from torch import nn
from torch.distributions import Normal

from noma_semcom_env import ENVIRONMENTS
from noma_semcom_env.wrappers import FlatAction, FlatObservation, MaskableBits, RecordTransmissionStatistics

KNOBS = {row.id: dict(row.knobs) for row in ENVIRONMENTS}
MULTI_AGENT: list[dict[str, Any]] = [
    {},
    {"reward_sharing": "own", "num_users": 5},
    {"transmission": "model_free", "prune": False},
]


# Stable-Baselines3


def test_stable_baselines3_checks(name: str, images: str) -> None:
    """Ids with arrays for actions as they are, the model-free ones through the flat action, all through both."""
    from stable_baselines3.common.env_checker import check_env

    env = gymnasium.make(name, images=images)
    if not isinstance(env.action_space, Dict):
        check_env(env.unwrapped)
    if not isinstance(env.action_space, Box):
        env = FlatAction(env)
        check_env(env)
    check_env(FlatObservation(env))


@pytest.mark.parametrize(
    ("id_", "policy", "wrappers"),
    [
        ("NomaSemCom-v0", "MultiInputPolicy", []),
        ("NomaSemCom-v0", "MlpPolicy", [FlatObservation]),
        ("NomaSemCom-v0", "MlpPolicy", [FlattenObservation]),
        ("NomaSemComModelFree-v0", "MlpPolicy", [FlatAction, FlatObservation]),
    ],
)
def test_stable_baselines3_trains(table_path: str, id_: str, policy: str, wrappers: list[Any]) -> None:
    from stable_baselines3 import PPO

    env = gymnasium.make(id_, images=table_path)
    for wrapper in wrappers:
        env = wrapper(env)
    model = PPO(policy, env, n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=0)
    model.learn(64)
    action, _ = model.predict(model.get_env().reset())
    assert action.shape == (1, *env.action_space.shape)


@pytest.mark.parametrize("id_", ["MixtureOfSemantics-v0", "MixtureOfSemanticsNoma-v0"])
def test_stable_baselines3_trains_on_mixtures(mixture_path: str, id_: str) -> None:
    from stable_baselines3 import PPO, SAC

    env = gymnasium.make(id_, images=mixture_path)
    for algorithm, options in ((PPO, {"n_steps": 32, "batch_size": 32, "n_epochs": 1}), (SAC, {"learning_starts": 32})):
        model = algorithm("MultiInputPolicy", env, device="cpu", seed=0, **options)
        model.learn(64)
        action, _ = model.predict(model.get_env().reset())
        assert action.shape == (1, *env.action_space.shape)


@pytest.mark.slow
def test_stable_baselines3_learns() -> None:
    """On the flat form, by its own vectorization and its own evaluation."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    def make_env() -> gymnasium.Env[Any, Any]:
        return FlatObservation(gymnasium.make("NomaSemCom-v0"))

    envs, other = make_vec_env(make_env, n_envs=8, seed=0), make_vec_env(make_env)
    knobs: dict[str, Any] = {"gamma": 0.0, "learning_rate": 1e-3, "n_steps": 128, "batch_size": 256, "n_epochs": 5}
    model = PPO("MlpPolicy", envs, **knobs, device="cpu", seed=0)

    def reward() -> float:
        other.seed(100)
        return float(np.mean(evaluate_policy(model, other, 30, deterministic=False)[0])) / 20

    before = reward()
    model.learn(24_000)
    assert reward() > before + 0.02


def test_the_mask_reaches_maskable_ppo(table_path: str) -> None:
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.maskable.utils import get_action_masks

    env = MaskableBits(FlatObservation(gymnasium.make("NomaSemCom-v0", images=table_path)))
    model = MaskablePPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=0).learn(64)
    vector = model.get_env()
    seen = vector.reset()
    sent = 0
    for _ in range(40):
        action, _ = model.predict(seen, action_masks=get_action_masks(vector))
        seen, _, _, infos = vector.step(action)
        assert infos[0]["unavailable_bits"] == 0
        sent += int(infos[0]["selection"].sum())
    assert sent > 40


# CleanRL


class Agent(nn.Module):
    """Actor and critic as CleanRL's ppo_continuous_action.py lays them out."""

    def __init__(self, envs: SyncVectorEnv) -> None:
        super().__init__()
        seen, acted = (int(np.prod(space.shape)) for space in (envs.single_observation_space, envs.single_action_space))
        self.critic = nn.Sequential(nn.Linear(seen, 32), nn.Tanh(), nn.Linear(32, 1))
        self.actor_mean = nn.Sequential(nn.Linear(seen, 32), nn.Tanh(), nn.Linear(32, acted))
        self.actor_logstd = nn.Parameter(torch.zeros(1, acted))

    def get_action_and_value(self, x: torch.Tensor, action: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        mean = self.actor_mean(x)
        law = Normal(mean, self.actor_logstd.expand_as(mean).exp())
        action = law.sample() if action is None else action
        return action, law.log_prob(action).sum(1), law.entropy().sum(1), self.critic(x)


@pytest.mark.parametrize("id_", ["NomaSemCom-v0", "NomaSemComModelFree-v0"])
def test_cleanrl_trains(table_path: str, id_: str) -> None:
    """Three updates of PPO in CleanRL's layout."""

    def make_env() -> gymnasium.Env[Any, Any]:
        env = FlatObservation(FlatAction(gymnasium.make(id_, images=table_path, episode_length=8)))
        return ClipAction(RecordTransmissionStatistics(RecordEpisodeStatistics(env)))

    torch.manual_seed(0)
    steps, num = 16, 4
    envs = SyncVectorEnv([make_env for _ in range(num)])
    agent = Agent(envs)
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
    obs = torch.zeros((steps, num, *envs.single_observation_space.shape))
    actions = torch.zeros((steps, num, *envs.single_action_space.shape))
    logprobs, rewards, dones, values = (torch.zeros((steps, num)) for _ in range(4))
    next_obs, next_done = torch.Tensor(envs.reset(seed=1)[0]), torch.zeros(num)
    episodes: list[float] = []
    before = [parameter.clone() for parameter in agent.parameters()]
    for _ in range(3):
        for step in range(steps):
            obs[step], dones[step] = next_obs, next_done
            with torch.no_grad():
                action, logprobs[step], _, value = agent.get_action_and_value(next_obs)
            actions[step], values[step] = action, value.flatten()
            seen, reward, terminations, truncations, infos = envs.step(action.numpy())
            rewards[step] = torch.tensor(reward)
            next_obs, next_done = torch.Tensor(seen), torch.Tensor(terminations | truncations)
            if "episode" in infos:
                episodes.extend(infos["episode"]["r"][infos["_episode"]])
                assert infos["transmission"]["lpips"].shape == (num, 3)
        advantages = rewards - values  # a discount of 0: the step is a bandit
        b_obs, b_actions = obs.flatten(0, 1), actions.flatten(0, 1)
        for rows in torch.randperm(steps * num).split(32):
            _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[rows], b_actions[rows])
            ratio = (newlogprob - logprobs.flatten()[rows]).exp()
            advantage = advantages.flatten()[rows]
            gain = torch.min(advantage * ratio, advantage * ratio.clamp(0.8, 1.2)).mean()
            loss = -gain + 0.5 * (newvalue.flatten() - rewards.flatten()[rows]).square().mean() - 1e-3 * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert len(episodes) == num * 5
    assert np.isfinite(episodes).all()
    assert all(torch.isfinite(parameter).all() for parameter in agent.parameters())
    assert any((one != other).any() for one, other in zip(before, agent.parameters(), strict=True))
    envs.close()


# TorchRL


def test_torchrl_checks(name: str, images: str) -> None:
    from torchrl.envs import GymWrapper
    from torchrl.envs.utils import check_env_specs

    check_env_specs(GymWrapper(gymnasium.make(name, images=images)))


# PettingZoo


# Its tests import an environment of its own in a way that it has deprecated.
@pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")
@pytest.mark.parametrize("knobs", MULTI_AGENT, ids=str)
def test_pettingzoo_parallel_checks(table_path: str, knobs: dict[str, Any]) -> None:
    from pettingzoo.test import parallel_api_test, parallel_seed_test

    from noma_semcom_env.envs.parallel import parallel_env

    parallel_api_test(parallel_env(images=table_path, **knobs), num_cycles=50)
    parallel_seed_test(lambda: parallel_env(images=table_path, **knobs), num_cycles=50)


@pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning")
# Its own environments with masks hold a dict as well, and are exempt from these three by their names.
@pytest.mark.filterwarnings("ignore:Observation is not a NumPy array:UserWarning")
@pytest.mark.filterwarnings("ignore:Observation space for each agent probably should be:UserWarning")
# MultiBinary (or a dict) says what the action is; a Discrete of 2^F would be of no use.
@pytest.mark.filterwarnings("ignore:Action space for each agent probably should be:UserWarning")
@pytest.mark.parametrize("knobs", MULTI_AGENT, ids=str)
def test_pettingzoo_cycle_checks(table_path: str, knobs: dict[str, Any]) -> None:
    from pettingzoo.test import api_test

    from noma_semcom_env.envs.parallel import env

    api_test(env(images=table_path, **knobs), num_cycles=50)


# RLlib


@pytest.mark.parametrize("knobs", MULTI_AGENT, ids=str)
def test_rllib_multi_agent_checks(table_path: str, knobs: dict[str, Any]) -> None:
    """And an episode, with the end that its runner waits for."""
    from ray.rllib.utils.pre_checks.env import check_multiagent_environments

    from noma_semcom_env.envs.parallel import parallel_env
    from noma_semcom_env.envs.rllib import NomaSemComMultiAgentEnv

    config = {"images": table_path, "episode_length": 4, **knobs}
    env, same = NomaSemComMultiAgentEnv(config), parallel_env(**config)
    check_multiagent_environments(env)
    observations, _ = env.reset(seed=3)
    same.reset(seed=3)
    agents = list(observations)
    for space in env.action_spaces.values():
        space.seed(0)
    for step in range(4):
        actions = {agent: env.get_action_space(agent).sample() for agent in env.agents}
        observations, rewards, terminateds, truncateds, _ = env.step(actions)
        assert rewards == same.step(actions)[1]
        assert list(observations) == agents
        assert terminateds["__all__"] is False
        assert truncateds["__all__"] is (step == 3)
    assert same.agents == []
