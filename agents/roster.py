"""The agents that can be trained by name; how a name, scenario fields and settings become a configuration of RLlib."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from noma_semcom_agents.imppo import AgentConfig

SETTINGS: Final = (
    "lr critic_lr gamma lambda_ train_batch_size_per_learner minibatch_size num_epochs clip_param use_kl_loss "
    "entropy_coeff vf_loss_coeff vf_clip_param grad_clip grad_clip_by num_envs_per_env_runner"
).split()
"""Settings of PPO that decide what is learned; an agent's own ones come on top."""

SCHEDULES: Final = ("lr", "critic_lr", "entropy_coeff")
"""Settings that may be [[steps, value], ...] instead of one number."""

MODEL: Final = "model."
"""What names of the network's settings begin with."""


@dataclass(frozen=True)
class Agent:
    """An agent that ``noma-semcom train`` and ``sweep`` know.

    Attributes:
        name: On the command line.
        title: In tables, and under which Tune knows it.
        config_class: Name of its configuration in :mod:`noma_semcom_agents`.
    """

    name: str
    title: str
    config_class: str

    def make_config(self) -> AgentConfig:
        """Its configuration with the defaults."""
        # RLlib says at every configuration that its new API stack is in use.
        logging.getLogger("ray.rllib").setLevel(logging.ERROR)
        config: AgentConfig = getattr(import_module("noma_semcom_agents"), self.config_class)()
        return config

    def configure(
        self, knobs: Mapping[str, Any], settings: Mapping[str, Any], seed: int, num_env_runners: int = 0
    ) -> AgentConfig:
        """Its configuration with some things replaced.

        Args:
            knobs: Scenario fields that differ from those of its environment.
            settings: Settings of the algorithm by the names of :meth:`settings_of`.
            seed: Of the training.
            num_env_runners: Processes that sample, besides the one that learns; 0 lets one do both.

        Raises:
            ValueError: If a setting is unknown, has another type than its default, or RLlib refuses the whole.
        """
        config: Any = self.make_config().environment(env_config=dict(knobs))
        config.debugging(seed=spread(seed)).env_runners(num_env_runners=num_env_runners)
        known = self.settings_of(config)
        network = {}
        for name, value in settings.items():
            if name not in known:
                raise ValueError(unknown("setting", name, known, f" of {self.title}"))
            check_setting(name, value, known[name])
            if name.startswith(MODEL):
                network[name.removeprefix(MODEL)] = value
            else:
                setattr(config, "lambda_" if name == "lambda" else name, value)
        if network:
            config.rl_module(model_config={**dict(config._model_config), **network})
        config.validate()
        result: AgentConfig = config
        return result

    def settings_of(self, config: AgentConfig) -> dict[str, Any]:
        """The settings that decide what is learned, by name: PPO's, the agent's own, the network's as ``model.x``."""
        from ray.rllib.algorithms.ppo import PPOConfig

        own = sorted(vars(config).keys() - vars(PPOConfig()).keys() - set(SETTINGS))
        values = {name.rstrip("_"): getattr(config, name) for name in [*SETTINGS, *own] if not name.startswith("_")}
        network = {f"{MODEL}{name}": value for name, value in dict(config._model_config).items()}
        return {**values, **network}


AGENTS: Final = {
    agent.name: agent
    for agent in (
        Agent("im-ppo", "IM-PPO", "IMPPOConfig"),
        Agent("m-ppo", "M-PPO", "MPPOConfig"),
        Agent("plain-ppo", "Plain-PPO", "PlainPPOConfig"),
    )
}


def find_agent(name: str) -> Agent:
    """The agent of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in AGENTS:
        raise ValueError(unknown("agent", name, AGENTS))
    return AGENTS[name]


def check_setting(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than the default's.

    Raises:
        ValueError: If it is one.
    """
    if isinstance(default, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(default, str):
        fits, wanted = isinstance(value, str), "a text"
    elif name in SCHEDULES:
        points = value if isinstance(value, list) else []
        fits = _is_number(value) or (bool(points) and all(_is_point(point) for point in points))
        wanted = "a number or a list of [steps, value]"
    elif isinstance(default, list | tuple | dict):
        fits, wanted = isinstance(value, type(default) | list), f"a {type(default).__name__}"
    else:
        fits, wanted = _is_number(value) or (value is None and default is None), "a number"
    if not fits:
        raise ValueError(f"setting {name}={value!r} must be {wanted}; its default is {default!r}")


def unknown(kind: str, name: Any, known: Iterable[str], where: str = "") -> str:
    """What to say of a name that is none of those known."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{name!r} is no {kind}{where}; {hint}choose one of {', '.join(names)}"


def spread(seed: int) -> int:
    """A seed far from those of other trainings.

    Sub-environment i of seed s is drawn from s + i, so trainings with seeds in a row would share most episodes.
    """
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_point(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_is_number(one) for one in value)
