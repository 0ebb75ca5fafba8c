"""What an agent sees: channels, last decoding order, bandwidth, and the features that it may choose from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from gymnasium import spaces

from noma_semcom_env.features import TEXTUAL, VISUAL, FeatureBank
from noma_semcom_env.scenario import Scenario

if TYPE_CHECKING:
    from noma_semcom_env.dynamics import State

SNR_RANGE_DB: Final = (-10.0, 70.0)
"""SNR that -1 and 1 stand for; beyond them the observation is clipped."""

BANDWIDTH_RANGE_HZ: Final = (1e3, 1e9)
"""Bandwidth that -1 and 1 stand for, on a logarithmic scale."""

LARGEST_FEATURE_BITS: Final = 2**14 - 1
"""Size that 1 stands for, on a logarithmic scale; -1 is 0 bits."""


class ObservationLayout(Protocol):
    """Lays out what the agent sees. The class itself goes into the scenario; it is constructed once an environment.

    Args:
        scenario: Every knob.
        bank: Features of all images.
        available: (I, F) bool, features that an action may select.

    Attributes:
        space: A Dict of 1-D spaces for one environment; it must hold ``action_mask``.
    """

    space: spaces.Dict

    def __init__(self, scenario: Scenario, bank: FeatureBank, available: np.ndarray) -> None: ...

    def observe(self, state: State) -> dict[str, np.ndarray]:
        """Arrays of ``space`` with a leading batch axis, newly made at each call."""
        ...


class FeatureObservation:
    """The default layout: each user's channel, last position in the order, and every feature of its image.

    Every entry lies in [-1, 1]. With K users, N antennas and F features an image, user by user:

    * ``snr`` (K): p_k ||h_k||^2 / sigma^2 in dB, :data:`SNR_RANGE_DB` scaled to [-1, 1].
    * ``direction`` (K * 2N): h_k / ||h_k||, N real parts, then N imaginary parts. The common phase is taken off so that
      the first antenna's entry is real and not negative: no rate depends on it.
    * ``last_order`` (K): position in the last decoding order, -1 decoded first, 1 last; all 0 before the first step.
    * ``bandwidth`` (1): log B, :data:`BANDWIDTH_RANGE_HZ` scaled to [-1, 1].
    * ``size`` (K * F): log(1 + bits), scaled so that -1 is no bit and 1 is :data:`LARGEST_FEATURE_BITS`.
    * ``importance`` (K * F): 2 importance - 1; -1 where there is no feature.
    * ``modality`` (K * F): 1 visual, -1 textual, 0 where there is no feature.
    * ``label`` (K * F): 2 label / (L - 1) - 1 with the label's index among L; -1 where there is no feature.
    * ``action_mask`` (K * F, int8): 1 for features that may be selected.
    """

    def __init__(self, scenario: Scenario, bank: FeatureBank, available: np.ndarray) -> None:
        users, antennas, width = scenario.num_users, scenario.num_antennas, bank.width
        lengths = {"snr": users, "direction": users * 2 * antennas, "last_order": users, "bandwidth": 1}
        lengths |= dict.fromkeys(("size", "importance", "modality", "label"), users * width)
        boxes: dict[str, spaces.Space[np.ndarray]] = {
            name: spaces.Box(-1.0, 1.0, (length,), np.float32) for name, length in lengths.items()
        }
        self.space = spaces.Dict(boxes | {"action_mask": spaces.MultiBinary(users * width)})
        self._snr_scale = np.broadcast_to(scenario.power_w / scenario.noise_power_w, (users,)).copy()
        self._bandwidth = np.float32(scaled(np.log10(scenario.bandwidth_hz), *np.log10(BANDWIDTH_RANGE_HZ)))
        self._by_image = describe_features(bank, available)
        self._compiled = _compiled_observation()

    def observe(self, state: State) -> dict[str, np.ndarray]:
        """Arrays of ``space`` with a leading batch axis."""
        batch = len(state.elapsed)
        if self._compiled is not None:
            state.check_elapsed()
            snr, direction, last_order, *described = self._compiled(
                state.channels,
                state.elapsed,
                state.image_index,
                state.last_order,
                self._snr_scale,
                SNR_RANGE_DB,
                *self._by_image.values(),
            )
            bandwidth = np.empty((batch, 1), dtype=np.float32)
            bandwidth[:] = self._bandwidth
            return {
                "snr": snr,
                "direction": direction,
                "last_order": last_order,
                "bandwidth": bandwidth,
                **dict(zip(self._by_image, described, strict=True)),
            }
        gain = np.einsum("bkn,bkn->bk", state.channel, state.channel.conj()).real
        return {
            "snr": _snr(gain * self._snr_scale),
            "direction": unit_direction(state.channel, gain),
            "last_order": order_position(state.last_order),
            "bandwidth": np.full((batch, 1), self._bandwidth, dtype=np.float32),
            **{name: table[state.image_index].reshape(batch, -1) for name, table in self._by_image.items()},
        }


def _compiled_observation() -> Callable[..., tuple[np.ndarray, ...]] | None:
    """The compiled form where Numba is installed."""
    try:
        from noma_semcom_env.compiled import observe_features
    except (ImportError, RuntimeError):  # no Numba, or no folder that its cache may be written to
        return None
    compiled: Callable[..., tuple[np.ndarray, ...]] = observe_features
    return compiled


def scaled(value: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """[low, high] to [-1, 1], clipped."""
    return np.clip((2 * np.asarray(value, dtype=np.float64) - (low + high)) / (high - low), -1.0, 1.0)


def _snr(snr: np.ndarray) -> np.ndarray:
    """(B, K) SNR to (B, K) float32; a channel of zero is -1."""
    return scaled(10 * np.log10(np.maximum(snr, 1e-300)), *SNR_RANGE_DB).astype(np.float32)


def unit_direction(channel: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(B, K, N) channel with gain (B, K) to (B, K * 2N) float32; a channel of zero has direction 0."""
    norm = np.sqrt(gain)
    first = channel[..., 0]
    size = np.abs(first)
    phase = np.where(size > 0, first.conj() / np.where(size > 0, size, 1.0), 1.0)
    unit = channel * (phase / np.where(norm > 0, norm, 1.0))[..., None]
    parts = np.concatenate([unit.real, unit.imag], axis=-1)
    direction: np.ndarray = np.clip(parts, -1.0, 1.0).astype(np.float32).reshape(len(channel), -1)
    return direction


