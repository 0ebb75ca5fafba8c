"""The PettingZoo forms: one agent a semantic user, all acting at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from noma_semcom_env.dynamics import Info
from noma_semcom_env.envs.single import NomaSemComEnv, Observation
from noma_semcom_env.rendering import RENDER_FPS, RENDER_MODES
from noma_semcom_env.scenario import Scenario

try:
    from pettingzoo import ParallelEnv  # type: ignore[import-untyped]
    from pettingzoo.utils.conversions import parallel_to_aec  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError("the multi-agent forms need PettingZoo: pip install 'noma-semcom-env[multiagent]'") from error

RewardSharing = Literal["shared", "own"]
REWARD_SHARINGS: Final = ("shared", "own")


class NomaSemComParallelEnv(ParallelEnv):  # type: ignore[misc]
    """:class:`~noma_semcom_env.envs.single.NomaSemComEnv` with one agent a semantic user, ``su_0`` to ``su_{K-1}``.

    The agents' actions together are the single environment's action, so that seed s faces the numbers, and with a
    shared reward earns the rewards, of the single environment of seed s. All agents live until the episode truncates.

    **Actions** of agent k: its part of the single form's, ``MultiBinary(F)``; with ``transmission="model_free"`` a dict
    of ``selection``, ``beams`` (2N) and ``priorities`` (1).

    **Observations** of agent k, a dict: ``observation``, float32 in [-1, 1], and ``action_mask`` (F, int8), which is
    also in its info. ``observation`` holds, one after the other, k's part of every entry of the single form's
    observation that is laid out user by user, and the whole of every other: by default what the user knows of itself
    (its SNR, channel direction, last place in the decoding order, and its features' sizes, importances, modalities and
    labels) and the bandwidth, in the single form's order, ``slices`` tells where. Of the other users it knows what the
    decoding order tells; their channels and images stay with them. :meth:`state` has the whole of it, for training
    that is centralized. An entry counts as laid out user by user if its length is a multiple of K.

    PettingZoo's convention hands ``action_mask`` as it is to ``action_space(agent).sample``, which a dict of actions
    does not take: with ``transmission="model_free"`` it is called ``selection_mask``.

    **Rewards**: with ``reward_sharing="shared"`` every agent gets the single form's. With ``"own"`` agent k gets the
    scenario's reward of its own LPIPS L_k and its own latency tau_k = D_k / R_k, by default
    -(lambda L_k + (1 - lambda) min(tau_k, tau_max) / tau_ref), less ``violation_penalty`` if tau_k > tau_max. These do
    not add up to the shared reward, which counts the largest latency: their mean is at least that, and nobody pays for
    the interference it causes.

    **Infos** of agent k: ``action_mask`` and, after a step, its ``lpips``, ``latency_s`` (tau_k), ``rate_bps``,
    ``demand_bits`` and ``selection`` (F); under ``common`` the single form's whole info, one dict for all agents.

    Args:
        scenario: Where to start; None is the default scenario.
        reward_sharing: ``"shared"`` or ``"own"``.
        render_mode: ``"rgb_array"``, ``"human"``, ``"ansi"``, or None for none.
        **knobs: Fields of the scenario to replace.

    Attributes:
        slices: Where each entry stands in an agent's ``observation``.

    Raises:
        TypeError: If a keyword is no field, or a field has the wrong type.
        ValueError: If a field is out of range, or the image set is missing or damaged.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (PettingZoo's declaration)
        "name": "noma_semcom_v0",
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
        "is_parallelizable": True,
    }

    def __init__(
        self,
        scenario: Scenario | None = None,
        reward_sharing: RewardSharing = "shared",
        render_mode: str | None = None,
        **knobs: Any,
    ) -> None:
        if reward_sharing not in REWARD_SHARINGS:
            raise ValueError(
                f"reward_sharing={reward_sharing!r} is unknown; choose one of {', '.join(map(repr, REWARD_SHARINGS))}"
            )
        self.render_mode = render_mode
        self.reward_sharing = reward_sharing
        self._env = NomaSemComEnv(scenario, render_mode, **knobs)
        self.dynamics = self._env.dynamics
        self.scenario = self._env.scenario
        self.possible_agents = [f"su_{k}" for k in range(self.scenario.num_users)]
        self.agents: list[str] = []
        self._seen: Observation = {}
        self._mask = "action_mask" if isinstance(self._env.action_space, spaces.MultiBinary) else "selection_mask"
        self.slices, self.state_space, one = self._lay_out()
        self.observation_spaces: dict[str, spaces.Space[Any]] = {
            agent: spaces.Dict(one) for agent in self.possible_agents
        }
        self.action_spaces = {agent: self._part(self._env.action_space) for agent in self.possible_agents}

    def _lay_out(self) -> tuple[dict[str, slice], spaces.Box, dict[str, spaces.Space[Any]]]:
        """Where entries stand in an agent's observation, the space of the state, and those of an observation."""
        users = len(self.possible_agents)
        whole = self.dynamics.observation_space.spaces
        lengths = {name: _length(space) for name, space in whole.items() if name != "action_mask"}
        slices: dict[str, slice] = {}
        start = 0
        for name, length in lengths.items():
            slices[name] = slice(start, start + (length if length % users else length // users))
            start = slices[name].stop
        return (
            slices,
            spaces.Box(-1.0, 1.0, (sum(lengths.values()),), np.float32),
            {
                "observation": spaces.Box(-1.0, 1.0, (start,), np.float32),
                self._mask: spaces.MultiBinary(self.dynamics.bank.width),
            },
        )

    def _part(self, space: spaces.Space[Any]) -> spaces.Space[Any]:
        """One agent's part of a space of actions."""
        if isinstance(space, spaces.Dict):
            return spaces.Dict({name: self._part(part) for name, part in space.items()})
        length = _length(space) // len(self.possible_agents)
        return (
            spaces.Box(-1.0, 1.0, (length,), np.float32)
            if isinstance(space, spaces.Box)
            else spaces.MultiBinary(length)
        )

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's observations, the same for all."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The space of an agent's actions, the same for all."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, Info]]:
        """Draw a new episode.

        Args:
            seed: Starts the generator anew; None goes on with it.
            options: ``image_ids`` sets the images, one id a user. Others are ignored, as PettingZoo asks for.
        """
        known = {name: value for name, value in (options or {}).items() if name == "image_ids"}
        self._seen, info = self._env.reset(seed=seed, options=known)
        self.agents = self.possible_agents[:]
        observations = self._observe()
        infos = {a: {self._mask: seen[self._mask], "common": info} for a, seen in observations.items()}
        return observations, infos

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]]:
        """Transmit what all agents select.

        Args:
            actions: One action an agent.

        Raises:
            ResetNeeded: Before the first reset and after the end of an episode.
            TypeError: If an action is of the wrong type.
            ValueError: If an agent has none, a name is none of the agents', or an action is not allowed.
        """
        if not self.agents:
            raise ResetNeeded("no episode is under way; call reset() before step()")
        if set(actions) != set(self.agents):
            raise ValueError(f"actions are of {sorted(map(str, actions))}; one of each of {self.agents} is needed")
        self._seen, reward, _, truncated, info = self._env.step(self._join(actions))
        own, observations, agents = self.dynamics.own_terms(info), self._observe(), self.agents
        rewards = own.reward.tolist() if self.reward_sharing == "own" else [reward] * len(agents)
        infos: dict[str, Info] = {}
        for k, agent in enumerate(agents):
            terms = {name: info[name][k] for name in ("lpips", "rate_bps", "demand_bits", "selection")}
            mask = observations[agent][self._mask]
            infos[agent] = {self._mask: mask, "latency_s": own.latency_s[k], **terms, "common": info}
        self.agents = [] if truncated else agents
        ended = dict.fromkeys(agents, False), dict.fromkeys(agents, truncated)
        return observations, dict(zip(agents, rewards, strict=True)), *ended, infos

    def state(self) -> np.ndarray:
        """The single form's whole observation as one float32 array of ``state_space``, the mask left out."""
        entries = [self._seen[name] for name in self.slices]
        whole: np.ndarray = np.concatenate(entries, dtype=np.float32)
        return whole

    def render(self) -> Any:
        """The frame of the single form."""
        return self._env.render()

    def close(self) -> None:
        """Close the window, if there is one."""
        self._env.close()

    def _observe(self) -> dict[str, Observation]:
        users = len(self.possible_agents)
        parts = [self._seen[name] for name in self.slices]
        rows = [np.tile(p, (users, 1)) if len(p) % users else p.reshape(users, -1) for p in parts]
        own, masks = np.concatenate(rows, axis=1, dtype=np.float32), self._seen["action_mask"].reshape(users, -1)
        return {agent: {"observation": own[k], self._mask: masks[k]} for k, agent in enumerate(self.possible_agents)}

    def _join(self, actions: Mapping[str, Any]) -> Any:
        """The single form's action; agents in their order, whatever that of the mapping."""
        space = self.action_spaces[self.agents[0]]
        if not isinstance(space, spaces.Dict):
            return np.concatenate([_checked(agent, actions[agent], space) for agent in self.agents])
        for agent in self.agents:
            if not isinstance(actions[agent], Mapping) or set(actions[agent]) != set(space):
                raise ValueError(f"action of {agent} is {actions[agent]!r}; a dict of {', '.join(space)} is needed")
        return {
            name: np.concatenate([_checked(f"{agent}[{name!r}]", actions[agent][name], part) for agent in self.agents])
            for name, part in space.items()
        }


def _length(space: spaces.Space[Any]) -> int:
    return int(np.prod(space.shape or ()))


def _checked(name: str, value: Any, space: spaces.Space[Any]) -> np.ndarray:
    part = np.asarray(value)
    if part.shape != space.shape:
        raise ValueError(f"action of {name} has shape {part.shape}; {space.shape} is needed")
    return part


def parallel_env(**knobs: Any) -> NomaSemComParallelEnv:
    """The parallel form, under PettingZoo's usual name; keywords as of :class:`NomaSemComParallelEnv`."""
    return NomaSemComParallelEnv(**knobs)


def env(**knobs: Any) -> Any:
    """The agent environment cycle form: agents act one after the other, and the step is taken when all have."""
    return parallel_to_aec(NomaSemComParallelEnv(**knobs))
