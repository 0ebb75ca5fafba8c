"""The heart: one transition over a batch axis, (state, action) -> (state, reward, terms).

Every form of the environment runs this code; a single environment is a batch of one. All chance lies in
:meth:`Dynamics.reset`, which draws a whole episode (positions, images, channels) from each environment's own generator,
in this order, a number of variates that depends on users, antennas, episode length and channel model alone; channel
estimates, where they err, come last. So every policy faces the same numbers, and steps draw nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from gymnasium import spaces

from noma_semcom_env.actions import MODEL_FREE, Control, action_form
from noma_semcom_env.backlog import Queue
from noma_semcom_env.fading import channel_model
from noma_semcom_env.features import FeatureBank
from noma_semcom_env.importance import pruned_bank
from noma_semcom_env.layouts import LAYOUTS
from noma_semcom_env.link.channel import drop_distances, sample_estimates, sample_trajectories
from noma_semcom_env.link.sic import Transmission, checked_order, latency_s, transmit
from noma_semcom_env.observation import ObservationLayout
from noma_semcom_env.recovery.table import RecoveryTable, load_table
from noma_semcom_env.reward import REWARDS, Reward, RewardTerms
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.state import NO_ORDER as NO_ORDER
from noma_semcom_env.state import State as State
from noma_semcom_env.transmission import link_options, make_solver
from noma_semcom_env.zoo.presets import load_preset, settle

if TYPE_CHECKING:
    from noma_semcom_env.compiled import DefaultStep

Info = dict[str, Any]
"""Name to array with a leading batch axis, or to a nested dict of the same."""


class Recovery(Protocol):
    """What a selection is worth."""

    @property
    def bank(self) -> FeatureBank:
        """Features of all images."""
        ...

    def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
        """Score recoveries.

        Args:
            images: (B, K) int64, rows of the bank.
            selection: (B, K, F) bool, features that arrive; only features that the image has.

        Returns:
            (B, K) float64, finite.
        """
        ...


@dataclass(frozen=True, eq=False)
class Transition:
    """What B actions led to.

    Attributes:
        state: The state afterwards.
        reward: (B,) float64.
        info: Every term; see :meth:`Dynamics.step`.
        beams: (B, K, N) complex, the receive beams that were used.
    """

    state: State
    reward: np.ndarray
    info: Info
    beams: np.ndarray


class Dynamics:
    """One step of the uplink for B environments at once.

    Args:
        scenario: Every knob.

    Attributes:
        scenario: As given, with what belongs to the model preset filled in.
        recovery: Table, live pipeline, or the object that the scenario holds.
        bank: The recovery's features of I images, valued and pruned as the scenario says.
        available: (I, F) bool, features that an action may select.
        observation_space: Of one environment.
        action_space: Of one environment, see :mod:`~noma_semcom_env.actions`.

    Raises:
        ValueError: If the image set is missing or damaged, or an image id is unknown.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.recovery = _open_recovery(scenario)
        self.bank = pruned_bank(self.recovery, scenario)
        scenario = settle(scenario)
        self.scenario = scenario
        self.available = self.bank.kept if scenario.prune else self.bank.exists
        self.power_w = scenario.power_w
        self.noise_power_w = scenario.noise_power_w
        self._channel_model = channel_model(scenario)
        self._transmit = None if scenario.transmission == MODEL_FREE else make_solver(scenario)
        self._link_options = link_options(scenario)
        self._reward: Reward = _by_name(REWARDS, scenario.reward)
        self._layout: ObservationLayout = _by_name(LAYOUTS, scenario.observation)(scenario, self.bank, self.available)
        self.observation_space = self._layout.space
        self._compiled = _compiled_step(scenario, self.recovery, self.bank, self.available)
        self._carried = scenario.backlog_deadline_steps - 1 if scenario.backlog else 0
        if self._carried:
            length = scenario.num_users * self._carried * self.bank.width
            queue = spaces.Box(-1.0, 1.0, (length,), np.float32)
            self.observation_space = spaces.Dict({**self._layout.space.spaces, "queue": queue})
        self._actions = action_form(scenario, self.bank.width)
        self.action_space = self._actions.space
        self._ids = np.array(self.bank.image_ids, dtype=object)
        self._fixed_images = None if scenario.image_ids is None else self.images_of(scenario.image_ids)

    def images_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """Rows of the bank, int64, that the ids name.

        Raises:
            ValueError: If an id is unknown or there is not one a user.
        """
        users, known = self.scenario.num_users, self.bank.image_ids
        if isinstance(image_ids, str) or np.ndim(image_ids) != 1 or len(image_ids) != users:
            raise ValueError(f"image_ids={image_ids!r} must hold one id for each of the {users} users")
        for one in image_ids:
            if one not in known:
                raise ValueError(
                    f"image_ids holds {one!r}, which the image set does not; its {len(known)} ids run from "
                    f"{known[0]!r} to {known[-1]!r}"
                )
        return np.array([known.index(one) for one in image_ids], dtype=np.int64)

    def reset(self, generators: Sequence[np.random.Generator], image_index: np.ndarray | None = None) -> State:
        """Draw new episodes, one a generator.

        Args:
            generators: Each environment's own.
            image_index: (K,) or (B, K) rows of the bank that replace the drawn images; the draws are made all the same.
        """
        one, batch, users = self.scenario, len(generators), self.scenario.num_users
        distances_m, images = self._drop_users(generators)
        fixed = self._fixed_images if image_index is None else image_index
        if fixed is not None:
            images[:] = np.arange(len(self.bank))[fixed]  # an index out of range is an error, not foreign memory
        steps = one.episode_length + 1
        channels = sample_trajectories(self._channel_model, generators, distances_m, one.num_antennas, steps)
        expected = (batch, steps, users, one.num_antennas)
        if np.shape(channels) != expected or not np.isfinite(channels).all():
            raise ValueError(
                f"fading={one.fading!r} gave a channel of shape {np.shape(channels)[1:]}; {expected[1:]} is needed "
                "(steps, num_users, num_antennas), every entry finite"
            )
        channels = np.ascontiguousarray(channels, dtype=np.complex128)
        estimates = None
        if one.csi_error:
            believed = [
                sample_estimates(rng, own, one.csi_error) for rng, own in zip(generators, channels, strict=True)
            ]
            estimates = np.stack(believed)
        queue = Queue.empty(batch, users, self._carried, self.bank.width) if one.backlog else (None, None)
        return State(
            channels=channels,
            distances_m=distances_m,
            image_index=images,
            last_order=np.full((batch, users), NO_ORDER, dtype=np.int64),
            elapsed=np.zeros(batch, dtype=np.int64),
            estimates=estimates,
            chosen=queue[0],
            left_bits=queue[1],
        )

    def _drop_users(self, generators: Sequence[np.random.Generator]) -> tuple[np.ndarray, np.ndarray]:
        """Distances in m and images, (B, K) each; both are drawn, needed or not."""
        one, rows = self.scenario, len(self.bank)
        uniforms = np.empty((len(generators), 2, one.num_users))
        for rng, own in zip(generators, uniforms, strict=True):
            rng.random(out=own)
        images = np.minimum((uniforms[:, 1] * rows).astype(np.int64), rows - 1)
        if one.same_image:
            images[:] = images[:, :1]
        if one.distances_m is not None:
            return np.tile(np.array(one.distances_m), (len(generators), 1)), images
        return drop_distances(uniforms[:, 0], one.min_distance_m, one.max_distance_m), images

    def step(self, state: State, wanted: np.ndarray, control: Control | None = None) -> Transition:
        """Transmit what the actions select, and value what arrives.

        Args:
            state: B episodes, none of them ended.
            wanted: (B, K, F) bool, the features that the actions ask for, from :meth:`decode`.
            control: Beams and orders of the actions, likewise; None where the scenario's transmission solves them.

        Returns:
            The transition. Its info holds ``lpips`` (B, K), ``latency_s`` (B,), ``rate_bps`` (B, K), ``demand_bits``
            (B, K), ``decoding_order`` (B, K), ``selection`` (B, K, F), ``weighted_ll`` (B,), ``violations`` (B,) (1
            where the latency exceeds tau_max), ``unavailable_bits`` (B,) (bits set on unavailable features, which count
            as 0), ``solver_fallbacks`` (B,) (1 where a solver failed and the exact order took its place), and
            ``privileged``, see :meth:`privileged`. With a backlog, ``demand_bits`` is all that is queued, ``lpips`` is
            that of the frames whose deadline ends, ``arrived`` (B, K, F) their features that have arrived,
            ``expired_bits`` (B, K) what of them is dropped, and ``backlog_bits`` (B, K) what the next step begins with.
        """
        if self._compiled is not None:
            return self._step_compiled(state, wanted)
        selection = wanted & self.available[state.image_index]
        size_bits = self.bank.size_bits[state.image_index]
        queue = state.queue and state.queue.with_frame(selection, size_bits)
        demand_bits = (selection * size_bits).sum(axis=-1) if queue is None else queue.demand_bits
        sent = self._send(state, demand_bits.astype(np.float64), control)
        self._check_sent(sent, demand_bits.shape)
        arrived = selection
        if queue is not None:
            queue = queue.served(sent.rate_bps * self.scenario.step_period_s)
            arrived = queue.arrived[:, :, -1]
        lpips = self._checked_lpips(self.recovery.lpips(state.image_index, arrived), demand_bits.shape)
        terms = self._reward(lpips, sent.latency_s, self.scenario)
        info: Info = {
            "lpips": lpips,
            "latency_s": terms.latency_s,
            "rate_bps": sent.rate_bps,
            "demand_bits": demand_bits,
            "decoding_order": sent.order.copy(),
            "selection": selection,
            "weighted_ll": terms.weighted_ll,
            "violations": terms.violations,
            "unavailable_bits": (wanted & ~selection).sum(axis=(1, 2)),
            "solver_fallbacks": sent.fallback.astype(np.int64),
            "privileged": self.privileged(state),
        }
        moved = replace(state, last_order=sent.order, elapsed=state.elapsed + 1)
        if queue is not None:
            kept = queue.without_last()
            info |= {"arrived": arrived, "expired_bits": queue.left_bits[:, :, -1].sum(axis=-1)}
            info["backlog_bits"] = kept.demand_bits
            moved = replace(moved, chosen=kept.chosen, left_bits=kept.left_bits)
        return Transition(moved, terms.reward, info, sent.beams)

    def _step_compiled(self, state: State, wanted: np.ndarray) -> Transition:
        """The same where everything is as by default, in one call."""
        assert self._compiled is not None
        done = self._compiled(state, wanted)
        info: Info = {
            "lpips": done.lpips,
            "latency_s": done.latency_s,
            "rate_bps": done.rate_bps,
            "demand_bits": done.demand_bits,
            "decoding_order": done.order.copy(),
            "selection": done.selection,
            "weighted_ll": done.weighted_ll,
            "violations": done.violations,
            "unavailable_bits": done.unavailable_bits,
            "solver_fallbacks": np.zeros(len(done.reward), dtype=np.int64),
            "privileged": self.privileged(state, done.channel),
        }
        moved = State(state.channels, state.distances_m, state.image_index, done.order, done.elapsed)
        return Transition(moved, done.reward, info, done.beams)

    def _send(self, state: State, demand_bits: np.ndarray, control: Control | None) -> Transmission:
        """Transmit (B, K) demands as the scenario's solver or, in the model-free form, as the agent has it."""
        link = (state.channel, self.power_w, self.noise_power_w, self.scenario.bandwidth_hz, demand_bits)
        if self._transmit is not None:
            believed: dict[str, Any] = {} if state.estimates is None else {"estimate": state.as_seen().channel}
            return self._transmit(*link, state.distances_m, **believed)
        if control is None:
            raise ValueError(f"transmission={MODEL_FREE!r} leaves beams and order to the action, which has none")
        return transmit(*link, control.beams, control.order, **self._link_options)

    def _check_sent(self, sent: Transmission, shape: tuple[int, ...]) -> None:
        """Refuse what a solver of the user's own cannot mean."""
        if sent.order.shape != shape or np.isnan(sent.latency_s).any() or sent.latency_s.shape != shape[:1]:
            raise ValueError(
                f"transmission={self.scenario.transmission!r} gave an order of shape {sent.order.shape} and latencies "
                f"{sent.latency_s!r}; {shape} and {shape[:1]} are needed, no latency NaN"
            )
        checked_order(sent.order, shape[1])

    def _checked_lpips(self, lpips: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if np.shape(lpips) != shape or not np.isfinite(lpips).all():
            raise ValueError(
                f"recovery={self.scenario.recovery!r} gave LPIPS of shape {np.shape(lpips)}; {shape} is needed, every "
                "entry finite, for each selection of existing features"
            )
        return lpips

    def own_terms(self, info: Info) -> RewardTerms:
        """Each user's own reward and its terms: the scenario's reward of its own LPIPS and its own latency D_k / R_k.

        The rewards do not add up to that of the step, which counts the largest latency: with the default reward their
        mean is at least that.

        Args:
            info: Of one step, B = 1, without the leading axis.

        Returns:
            Terms (K,).
        """
        delay_s = latency_s(info["demand_bits"][:, None], info["rate_bps"][:, None])
        return self._reward(info["lpips"][:, None], delay_s, self.scenario)

    def decode(self, action: Any, leading: tuple[int, ...]) -> tuple[np.ndarray, Control | None]:
        """What actions ask for, see :meth:`~noma_semcom_env.actions.ActionForm.decode`."""
        return self._actions.decode(action, leading)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        """What the agents see, arrays of :attr:`observation_space` with a leading batch axis."""
        observation: dict[str, np.ndarray] = self._layout.observe(state.as_seen())
        if self._carried and state.queue is not None:
            observation["queue"] = state.queue.observe(self.bank.size_bits[state.image_index])
        return observation

    def privileged(self, state: State, channel: np.ndarray | None = None) -> Info:
        """What references alone may read.

        Args:
            state: B episodes.
            channel: (B, K, N) the state's current channels, to be given away; None takes a copy of them.

        Returns:
            ``channel`` (B, K, N) complex that the next transmission uses, ``power_w`` (B, K), ``noise_power_w`` (B,),
            ``image_ids`` (B, K) str, ``image_index`` (B, K), ``distances_m`` (B, K).
        """
        power_w = np.empty(state.image_index.shape)
        power_w[:] = self.power_w
        noise_power_w = np.empty(len(power_w))
        noise_power_w[:] = self.noise_power_w
        return {
            "channel": state.channel.copy() if channel is None else channel,
            "power_w": power_w,
            "noise_power_w": noise_power_w,
            "image_ids": self._ids[state.image_index],
            "image_index": state.image_index.copy(),
            "distances_m": state.distances_m.copy(),
        }


def _open_recovery(scenario: Scenario) -> Recovery:
    if not isinstance(scenario.recovery, str):
        return cast(Recovery, scenario.recovery)
    table = load_table(scenario.images)
    if scenario.recovery == "live":
        from noma_semcom_env.recovery.live import LiveRecovery

        return LiveRecovery.from_table(table, scenario.models, scenario.lpips_net)
    for name, wanted in (("lpips_net", scenario.lpips_net), ("models", load_preset(scenario.models).name)):
        made_with = table.provenance.get(name, wanted)
        if made_with != wanted:
            raise ValueError(
                f"{name}={wanted!r} does not fit images={scenario.images!r}, tabulated with {name}={made_with!r}; use "
                "that, or another table"
            )
    if not table.is_full:
        from noma_semcom_env.recovery.live import SampledRecovery

        return SampledRecovery(table, scenario.models, scenario.lpips_net)
    return table


def _compiled_step(
    scenario: Scenario, recovery: Recovery, bank: FeatureBank, available: np.ndarray
) -> DefaultStep | None:
    """The compiled step where Numba is installed and everything is as by default."""
    try:
        from noma_semcom_env.compiled import DefaultStep
    except (ImportError, RuntimeError):  # no Numba, or no folder that its cache may be written to
        return None
    if not (type(recovery) is RecoveryTable and DefaultStep.fits(scenario, recovery)):
        return None
    return DefaultStep(scenario, recovery, bank, available)


def _by_name(parts: Mapping[str, Any], choice: Any) -> Any:
    """The part that a name stands for, or the object itself."""
    return parts[choice] if isinstance(choice, str) else choice