def order_position(order: np.ndarray) -> np.ndarray:
    """(B, K) decoding order, -1 where there is none yet, to each user's position (B, K) in [-1, 1] float32."""
    position = np.argsort(order, axis=-1)
    place = 2.0 * position / max(order.shape[-1] - 1, 1) - 1.0
    return np.where(order[:, :1] < 0, 0.0, place).astype(np.float32)


def describe_features(bank: FeatureBank, available: np.ndarray) -> dict[str, np.ndarray]:
    """The entries of :class:`FeatureObservation` that tell of features.

    Args:
        bank: I images.
        available: (I, F) bool, features that may be selected.

    Returns:
        Name to (I, F), scaled; ``action_mask`` int8, the others float32.
    """
    size = scaled(np.log1p(bank.size_bits), 0.0, float(np.log1p(LARGEST_FEATURE_BITS)))
    modality = (bank.modality == VISUAL).astype(np.float32) - (bank.modality == TEXTUAL)
    label = 2.0 * bank.label / max(len(bank.labels) - 1, 1) - 1.0
    return {
        "size": np.where(bank.exists, size, -1.0).astype(np.float32),
        "importance": np.where(bank.exists, scaled(bank.importance, 0.0, 1.0), -1.0).astype(np.float32),
        "modality": modality.astype(np.float32),
        "label": label.astype(np.float32),
        "action_mask": available.astype(np.int8),
    }
