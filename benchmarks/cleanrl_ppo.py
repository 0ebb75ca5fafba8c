"""PPO from top to bottom like CleanRL's ``ppo_continuous_action.py``: what docs/training-elsewhere.md shows.

It samples from normal laws and the environment sets the bits where the numbers are above 0.
"""

import gymnasium as gym
import torch
from torch import nn
from torch.distributions import Normal

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_env.wrappers import VectorFlatAction, VectorFlatObservation


def train(updates, num_envs=64, steps=16, epochs=4, learning_rate=3e-3, seed=1):
    """Train on ``NomaSemCom-v0``; the actor, whose output is above 0 where a bit is set, and its mean rewards."""
    torch.manual_seed(seed)
    envs = gym.make_vec("NomaSemCom-v0", num_envs=num_envs, vectorization_mode="vector_entry_point")
    envs = VectorFlatObservation(VectorFlatAction(envs))
    seen, acted = envs.single_observation_space.shape[0], envs.single_action_space.shape[0]
    actor = nn.Sequential(nn.Linear(seen, 64), nn.Tanh(), nn.Linear(64, acted))
    critic = nn.Sequential(nn.Linear(seen, 64), nn.Tanh(), nn.Linear(64, 1))
    logstd = nn.Parameter(torch.zeros(acted))
    parameters = [*actor.parameters(), *critic.parameters(), logstd]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, eps=1e-5)
    next_obs, next_done, curve = torch.tensor(envs.reset(seed=seed)[0]), torch.zeros(num_envs), []
    for _ in range(updates):
        batch = {name: [] for name in ("obs", "action", "logprob", "reward", "real")}
        for _ in range(steps):
            with torch.no_grad():
                law = Normal(actor(next_obs), logstd.exp())
                action = law.sample()
            batch["obs"].append(next_obs)
            batch["action"].append(action)
            batch["logprob"].append(law.log_prob(action).sum(1))
            batch["real"].append(next_done == 0)  # the step after an end is a reset, whose action does nothing
            obs, reward, terminated, truncated, _ = envs.step(action.clamp(-1, 1).numpy())
            batch["reward"].append(torch.tensor(reward, dtype=torch.float32))
            next_obs, next_done = torch.tensor(obs), torch.tensor(terminated | truncated).float()
        real = torch.cat(batch.pop("real"))
        b = {name: torch.cat(parts)[real] for name, parts in batch.items()}
        with torch.no_grad():
            advantage = b["reward"] - critic(b["obs"]).squeeze(1)  # a discount of 0
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(epochs):
            for rows in torch.randperm(len(advantage)).chunk(4):
                law = Normal(actor(b["obs"][rows]), logstd.exp())
                ratio = (law.log_prob(b["action"][rows]).sum(1) - b["logprob"][rows]).exp()
                gain = torch.min(advantage[rows] * ratio, advantage[rows] * ratio.clamp(0.8, 1.2)).mean()
                error = (critic(b["obs"][rows]).squeeze(1) - b["reward"][rows]).square().mean()
                optimizer.zero_grad()
                (0.5 * error - gain).backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
        curve.append(b["reward"].mean().item())
    return actor, curve
