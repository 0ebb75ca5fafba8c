"""IM-PPO, M-PPO and Plain-PPO on RLlib: one algorithm and one network, three tasks.

from noma_semcom_agents import IMPPOConfig
algorithm = IMPPOConfig().environment(env_config={"num_users": 4}).build_algo()

IM-PPO selects from the pruned features and M-PPO from all of them, while the environment solves beams and decoding
order; Plain-PPO selects from all features and gives beams and order itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import gymnasium as gym
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.registry import ENV_CREATOR, _global_registry, register_trainable

from noma_semcom_agents.known_latency import why_unknown
from noma_semcom_agents.learner import CREDITS, ActorCriticLearner
from noma_semcom_agents.metrics import TransmissionMetrics
from noma_semcom_agents.modules import TransmissionModule
from noma_semcom_agents.networks import NETWORKS
from noma_semcom_agents.runners import SpreadMultiAgentRunner, SpreadSingleAgentRunner
from noma_semcom_env import Scenario

ENVIRONMENT = "noma_semcom_env:NomaSemCom-v0"
"""With the package in front, so that remote workers know the id too."""

Schedule = float | Sequence[Sequence[float]]
"""A learning rate, or one that is interpolated between (environment steps, rate) points."""


class AgentConfig(PPOConfig):
    """Settings that the three agents share; every method of RLlib's PPOConfig works on it.

    The step is a contextual bandit in episodes, since an action moves nothing but the last decoding order that is
    observed; hence ``gamma`` is 0. One process samples and learns: the vectorized environment needs no more.

    Attributes:
        critic_lr: Learning rate of the critic; None takes the actor's ``lr``.
        credit: ``"model"``, ``"feature"`` or ``"step"``, see :mod:`~noma_semcom_agents.learner`; ``"auto"`` is
            ``"model"`` where the environment solves the transmission from what is observed, else ``"feature"``. Gamma
            above 0 needs ``"step"``. The entropy coefficient weighs against advantages of deviation 1, of single bits
            or of whole actions: ``"step"`` wants about a tenth of the default.
        regret_steps: Sampled steps an iteration whose regret to the oracle is reported.
    """

    title: ClassVar[str] = "PPO"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or IMPPO)
        self.critic_lr: Schedule | None = 3e-3
        self.credit = "auto"
        self.regret_steps = 128
        self.env = ENVIRONMENT
        self.env_config: dict[str, Any] = {}
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 256
        self.gym_env_vectorize_mode = "vector_entry_point"
        # The environment clips beams and priorities to their bounds itself.
        self.normalize_actions = False
        self.clip_actions = False
        self.gamma = 0.0
        self.lambda_ = 1.0
        self.lr = 3e-3
        self.train_batch_size_per_learner = 4096
        self.minibatch_size = 256
        self.num_epochs = 6
        self.shuffle_batch_per_epoch = True
        self.clip_param = 0.3
        self.use_kl_loss = False
        self.entropy_coeff = 0.1
        self.vf_loss_coeff = 1.0
        self.vf_clip_param = float("inf")
        self.grad_clip = 1.0
        self.callbacks_class = TransmissionMetrics
        self._model_config = {"network": "equivariant", "width": 64, "label_width": 8}

    def training(
        self,
        *,
        critic_lr: Schedule | None = NotProvided,
        credit: str = NotProvided,
        regret_steps: int = NotProvided,
        **kwargs: Any,
    ) -> AgentConfig:
        """PPOConfig.training with this class's own settings.

        Args:
            critic_lr: Number or schedule; None takes the actor's ``lr``.
            credit: ``"auto"``, ``"feature"``, ``"model"`` or ``"step"``.
            regret_steps: At least 0.
            **kwargs: What PPOConfig.training takes.
        """
        super().training(**kwargs)
        for name, value in (("critic_lr", critic_lr), ("credit", credit), ("regret_steps", regret_steps)):
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    def network(self, name: str = NotProvided, width: int = NotProvided, label_width: int = NotProvided) -> AgentConfig:
        """Choose the networks.

        Args:
            name: ``"equivariant"``, which does not depend on how users, features and antennas are numbered, or
                ``"mlp"``, a plain perceptron over the whole observation.
            width: Of the hidden layers.
            label_width: Of a label's embedding, in the equivariant networks.
        """
        given = {"network": name, "width": width, "label_width": label_width}
        chosen = {key: value for key, value in given.items() if value is not NotProvided}
        return self.rl_module(model_config={**self._model_config, **chosen})

    def validate(self) -> None:
        """Refuse what contradicts itself, and choose the runner's class and vectorization.

        Raises:
            ValueError: If a setting is refused.
        """
        if self.credit not in CREDITS:
            raise ValueError(f"credit={self.credit!r} is unknown; choose one of {', '.join(map(repr, CREDITS))}")
        if self.credit != "step" and self.gamma:
            raise ValueError(
                f"credit={self.credit!r} knows no later rewards, so gamma={self.gamma!r} must be 0; use credit='step'"
            )
        known = ("network", "width", "label_width")
        given: Any = self._model_config
        if not isinstance(given, Mapping) or set(given) != set(known):
            raise ValueError(f"model_config={given!r} must hold {', '.join(known)} and nothing else")
        if self._model_config["network"] not in NETWORKS:
            named = ", ".join(map(repr, NETWORKS))
            raise ValueError(f"network={self._model_config['network']!r} is unknown; choose one of {named}")
        if self.env_runner_cls is None:
            self.env_runner_cls: Any = SpreadMultiAgentRunner if self.is_multi_agent else SpreadSingleAgentRunner
        if self.is_multi_agent and self.gym_env_vectorize_mode == "vector_entry_point":
            self.gym_env_vectorize_mode = "sync"  # the one way that RLlib knows with several agents
        super().validate()

    def get_default_learner_class(self) -> type:
        """The learner with two learning rates."""
        return ActorCriticLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Actor and critic."""
        return RLModuleSpec(module_class=TransmissionModule)

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        layout = layout_of(self.env, self.env_config)
        return super()._model_config_auto_includes | {"credit": self.resolved_credit} | layout

    @property
    def scenario(self) -> Scenario | None:
        """That of the environment; None if it is none of this suite."""
        with _opened(self.env, self.env_config) as (_, dynamics):
            return None if dynamics is None else dynamics.scenario

    @property
    def resolved_credit(self) -> str:
        """What ``credit`` comes to in the environment."""
        if self.credit != "auto":
            return self.credit
        with _opened(self.env, self.env_config) as (env, dynamics):
            several = getattr(env.unwrapped, "parallel_env", None) is not None
            return "feature" if several or dynamics is None or why_unknown(dynamics.scenario) else "model"


