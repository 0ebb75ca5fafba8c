"""Decoding orders of least latency: the exact rule, exhaustive search, and near-first by distance.

With c_k(S) = D_k / R_k the cost of user k when the set S is decoded after it, the latency of an order is the largest
cost along it. Costs grow with S, so that decoding next the user whose cost before all the remaining ones is least is
optimal: move that user to the front of any order; its cost there is no larger than that of the user it displaces, and
every user it passes loses an interferer (the exchange argument of Lawler's rule for 1||f_max).

With beams given, R_k follows from them (fixed form). Without, each user takes its MMSE receiver against S, the least
cost that any beam allows, and the same rule finds the joint optimum over beams and order. Neither sums of latencies nor
power control are covered.

The argument asks nothing of a cost but that it is a function of S alone and grows with it. It does so for short
messages, whose channel uses fall with the SINR (:mod:`~noma_semcom_env.link.blocklength`), and with a time besides that
analogue symbols take at any SINR, c_k(S) = airtime_k + D_k / R_k. It does so with imperfect cancellation too: if a
share of at most 1 of each decoded user's power remains, all active users outside S interfere by that share and those in
S fully, so that c_k(S) still depends on S alone, and a user that joins S interferes more. A residual that depends on
how well, or in which order, the users before were decoded is not covered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import permutations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.link.beamforming import (
    beams_against,
    forward_substitution,
    others_of,
    signal_subspace,
    triangular_factor,
)
from noma_semcom_env.link.blocklength import channel_uses
from noma_semcom_env.link.sic import (
    BoolArray,
    ComplexArray,
    FloatArray,
    IntArray,
    Transmission,
    broadcast_lead,
    check_residual,
    checked,
    checked_demand,
    interference_share,
    latency_s,
    message_rates_bps,
    pairwise_gain,
    scaled_channel,
    sort_silent_last,
    squared_magnitude,
    unit_beams,
)

MAX_EXHAUSTIVE_USERS: Final = 8
MAX_SET_USERS: Final = 16

# The SINRs (c, batch) of c candidates when each is decoded before the c - 1 others; arguments: candidates (c, batch)
# and users decoded already (d, batch), int64.
_Evaluate = Callable[[IntArray, IntArray], FloatArray]


def minimize_latency_order(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    bandwidth_hz: ArrayLike,
    demand_bits: ArrayLike,
    beams: ArrayLike | None = None,
    *,
    error_probability: float | None = None,
    sic_residual: float = 0.0,
    airtime_s: ArrayLike = 0.0,
) -> Transmission:
    """The decoding order of least latency, exactly, in K(K+1)/2 evaluations of a SINR; problem (13) and beyond.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        bandwidth_hz: B in Hz, one number or (...,).
        demand_bits: (..., K) bits, at least 0; 0 makes a user silent.
        beams: (..., K, N) receive beams for the fixed form, whose order is then optimal; None for the joint form, whose
            beams (MMSE) and order are optimal together.
        error_probability: Of each message, by the normal approximation for short messages; None sends at capacity.
        sic_residual: Share of a decoded user's power that stays as interference for those decoded after it.
        airtime_s: Time in s that a user sends besides its bits, one number or (..., K), at least 0; above 0 it makes a
            user active even without bits.

    Returns:
        The transmission, its leading axes those of all arguments broadcast together. Ties go to the lower index.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    problem = _Problem(
        channel, power_w, noise_power_w, bandwidth_hz, demand_bits, beams, error_probability, sic_residual, airtime_s
    )
    if problem.gain is None and error_probability is None and not sic_residual and not problem.airtime.any():
        compiled = _compiled_joint_optimum()
        if compiled is not None:
            return problem.transmission(*compiled(np.array(problem.own), np.array(problem.demand)))
    if problem.gain is None:
        evaluate = _joint_evaluation(problem.scaled, sic_residual)
    else:
        evaluate = _fixed_evaluation(problem.gain, sic_residual)
    return problem.transmission(*_greedy(evaluate, problem))


@lru_cache(maxsize=1)
def _compiled_joint_optimum() -> Callable[[ComplexArray, FloatArray], tuple[IntArray, FloatArray, ComplexArray]] | None:
    """The kernel where Numba is installed, which gives the same to rounding."""
    try:
        from noma_semcom_env.link.kernels import joint_optimum
    except (ImportError, RuntimeError):  # no Numba, or no folder that its cache may be written to
        return None
    kernel: Callable[[ComplexArray, FloatArray], tuple[IntArray, FloatArray, ComplexArray]] = joint_optimum
    return kernel


