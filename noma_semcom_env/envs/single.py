"""The single environment: a batch of one over the dynamics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded

from noma_semcom_env.dynamics import Dynamics, Info, State
from noma_semcom_env.envs.saving import SavedState
from noma_semcom_env.rendering import RENDER_FPS, RENDER_MODES, Renderer
from noma_semcom_env.scenario import Scenario

Observation = dict[str, np.ndarray]
Action = np.ndarray | Mapping[str, np.ndarray]
"""An array, or in the model-free form a dict of arrays."""


class NomaSemComEnv(gymnasium.Env[Observation, Action]):
    r"""Generative semantic communication over uplink NOMA.

    ## Description

    K semantic users each hold an image, described by at most F features: the masks of its segmentation (visual) and the
    phrases of its caption (textual). At every step the agent chooses which features each user sends. The selected
    features cost bits; the users send them at once over the same band to an access point with N antennas, which decodes
    them one after the other (successive interference cancellation). At the receiver a diffusion model draws each image
    anew from what arrived, and LPIPS tells how far the result is from the original. More features give better images
    and a longer transmission. The environment solves receive beams and decoding order; the agent solves the selection.
    In `NomaSemComModelFree-v0` nothing is solved: the agent gives beams and order as well (the paper's Plain-PPO).

    Images and positions stay for an episode, the channel moves at every step. The action moves nothing but the last
    decoding order in the observation: this is a contextual bandit in episodes, as in the paper, so that a discount of
    gamma = 0 loses nothing. With `backlog=True` bits that do not fit into a step are carried over until a deadline, and
    actions have a price later, see :mod:`~noma_semcom_env.backlog`.

    ## Action Space

    `MultiBinary(K * F)`, user by user: entry `k * F + f` is 1 if user k sends its feature f. Bits on features that are
    unavailable (that the image does not have, or that pruning removed) count as 0 and are counted in
    `info["unavailable_bits"]`. `observation["action_mask"]` tells which features are available.

    With `transmission="model_free"`, a `Dict`; nothing is pruned there by default, since Plain-PPO uses no model:

    | key | space | meaning |
    |---|---|---|
    | `selection` | `MultiBinary(K * F)` | as above |
    | `beams` | `Box(-1, 1, (K * 2N,))` | receive beam w_k of each user, N real parts, N imaginary parts |
    | `priorities` | `Box(-1, 1, (K,))` | the highest is decoded first; of equal ones the lower index |

    Beams are scaled to unit norm; a beam of zero receives nothing, so that its user, if it sends, has rate 0. Finite
    numbers beyond [-1, 1] are clipped. `observation["direction"]` has the layout of `beams` and, taken as such, is the
    matched filter. :class:`~noma_semcom_env.wrappers.FlatAction` gives one array of [-1, 1] for all three.

    ## Observation Space

    A `Dict` of 1-D arrays, float32 in [-1, 1] unless noted, user by user:

    | key | length | meaning |
    |---|---|---|
    | `snr` | K | p_k \|\|h_k\|\|^2 / sigma^2 in dB, -10 to 70 dB scaled to [-1, 1] |
    | `direction` | K * 2N | h_k / \|\|h_k\|\|, N real parts, N imaginary parts; the first antenna's phase is 0 |
    | `last_order` | K | position in the last decoding order, -1 decoded first, 1 last; 0 before the first step |
    | `bandwidth` | 1 | log B, 1 kHz to 1 GHz scaled to [-1, 1] |
    | `size` | K * F | log(1 + bits), 0 to 2^14 - 1 bits scaled to [-1, 1] |
    | `importance` | K * F | visual (23) or textual (22) importance, [0, 1] scaled to [-1, 1] |
    | `modality` | K * F | 1 visual, -1 textual, 0 no feature |
    | `label` | K * F | 2 l / (L - 1) - 1, with l the index of the class or word among the preset's L labels |
    | `action_mask` | K * F | int8, 1 if the feature is available |

    With `backlog=True` and a deadline of d > 1 steps also `queue`, K * (d - 1) * F: for each feature of the frames
    under way, the newest first, 1 if it has arrived, 0 if it was not chosen, else minus the share that is left.

    ## Rewards

    r = -(lambda mean_k L_k + (1 - lambda) min(tau, tau_max) / tau_ref), less `violation_penalty` if tau > tau_max, with
    L_k the LPIPS of user k and tau = max_k D_k / R_k the latency (24). A user whose rate is 0 although it has bits to
    send counts as tau = tau_max, violated.

    `info` carries every term: `lpips` (K), `latency_s`, `rate_bps` (K), `demand_bits` (K), `decoding_order` (K, first
    decoded first, silent users last by index), `selection` (K, F), `weighted_ll` (the bracket above), `violations` (1
    if tau > tau_max), `unavailable_bits`, `solver_fallbacks` (1 if the convex program failed and the exact order took
    its place). With `backlog=True`, `demand_bits` is all that is queued, `lpips` that of the frames whose deadline
    ends, `arrived` (K, F) their features that have arrived, `expired_bits` (K) what of them is dropped, `backlog_bits`
    (K) what the next step begins with.

    `info["privileged"]` is for references alone: `channel` (K, N complex; in a step's info the one that this step's
    transmission used, at reset the first one to be used), `power_w` (K), `noise_power_w`, `image_ids` (K),
    `image_index` (K), `distances_m` (K).

    ## Starting State

    Users are dropped uniformly over an annulus, each draws an image, and the channel starts in its stationary law. All
    of an episode's draws are made at reset from the environment's own generator; their number and order depend on K, N,
    `episode_length` and the channel model alone, never on actions or on F. `reset(options={"image_ids": [...]})` sets
    the images, one id a user; everything is drawn all the same.

    ## Episode End

    Truncation after `episode_length` steps; there is no termination.

    ## Arguments

    Every field of :class:`~noma_semcom_env.scenario.Scenario` is a keyword, and `scenario=` takes a whole one, in which
    the keywords then replace fields.

    | argument | default | meaning |
    |---|---|---|
    | `num_users` | 3 | K |
    | `num_antennas` | 2 | N |
    | `transmit_power_dbm` | 23 | transmit power in dBm, one number or K |
    | `bandwidth_hz` | 1e6 | bandwidth in Hz |
    | `noise_psd_dbm_hz` | -174 | noise power spectral density in dBm/Hz |
    | `noise_figure_db` | 0 | noise figure of the receiver in dB |
    | `min_distance_m` | 50 | inner radius of the annulus in m |
    | `max_distance_m` | 200 | outer radius of the annulus in m |
    | `distances_m` | None | K distances in m that replace the drop |
    | `path_loss_intercept_db` | 128.1 | path loss at 1 km in dB |
    | `path_loss_slope_db` | 37.6 | path loss a decade of distance in dB |
    | `fading` | `"rayleigh"` | `"rayleigh"`, `"rician"` or a channel model |
    | `rician_factor_db` | 9 | power of the line of sight over the scattered power in dB |
    | `doppler_hz` | None | maximum Doppler shift in Hz of Gauss-Markov fading; None is block fading |
    | `step_period_s` | 0.01 | time between steps in s, for the Doppler and the backlog |
    | `antenna_spacing_wavelengths` | 0.5 | spacing of the uniform linear array |
    | `images` | `"street-policy"` | bundled image set or path of a table |
    | `image_ids` | None | K image ids; None draws them at reset |
    | `same_image` | False | all users send the same image |
    | `prune` | True | only features that survive pruning are available |
    | `importance` | `"paper"` | `"paper"`, `"fitted"` or an importance; observed, and compared with the thresholds |
    | `text_threshold` | None | eps_t in [0, 1]; None is the image set's or the importance's own |
    | `visual_threshold` | None | eps_v in [0, 1]; None likewise |
    | `transmission` | `"optimal"` | `"exhaustive"`, `"paper"`, `"distance"`, `"strength"`, `"model_free"` or a solver |
    | `access` | `"noma"` | `"noma"`, or orthogonal access with the best shares, `"tdma"` or `"fdma"` |
    | `blocklength` | None | `"normal"` counts what short messages cost; None sends at capacity |
    | `error_probability` | 1e-3 | of a short message |
    | `csi_error` | 0 | error variance of the channel estimates over the channel's power |
    | `sic_residual` | 0 | share of a decoded user's power that stays as interference |
    | `recovery` | `"table"` | `"table"`, `"live"` or a recovery |
    | `models` | `"street"` | model preset, by name or as a mapping that swaps its parts |
    | `lpips_net` | `"alex"` | network of LPIPS, `"alex"` or `"vgg"` |
    | `lpips_weight` | 0.5 | lambda |
    | `latency_ref_s` | None | tau_ref in s; None is the preset's, 1 ms for street |
    | `max_latency_s` | None | tau_max in s; None is 20 tau_ref |
    | `violation_penalty` | 1 | subtracted if tau > tau_max |
    | `episode_length` | 20 | steps of an episode |
    | `backlog` | False | bits that do not fit into `step_period_s` are sent in the next steps |
    | `backlog_deadline_steps` | 2 | steps after which a frame is recovered from what has arrived |
    | `reward` | `"weighted_sum"` | `"weighted_sum"`, `"worst_user"` (its LPIPS in place of the mean) or a reward |
    | `observation` | `"features"` | `"features"`, `"paper"` (channels and last order alone) or an observation layout |

    ## Vectorized environment

    `gymnasium.make_vec(id, num_envs=64, vectorization_mode="vector_entry_point")` steps all environments in one go, see
    :class:`~noma_semcom_env.envs.vector.NomaSemComVectorEnv`. Sub-environment i of seed s equals this one seeded s + i.

    ## Version History

    * v0: initial version.

    Args:
        scenario: Where to start; None is the default scenario.
        render_mode: ``"rgb_array"``, ``"human"``, ``"ansi"``, or None for none.
        render_recovered: Whether frames show recovered images; see :class:`~noma_semcom_env.rendering.Renderer`.
        **knobs: Fields of the scenario to replace.

    Raises:
        TypeError: If a keyword is no field, or a field has the wrong type.
        ValueError: If a field is out of range, or the image set is missing or damaged.

    Example:
        >>> import gymnasium as gym
        >>> import noma_semcom_env
        >>> env = gym.make("NomaSemCom-v0", num_users=4)
        >>> observation, info = env.reset(seed=1)
        >>> observation, reward, terminated, truncated, info = env.step(observation["action_mask"])
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's declaration)
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
    }
    scenario_class: ClassVar[Any] = Scenario
    dynamics_class: ClassVar[Any] = Dynamics
    """What a step does; environments of another kind put theirs in its place."""

    def __init__(
        self,
        scenario: Scenario | None = None,
        render_mode: str | None = None,
        render_recovered: bool | None = None,
        **knobs: Any,
    ) -> None:
        self.dynamics = self.dynamics_class(self.scenario_class.of(scenario, knobs))
        self.render_mode = render_mode
        self._renderer = Renderer(render_mode, self.dynamics, 1, render_recovered) if render_mode is not None else None
        self.scenario = self.dynamics.scenario
        self.observation_space = self.dynamics.observation_space
        self.action_space = self.dynamics.action_space
        self._state: State | None = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Observation, Info]:
        """Draw a new episode.

        Args:
            seed: Starts the generator anew; None goes on with it.
            options: ``image_ids`` sets the images, one id a user.
        """
        image_ids = checked_options(options, ("image_ids",)).get("image_ids")
        images = None if image_ids is None else self.dynamics.images_of(image_ids)
        super().reset(seed=seed)
        self._state = self.dynamics.reset([self.np_random], images)
        if self._renderer is not None:
            self._renderer.begin(self._state)
        return self._observe(), {"privileged": _first(self.dynamics.privileged(self._state))}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """Transmit the selected features.

        Args:
            action: (K * F,) of 0 and 1, or a dict with ``transmission="model_free"``; see above.

        Raises:
            ResetNeeded: Before the first reset and after the end of an episode.
            TypeError: If the action holds no numbers.
            ValueError: If a shape is wrong or an entry is not allowed.
        """
        if self._state is None or self._ended:
            raise ResetNeeded("no episode is under way; call reset() before step()")
        wanted, control = self.dynamics.decode(action, ())
        moved = self.dynamics.step(self._state, wanted[None], None if control is None else control.at(None))
        self._state = moved.state
        if self._renderer is not None:
            self._renderer.record(moved)
        return self._observe(), float(moved.reward[0]), False, self._ended, _first(moved.info)

    @property
    def _ended(self) -> bool:
        return self._state is not None and bool(self._state.elapsed[0] >= self.scenario.episode_length)

    @property
    def state(self) -> State | None:
        """The episode under way as a batch of one, not to be changed; None before the first reset."""
        return self._state

    def get_state(self) -> SavedState:
        """Where the environment stands, for :meth:`set_state`.

        Raises:
            ResetNeeded: Before the first reset.
        """
        return SavedState.of(self.scenario, self._state, np.array([self._ended]), [self.np_random])

    def set_state(self, saved: SavedState) -> Observation:
        """Go on from a saved state, as often as one likes.

        Args:
            saved: Of :meth:`get_state`, of this environment or another of the same scenario.

        Returns:
            What the agent saw there.

        Raises:
            ValueError: If it is of another scenario, or of a vectorized environment of more than one.
        """
        saved.check_fits(self.scenario, 1)
        self._state = saved.episodes
        if self._renderer is not None:
            self._renderer.begin(self._state)
        self.np_random.bit_generator.state = saved.generators[0]
        return self._observe()

    def render(self) -> np.ndarray | str | None:  # type: ignore[override]
        """The frame of ``render_mode``: an image, a text, or None, where a window shows it or there is no mode.

        Raises:
            ResetNeeded: Before the first reset.
        """
        if self._renderer is None:
            gymnasium.logger.warn("render() shows nothing: make the environment with a render_mode")
            return None
        frames = self._renderer.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._renderer is not None:
            self._renderer.close()

    def _observe(self) -> Observation:
        assert self._state is not None
        return _first(self.dynamics.observe(self._state))


def _first(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The one environment of a batch: arrays without the leading axis, numbers as Python's own."""
    one: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, dict):
            one[name] = _first(value)
        else:
            own = value[0]
            one[name] = own.item() if isinstance(own, np.generic) else own
    return one


def checked_options(options: Mapping[str, Any] | None, known: Sequence[str]) -> Mapping[str, Any]:
    """The options of a reset, refused if they hold a name that means nothing.

    Raises:
        TypeError: If the options are no mapping.
        ValueError: If an option is unknown.
    """
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise TypeError(f"options={options!r} is a {type(options).__name__}; a mapping of {', '.join(known)} is needed")
    for name in options:
        if name not in known:
            raise ValueError(f"options holds {name!r}, which reset() does not know; it knows {', '.join(known)}")
    return options
