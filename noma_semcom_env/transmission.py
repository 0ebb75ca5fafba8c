"""Who chooses beams and decoding order of a step: the link's solvers by name, behind one signature."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np

from noma_semcom_env.link.beamforming import mmse_beams
from noma_semcom_env.link.decoding_order import distance_order, minimize_latency_order
from noma_semcom_env.link.sic import Transmission, transmit


class TransmissionSolver(Protocol):
    """Chooses beams and decoding order of B steps; a plain function will do."""

    def __call__(
        self,
        channel: np.ndarray,
        power_w: np.ndarray,
        noise_power_w: float,
        bandwidth_hz: float,
        demand_bits: np.ndarray,
        distances_m: np.ndarray,
    ) -> Transmission:
        """Transmit the demands of B steps.

        Args:
            channel: (B, K, N) complex, path gain included.
            power_w: (K,) in watts.
            noise_power_w: sigma^2 in watts.
            bandwidth_hz: B in Hz.
            demand_bits: (B, K) float64; 0 is a silent user.
            distances_m: (B, K) in metres.

        Returns:
            The transmission, its fields with the leading axis B.
        """
        ...


def optimal(
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    distances_m: np.ndarray,
) -> Transmission:
    """The joint optimum over beams and order."""
    return minimize_latency_order(channel, power_w, noise_power_w, bandwidth_hz, demand_bits)


def near_first(
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    distances_m: np.ndarray,
) -> Transmission:
    """Location-Decoding: the nearest user first, with the MMSE beams of that order."""
    active = demand_bits > 0
    order = distance_order(distances_m, active)
    beams = mmse_beams(channel, power_w, noise_power_w, order, active)
    return transmit(channel, power_w, noise_power_w, bandwidth_hz, demand_bits, beams, order)


def fractional_program(
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    distances_m: np.ndarray,
) -> Transmission:
    """The paper's worst-case beams and its fractional program, one convex series a step (extra ``paper``)."""
    from noma_semcom_env.link.convex_order import fractional_program_order

    return fractional_program_order(channel, power_w, noise_power_w, bandwidth_hz, demand_bits)


SOLVERS: Final[dict[str, TransmissionSolver]] = {
    "optimal": optimal,
    "paper": fractional_program,
    "distance": near_first,
}
