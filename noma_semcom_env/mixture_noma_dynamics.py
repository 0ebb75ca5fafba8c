"""The heart of ``MixtureOfSemanticsNoma-v0``: K users send mixtures over the NOMA uplink. NumPy alone.

User k sends n_text + n_roi analogue symbols, one a channel use, and the mask of its region as bits at its rate R_k, all
at once with the other users over the same band. While the users in S are decoded after it, its transmission takes

    c_k(S) = (n_text + n_roi) / B + mask_bits / R_k(S),

a function of S alone that grows with S, so that receive beams and decoding order of least latency are found exactly
(:mod:`~noma_semcom_env.link.decoding_order`). Often several orders have it, every order where masks are not counted:
c_k is airtime then. Of these the one is taken that decodes at each place the user of highest SINR against those that
remain (:mod:`~noma_semcom_env.link.equal_latency`), so that the order follows the link and not the airtimes. A user's
analogue symbols see SINR_k, and arrive as over AWGN of that SNR. All users count as sending throughout, as in the JTSC
paper; cancelling analogue symbols presumes that the receiver can rebuild them from what it decoded, and
``sic_residual`` is the share of their power that this leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from gymnasium import spaces

from noma_semcom_env.fading import channel_model
from noma_semcom_env.link.channel import drop_distances, sample_trajectories
from noma_semcom_env.link.decoding_order import exhaustive_latency_order, minimize_latency_order
from noma_semcom_env.link.equal_latency import strongest_first
from noma_semcom_env.link.sic import Transmission
from noma_semcom_env.mixture.budget import split_symbols, symbols_per_token, total_symbols
from noma_semcom_env.mixture_parts import (
    Episodes,
    Info,
    MixtureParts,
    MixtureTransition,
    checked_action,
)
from noma_semcom_env.mixture_scenario import MixtureNomaScenario
from noma_semcom_env.observation import BANDWIDTH_RANGE_HZ, SNR_RANGE_DB, order_position, scaled, unit_direction
from noma_semcom_env.state import NO_ORDER as NO_ORDER

CONTROLS: Final = ("alpha", "cbr")
"""What the action sets for each user, in this order."""

_SOLVERS: Final[dict[str, Callable[..., Transmission]]] = {
    "optimal": minimize_latency_order,
    "exhaustive": exhaustive_latency_order,
}


@dataclass(frozen=True, eq=False)
class UplinkState(Episodes):
    """B episodes of K users.

    Attributes:
        item: (B, T + 1, K) int64, row of the items, of every step and the one after the last.
        channels: (B, T + 1, K, N) complex128.
        distances_m: (B, K) float64.
        last_order: (B, K) int64, first decoded first; :data:`NO_ORDER` before the first transmission.
    """

    item: np.ndarray
    channels: np.ndarray
    distances_m: np.ndarray
    last_order: np.ndarray


class MixtureNomaDynamics(MixtureParts):
    """One step of the uplink for B environments at once.

    Users are decoded in the order of least latency; among orders whose latencies are equal to 1e-9, stronger users
    first.

    Args:
        scenario: Every knob.

    Attributes:
        scenario: As given.
        recovery: Table, live transceiver, or the object that the scenario holds.
        items: What can be sent.
        observation_space: Of one environment.
        action_space: Of one environment.

    Raises:
        ValueError: If the image set is missing or damaged, or an item is unknown.
    """

    def __init__(self, scenario: MixtureNomaScenario) -> None:
        super().__init__(scenario)
        self.scenario = scenario
        users, antennas = scenario.num_users, scenario.num_antennas
        self.power_w, self.noise_power_w = scenario.link.power_w, scenario.link.noise_power_w
        self._channel_model = channel_model(scenario.link)
        self._solve = _SOLVERS[scenario.transmission]
        self._bandwidth = scaled(np.log(scenario.bandwidth_hz), *np.log(BANDWIDTH_RANGE_HZ))
        lengths = {"snr": users, "direction": users * 2 * antennas, "last_order": users, "bandwidth": 1}
        lengths |= {name: users * length for name, length in self.looks.items()}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(-1.0, 1.0, (length,), np.float32) for name, length in lengths.items()}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (users * len(CONTROLS),), np.float32)

    def images_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """(K,) rows, int64, of the items that the users send throughout an episode.

        Raises:
            ValueError: If an id is unknown or there is not one a user.
        """
        users = self.scenario.num_users
        if isinstance(image_ids, str) or np.ndim(image_ids) != 1 or len(image_ids) != users:
            raise ValueError(f"image_ids={image_ids!r} must hold one id for each of the {users} users")
        return self.items.rows_of(image_ids)

    def reset(self, generators: Sequence[np.random.Generator], image_index: np.ndarray | None = None) -> UplinkState:
        """Draw new episodes, one a generator.

        Args:
            generators: Each environment's own.
            image_index: (K,) or (B, K) rows that replace the drawn items at every step; the draws are made all the
                same.
        """
        one, users, steps = self.scenario, self.scenario.num_users, self.scenario.episode_length + 1
        dropped, uniforms = map(np.stack, zip(*map(self._drop_users, generators), strict=True))
        distances_m = dropped if one.distances_m is None else np.tile(np.array(one.distances_m), (len(dropped), 1))
        channels = sample_trajectories(self._channel_model, generators, distances_m, one.num_antennas, steps)
        expected = (len(dropped), steps, users, one.num_antennas)
        if channels.shape != expected or not np.isfinite(channels).all():
            raise ValueError(
                f"fading={one.fading!r} gave a channel of shape {channels.shape[1:]}; {expected[1:]} is needed (steps, "
                "num_users, num_antennas), every entry finite"
            )
        item = self.draw_items(uniforms)
        if image_index is not None:
            item[:] = np.broadcast_to(image_index, (len(dropped), users))[:, None]
        return UplinkState(
            elapsed=np.zeros(len(dropped), dtype=np.int64),
            item=item,
            channels=channels,
            distances_m=distances_m,
            last_order=np.full((len(dropped), users), NO_ORDER, dtype=np.int64),
        )

    def _drop_users(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Distances (K,) and uniforms for the items (T + 1, K); both are drawn, needed or not."""
        one = self.scenario
        distances_m = drop_distances(rng.random(one.num_users), one.min_distance_m, one.max_distance_m)
        return distances_m, rng.random((one.episode_length + 1, one.num_users))

    def decode(self, action: Any, leading: tuple[int, ...]) -> tuple[np.ndarray, None]:
        """Actions as float64 (*leading, K, 2), clipped to [-1, 1].

        Raises:
            TypeError: If they hold no numbers.
            ValueError: If the shape is wrong or an entry is not finite.
        """
        flat = checked_action(action, (*leading, *self.action_space.shape), "alpha and cbr, user by user")
        return flat.reshape(*leading, self.scenario.num_users, len(CONTROLS)), None

    def choices(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Alpha and CBR, (B, K) each, that decoded actions (B, K, 2) mean."""
        share = (action + 1) / 2
        (least, most), (low, high) = self.scenario.alpha_range, self.scenario.cbr_range
        return least + share[..., 0] * (most - least), low + share[..., 1] * (high - low)

    def step(self, state: UplinkState, action: np.ndarray, control: None = None) -> MixtureTransition:
        """Send mixtures, and value what arrives.

        Args:
            state: B episodes, none of them ended.
            action: (B, K, 2), from :meth:`decode`.
            control: Not used.

        Returns:
            The transition. Its info holds ``psnr_roi_db``, ``clip_roni``, ``token_error``, ``undecodable``, ``quality``
            (w PSNR / reference + (1 - w) CLIP / ceiling - penalty), ``alpha``, ``cbr``, ``text_symbols``,
            ``roi_symbols``, ``symbols_per_token``, ``mask_bits``, ``sinr_db``, ``rate_bps`` (B, K each),
            ``decoding_order`` (B, K), ``latency_s`` (B,), ``violations`` (B,) (1 where the latency exceeds tau_max),
            and ``privileged``, see :meth:`privileged`.
        """
        one, items, row = self.scenario, self.items, state.now(state.item)
        alpha, cbr = self.choices(action)
        split = split_symbols(alpha, total_symbols(cbr, items.source_samples), 0)
        bits = items.mask_bits[row, 0] * (one.accounting == "counted")
        sent = self._send(state, split.total, bits)
        each = symbols_per_token(split.text, items.tokens[row], items.least_symbols, items.most_symbols)
        sinr_db = self._sinr_db(sent.rate_bps)
        everywhere = np.zeros(row.shape, dtype=np.int64), np.ones(row.shape, dtype=bool)
        quality = self.recovery.quality(row, everywhere[0], split.roi, each, sinr_db, sinr_db, everywhere[1])
        worth = self.worth(quality)
        late = sent.latency_s > one.latency_cap_s
        latency_s = np.minimum(sent.latency_s, one.latency_cap_s)
        cost = (1 - one.quality_weight) * latency_s / one.latency_ref_s
        info: Info = {
            "psnr_roi_db": quality.psnr_roi_db,
            "clip_roni": quality.clip_roni,
            "token_error": quality.token_error,
            "undecodable": quality.undecodable,
            "quality": worth,
            "alpha": alpha,
            "cbr": cbr,
            "text_symbols": split.text,
            "roi_symbols": split.roi,
            "symbols_per_token": each,
            "mask_bits": bits,
            "sinr_db": sinr_db,
            "rate_bps": sent.rate_bps,
            "decoding_order": sent.order.copy(),
            "latency_s": np.where(np.isinf(sent.latency_s), one.latency_cap_s, sent.latency_s),
            "violations": late.astype(np.int64),
            "privileged": self.privileged(state),
        }
        reward = one.quality_weight * worth.mean(axis=-1) - cost - one.violation_penalty * late
        moved = replace(state, last_order=sent.order, elapsed=state.elapsed + 1)
        return MixtureTransition(moved, reward, info)

    def _send(self, state: UplinkState, symbols: np.ndarray, bits: np.ndarray) -> Transmission:
        one, demand = self.scenario, bits.astype(np.float64)
        airtime_s = symbols / one.bandwidth_hz
        link = (state.now(state.channels), self.power_w, self.noise_power_w, one.bandwidth_hz, demand)
        best = self._solve(*link, airtime_s=airtime_s, sic_residual=one.sic_residual)
        return strongest_first(*link, airtime_s, best.latency_s, one.sic_residual)

    def _sinr_db(self, rate_bps: np.ndarray) -> np.ndarray:
        """SINRs in dB from R_k = B log2(1 + SINR_k); ``-inf`` where the rate is 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(10 * np.log10(np.expm1(rate_bps * np.log(2.0) / self.scenario.bandwidth_hz)))

    def observe(self, state: UplinkState) -> dict[str, np.ndarray]:
        """What the agents see, arrays of :attr:`observation_space` with a leading batch axis."""
        batch, channel = len(state.elapsed), state.now(state.channels)
        gain = (channel.real**2 + channel.imag**2).sum(axis=-1)
        snr_db = 10 * np.log10(np.maximum(gain * self.power_w / self.noise_power_w, 1e-300))
        seen = {
            "snr": scaled(snr_db, *SNR_RANGE_DB),
            "direction": unit_direction(channel, gain),
            "last_order": order_position(state.last_order),
            "bandwidth": np.full((batch, 1), self._bandwidth),
            **{name: value.reshape(batch, -1) for name, value in self.look(state.now(state.item)).items()},
        }
        return {name: value.astype(np.float32) for name, value in seen.items()}

    def privileged(self, state: UplinkState) -> Info:
        """What references alone may read.

        Returns:
            ``channel`` (B, K, N) complex that the next step uses, ``power_w`` (B, K), ``noise_power_w`` (B,),
            ``image_ids`` (B, K) str, ``image_index`` (B, K), ``distances_m`` (B, K).
        """
        item = state.now(state.item)
        return {
            "channel": state.now(state.channels),
            "power_w": np.broadcast_to(self.power_w, item.shape).copy(),
            "noise_power_w": np.full(len(item), self.noise_power_w),
            "image_ids": self.items.ids[item],
            "image_index": item,
            "distances_m": state.distances_m.copy(),
        }