class IMPPOConfig(AgentConfig):
    """IM-PPO: selection from the pruned features; the environment solves beams and decoding order."""

    title = "IM-PPO"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or IMPPO)
        # What won in tuning, see noma_semcom_benchmarks.tuning; M-PPO keeps the shared settings.
        self.lr, self.critic_lr = 4e-3, 5.4e-3
        self.entropy_coeff = 0.033
        self.num_epochs = 4


class MPPOConfig(AgentConfig):
    """M-PPO: selection from all features; the environment solves beams and decoding order."""

    title = "M-PPO"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MPPO)
        self.env = "noma_semcom_env:NomaSemComUnpruned-v0"


class PlainPPOConfig(AgentConfig):
    """Plain-PPO: selection from all features, receive beams and decoding priorities; nothing is solved."""

    title = "Plain-PPO"

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PlainPPO)
        self.env = "noma_semcom_env:NomaSemComModelFree-v0"
        self.lr, self.critic_lr = 1.8e-3, 2e-3
        self.entropy_coeff = 0.18
        self.num_epochs = 4


class IMPPO(PPO):
    """The IM-PPO algorithm: PPO with :class:`IMPPOConfig`'s defaults, under Tune as well."""

    @classmethod
    def get_default_config(cls) -> IMPPOConfig:
        """The defaults."""
        return IMPPOConfig()


class MPPO(PPO):
    """The M-PPO algorithm: PPO with :class:`MPPOConfig`'s defaults, under Tune as well."""

    @classmethod
    def get_default_config(cls) -> MPPOConfig:
        """The defaults."""
        return MPPOConfig()


class PlainPPO(PPO):
    """The Plain-PPO algorithm: PPO with :class:`PlainPPOConfig`'s defaults, under Tune as well."""

    @classmethod
    def get_default_config(cls) -> PlainPPOConfig:
        """The defaults."""
        return PlainPPOConfig()


def layout_of(environment: str | Callable[..., Any], env_config: Mapping[str, Any]) -> dict[str, Any]:
    """What the networks need to know of an environment beside its spaces.

    Args:
        environment: An id of this suite, a class like :class:`~noma_semcom_env.envs.rllib.NomaSemComMultiAgentEnv`, or
            a name registered with Ray's ``register_env``.
        env_config: Its keywords.

    Returns:
        ``labels``, the size of the label vocabulary (1 if the environment is none of this suite), and with several
        agents ``slices``, where each entry stands in an agent's observation.
    """
    with _opened(environment, env_config) as (env, dynamics):
        layout: dict[str, Any] = {"labels": 1 if dynamics is None else len(dynamics.bank.labels)}
        several = getattr(env.unwrapped, "parallel_env", None)
        if several is not None:
            layout["slices"] = {name: (one.start, one.stop) for name, one in several.slices.items()}
        return layout


@contextmanager
def _opened(environment: str | Callable[..., Any], env_config: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """An environment and its dynamics, None if it is none of this suite; closed at the end."""
    if isinstance(environment, str) and not _global_registry.contains(ENV_CREATOR, environment):
        env = gym.make(environment, **env_config)
    else:
        make = _global_registry.get(ENV_CREATOR, environment) if isinstance(environment, str) else environment
        env = make(dict(env_config))
    try:
        several = getattr(env.unwrapped, "parallel_env", None)
        yield env, getattr(env.unwrapped if several is None else several, "dynamics", None)
    finally:
        env.close()


def register() -> None:
    """Make ``"IM-PPO"``, ``"M-PPO"`` and ``"Plain-PPO"`` trainables that Tune knows by name."""
    for algorithm in (IMPPO, MPPO, PlainPPO):
        register_trainable(algorithm.get_default_config().title, algorithm)
