"""Credit: that it is unbiased, and that only real steps count."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.evaluation.postprocessing import Postprocessing

from noma_semcom_agents import IMPPOConfig, PlainPPOConfig
from noma_semcom_agents.imppo import AgentConfig
from noma_semcom_agents.learner import counterfactual_advantage
from noma_semcom_agents.runners import environment_seed


def test_counterfactual_credit_is_unbiased_whatever_the_critic() -> None:
    """Over all selections of four bits, its gradient is that of the expected reward; a right critic leaves no noise."""
    generator = torch.Generator().manual_seed(0)
    selections = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    reward = torch.randn(16, generator=generator, dtype=torch.float64)
    logits = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)
    chance = torch.sigmoid(logits)
    weight = torch.where(selections > 0, chance, 1 - chance).prod(-1)
    (exact,) = torch.autograd.grad((weight * reward).sum(), logits, retain_graph=True)
    score = selections.double() - chance  # derivative of the log-probability

    place = (selections.long() * torch.tensor([8, 4, 2, 1])).sum(-1)
    bit = torch.tensor([8, 4, 2, 1])
    low, high = place[:, None] & ~bit, place[:, None] | bit
    for critic, noise_free in ((torch.randn(16, generator=generator, dtype=torch.float64), False), (reward, True)):
        advantage = counterfactual_advantage(reward, critic[low], critic[high], chance)
        each = advantage * score
        mean = (weight[:, None] * each).sum(0)
        torch.testing.assert_close(mean, exact)
        if noise_free:
            # What is left of a bit's advantage is its own effect, with the others as they were drawn.
            own = (reward[high] - reward[low]) * (selections - chance)
            torch.testing.assert_close(advantage, own)


@pytest.fixture(scope="module")
def sampled(table_paths: dict[str, Path]) -> Any:
    """Builds an algorithm, samples once, and gives the learner's batch of it with the number of steps."""
    from noma_semcom_agents.training import start_ray

    start_ray()
    algorithms = []

    def sample(config: AgentConfig) -> tuple[dict[str, Any], Any, int]:
        config.environment(env_config={"images": str(table_paths["policy"]), "episode_length": 3})
        config.training(train_batch_size_per_learner=64, minibatch_size=32)
        algorithm = config.env_runners(num_envs_per_env_runner=8).network(width=16).debugging(seed=0).build_algo()
        algorithms.append(algorithm)
        learner: Any = algorithm.learner_group._learner
        episodes = algorithm.env_runner.sample()
        steps = sum(len(episode) for episode in episodes)
        rewards = np.concatenate([episode.get_rewards() for episode in episodes])
        parts = {"rl_module": learner.module, "shared_data": {}, "metrics": learner.metrics}
        batch = learner._learner_connector(batch={}, episodes=episodes, **parts)["default_policy"]
        np.testing.assert_allclose(np.sort(batch[Columns.REWARDS]), np.sort(rewards), rtol=1e-6)
        return batch, learner.module["default_policy"], steps

    yield sample
    for algorithm in algorithms:
        algorithm.stop()


@pytest.mark.slow
@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_step_credit_counts_real_steps_alone(gamma: float, sampled: Any) -> None:
    batch, module, steps = sampled(IMPPOConfig().training(credit="step", gamma=gamma))
    assert len(batch[Columns.REWARDS]) == steps == 64
    advantage = batch[Postprocessing.ADVANTAGES]
    assert float(advantage.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(advantage.std()) == pytest.approx(1.0, abs=1e-5)
    if gamma == 0.0:
        torch.testing.assert_close(batch[Postprocessing.VALUE_TARGETS], batch[Columns.REWARDS].float())
        raw = batch[Columns.REWARDS].float() - module.compute_values(batch)
        torch.testing.assert_close(advantage, (raw - raw.mean()) / raw.std(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_feature_credit_of_every_form_of_action(sampled: Any) -> None:
    batch, _, steps = sampled(IMPPOConfig())
    mask, advantage = batch[Columns.OBS]["action_mask"] > 0, batch[Postprocessing.ADVANTAGES]
    assert advantage.shape == (steps, mask.shape[1])
    assert not advantage[~mask].any()
    assert float(advantage[mask].mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(advantage[mask].std()) == pytest.approx(1.0, abs=1e-4)

    batch, module, steps = sampled(PlainPPOConfig())
    mask, advantage = batch[Columns.OBS]["action_mask"] > 0, batch[Postprocessing.ADVANTAGES]
    assert advantage.shape == (steps, mask.shape[1] + 2 * 3)
    others = advantage[:, mask.shape[1] :]
    torch.testing.assert_close(others, others[:, :1].expand(-1, 6))
    raw = batch[Columns.REWARDS].float() - module.compute_values(batch)
    assert np.corrcoef(raw.detach(), others[:, 0])[0, 1] == pytest.approx(1.0, abs=1e-5)


def test_seeds_of_runners_lie_far_apart() -> None:
    places = itertools.product((0, 1, 2), (0, 1, 2, 3), (False, True), (0, 4096))
    seeds = np.sort([environment_seed(*place) for place in places])
    assert np.diff(seeds).min() > 1000
    assert seeds.max() < 2**31


@pytest.mark.slow
def test_runners_meet_other_episodes_and_the_same_ones_again(table_paths: dict[str, Path]) -> None:
    from noma_semcom_agents.runners import SpreadSingleAgentRunner
    from noma_semcom_agents.training import start_ray

    start_ray()
    config = IMPPOConfig().environment(env_config={"images": str(table_paths["policy"])}).network(width=16)
    config.env_runners(num_envs_per_env_runner=8).debugging(seed=3).validate()

    def channels(worker: int) -> set[float]:
        runner = SpreadSingleAgentRunner(config=config, worker_index=worker)
        episodes = runner.sample(num_timesteps=8, random_actions=True)
        runner.stop()
        return {float(episode.get_infos(0)["privileged"]["channel"][0, 0].real) for episode in episodes}

    first, second = channels(1), channels(2)
    assert len(first) == len(second) == 8
    assert not first & second
    assert channels(1) == first
