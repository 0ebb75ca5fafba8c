"""The RLlib form of the multi-agent environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

try:
    from ray.rllib.env.multi_agent_env import MultiAgentEnv
except ImportError as error:
    raise ImportError("RLlib's form needs Ray: pip install 'noma-semcom-env[rllib]'") from error

from noma_semcom_env.dynamics import Info
from noma_semcom_env.envs.parallel import NomaSemComParallelEnv
from noma_semcom_env.envs.single import Observation


class NomaSemComMultiAgentEnv(MultiAgentEnv):  # type: ignore[misc]
    """:class:`~noma_semcom_env.envs.parallel.NomaSemComParallelEnv` for RLlib's new API stack.

    ``PPOConfig().environment(NomaSemComMultiAgentEnv, env_config={"num_users": 4, "reward_sharing": "own"})``. Agents
    keep their order from run to run, which RLlib's own adapter of PettingZoo environments leaves to a set.

    Args:
        config: Keywords of the parallel form, RLlib's ``env_config``.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.parallel_env = NomaSemComParallelEnv(**(config or {}))
        self.possible_agents = self.parallel_env.possible_agents[:]
        self.agents = self.possible_agents[:]
        self.observation_spaces = dict(self.parallel_env.observation_spaces)
        self.action_spaces = dict(self.parallel_env.action_spaces)
        self.observation_space = spaces.Dict(self.observation_spaces)
        self.action_space = spaces.Dict(self.action_spaces)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, Info]]:
        """See :meth:`~noma_semcom_env.envs.parallel.NomaSemComParallelEnv.reset`."""
        return self.parallel_env.reset(seed=seed, options=options)

    def step(
        self, action_dict: Mapping[str, Any]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]]:
        """See :meth:`~noma_semcom_env.envs.parallel.NomaSemComParallelEnv.step`; ``__all__`` tells the end for all."""
        observations, rewards, terminations, truncations, infos = self.parallel_env.step(action_dict)
        terminations["__all__"] = False
        truncations["__all__"] = not self.parallel_env.agents
        return observations, rewards, terminations, truncations, infos