def exhaustive_latency_order(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    bandwidth_hz: ArrayLike,
    demand_bits: ArrayLike,
    beams: ArrayLike | None = None,
    *,
    error_probability: float | None = None,
    sic_residual: float = 0.0,
    airtime_s: ArrayLike = 0.0,
) -> Transmission:
    """The best of all K! orders, the yardstick of :func:`minimize_latency_order`; same arguments, K at most 8.

    The SINRs before each of the 2^K sets are computed once, see :func:`set_sinr`; every order looks its own up.

    Returns:
        The transmission; among equal orders the first in lexicographic order.

    Raises:
        ValueError: naming the argument that does not fit, or if K is above 8.
    """
    problem = _Problem(
        channel, power_w, noise_power_w, bandwidth_hz, demand_bits, beams, error_probability, sic_residual, airtime_s
    )
    num_users = problem.scaled.shape[-2]
    if num_users > MAX_EXHAUSTIVE_USERS:
        raise ValueError(
            f"channel has K = {num_users} users; exhaustive search takes 1 to {MAX_EXHAUSTIVE_USERS}, "
            "minimize_latency_order any number"
        )
    table = _set_sinr(problem.scaled, problem.gain, sic_residual)
    cost = _cost(problem.demand[:, None, :], table, error_probability) + problem.extra[:, None, :]
    cost = np.where(problem.active[:, None, :], cost, 0.0).reshape(len(table), -1)
    orders, lookup = _orders(num_users)
    largest = cost[:, lookup[:, 0]]
    for place in range(1, num_users):
        np.maximum(largest, cost[:, lookup[:, place]], out=largest)
    best = largest.argmin(axis=-1)
    ratio = np.empty((len(table), num_users))
    chosen = np.take_along_axis(table.reshape(len(table), -1), lookup[best], axis=-1)
    np.put_along_axis(ratio, orders[best], chosen, axis=-1)
    return problem.transmission(orders[best], ratio)


def set_sinr(
    channel: ArrayLike, power_w: ArrayLike, noise_power_w: ArrayLike, beams: ArrayLike | None = None
) -> FloatArray:
    """SINR of every user before every set: what remains of the link once demands are left open.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        beams: (..., K, N) receive beams; None for the MMSE receiver of each user and set.

    Returns:
        (..., 2^K, K) linear SINRs: entry [s, k] is user k's when the active users j with bit j set in s, and no others,
        are decoded after it; k's own bit is not read.

    Raises:
        ValueError: naming the argument that does not fit, or if K is above 16.
    """
    problem = _Problem(channel, power_w, noise_power_w, 1.0, None, beams)
    users = problem.scaled.shape[-2]
    if users > MAX_SET_USERS:
        raise ValueError(f"channel has K = {users} users; the table of 2^K sets takes 1 to {MAX_SET_USERS}")
    table = _set_sinr(problem.scaled, problem.gain)
    return table.reshape(*problem.lead, *table.shape[1:])


def distance_order(distances_m: ArrayLike, active: ArrayLike) -> IntArray:
    """Near users first (the paper's Location-Decoding), silent users last by index; ties by index.

    Args:
        distances_m: (..., K) in m, at least 0.
        active: (..., K) bool.

    Returns:
        (..., K) int64, first decoded first.

    Raises:
        ValueError: if a distance is negative or not finite.
    """
    near_first = np.argsort(checked("distances_m", distances_m, "[0, inf)"), axis=-1, kind="stable")
    return sort_silent_last(near_first, active)


