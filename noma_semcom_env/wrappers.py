"""Wrappers: flat forms for libraries that take arrays alone, the paper's exact state, and statistics of transmissions.

Each comes for single environments and, as ``Vector...``, for vectorized ones; both do the same to each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorActionWrapper, VectorEnv, VectorObservationWrapper, VectorWrapper
from gymnasium.vector.utils import batch_space

from noma_semcom_env.dynamics import Dynamics
from noma_semcom_env.layouts import PaperObservation

ACTION_PARTS: Final = ("selection", "beams", "priorities")
"""Order in which the flat action of the model-free form holds its parts."""

STATISTICS: Final = ("lpips", "rate_bps", "latency_s", "weighted_ll", "violations")
"""Terms of ``info`` whose means over an episode are recorded."""


class _Flattening:
    """Lays the entries of an observation side by side."""

    def __init__(self, space: spaces.Space[Any], keys: Sequence[str] | None) -> None:
        if not isinstance(space, spaces.Dict):
            raise TypeError(f"the observation space is {space}; a Dict of 1-D spaces is needed")
        names = tuple(space if keys is None else keys)
        unknown = [name for name in names if name not in space.spaces]
        if unknown or not names:
            raise ValueError(f"keys={list(names)} must be one or more of {list(space)}")
        self.slices: dict[str, slice] = {}
        start = 0
        for name in names:
            stop = start + int(np.prod(space[name].shape or ()))
            self.slices[name] = slice(start, stop)
            start = stop
        self.space = spaces.Box(-1.0, 1.0, (start,), np.float32)

    def __call__(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        parts = [observation[name] for name in self.slices]
        flat: np.ndarray = np.concatenate(parts, axis=-1, dtype=np.float32)
        return flat


class FlatObservation(gym.ObservationWrapper[np.ndarray, Any, Any], RecordConstructorArgs):
    """One float32 array in [-1, 1] in place of the dict, as Stable-Baselines3's ``MlpPolicy`` and CleanRL take it.

    Args:
        env: Environment with a dict of 1-D arrays in [-1, 1].
        keys: Entries to keep, in this order; None keeps all in the space's order, ``action_mask`` included.

    Attributes:
        slices: Where each entry stands.

    Raises:
        TypeError: If the observation is no dict.
        ValueError: If a key is unknown.
    """

    def __init__(self, env: gym.Env[Any, Any], keys: Sequence[str] | None = None) -> None:
        RecordConstructorArgs.__init__(self, keys=keys)
        gym.ObservationWrapper.__init__(self, env)
        self._flatten = _Flattening(env.observation_space, keys)
        self.slices = self._flatten.slices
        self.observation_space = self._flatten.space

    def observation(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """(length,) float32."""
        return self._flatten(observation)


class VectorFlatObservation(VectorObservationWrapper):
    """:class:`FlatObservation` of a vectorized environment, (n, length) float32; arguments as there."""

    def __init__(self, env: VectorEnv[Any, Any, Any], keys: Sequence[str] | None = None) -> None:
        super().__init__(env)
        self._flatten = _Flattening(env.single_observation_space, keys)
        self.slices = self._flatten.slices
        self.single_observation_space = self._flatten.space
        self.observation_space = batch_space(self._flatten.space, self.num_envs)

    def observations(self, observations: Any) -> Any:
        """(n, length) float32."""
        return self._flatten(observations)


class _Unflattening:
    """Reads one array of [-1, 1] as an action: bits are set where it is above 0."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        parts = {name: space[name] for name in ACTION_PARTS} if isinstance(space, spaces.Dict) else {"": space}
        self._stops = np.cumsum([int(np.prod(part.shape or ())) for part in parts.values()])
        self._binary = {name: isinstance(part, spaces.MultiBinary) for name, part in parts.items()}
        self.space = spaces.Box(-1.0, 1.0, (int(self._stops[-1]),), np.float32)

    def __call__(self, action: Any, leading: tuple[int, ...]) -> Any:
        flat = np.asarray(action)
        shape = (*leading, *self.space.shape)
        if flat.dtype.kind not in "biuf":
            raise TypeError(f"action has entries of type {flat.dtype}; numbers in [-1, 1] are needed")
        if flat.shape != shape or not np.isfinite(flat).all():
            raise ValueError(f"action has shape {flat.shape}; {shape} is needed, every entry finite")
        parts = dict(zip(self._binary, np.split(flat, self._stops[:-1], axis=-1), strict=True))
        for name, binary in self._binary.items():
            parts[name] = (parts[name] > 0).astype(np.int8) if binary else parts[name]
        return parts.get("", parts)


class FlatAction(gym.ActionWrapper[Any, np.ndarray, Any], RecordConstructorArgs):
    """One array in [-1, 1] in place of bits or of the model-free dict, for libraries with Box actions alone.

    The first K * F entries are the selection, a bit set where the number is above 0. In the model-free form K * 2N of
    beams and K of priorities follow, as they are.

    Args:
        env: Environment of this suite, observations wrapped or not.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ActionWrapper.__init__(self, env)
        self._unflatten = _Unflattening(env.action_space)
        self.action_space = self._unflatten.space

    def action(self, action: np.ndarray) -> Any:
        """The action of the wrapped environment.

        Raises:
            TypeError: If the entries are no numbers.
            ValueError: If the shape is wrong or an entry is not finite.
        """
        return self._unflatten(action, ())


class VectorFlatAction(VectorActionWrapper):
    """:class:`FlatAction` of a vectorized environment, (n, length)."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._unflatten = _Unflattening(env.single_action_space)
        self.single_action_space = self._unflatten.space
        self.action_space = batch_space(self._unflatten.space, self.num_envs)

    def actions(self, actions: Any) -> Any:
        """The actions of the wrapped environment, refused as in :meth:`FlatAction.action`."""
        return self._unflatten(actions, (self.num_envs,))


