"""The vectorized environment: n environments in one batch over the dynamics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from noma_semcom_env.dynamics import Dynamics, Info, State
from noma_semcom_env.envs.saving import SavedState
from noma_semcom_env.envs.single import Action, Observation, checked_options
from noma_semcom_env.rendering import RENDER_FPS, RENDER_MODES, Renderer
from noma_semcom_env.scenario import Scenario


class NomaSemComVectorEnv(VectorEnv[Observation, Action, np.ndarray]):
    """Many :class:`~noma_semcom_env.envs.single.NomaSemComEnv` stepped in one go.

    Sub-environment i of ``reset(seed=s)`` equals the single environment seeded s + i, over any number of episodes: each
    has its own generator, with which autoreset goes on. Autoreset is ``NEXT_STEP``: the step after an episode's end
    ignores that sub-environment's action, gives reward 0 and the first observation of the next episode. Infos are a
    dict of arrays with a leading axis, nested dicts kept, and beside each ``key`` a mask ``_key`` that tells which
    sub-environments have it.

    Args:
        num_envs: n, at least 1.
        scenario: Where to start; None is the default scenario.
        max_episode_steps: Truncates earlier than ``episode_length`` does, as ``gymnasium.make``'s does; None leaves it.
        render_mode: ``"rgb_array"``, ``"human"``, ``"ansi"``, or None for none.
        render_recovered: Whether frames show recovered images; see :class:`~noma_semcom_env.rendering.Renderer`.
        **knobs: Fields of the scenario to replace.

    Raises:
        TypeError: If a keyword is no field, or an argument has the wrong type.
        ValueError: If an argument is out of range, or the image set is missing or damaged.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's declaration)
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    scenario_class: ClassVar[Any] = Scenario
    dynamics_class: ClassVar[Any] = Dynamics
    """As in the single form."""

    # Gymnasium closes at collection, an environment that refused its arguments too.
    _renderer: Renderer | None = None

    def __init__(
        self,
        num_envs: int = 1,
        scenario: Scenario | None = None,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        render_recovered: bool | None = None,
        **knobs: Any,
    ) -> None:
        self.num_envs = _at_least_one("num_envs", num_envs)
        self.dynamics = self.dynamics_class(self.scenario_class.of(scenario, knobs))
        self.render_mode = render_mode
        if render_mode is not None:
            self._renderer = Renderer(render_mode, self.dynamics, self.num_envs, render_recovered)
        self.scenario = self.dynamics.scenario
        limits = [] if max_episode_steps is None else [_at_least_one("max_episode_steps", max_episode_steps)]
        self.episode_length = min([self.scenario.episode_length, *limits])
        self.single_observation_space = self.dynamics.observation_space
        self.single_action_space = self.dynamics.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._generators: list[np.random.Generator] = []
        self._state: State | None = None
        self._ended = np.zeros(self.num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Draw new episodes.

        Args:
            seed: s starts generator i anew with s + i; a sequence gives each its own; None goes on with all of them.
            options: ``image_ids`` sets the images, (K,) ids for all or (n, K); ``reset_mask``, (n,) bool, resets only
                the sub-environments where it is True.
        """
        given = checked_options(options, ("image_ids", "reset_mask"))
        seeds = self._seeds(seed)
        rows = self._rows(given.get("reset_mask"))
        images = self._images(given.get("image_ids"))
        if not self._generators:
            self._generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        for row in rows:
            if seeds[row] is not None:
                self._generators[row] = seeding.np_random(seeds[row])[0]
        infos: Info = {}
        self._begin(rows, infos, images)
        return self._observe(), infos

    def step(self, actions: Action) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Transmit the selected features of every sub-environment; those whose episode ended begin a new one instead.

        Args:
            actions: (n, K * F) of 0 and 1, or a dict of (n, ...) with ``transmission="model_free"``; rows of
                sub-environments that begin a new episode are checked and not used.

        Raises:
            ResetNeeded: Before the first reset.
            TypeError: If the actions hold no numbers.
            ValueError: If a shape is wrong or an entry is not allowed.
        """
        if self._state is None:
            raise ResetNeeded("no episode is under way; call reset() before step()")
        beginning, going_on = np.flatnonzero(self._ended), np.flatnonzero(~self._ended)
        wanted, control = self.dynamics.decode(actions, (self.num_envs,))
        rewards, infos = np.zeros(self.num_envs), dict[str, Any]()
        if len(going_on):
            everyone = len(going_on) == self.num_envs
            state = self._state if everyone else self._state.rows(going_on)
            moved = self.dynamics.step(state, wanted[going_on], None if control is None else control.at(going_on))
            self._state = self._state.with_rows(going_on, moved.state)
            if self._renderer is not None:
                self._renderer.record(moved, going_on)
            rewards[going_on] = moved.reward
            _scatter(infos, moved.info, going_on, self.num_envs)
        if len(beginning):
            self._begin(beginning, infos)
        self._ended = self._state.elapsed >= self.episode_length
        return self._observe(), rewards, np.zeros(self.num_envs, dtype=bool), self._ended.copy(), infos

    @property
    def state(self) -> State | None:
        """The n episodes under way, not to be changed; None before the first reset."""
        return self._state

    def get_state(self) -> SavedState:
        """Where all sub-environments stand, for :meth:`set_state`.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return SavedState.of(self.scenario, self._state, self._ended, self._generators)

    def set_state(self, saved: SavedState) -> Observation:
        """Go on from a saved state, as often as one likes.

        Args:
            saved: Of :meth:`get_state`, of this environment or another of the same scenario and ``num_envs``.

        Returns:
            What the agents saw there.

        Raises:
            ValueError: If it is of another scenario or number of environments.
        """
        saved.check_fits(self.scenario, self.num_envs)
        self._state, self._ended = saved.episodes, saved.ended.copy()
        if self._renderer is not None:
            self._renderer.begin(self._state)
        self._generators = [np.random.Generator(np.random.PCG64(0)) for _ in range(self.num_envs)]
        for generator, state in zip(self._generators, saved.generators, strict=True):
            generator.bit_generator.state = state
        return self._observe()

    def _begin(self, rows: np.ndarray, infos: Info, images: np.ndarray | None = None) -> None:
        """Begin new episodes in ``rows`` and add their infos."""
        fresh = self.dynamics.reset([self._generators[row] for row in rows], None if images is None else images[rows])
        self._state = fresh if self._state is None else self._state.with_rows(rows, fresh)
        self._ended[rows] = False
        if self._renderer is not None:
            self._renderer.begin(fresh, rows)
        _scatter(infos, {"privileged": self.dynamics.privileged(fresh)}, rows, self.num_envs)

    def _observe(self) -> Observation:
        assert self._state is not None
        observation: Observation = self.dynamics.observe(self._state)
        return observation

    def render(self) -> tuple[Any, ...] | None:
        """A frame of each sub-environment; None in mode ``"human"``, whose window shows the first, and without a mode.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self._renderer is None:
            gymnasium.logger.warn("render() shows nothing: make the environment with a render_mode")
            return None
        return self._renderer.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if there is one."""
        if self._renderer is not None:
            self._renderer.close()

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"seed has {len(seed)} entries; one for each of num_envs={self.num_envs} is needed")
        return list(seed)

    def _rows(self, mask: np.ndarray | None) -> np.ndarray:
        if mask is None:
            return np.arange(self.num_envs)
        if np.shape(mask) != (self.num_envs,) or np.asarray(mask).dtype != np.bool_ or not np.any(mask):
            raise ValueError(f"options['reset_mask']={mask!r} must be ({self.num_envs},) of bool, at least one True")
        if self._state is None and not np.all(mask):
            raise ResetNeeded("the first reset() begins every sub-environment; leave options['reset_mask'] out")
        return np.flatnonzero(mask)

    def _images(self, image_ids: Sequence[Any] | None) -> np.ndarray | None:
        """(n, K) rows of the bank that ``image_ids``, (K,) or (n, K), names."""
        if image_ids is None:
            return None
        if isinstance(image_ids, str) or all(isinstance(one, str) for one in image_ids):
            return np.tile(self.dynamics.images_of(image_ids), (self.num_envs, 1))
        if len(image_ids) != self.num_envs:
            raise ValueError(f"image_ids has {len(image_ids)} rows; num_envs={self.num_envs} are needed")
        return np.stack([self.dynamics.images_of(one) for one in image_ids])


def _scatter(infos: Info, part: Mapping[str, Any], rows: np.ndarray, num_envs: int) -> None:
    """Put the info of some sub-environments into the infos of all, with its masks; 0 where there is none."""
    everyone = len(rows) == num_envs
    for name, value in part.items():
        if isinstance(value, Mapping):
            _scatter(infos.setdefault(name, {}), value, rows, num_envs)
        elif everyone:
            infos[name] = value
        else:
            infos.setdefault(name, np.zeros((num_envs, *value.shape[1:]), dtype=value.dtype))[rows] = value
        infos.setdefault(f"_{name}", np.zeros(num_envs, dtype=bool))[rows] = True


def _at_least_one(name: str, value: Any) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; a whole number of at least 1 is needed")
    if value < 1:
        raise ValueError(f"{name}={value!r} is out of range; a whole number of at least 1 is needed")
    return int(value)
