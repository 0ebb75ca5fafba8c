"""Compiled forms of the default step and of the default observation (Numba, extra ``fast``).

They compute what :class:`~noma_semcom_env.dynamics.Dynamics` and
:class:`~noma_semcom_env.observation.FeatureObservation` compute in NumPy, equal to rounding, one environment after the
other: a hundred array operations of a microsecond each are what a step of few environments would otherwise cost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from noma_semcom_env.features import FeatureBank
from noma_semcom_env.link.kernels import solve_joint_optimum, working_memory
from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.state import State
from noma_semcom_env.transmission import link_options

_compiled: Any = numba.njit(cache=True, error_model="numpy")


class Outcome(NamedTuple):
    """What a step of B environments led to, newly made arrays.

    Attributes:
        selection: (B, K, F) bool.
        demand_bits: (B, K) int64.
        unavailable_bits: (B,) int64.
        order: (B, K) int64.
        rate_bps: (B, K) float64.
        beams: (B, K, N) complex128.
        lpips: (B, K) float64.
        latency_s: (B,) float64, finite.
        weighted_ll: (B,) float64.
        violations: (B,) int64.
        reward: (B,) float64.
        channel: (B, K, N) complex128, the one that was used.
        elapsed: (B,) int64, steps taken now.
    """

    selection: np.ndarray
    demand_bits: np.ndarray
    unavailable_bits: np.ndarray
    order: np.ndarray
    rate_bps: np.ndarray
    beams: np.ndarray
    lpips: np.ndarray
    latency_s: np.ndarray
    weighted_ll: np.ndarray
    violations: np.ndarray
    reward: np.ndarray
    channel: np.ndarray
    elapsed: np.ndarray


class DefaultStep:
    """The step where :meth:`fits` holds.

    Args:
        scenario: Its constants.
        table: LPIPS of every subset.
        bank: Features of all images, pruned as the scenario says.
        available: (I, F) bool, features that an action may select.
    """

    def __init__(self, scenario: Scenario, table: RecoveryTable, bank: FeatureBank, available: np.ndarray) -> None:
        amplitude = np.sqrt(scenario.power_w / scenario.noise_power_w)
        self._arrays = (
            np.ascontiguousarray(available),
            np.ascontiguousarray(bank.size_bits),
            np.ascontiguousarray(table.mean),
            np.broadcast_to(amplitude, (scenario.num_users,)).copy(),
        )
        self._numbers = (
            float(scenario.bandwidth_hz),
            float(scenario.lpips_weight),
            float(scenario.latency_cap_s),
            float(scenario.reference_s),
            float(scenario.violation_penalty),
        )

    @staticmethod
    def fits(scenario: Scenario, table: RecoveryTable) -> bool:
        """Whether all that the compiled step computes is as by default: solver, access, reward, and a full table."""
        parts = (scenario.transmission, scenario.access, scenario.reward) == ("optimal", "noma", "weighted_sum")
        return parts and not (link_options(scenario) or scenario.csi_error or scenario.backlog) and table.is_full

    def __call__(self, state: State, wanted: np.ndarray) -> Outcome:
        """Step B environments whose actions ask for ``wanted``, (B, K, F) bool.

        Raises:
            IndexError: If an episode is past its end.
        """
        state.check_elapsed()
        return Outcome(
            *transmit_selected(state.channels, state.elapsed, state.image_index, wanted, *self._arrays, *self._numbers)
        )


@_compiled  # type: ignore[untyped-decorator]
def transmit_selected(
    channels: np.ndarray,
    elapsed: np.ndarray,
    images: np.ndarray,
    wanted: np.ndarray,
    available: np.ndarray,
    size_bits: np.ndarray,
    lpips_of: np.ndarray,
    amplitude: np.ndarray,
    bandwidth_hz: float,
    lpips_weight: float,
    latency_cap_s: float,
    reference_s: float,
    violation_penalty: float,
) -> tuple[np.ndarray, ...]:
    """The step of ``transmission="optimal"`` with a full table and the reward (24).

    Args:
        channels: (B, T + 1, K, N) complex128.
        elapsed: (B,) int64, steps taken.
        images: (B, K) int64 rows of the bank.
        wanted: (B, K, F) bool.
        available: (I, F) bool.
        size_bits: (I, F) int64.
        lpips_of: (I, 2**F) float64, entry ``sum_f selection[f] << f``.
        amplitude: (K,) float64, sqrt(p_k / sigma^2).
        bandwidth_hz: B in Hz.
        lpips_weight: lambda.
        latency_cap_s: tau_max in s.
        reference_s: tau_ref in s.
        violation_penalty: Subtracted if tau exceeds tau_max.

    Returns:
        The fields of :class:`Outcome`.
    """
    batch, users, width = wanted.shape
    antennas = channels.shape[3]
    selection = np.empty((batch, users, width), dtype=np.bool_)
    demand_bits = np.empty((batch, users), dtype=np.int64)
    unavailable_bits = np.zeros(batch, dtype=np.int64)
    order = np.empty((batch, users), dtype=np.int64)
    rate_bps = np.empty((batch, users), dtype=np.float64)
    beams = np.empty((batch, users, antennas), dtype=np.complex128)
    lpips = np.empty((batch, users), dtype=np.float64)
    latency_s = np.empty(batch, dtype=np.float64)
    weighted_ll = np.empty(batch, dtype=np.float64)
    violations = np.zeros(batch, dtype=np.int64)
    reward = np.empty(batch, dtype=np.float64)
    channel = np.empty((batch, users, antennas), dtype=np.complex128)
    scaled = np.empty((users, antennas), dtype=np.complex128)
    demand = np.empty(users, dtype=np.float64)
    rows, factors = working_memory(users, antennas)
    per_nat = bandwidth_hz / np.log(2.0)
    for one in range(batch):
        now = elapsed[one]
        quality = 0.0
        for user in range(users):
            image = images[one, user]
            bits, subset = 0, 0
            for feature in range(width):
                asked = wanted[one, user, feature]
                sent = asked and available[image, feature]
                selection[one, user, feature] = sent
                if sent:
                    bits += size_bits[image, feature]
                    subset |= 1 << feature
                elif asked:
                    unavailable_bits[one] += 1
            demand_bits[one, user] = bits
            demand[user] = bits
            lpips[one, user] = lpips_of[image, subset]
            quality += lpips[one, user]
            for antenna in range(antennas):
                value = channels[one, now, user, antenna]
                channel[one, user, antenna] = value
                scaled[user, antenna] = complex(value.real * amplitude[user], value.imag * amplitude[user])
        solve_joint_optimum(scaled, demand, order[one], rate_bps[one], beams[one], rows, factors)
        latency = 0.0
        for user in range(users):
            rate = per_nat * np.log1p(rate_bps[one, user])
            rate_bps[one, user] = rate
            if demand[user] > 0.0:
                latency = max(latency, demand[user] / rate if rate > 0.0 else np.inf)
        value_ll = lpips_weight * quality / users + (1.0 - lpips_weight) * min(latency, latency_cap_s) / reference_s
        late = latency > latency_cap_s
        weighted_ll[one] = value_ll
        violations[one] = 1 if late else 0
        reward[one] = -value_ll - (violation_penalty if late else 0.0)
        latency_s[one] = latency_cap_s if latency == np.inf else latency
    return (
        selection,
        demand_bits,
        unavailable_bits,
        order,
        rate_bps,
        beams,
        lpips,
        latency_s,
        weighted_ll,
        violations,
        reward,
        channel,
        elapsed + 1,
    )


@_compiled  # type: ignore[untyped-decorator]
def observe_features(
    channels: np.ndarray,
    elapsed: np.ndarray,
    images: np.ndarray,
    last_order: np.ndarray,
    snr_scale: np.ndarray,
    snr_range_db: tuple[float, float],
    size: np.ndarray,
    importance: np.ndarray,
    modality: np.ndarray,
    label: np.ndarray,
    available: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """What :class:`~noma_semcom_env.observation.FeatureObservation` lays out, all but the bandwidth.

    Args:
        channels: (B, T + 1, K, N) complex128.
        elapsed: (B,) int64.
        images: (B, K) int64 rows of the tables.
        last_order: (B, K) int64, negative before the first transmission.
        snr_scale: (K,) float64, p_k / sigma^2.
        snr_range_db: SNR that -1 and 1 stand for.
        size: (I, F) float32, as observed.
        importance: (I, F) float32.
        modality: (I, F) float32.
        label: (I, F) float32.
        available: (I, F) int8.

    Returns:
        ``snr`` (B, K), ``direction`` (B, K * 2N), ``last_order`` (B, K), then (B, K * F) each ``size``, ``importance``,
        ``modality``, ``label`` and ``action_mask``.
    """
    batch, users = images.shape
    antennas, width = channels.shape[3], size.shape[1]
    snr = np.empty((batch, users), dtype=np.float32)
    direction = np.empty((batch, users * 2 * antennas), dtype=np.float32)
    position = np.zeros((batch, users), dtype=np.float32)
    sizes = np.empty((batch, users * width), dtype=np.float32)
    importances = np.empty((batch, users * width), dtype=np.float32)
    modalities = np.empty((batch, users * width), dtype=np.float32)
    labels = np.empty((batch, users * width), dtype=np.float32)
    mask = np.empty((batch, users * width), dtype=np.int8)
    low, high = snr_range_db
    for one in range(batch):
        now = elapsed[one]
        for user in range(users):
            gain = 0.0
            for antenna in range(antennas):
                value = channels[one, now, user, antenna]
                gain += value.real * value.real + value.imag * value.imag
            snr_db = 10.0 * np.log10(max(gain * snr_scale[user], 1e-300))
            snr[one, user] = max(-1.0, min(1.0, (2.0 * snr_db - (low + high)) / (high - low)))
            norm = np.sqrt(gain)
            first = channels[one, now, user, 0]
            length = abs(first)
            phase = complex(first.real / length, -first.imag / length) if length > 0.0 else complex(1.0, 0.0)
            if norm > 0.0:
                phase = complex(phase.real / norm, phase.imag / norm)
            start = user * 2 * antennas
            for antenna in range(antennas):
                unit = channels[one, now, user, antenna] * phase
                direction[one, start + antenna] = max(-1.0, min(1.0, unit.real))
                direction[one, start + antennas + antenna] = max(-1.0, min(1.0, unit.imag))
            image = images[one, user]
            for feature in range(width):
                place = user * width + feature
                sizes[one, place] = size[image, feature]
                importances[one, place] = importance[image, feature]
                modalities[one, place] = modality[image, feature]
                labels[one, place] = label[image, feature]
                mask[one, place] = available[image, feature]
        if last_order[one, 0] >= 0:
            for place in range(users):
                position[one, last_order[one, place]] = 2.0 * place / max(users - 1, 1) - 1.0
    return snr, direction, position, sizes, importances, modalities, labels, mask