class MaskableBits(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Tells the action mask where sb3-contrib's ``MaskablePPO`` looks for it, in a method :meth:`action_masks`.

    Args:
        env: Environment of this suite whose action is an array of bits; observations wrapped or not.

    Raises:
        TypeError: If the action is something else.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.action_space, spaces.MultiBinary):
            raise TypeError(f"the action space is {env.action_space}; MultiBinary is needed")

    def action_masks(self) -> np.ndarray:
        """(2 * K * F,) bool: for each bit, whether it may be 0 (always) and whether it may be 1."""
        base: Any = self.unwrapped
        if base.state is None:
            raise ResetNeeded("no episode is under way; call reset() before action_masks()")
        available = base.dynamics.available[base.state.image_index[0]].ravel()
        masks: np.ndarray = np.stack([np.ones_like(available), available], axis=-1).ravel()
        return masks


class PaperState(gym.ObservationWrapper[dict[str, np.ndarray], Any, Any], RecordConstructorArgs):
    """The paper's state in place of what the environment shows: the channels of all users and the last decoding order.

    It lays them out as :class:`~noma_semcom_env.layouts.PaperObservation` does, whatever the layout of the environment.

    Args:
        env: Environment of this suite.

    Raises:
        TypeError: If it is another one.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        self._layout = _paper_layout(env.unwrapped)
        self.observation_space = self._layout.space

    def observation(self, observation: Any) -> dict[str, np.ndarray]:
        """Arrays of the new space."""
        base: Any = self.unwrapped
        return {name: value[0] for name, value in self._layout.observe(base.state.as_seen()).items()}


class VectorPaperState(VectorObservationWrapper):
    """:class:`PaperState` of the suite's own vectorized environment."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._layout = _paper_layout(env.unwrapped)
        self.single_observation_space = self._layout.space
        self.observation_space = batch_space(self._layout.space, self.num_envs)

    def observations(self, observations: Any) -> Any:
        """Arrays of the new space with a leading axis."""
        base: Any = self.env.unwrapped
        return self._layout.observe(base.state.as_seen())


def _paper_layout(base: Any) -> PaperObservation:
    dynamics = getattr(base, "dynamics", None)
    if not isinstance(dynamics, Dynamics):
        raise TypeError(f"{base} has no channels; an environment of this suite is needed")
    return PaperObservation(dynamics.scenario, dynamics.bank, dynamics.available)


class RecordTransmissionStatistics(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds ``info["transmission"]`` to the last step of an episode: what it came to, beside ``info["episode"]``.

    It holds the means over the episode's steps of ``lpips`` (K), ``rate_bps`` (K), ``latency_s``, ``weighted_ll`` and
    ``violations``, and ``steps``.

    Args:
        env: Environment of this suite.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        self._sums = _Sums(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Forget what an unfinished episode had come to."""
        self._sums = _Sums(1)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take the step's terms into account."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._sums.add({name: np.asarray(info[name])[None] for name in STATISTICS}, np.ones(1, dtype=bool))
        if terminated or truncated:
            info["transmission"] = {name: mean[0] for name, mean in self._sums.pop(np.ones(1, dtype=bool)).items()}
        return observation, reward, terminated, truncated, info


class VectorRecordTransmissionStatistics(VectorWrapper):
    """:class:`RecordTransmissionStatistics` of a vectorized environment with autoreset ``NEXT_STEP``.

    ``infos["transmission"]`` holds arrays with a leading axis, ``infos["_transmission"]`` tells whose episode ended.

    Args:
        env: Vectorized environment of this suite.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._sums = _Sums(self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Forget what unfinished episodes had come to."""
        begun = self.env.reset(seed=seed, options=options)
        self._sums.pop(np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))))
        return begun

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take the steps' terms into account."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        acted = infos.get("_lpips", np.zeros(self.num_envs, dtype=bool))
        if acted.any():
            self._sums.add(infos, acted)
        ended = terminations | truncations
        if ended.any():
            means = self._sums.pop(ended)
            infos["transmission"] = means | {f"_{name}": ended.copy() for name in means}
            infos["_transmission"] = ended.copy()
        return observations, rewards, terminations, truncations, infos


class _Sums:
    """Terms of episodes under way, summed over their steps."""

    def __init__(self, num_envs: int) -> None:
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self.sums: dict[str, np.ndarray] = {}

    def add(self, info: Mapping[str, Any], acted: np.ndarray) -> None:
        """Add the terms, each with a leading axis, of those that acted."""
        self.steps += acted
        for name in STATISTICS:
            value = np.asarray(info[name], dtype=np.float64)
            total = self.sums.setdefault(name, np.zeros_like(value))
            total[acted] += value[acted]

    def pop(self, ended: np.ndarray) -> dict[str, np.ndarray]:
        """Means of the episodes that ended, 0 elsewhere, and their ``steps``; they begin anew."""
        steps = np.where(ended, self.steps, 0)
        means: dict[str, np.ndarray] = {}
        for name, total in self.sums.items():
            share = (ended / np.maximum(steps, 1)).reshape(-1, *[1] * (total.ndim - 1))
            means[name] = total * share
            total[ended] = 0.0
        self.steps[ended] = 0
        return {**means, "steps": steps}
