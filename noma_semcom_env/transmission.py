"""Who chooses beams and decoding order of a step: the link's solvers by name, their options, one signature for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

import numpy as np

from noma_semcom_env.link.beamforming import mmse_beams
from noma_semcom_env.link.decoding_order import (
    distance_order,
    exhaustive_latency_order,
    minimize_latency_order,
    strength_order,
)
from noma_semcom_env.link.orthogonal import frequency_division, time_division
from noma_semcom_env.link.sic import Transmission, transmit
from noma_semcom_env.scenario import Scenario


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
    **options: Any,
) -> Transmission:
    """The joint optimum over beams and order, under the options of :func:`~noma_semcom_env.link.sic.transmit` too."""
    return minimize_latency_order(channel, power_w, noise_power_w, bandwidth_hz, demand_bits, **options)


def exhaustive(
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    distances_m: np.ndarray,
    **options: Any,
) -> Transmission:
    """The same by trying all orders, at most 8 users."""
    return exhaustive_latency_order(channel, power_w, noise_power_w, bandwidth_hz, demand_bits, **options)


def near_first(
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    distances_m: np.ndarray,
    **options: Any,
) -> Transmission:
    """Location-Decoding: the nearest user first, with the MMSE beams of that order."""
    order = distance_order(distances_m, demand_bits > 0)
    return _in_order(order, channel, power_w, noise_power_w, bandwidth_hz, demand_bits, **options)


def strongest_first(
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    distances_m: np.ndarray,
    **options: Any,
) -> Transmission:
    """The strongest received power p_k ||h_k||^2 first, with the MMSE beams of that order."""
    order = strength_order(channel, power_w, demand_bits > 0)
    return _in_order(order, channel, power_w, noise_power_w, bandwidth_hz, demand_bits, **options)


def _in_order(
    order: np.ndarray,
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    error_probability: float | None = None,
    sic_residual: float = 0.0,
) -> Transmission:
    beams = mmse_beams(channel, power_w, noise_power_w, order, demand_bits > 0, sic_residual)
    link = (channel, power_w, noise_power_w, bandwidth_hz, demand_bits)
    return transmit(*link, beams, order, error_probability=error_probability, sic_residual=sic_residual)


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
    "exhaustive": exhaustive,
    "paper": fractional_program,
    "distance": near_first,
    "strength": strongest_first,
}

_PLANS_WITH_OPTIONS: Final = ("optimal", "exhaustive", "distance", "strength")
"""Solvers that take the options as keywords and choose with them in mind; the paper's knows nothing of them."""


def link_options(scenario: Scenario) -> dict[str, Any]:
    """The keywords of :func:`~noma_semcom_env.link.sic.transmit` that a scenario asks for; empty by default."""
    options: dict[str, Any] = {}
    if scenario.blocklength:
        options["error_probability"] = scenario.error_probability
    if scenario.sic_residual:
        options["sic_residual"] = scenario.sic_residual
    return options


def make_solver(scenario: Scenario) -> TransmissionSolver:
    """The solver of a scenario, with its access, short messages, residuals and channel estimates.

    Args:
        scenario: ``transmission`` a name of :data:`SOLVERS` or an object of that protocol.

    Returns:
        The solver as it is where no option is on. Else a solver that also takes ``estimate``, (B, K, N) channels from
        which beams, order and shares are chosen (None is the true ones), while rates follow from ``channel``. A solver
        of the user's own, and the paper's, choose as if there were no options; rates are those under the options.
    """
    options = link_options(scenario)
    if scenario.access != "noma":
        return _OrthogonalUplink(time_division if scenario.access == "tdma" else frequency_division, options)
    named = isinstance(scenario.transmission, str)
    solver = SOLVERS[str(scenario.transmission)] if named else cast(TransmissionSolver, scenario.transmission)
    if not options and not scenario.csi_error:
        return solver
    return _Uplink(solver, options, aware=named and scenario.transmission in _PLANS_WITH_OPTIONS)


@dataclass(frozen=True)
class _Uplink:
    """A solver of uplink NOMA under options; ``aware`` solvers take them as keywords."""

    solver: Callable[..., Transmission]
    options: Mapping[str, Any]
    aware: bool

    def __call__(
        self,
        channel: np.ndarray,
        power_w: np.ndarray,
        noise_power_w: float,
        bandwidth_hz: float,
        demand_bits: np.ndarray,
        distances_m: np.ndarray,
        estimate: np.ndarray | None = None,
    ) -> Transmission:
        """Plan with what is known of the channel, and transmit over the channel."""
        link = (power_w, noise_power_w, bandwidth_hz, demand_bits)
        seen = channel if estimate is None else estimate
        plan = self.solver(seen, *link, distances_m, **(self.options if self.aware else {}))
        if self.aware and estimate is None:
            return plan
        return replace(transmit(channel, *link, plan.beams, plan.order, **self.options), fallback=plan.fallback)


@dataclass(frozen=True)
class _OrthogonalUplink:
    """Orthogonal access as a solver."""

    divide: Callable[..., Transmission]
    options: Mapping[str, Any]

    def __call__(
        self,
        channel: np.ndarray,
        power_w: np.ndarray,
        noise_power_w: float,
        bandwidth_hz: float,
        demand_bits: np.ndarray,
        distances_m: np.ndarray,
        estimate: np.ndarray | None = None,
    ) -> Transmission:
        """Choose shares with what is known of the channel, and transmit over the channel."""
        link = (channel, power_w, noise_power_w, bandwidth_hz, demand_bits)
        return self.divide(*link, estimate=estimate, **self.options)
