"""IM-PPO on RLlib: PPO over the selection from pruned features, while the environment solves beams and decoding order.

from noma_semcom_agents import IMPPOConfig
algorithm = IMPPOConfig().environment(env_config={"num_users": 4}).build_algo()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.tune.registry import register_trainable

from noma_semcom_agents.modules import SelectionModule

ENVIRONMENT = "noma_semcom_env:NomaSemCom-v0"
"""With the package in front, so that remote workers know the id too."""

Schedule = float | Sequence[tuple[int, float]]
"""A learning rate, or one that is interpolated between (environment steps, rate) points."""


class ActorCriticLearner(PPOTorchLearner):
    """PPO with one Adam for the actor (``lr``) and one for the critic (``critic_lr``)."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register the two optimizers of a module."""
        module = self.module[module_id].unwrapped()
        critic_lr = config.lr if config.critic_lr is None else config.critic_lr
        for name, part, rate in (("actor", module.actor, config.lr), ("critic", module.critic, critic_lr)):
            parameters = list(part.parameters())
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters),
                params=parameters,
                lr_or_lr_schedule=rate,
            )


class SelectionMetrics(RLlibCallback):
    """Logs ``step_reward``, ``lpips``, ``latency_s`` and ``selection_share``, means over the steps just sampled.

    The share is logged with our own vectorized environment, the default.
    """

    def on_sample_end(
        self, *, env_runner: Any, metrics_logger: Any, samples: list[SingleAgentEpisode], **kwargs: Any
    ) -> None:
        """Collect the terms that the environment reported in ``info``."""
        infos = [info for episode in samples for info in episode.get_infos()[1:]]
        if not infos:
            return
        values = {
            "step_reward": np.mean([reward for episode in samples for reward in episode.get_rewards()]),
            "lpips": np.mean([info["lpips"] for info in infos]),
            "latency_s": np.mean([info["latency_s"] for info in infos]),
        }
        # Gymnasium's own vectorization (sync, async) hides the images' features, so the share stays unknown there.
        dynamics = getattr(env_runner.env.unwrapped, "dynamics", None)
        if dynamics is not None:
            images = np.array([info["privileged"]["image_index"] for info in infos])
            selected = np.array([info["selection"] for info in infos])
            values["selection_share"] = selected.sum() / dynamics.recovery.bank.exists[images].sum()
        for name, value in values.items():
            metrics_logger.log_value(name, float(value), reduce="mean", window=1)


class IMPPOConfig(PPOConfig):
    """Settings of IM-PPO; every method of RLlib's PPOConfig works on it.

    The step is a contextual bandit in episodes, since an action moves nothing but the last decoding order that is
    observed; hence ``gamma`` is 0. One process samples and learns: the vectorized environment needs no more.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or IMPPO)
        self.critic_lr: Schedule | None = 3e-3
        self.env = ENVIRONMENT
        self.env_config: dict[str, Any] = {}
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 64
        self.gym_env_vectorize_mode = "vector_entry_point"
        self.gamma = 0.0
        self.lambda_ = 1.0
        self.lr = 3e-3
        self.train_batch_size_per_learner = 2048
        self.minibatch_size = 1024
        self.num_epochs = 4
        self.clip_param = 0.2
        self.use_kl_loss = False
        self.entropy_coeff = 1e-3
        self.vf_loss_coeff = 1.0
        self.vf_clip_param = float("inf")
        self.grad_clip = 1.0
        self.callbacks_class = SelectionMetrics

    def training(self, *, critic_lr: Schedule | None = NotProvided, **kwargs: Any) -> IMPPOConfig:
        """PPOConfig.training with the critic's own learning rate.

        Args:
            critic_lr: Number or schedule; None takes the actor's ``lr``.
            **kwargs: What PPOConfig.training takes.
        """
        super().training(**kwargs)
        if critic_lr is not NotProvided:
            self.critic_lr = critic_lr
        return self

    def get_default_learner_class(self) -> type:
        """The learner with two learning rates."""
        return ActorCriticLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The masked Bernoulli actor and its critic."""
        return RLModuleSpec(module_class=SelectionModule)

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        network = {"network": "shared", "width": 64, "label_width": 8, "labels": label_count(self.env, self.env_config)}
        return super()._model_config_auto_includes | network


class IMPPO(PPO):
    """The IM-PPO algorithm: PPO with :class:`IMPPOConfig`'s defaults, under Tune as well."""

    @classmethod
    def get_default_config(cls) -> IMPPOConfig:
        """The defaults."""
        return IMPPOConfig()


def label_count(environment: str, env_config: dict[str, Any]) -> int:
    """Size of the label vocabulary of an environment's images.

    Args:
        environment: A Gymnasium id of this suite.
        env_config: Its keywords.
    """
    env = gym.make(environment, **env_config)
    try:
        return len(env.unwrapped.dynamics.recovery.bank.labels)  # type: ignore[attr-defined]
    finally:
        env.close()


def register() -> None:
    """Make ``"IM-PPO"`` a trainable that Tune knows by name."""
    register_trainable("IM-PPO", IMPPO)