def strength_order(channel: ArrayLike, power_w: ArrayLike, active: ArrayLike) -> IntArray:
    """Strongest received power p_k ||h_k||^2 first, silent users last by index; ties by index.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        active: (..., K) bool.

    Returns:
        (..., K) int64, first decoded first.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    received = squared_magnitude(scaled_channel(channel, power_w, 1.0)).sum(axis=-1)
    return sort_silent_last(np.argsort(-received, axis=-1, kind="stable"), active)


class _Problem:
    """The arguments of a solver, validated, broadcast, flattened to one batch axis and freed of units."""

    def __init__(
        self,
        channel: ArrayLike,
        power_w: ArrayLike,
        noise_power_w: ArrayLike,
        bandwidth_hz: ArrayLike,
        demand_bits: ArrayLike | None,
        beams: ArrayLike | None,
        error_probability: float | None = None,
        sic_residual: float = 0.0,
        airtime_s: ArrayLike = 0.0,
    ) -> None:
        check_residual(sic_residual)
        self.error_probability = error_probability
        self.residual = sic_residual
        scaled = scaled_channel(channel, power_w, noise_power_w)
        users, antennas = scaled.shape[-2:]
        demand = np.ones(users) if demand_bits is None else checked_demand(demand_bits, users)
        bandwidth = checked("bandwidth_hz", bandwidth_hz, "(0, inf)")
        airtime = checked("airtime_s", airtime_s, "[0, inf)")
        if airtime.ndim and airtime.shape[-1] not in (1, users):
            raise ValueError(f"airtime_s has shape {airtime.shape}; one number or {users} on its last axis are needed")
        unit = None if beams is None else unit_beams(beams, users, antennas)
        self.lead = broadcast_lead(
            channel=scaled.shape[:-2],
            bandwidth_hz=bandwidth.shape,
            demand_bits=demand.shape[:-1],
            airtime_s=airtime.shape[:-1],
            beams=() if unit is None else unit.shape[:-2],
        )
        self.bandwidth = np.broadcast_to(bandwidth, self.lead).reshape(-1)
        self.demand: FloatArray = np.broadcast_to(demand, (*self.lead, users)).reshape(-1, users)
        self.airtime: FloatArray = np.broadcast_to(airtime, (*self.lead, users)).reshape(-1, users)
        self.active: BoolArray = (self.demand > 0.0) | (self.airtime > 0.0)
        uses_a_second = self.bandwidth / (np.log(2.0) if error_probability is None else 1.0)
        self.extra: FloatArray = self.airtime * uses_a_second[:, None]  # in the unit of _cost
        self.own: ComplexArray = np.broadcast_to(scaled, (*self.lead, users, antennas)).reshape(-1, users, antennas)
        self.scaled: ComplexArray = self.own * self.active[..., None]  # silent users send nothing
        self.unit: ComplexArray | None = None
        self.gain: FloatArray | None = None  # (batch, K, K) received powers over noise, of the fixed form alone
        if unit is not None:
            self.unit = np.broadcast_to(unit, (*self.lead, users, antennas)).reshape(-1, users, antennas)
            self.gain = pairwise_gain(self.scaled, self.unit)

    def transmission(self, order: IntArray, ratio: FloatArray, beams: ComplexArray | None = None) -> Transmission:
        """The result of an order (batch, K) and its SINRs (batch, K), with the form's beams if they are not given."""
        order = sort_silent_last(order, self.active)
        rate = message_rates_bps(self.demand, ratio, self.bandwidth, self.error_probability)
        time_s = self.airtime + latency_s(self.demand[..., None], rate[..., None])
        if beams is None:
            beams = self.unit
        if beams is None:
            beams = beams_against(self.own, interference_share(order, self.active, self.residual))
        users, antennas = self.scaled.shape[-2:]
        return Transmission(
            order=order.reshape(*self.lead, users),
            rate_bps=rate.reshape(*self.lead, users),
            latency_s=time_s.max(axis=-1).reshape(self.lead),
            beams=beams.reshape(*self.lead, users, antennas),
            fallback=np.zeros(self.lead, dtype=np.bool_),
        )


def _fixed_evaluation(gain: FloatArray, sic_residual: float) -> _Evaluate:
    """SINRs under given beams; the interference of every set is summed afresh, since subtracting loses digits."""
    received = np.ascontiguousarray(gain.transpose(1, 2, 0))
    batch = np.arange(len(gain))

    def evaluate(users: IntArray, decoded: IntArray) -> FloatArray:
        interference = received[users[:, None], users[others_of(len(users))], batch].sum(axis=1)
        if sic_residual:
            interference = interference + sic_residual * received[users[:, None], decoded, batch].sum(axis=1)
        ratio: FloatArray = received[users, users, batch] / (interference + 1.0)
        return ratio

    return evaluate


