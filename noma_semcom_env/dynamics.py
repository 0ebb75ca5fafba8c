"""The heart: one transition over a batch axis, (state, action) -> (state, reward, terms).

Every form of the environment runs this code; a single environment is a batch of one. All chance lies in
:meth:`Dynamics.reset`, which draws a whole episode (positions, images, channels) from each environment's own generator,
in this order, a number of variates that depends on users, antennas, episode length and channel model alone. So every
policy faces the same numbers, and steps draw nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Protocol, cast

import numpy as np
from gymnasium import spaces

from noma_semcom_env.features import FeatureBank
from noma_semcom_env.importance import pruned_bank
from noma_semcom_env.link.channel import (
    ChannelModel,
    RayleighChannel,
    RicianChannel,
    drop_distances,
    gauss_markov_correlation,
)
from noma_semcom_env.link.sic import Transmission
from noma_semcom_env.observation import FeatureObservation, ObservationLayout
from noma_semcom_env.recovery.table import load_table
from noma_semcom_env.reward import REWARDS, Reward
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.transmission import SOLVERS, TransmissionSolver
from noma_semcom_env.zoo.presets import load_preset, settle

Info = dict[str, Any]
"""Name to array with a leading batch axis, or to a nested dict of the same."""

NO_ORDER: Final = -1
"""Entry of :attr:`State.last_order` before the first transmission."""


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
class State:
    """B episodes under way.

    Attributes:
        channels: (B, T + 1, K, N) complex128, the channel of every step and the one after the last.
        distances_m: (B, K) float64.
        image_index: (B, K) int64, row of the bank.
        last_order: (B, K) int64, first decoded first; :data:`NO_ORDER` before the first transmission.
        elapsed: (B,) int64, steps taken.
    """

    channels: np.ndarray
    distances_m: np.ndarray
    image_index: np.ndarray
    last_order: np.ndarray
    elapsed: np.ndarray

    @cached_property
    def channel(self) -> np.ndarray:
        """(B, K, N) complex128, the channel that the next transmission uses."""
        current: np.ndarray = self.channels[np.arange(len(self.elapsed)), self.elapsed]
        return current

    def rows(self, index: np.ndarray) -> State:
        """The episodes at ``index``, (n,) int."""
        return State(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def with_rows(self, index: np.ndarray, other: State) -> State:
        """This state with the episodes at ``index``, (n,) int, replaced by those of ``other``."""
        if np.array_equal(index, np.arange(len(self.elapsed))):
            return other
        merged = {name: getattr(self, name).copy() for name in self.__dataclass_fields__}
        for name, value in merged.items():
            value[index] = getattr(other, name)
        return State(**merged)


@dataclass(frozen=True, eq=False)
class Transition:
    """What B actions led to.

    Attributes:
        state: The state afterwards.
        reward: (B,) float64.
        info: Every term; see :meth:`Dynamics.step`.
    """

    state: State
    reward: np.ndarray
    info: Info


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
        action_space: Of one environment, MultiBinary(K * F), user by user.

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
        self._channel_model = _channel_model(scenario)
        self._transmit: TransmissionSolver = _by_name(SOLVERS, scenario.transmission)
        self._reward: Reward = _by_name(REWARDS, scenario.reward)
        self._layout: ObservationLayout = _by_name({"features": FeatureObservation}, scenario.observation)(
            scenario, self.bank, self.available
        )
        self.observation_space: spaces.Dict = self._layout.space
        self.action_space = spaces.MultiBinary(scenario.num_users * self.bank.width)
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
        drawn = [self._draw(rng) for rng in generators]
        distances_m, images, channels = (np.stack(part) for part in zip(*drawn, strict=True))
        fixed = self._fixed_images if image_index is None else image_index
        batch, users = images.shape
        return State(
            channels=channels,
            distances_m=distances_m,
            image_index=images if fixed is None else np.broadcast_to(fixed, images.shape),
            last_order=np.full((batch, users), NO_ORDER, dtype=np.int64),
            elapsed=np.zeros(batch, dtype=np.int64),
        )

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distances (K,), images (K,) and channels (T + 1, K, N) of one episode; everything is drawn, needed or not."""
        one = self.scenario
        dropped = drop_distances(rng.random(one.num_users), one.min_distance_m, one.max_distance_m)
        distances_m = dropped if one.distances_m is None else np.array(one.distances_m)
        drawn = np.minimum((rng.random(one.num_users) * len(self.bank)).astype(np.int64), len(self.bank) - 1)
        images = np.full_like(drawn, drawn[0]) if one.same_image else drawn
        channels = self._channel_model.sample(rng, distances_m, one.num_antennas, one.episode_length + 1)
        expected = (one.episode_length + 1, one.num_users, one.num_antennas)
        if np.shape(channels) != expected or not np.isfinite(channels).all():
            raise ValueError(
                f"fading={one.fading!r} gave a channel of shape {np.shape(channels)}; {expected} is needed (steps, "
                "num_users, num_antennas), every entry finite"
            )
        return distances_m, images, channels

    def step(self, state: State, wanted: np.ndarray) -> Transition:
        """Transmit what the actions select, and value what arrives.

        Args:
            state: B episodes, none of them ended.
            wanted: (B, K, F) bool, the features that the actions ask for, from :meth:`decode`.

        Returns:
            The transition. Its info holds ``lpips`` (B, K), ``latency_s`` (B,), ``rate_bps`` (B, K), ``demand_bits``
            (B, K), ``decoding_order`` (B, K), ``selection`` (B, K, F), ``weighted_ll`` (B,), ``violations`` (B,) (1
            where the latency exceeds tau_max), ``unavailable_bits`` (B,) (bits set on unavailable features, which count
            as 0), ``solver_fallbacks`` (B,) (1 where a solver failed and the exact order took its place), and
            ``privileged``, see :meth:`privileged`.
        """
        selection = wanted & self.available[state.image_index]
        demand_bits = (selection * self.bank.size_bits[state.image_index]).sum(axis=-1)
        sent = self._transmit(
            state.channel,
            self.power_w,
            self.noise_power_w,
            self.scenario.bandwidth_hz,
            demand_bits.astype(np.float64),
            state.distances_m,
        )
        self._check_sent(sent, demand_bits.shape)
        lpips = self._checked_lpips(self.recovery.lpips(state.image_index, selection), demand_bits.shape)
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
        return Transition(replace(state, last_order=sent.order, elapsed=state.elapsed + 1), terms.reward, info)

    def _check_sent(self, sent: Transmission, shape: tuple[int, ...]) -> None:
        """Refuse what a solver of the user's own cannot mean."""
        if sent.order.shape != shape or np.isnan(sent.latency_s).any() or sent.latency_s.shape != shape[:1]:
            raise ValueError(
                f"transmission={self.scenario.transmission!r} gave an order of shape {sent.order.shape} and latencies "
                f"{sent.latency_s!r}; {shape} and {shape[:1]} are needed, no latency NaN"
            )

    def _checked_lpips(self, lpips: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if np.shape(lpips) != shape or not np.isfinite(lpips).all():
            raise ValueError(
                f"recovery={self.scenario.recovery!r} gave LPIPS of shape {np.shape(lpips)}; {shape} is needed, every "
                "entry finite, for each selection of existing features"
            )
        return lpips

    def decode(self, action: Any, leading: tuple[int, ...]) -> np.ndarray:
        """(..., K, F) bool, the features that an action asks for.

        Args:
            action: (..., K * F) of 0 and 1; bool, whole or real numbers.
            leading: Shape that the leading axes must have.

        Raises:
            TypeError: If the entries are no numbers.
            ValueError: If the shape is wrong, or an entry is neither 0 nor 1.
        """
        users, width = self.scenario.num_users, self.bank.width
        try:
            bits = np.asarray(action)
        except ValueError as error:
            raise ValueError(f"action is no array ({error}); {(*leading, users * width)} is needed") from error
        if bits.dtype.kind not in "biuf":
            raise TypeError(f"action has entries of type {bits.dtype}; 0 and 1 are needed")
        if bits.shape != (*leading, users * width):
            raise ValueError(
                f"action has shape {bits.shape}; {(*leading, users * width)} is needed: "
                f"num_users={users} times {width} features, user by user"
            )
        wanted = bits == 1
        if bits.dtype.kind != "b" and not (wanted | (bits == 0)).all():
            where = tuple(int(i) for i in np.argwhere(~(wanted | (bits == 0)))[0])
            raise ValueError(f"action{list(where)}={bits[where]!r} is not allowed; every entry must be 0 or 1")
        selection: np.ndarray = wanted.reshape(*leading, users, width)
        return selection

    def observe(self, state: State) -> dict[str, np.ndarray]:
        """What the agents see, arrays of :attr:`observation_space` with a leading batch axis."""
        observation: dict[str, np.ndarray] = self._layout.observe(state)
        return observation

    def privileged(self, state: State) -> Info:
        """What references alone may read.

        Returns:
            ``channel`` (B, K, N) complex that the next transmission uses, ``power_w`` (B, K), ``noise_power_w`` (B,),
            ``image_ids`` (B, K) str, ``image_index`` (B, K), ``distances_m`` (B, K).
        """
        batch = len(state.elapsed)
        return {
            "channel": state.channel.copy(),
            "power_w": np.tile(self.power_w, (batch, 1)),
            "noise_power_w": np.full(batch, self.noise_power_w),
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


def _channel_model(scenario: Scenario) -> ChannelModel:
    if not isinstance(scenario.fading, str):
        return cast(ChannelModel, scenario.fading)
    block_fading = scenario.doppler_hz is None
    rho = 0.0 if block_fading else gauss_markov_correlation(scenario.doppler_hz or 0.0, scenario.step_period_s)
    law = {
        "path_loss_intercept_db": scenario.path_loss_intercept_db,
        "path_loss_slope_db": scenario.path_loss_slope_db,
    }
    if scenario.fading == "rician":
        return RicianChannel(scenario.rician_factor_db, rho, scenario.antenna_spacing_wavelengths, **law)
    return RayleighChannel(rho, **law)


def _by_name(parts: Mapping[str, Any], choice: Any) -> Any:
    """The part that a name stands for, or the object itself."""
    return parts[choice] if isinstance(choice, str) else choice
