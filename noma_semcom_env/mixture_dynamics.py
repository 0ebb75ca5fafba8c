"""The heart of ``MixtureOfSemantics-v0``: one transition over a batch axis, NumPy alone.

All chance lies in :meth:`MixtureDynamics.reset`, which draws a whole episode (items, SNRs, bandwidth ratios, fades)
from each environment's own generator, a number of variates that depends on the episode's length alone. So every policy
and every channel faces the same numbers, and steps draw nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from gymnasium import spaces

from noma_semcom_env.mixture.budget import (
    Split,
    mask_arrives,
    mask_cost,
    split_symbols,
    symbols_per_token,
    total_symbols,
)
from noma_semcom_env.mixture.table import Quality
from noma_semcom_env.mixture_parts import (
    Episodes,
    Info,
    MixtureParts,
    MixtureTransition,
    checked_action,
)
from noma_semcom_env.mixture_scenario import MixtureScenario
from noma_semcom_env.observation import scaled

SNR_RANGE_DB: Final = (-10.0, 30.0)
"""SNR that -1 and 1 stand for; beyond them the observation is clipped."""

CBR_RANGE: Final = (0.01, 0.2)
"""Bandwidth ratio that -1 and 1 stand for, on a logarithmic scale; likewise."""


@dataclass(frozen=True, eq=False)
class MixtureState(Episodes):
    """B episodes of one user.

    Attributes:
        item: (B, T + 1) int64, row of the items, of every step and the one after the last.
        snr_db: (B, T + 1) float64 mean SNR.
        cbr: (B, T + 1) float64 bandwidth ratio, the most where the agent chooses.
        channel: (B, T + 1) complex128 fade h, CN(0, 1), or 1 over AWGN.
    """

    item: np.ndarray
    snr_db: np.ndarray
    cbr: np.ndarray
    channel: np.ndarray


@dataclass(frozen=True, eq=False)
class Valued:
    """What choices lead to, arrays (...).

    Attributes:
        reward: float64.
        worth: The reward without the price of CBR.
        quality: Its terms.
        split: Symbols of text, mask and ROI.
        symbols_per_token: int64; 0 where no text is sent.
        mask_received: bool.
    """

    reward: np.ndarray
    worth: np.ndarray
    quality: Quality
    split: Split
    symbols_per_token: np.ndarray
    mask_received: np.ndarray


class MixtureDynamics(MixtureParts):
    """One step of B mixtures at once.

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

    def __init__(self, scenario: MixtureScenario) -> None:
        super().__init__(scenario)
        self.scenario = scenario
        if "margin" in scenario.controls and len(self.items.margins) == 1:
            raise ValueError(
                f"controls={scenario.controls!r} holds 'margin', but the image set has only the margin 0; take one "
                "with several, such as images='street-margins', or leave the control out"
            )
        lengths = {"snr": 1, "cbr": 1, **self.looks}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(-1.0, 1.0, (length,), np.float32) for name, length in lengths.items()}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (len(scenario.controls),), np.float32)

    def images_of(self, image_ids: Sequence[str]) -> np.ndarray:
        """(T,) rows, int64, of the items of an episode's steps.

        Raises:
            ValueError: If an id is unknown or there is not one a step.
        """
        length = self.scenario.episode_length
        if isinstance(image_ids, str) or np.ndim(image_ids) != 1 or len(image_ids) != length:
            raise ValueError(f"image_ids={image_ids!r} must hold one id for each of the {length} steps")
        return self.items.rows_of(image_ids)

    def reset(self, generators: Sequence[np.random.Generator], image_index: np.ndarray | None = None) -> MixtureState:
        """Draw new episodes, one a generator.

        Args:
            generators: Each environment's own.
            image_index: (T,) or (B, T) rows that replace the drawn items; the draws are made all the same.
        """
        one, batch = self.scenario, len(generators)
        steps = one.episode_length + 1
        uniforms, normals = np.empty((batch, 3, steps)), np.empty((batch, steps, 2))
        for rng, uniform, normal in zip(generators, uniforms, normals, strict=True):
            rng.random(out=uniform)
            rng.standard_normal(out=normal)
        item = self.draw_items(uniforms[:, 0])
        if image_index is not None:
            item[:, : steps - 1] = image_index
        low, high = one.snr_range_db
        snr_db = low + (high - low) * uniforms[:, 1]
        if one.snr_values_db is not None:
            snr_db = _pick(np.array(one.snr_values_db), uniforms[:, 1])
        channel = normals.view(np.complex128)[..., 0] * np.sqrt(0.5)
        if one.channel == "awgn":
            channel = np.ones_like(channel)
        cbr = _pick(np.array(one.cbr_values), uniforms[:, 2])
        return MixtureState(np.zeros(batch, dtype=np.int64), item, snr_db, cbr, channel)

    def decode(self, action: Any, leading: tuple[int, ...]) -> tuple[np.ndarray, None]:
        """Actions as float64 (*leading, controls), clipped to [-1, 1].

        Raises:
            TypeError: If they hold no numbers.
            ValueError: If the shape is wrong or an entry is not finite.
        """
        return checked_action(action, (*leading, *self.action_space.shape), " and ".join(self.scenario.controls)), None

    def choices(self, action: np.ndarray, cbr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What decoded actions mean.

        Args:
            action: (B, controls) in [-1, 1].
            cbr: (B,) the most that the agent may choose, and what is sent where it does not choose.

        Returns:
            alpha, CBR and the index of the margin, each (B,).
        """
        share = dict(zip(self.scenario.controls, (action.T + 1) / 2, strict=True))
        least, most = self.scenario.alpha_range
        low = self.scenario.cbr_range[0]
        wanted = low + share["cbr"] * (cbr - low) if "cbr" in share else cbr
        last = len(self.items.margins) - 1
        margin = np.rint(share["margin"] * last) if "margin" in share else np.zeros(len(action))
        return least + share["alpha"] * (most - least), wanted, margin.astype(np.int64)

    def action_of(self, alpha: np.ndarray, cbr_share: np.ndarray, margin: np.ndarray) -> np.ndarray:
        """The action (B, controls) float32 that :meth:`choices` reads as these, each (B,); what is no control is left.

        Args:
            alpha: Share of the symbols for the text; clipped to ``alpha_range``.
            cbr_share: Share of the way from the least CBR to the most that is offered.
            margin: Indices of the margins.
        """
        least, most = self.scenario.alpha_range
        last = max(len(self.items.margins) - 1, 1)
        shares = {"alpha": (alpha - least) / max(most - least, 1e-9), "cbr": cbr_share, "margin": margin / last}
        action = np.stack([2 * shares[name] - 1 for name in self.scenario.controls], axis=1)
        return np.asarray(np.clip(action, -1.0, 1.0), dtype=np.float32)

    def step(self, state: MixtureState, action: np.ndarray, control: None = None) -> MixtureTransition:
        """Send mixtures, and value what arrives.

        Args:
            state: B episodes, none of them ended.
            action: (B, controls), from :meth:`decode`.
            control: Not used.

        Returns:
            The transition. Its info holds, each (B,): ``psnr_roi_db``, ``clip_roni``, ``token_error``, ``undecodable``
            (share of the seeds), ``quality`` (the reward without the price of CBR), ``alpha``, ``cbr``, ``margin_px``,
            ``total_symbols``, ``text_symbols``, ``mask_symbols``, ``roi_symbols``, ``symbols_per_token``,
            ``mask_received`` (0 where the mask was not sent or a fade lost it), and ``privileged``, see
            :meth:`privileged`.
        """
        row, snr_db = state.now(state.item), state.now(state.snr_db)
        effective_db = effective_snr_db(snr_db, state.now(state.channel))
        alpha, cbr, margin = self.choices(action, state.now(state.cbr))
        done = self.value(row, snr_db, effective_db, alpha, cbr, margin)
        info: Info = {
            "psnr_roi_db": done.quality.psnr_roi_db,
            "clip_roni": done.quality.clip_roni,
            "token_error": done.quality.token_error,
            "undecodable": done.quality.undecodable,
            "quality": done.worth,
            "alpha": alpha,
            "cbr": cbr,
            "margin_px": self.items.margins[margin],
            "total_symbols": done.split.total,
            "text_symbols": done.split.text,
            "mask_symbols": done.split.mask,
            "roi_symbols": done.split.roi,
            "symbols_per_token": done.symbols_per_token,
            "mask_received": done.mask_received.astype(np.int64),
            "privileged": self.privileged(state),
        }
        return MixtureTransition(replace(state, elapsed=state.elapsed + 1), done.reward, info)

    def value(
        self,
        row: np.ndarray,
        snr_db: np.ndarray,
        effective_db: np.ndarray,
        alpha: np.ndarray,
        cbr: np.ndarray,
        margin: np.ndarray,
    ) -> Valued:
        """What choices lead to; a step, or what a reference considers.

        Args:
            row: (...) int64 items; all arguments broadcast together.
            snr_db: (...) mean SNR.
            effective_db: (...) SNR after equalization.
            alpha: (...) share of the symbols for the text.
            cbr: (...) bandwidth ratio.
            margin: (...) int64 indices of the margins.
        """
        row, snr_db, effective_db, alpha, cbr, margin = np.broadcast_arrays(
            row, snr_db, effective_db, alpha, cbr, margin
        )
        one, items = self.scenario, self.items
        link = (one.channel, one.mask_outage, one.accounting)
        cost = mask_cost(items.mask_bits[row, margin], snr_db, *link)
        split = split_symbols(alpha, total_symbols(cbr, items.source_samples), cost)
        each = symbols_per_token(split.text, items.tokens[row], items.least_symbols, items.most_symbols)
        received = split.mask_sent & mask_arrives(snr_db, effective_db, *link)
        quality = self.recovery.quality(row, margin, split.roi, each, snr_db, effective_db, received)
        worth = self.worth(quality)
        price = one.cbr_weight * cbr / one.cbr_range[1] if "cbr" in one.controls else 0.0
        return Valued(worth - price, worth, quality, split, each, received)

    def observe(self, state: MixtureState) -> dict[str, np.ndarray]:
        """What the agents see, arrays of :attr:`observation_space` with a leading batch axis."""
        seen = {
            "snr": scaled(state.now(state.snr_db), *SNR_RANGE_DB)[:, None],
            "cbr": scaled(np.log(state.now(state.cbr)), *np.log(CBR_RANGE))[:, None],
            **self.look(state.now(state.item)),
        }
        return {name: value.astype(np.float32) for name, value in seen.items()}

    def privileged(self, state: MixtureState) -> Info:
        """What references alone may read.

        Returns:
            ``channel`` (B, 1) complex fade that the next step uses, ``effective_snr_db`` (B,), ``snr_db`` (B,),
            ``cbr`` (B,) the most that may be sent, ``image_ids`` (B,) str, ``image_index`` (B,).
        """
        item, snr_db, channel = state.now(state.item), state.now(state.snr_db), state.now(state.channel)
        return {
            "channel": channel[:, None],
            "effective_snr_db": effective_snr_db(snr_db, channel),
            "snr_db": snr_db,
            "cbr": state.now(state.cbr),
            "image_ids": self.items.ids[item],
            "image_index": item,
        }


def effective_snr_db(snr_db: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """SNR in dB after equalization, SNR + 10 log10 abs(h)^2; ``-inf`` where h is 0."""
    gain = channel.real**2 + channel.imag**2
    with np.errstate(divide="ignore"):
        return np.asarray(snr_db + 10 * np.log10(gain))


def _pick(values: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """One of some values for each number in [0, 1)."""
    return np.asarray(values[np.minimum((uniforms * len(values)).astype(np.int64), len(values) - 1)])