def _joint_evaluation(scaled: ComplexArray, sic_residual: float) -> _Evaluate:
    """SINRs of the MMSE receivers, p_k ||R^-H h_k||^2 / sigma^2 with R of the set decoded after k, and of residuals."""
    channel = np.ascontiguousarray(signal_subspace(scaled)[1].transpose(2, 1, 0))
    batch = np.arange(len(scaled))

    def evaluate(users: IntArray, decoded: IntArray) -> FloatArray:
        own = channel[:, users, batch]
        rows = own.conj()[:, others_of(len(users))].transpose(2, 0, 1, 3)
        if sic_residual:
            left = np.sqrt(sic_residual) * channel[:, decoded, batch].conj().transpose(1, 0, 2)[:, :, None]
            rows = np.concatenate([rows, np.broadcast_to(left, (len(left), *rows.shape[1:]))])
        if len(rows):
            own = forward_substitution(triangular_factor(rows), own)
        ratio: FloatArray = squared_magnitude(own).sum(axis=0)
        return ratio

    return evaluate


def _greedy(evaluate: _Evaluate, problem: _Problem) -> tuple[IntArray, FloatArray]:
    """Decode next the user of least cost before all the remaining ones.

    Args:
        evaluate: SINRs of candidates that are decoded before one another.
        problem: Demands and airtimes.

    Returns:
        Order and SINRs, both (batch, K). A silent user costs inf here and yields to all users of finite cost; it does
        not interfere, so that its place changes nothing else.
    """
    demand, extra = problem.demand.T, np.where(problem.active, problem.extra, np.inf).T
    num_users, size = demand.shape
    remaining = np.repeat(np.arange(num_users)[:, None], size, axis=1)
    batch = np.arange(size)
    order = np.empty((size, num_users), dtype=np.int64)
    ratio = np.empty((size, num_users))
    for place in range(num_users):
        candidates = evaluate(remaining, order[:, :place].T)
        cost = _cost(demand[remaining, batch], candidates, problem.error_probability)
        pick = (cost + extra[remaining, batch]).argmin(axis=0)
        chosen = remaining[pick, batch]
        order[:, place] = chosen
        ratio[batch, chosen] = candidates[pick, batch]
        remaining = remaining[others_of(len(remaining))[pick].T, batch]
    return order, ratio


def _cost(demand: FloatArray, ratio: FloatArray, error_probability: float | None) -> FloatArray:
    """Channel uses up to a factor; inf for rate 0, and 0 for demand 0."""
    if error_probability is not None:
        return channel_uses(demand, ratio, error_probability)
    nats = np.log1p(ratio)
    cost = np.where(np.broadcast_to(demand, np.broadcast_shapes(demand.shape, nats.shape)) > 0.0, np.inf, 0.0)
    np.divide(demand, nats, out=cost, where=(demand > 0.0) & (nats > 0.0))
    return cost


def _set_sinr(scaled: ComplexArray, gain: FloatArray | None, sic_residual: float = 0.0) -> FloatArray:
    """(batch, 2^K, K) SINRs of every user before every set, from scaled channels or, with fixed beams, from gains."""
    size, num_users, _ = scaled.shape
    table = np.empty((size, 2**num_users, num_users))
    bits = (np.arange(2**num_users)[:, None] >> np.arange(num_users)) & 1 == 1
    everyone = np.ascontiguousarray(signal_subspace(scaled)[1].transpose(2, 1, 0)) if gain is None else scaled
    others = others_of(num_users)
    for index, members in enumerate(bits):
        share = np.where(members, 1.0, sic_residual)
        if gain is not None:
            interference = (gain[:, np.arange(num_users)[:, None], others] * share[others]).sum(axis=-1)
            table[:, index] = np.diagonal(gain, axis1=-2, axis2=-1) / (interference + 1.0)
            continue
        if sic_residual:
            rows = (everyone[:, others] * np.sqrt(share[others])[..., None]).conj().transpose(2, 0, 1, 3)
            factor = triangular_factor(rows)
        else:
            # One factor serves all users outside the set; those inside are set right by the sets without them.
            factor = triangular_factor(everyone.conj()[:, members].transpose(1, 0, 2))[:, :, None]
        table[:, index] = squared_magnitude(forward_substitution(factor, everyone)).sum(axis=0).T
    without_own = np.arange(2**num_users)[:, None] & ~(1 << np.arange(num_users))
    return table[:, without_own, np.arange(num_users)]


@lru_cache(maxsize=MAX_EXHAUSTIVE_USERS)
def _orders(num_users: int) -> tuple[IntArray, IntArray]:
    """All orders (K!, K), and for each place the flat index of its user's entry in a (2^K, K) table."""
    orders = np.array(list(permutations(range(num_users))), dtype=np.int64)
    after = np.cumsum((1 << orders)[:, ::-1], axis=1)[:, ::-1] - (1 << orders)
    return orders, after * num_users + orders
