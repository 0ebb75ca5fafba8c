"""Successive interference cancellation: SINR, rates and latency under given beams and a given order (JTSC II-B).

Everything is batched: users and antennas stand on the last axes, any number of leading axes ``...`` before them, and
arguments broadcast over those. Linear SI units throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noma_semcom_env.link.blocklength import channel_uses

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Transmission:
    """What the uplink did with one set of demands, or with a batch of them.

    Attributes:
        order: (..., K) int64, user indices, first decoded first; silent users last, by index.
        rate_bps: (..., K) capacity (5) of each user in bit/s; 0 for silent users. With short messages or orthogonal
            access the rate at which the user's bits really get through, so that its latency is always D_k / R_k.
        latency_s: (...,) latency (6) in s; 0 if all are silent, inf if a user with bits to send has rate 0.
        beams: (..., K, N) receive beams of unit norm (a beam given as zero stays zero and has rate 0).
        fallback: (...,) bool, True where a solver failed and the exact order took its place.
    """

    order: IntArray
    rate_bps: FloatArray
    latency_s: FloatArray
    beams: ComplexArray
    fallback: BoolArray


def scaled_channel(channel: ArrayLike, power_w: ArrayLike, noise_power_w: ArrayLike) -> ComplexArray:
    """Amplitudes over the noise, sqrt(p_k / sigma^2) h_k: with them every SINR is free of units.

    Scaling comes first in every solver: raw channels are about 1e-5 and noise powers about 1e-15 W.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers p_k in W, one number, (K,) or (..., K); at least 0.
        noise_power_w: sigma^2 in W, one number or (...,); above 0.

    Returns:
        (..., K, N) complex128.

    Raises:
        ValueError: if a shape does not fit, or a value is not finite or out of its range.
    """
    h = np.asarray(channel, dtype=np.complex128)
    if h.ndim < 2 or 0 in h.shape[-2:]:
        raise ValueError(f"channel has shape {h.shape}; (..., K, N) with K >= 1 users and N >= 1 antennas is needed")
    if not np.isfinite(h).all():
        raise ValueError(f"channel holds {h[~np.isfinite(h)][0]}; every entry must be finite")
    power = checked("power_w", power_w, "[0, inf)")
    noise = checked("noise_power_w", noise_power_w, "(0, inf)")
    if power.ndim and power.shape[-1] not in (1, h.shape[-2]):
        raise ValueError(
            f"power_w has shape {power.shape}; one number, or K = {h.shape[-2]} entries on its last axis are needed"
        )
    broadcast_lead(channel=h.shape[:-2], power_w=power.shape[:-1], noise_power_w=noise.shape)
    scaled: ComplexArray = h * np.sqrt(power / noise[..., None])[..., None]
    return scaled


def checked(name: str, value: ArrayLike, interval: str) -> FloatArray:
    """The argument as float64, refused by name unless every entry is finite and in ``interval``.

    Args:
        name: The argument's name, for the message.
        value: Numbers of any shape.
        interval: ``"[0, inf)"`` or ``"(0, inf)"``.

    Raises:
        ValueError: naming the argument, the first bad value and the interval.
    """
    array = np.asarray(value, dtype=np.float64)
    good = (array >= 0.0) if interval[0] == "[" else (array > 0.0)
    good &= array < np.inf
    if not good.all():
        raise ValueError(f"{name} holds {array[~good].flat[0]}; every entry must be finite and in {interval}")
    return array


def broadcast_lead(**leading: tuple[int, ...]) -> tuple[int, ...]:
    """The leading axes of several arguments broadcast together.

    Args:
        **leading: each argument's leading axes, under its name.

    Raises:
        ValueError: naming the arguments and their leading axes if they do not fit together.
    """
    try:
        return np.broadcast_shapes(*leading.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in leading.items())
        raise ValueError(f"the leading axes of {listed} do not broadcast; make them equal, 1 or absent") from None


def checked_demand(demand_bits: ArrayLike, num_users: int) -> FloatArray:
    """Demands D_k as (..., K) float64 in [0, inf) bits, refused by name otherwise."""
    demand = checked("demand_bits", demand_bits, "[0, inf)")
    if demand.ndim < 1 or demand.shape[-1] != num_users:
        raise ValueError(f"demand_bits has shape {demand.shape}; K = {num_users} entries on its last axis are needed")
    return demand


def checked_order(order: ArrayLike, num_users: int) -> IntArray:
    """A decoding order as (..., K) int64, refused unless each row is a permutation of 0 ... K-1."""
    array = np.asarray(order)
    if array.ndim < 1 or array.shape[-1] != num_users or array.dtype.kind not in "iu":
        raise ValueError(
            f"order has shape {array.shape} and dtype {array.dtype}; (..., {num_users}) integers are needed, "
            "the index of the user decoded first standing first"
        )
    if (np.sort(array, axis=-1) != np.arange(num_users)).any():
        raise ValueError(f"order {array.tolist()} must hold each user 0 ... {num_users - 1} exactly once")
    return array.astype(np.int64, copy=False)


def unit_beams(beams: ArrayLike, num_users: int, num_antennas: int) -> ComplexArray:
    """Beams scaled to unit norm, which changes no SINR; a zero beam stays zero (and receives nothing).

    Args:
        beams: (..., K, N) complex, finite.
        num_users: K.
        num_antennas: N.

    Raises:
        ValueError: if the shape does not fit or an entry is not finite.
    """
    w = np.asarray(beams, dtype=np.complex128)
    if w.ndim < 2 or w.shape[-2:] != (num_users, num_antennas):
        raise ValueError(f"beams has shape {w.shape}; (..., {num_users}, {num_antennas}) is needed, one beam a user")
    if not np.isfinite(w).all():
        raise ValueError(f"beams holds {w[~np.isfinite(w)][0]}; every entry must be finite")
    # Dividing by the largest entry first keeps the squares of very small or large beams from leaving the range.
    largest = np.abs(w).max(axis=-1, keepdims=True)
    w = w / np.where(largest > 0.0, largest, 1.0)
    norm = np.sqrt(squared_magnitude(w).sum(axis=-1, keepdims=True))
    unit: ComplexArray = w / np.where(norm > 0.0, norm, 1.0)
    return unit


def squared_magnitude(values: ComplexArray) -> FloatArray:
    """|z|^2 of each entry, without the square root of ``abs``."""
    magnitude: FloatArray = values.real**2 + values.imag**2
    return magnitude


def pairwise_gain(scaled: ComplexArray, unit: ComplexArray) -> FloatArray:
    """Received powers over noise, gain[k, j] = p_j |w_k^H h_j|^2 / sigma^2.

    Args:
        scaled: (..., K, N), from :func:`scaled_channel`.
        unit: (..., K, N) beams of unit norm.

    Returns:
        (..., K, K).
    """
    return squared_magnitude(unit.conj() @ np.swapaxes(scaled, -1, -2))


def interference_share(order: IntArray, active: BoolArray, sic_residual: float = 0.0) -> BoolArray | FloatArray:
    """The share of every user's power that reaches every other: pi (4), and what cancellation leaves.

    Args:
        order: (..., K), first decoded first.
        active: (..., K) bool.
        sic_residual: Share of a decoded user's power that stays as interference, in [0, 1].

    Returns:
        (..., K, K), [k, j] 1 where user k is decoded before the active user j, ``sic_residual`` where it is decoded
        after it, 0 on the diagonal and for silent users; bool without a residual.

    Raises:
        ValueError: if the residual is out of range.
    """
    check_residual(sic_residual)
    mask = interference_mask(order, active)
    return mask + sic_residual * np.swapaxes(mask, -1, -2) if sic_residual else mask


def check_residual(sic_residual: float) -> None:
    """Refuse a residual outside [0, 1]."""
    if not 0.0 <= sic_residual <= 1.0:
        raise ValueError(f"sic_residual is {sic_residual}; a number in [0, 1] is needed")


def interference_mask(order: IntArray, active: BoolArray) -> BoolArray:
    """(4): pi[k, j] = 1 where user k is decoded before the active user j, so that j interferes with k.

    Args:
        order: (..., K), first decoded first.
        active: (..., K) bool.

    Returns:
        (..., K, K) bool, axis -2 the user that suffers, axis -1 the one that interferes; a silent user does neither.
    """
    position = np.argsort(order, axis=-1)
    before = position[..., :, None] < position[..., None, :]
    mask: BoolArray = before & active[..., None, :] & active[..., :, None]
    return mask


def sinr(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    beams: ArrayLike,
    order: ArrayLike,
    active: ArrayLike,
    sic_residual: float = 0.0,
) -> FloatArray:
    """SINR of each user, p_k |w_k^H h_k|^2 / (sum_j pi_kj p_j |w_k^H h_j|^2 + sigma^2 ||w_k||^2), as in (5).

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        beams: (..., K, N) complex receive beams of any norm; a zero beam has SINR 0.
        order: (..., K), user indices, first decoded first.
        active: (..., K) bool, False for a silent user: it neither suffers nor interferes and has SINR 0.
        sic_residual: Share of a decoded user's power that stays as interference for those decoded after it.

    Returns:
        (..., K), linear, at least 0.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    scaled = scaled_channel(channel, power_w, noise_power_w)
    num_users, num_antennas = scaled.shape[-2:]
    sending = np.asarray(active, dtype=np.bool_)
    share = interference_share(checked_order(order, num_users), sending, sic_residual)
    return _shared_sinr(pairwise_gain(scaled, unit_beams(beams, num_users, num_antennas)), share, sending)


def _shared_sinr(gain: FloatArray, share: BoolArray | FloatArray, active: BoolArray) -> FloatArray:
    own = np.diagonal(gain, axis1=-2, axis2=-1)
    ratio: FloatArray = own * active / ((gain * share).sum(axis=-1) + 1.0)
    return ratio


def rates_bps(sinr: ArrayLike, bandwidth_hz: ArrayLike) -> FloatArray:
    """Capacity (5), R_k = B log2(1 + SINR_k).

    Args:
        sinr: (..., K), linear, at least 0.
        bandwidth_hz: B in Hz, one number or (...,); above 0.

    Returns:
        (..., K) in bit/s.

    Raises:
        ValueError: if the bandwidth is not finite and positive.
    """
    bandwidth = checked("bandwidth_hz", bandwidth_hz, "(0, inf)")
    # log1p keeps the rates of users far below the noise right.
    rate: FloatArray = bandwidth[..., None] * np.log1p(np.asarray(sinr, dtype=np.float64)) / np.log(2.0)
    return rate


def message_rates_bps(
    demand_bits: FloatArray, sinr: FloatArray, bandwidth_hz: ArrayLike, error_probability: float | None
) -> FloatArray:
    """Rates at which messages get through: capacity, or D B / n where n channel uses carry a short message.

    Args:
        demand_bits: (..., K).
        sinr: (..., K), linear.
        bandwidth_hz: B in Hz, one number or (...,).
        error_probability: As in :func:`~noma_semcom_env.link.blocklength.channel_uses`; None is capacity.

    Returns:
        (..., K) in bit/s, 0 for silent users.
    """
    if error_probability is None:
        return rates_bps(sinr, bandwidth_hz)
    uses = channel_uses(demand_bits, sinr, error_probability)
    bits = demand_bits * checked("bandwidth_hz", bandwidth_hz, "(0, inf)")[..., None]
    bits, uses = np.broadcast_arrays(bits, uses)
    return np.divide(bits, uses, out=np.zeros(bits.shape), where=uses > 0.0)


def latency_s(demand_bits: ArrayLike, rate_bps: ArrayLike) -> FloatArray:
    """Latency (6), tau = max_k D_k / R_k over the users that have bits to send.

    Args:
        demand_bits: (..., K), at least 0.
        rate_bps: (..., K), at least 0.

    Returns:
        (...,) in s: 0 where all users are silent, inf where one has bits to send but rate 0.

    Raises:
        ValueError: if a demand is negative or not finite.
    """
    rate = np.asarray(rate_bps, dtype=np.float64)
    demand, rate = np.broadcast_arrays(checked("demand_bits", demand_bits, "[0, inf)"), rate)
    time = np.where(demand > 0.0, np.inf, 0.0)
    np.divide(demand, rate, out=time, where=(demand > 0.0) & (rate > 0.0))
    return np.asarray(time.max(axis=-1))


def transmit(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    bandwidth_hz: ArrayLike,
    demand_bits: ArrayLike,
    beams: ArrayLike,
    order: ArrayLike,
    *,
    error_probability: float | None = None,
    sic_residual: float = 0.0,
) -> Transmission:
    """The true rates and latency under given beams and a given order.

    Silent users (D_k = 0) are moved to the end of the order, by index; that changes nobody's rate.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        bandwidth_hz: B in Hz, one number or (...,).
        demand_bits: (..., K) bits, at least 0; 0 makes a user silent.
        beams: (..., K, N) complex receive beams of any norm.
        order: (..., K), user indices, first decoded first.
        error_probability: Of each message, by the normal approximation for short messages; None sends at capacity.
        sic_residual: Share of a decoded user's power that stays as interference for those decoded after it.

    Returns:
        The transmission, its leading axes those of all arguments broadcast together.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    scaled = scaled_channel(channel, power_w, noise_power_w)
    num_users, num_antennas = scaled.shape[-2:]
    demand = checked_demand(demand_bits, num_users)
    active = demand > 0.0
    silent_last = sort_silent_last(checked_order(order, num_users), active)
    unit = unit_beams(beams, num_users, num_antennas)
    lead = broadcast_lead(
        channel=scaled.shape[:-2],
        bandwidth_hz=np.shape(bandwidth_hz),
        demand_bits=demand.shape[:-1],
        beams=unit.shape[:-2],
        order=silent_last.shape[:-1],
    )
    share = interference_share(silent_last, active, sic_residual)
    ratio = _shared_sinr(pairwise_gain(scaled, unit), share, active)
    rate = message_rates_bps(demand, ratio, bandwidth_hz, error_probability)
    rate = np.broadcast_to(rate, (*lead, num_users)).copy()
    return Transmission(
        order=np.broadcast_to(silent_last, rate.shape).copy(),
        rate_bps=rate,
        latency_s=latency_s(demand, rate),
        beams=np.broadcast_to(unit, (*lead, num_users, num_antennas)).copy(),
        fallback=np.zeros(lead, dtype=np.bool_),
    )


def sort_silent_last(order: ArrayLike, active: ArrayLike) -> IntArray:
    """Move silent users behind the others: those keep their order, the silent ones stand by index.

    Args:
        order: (..., K), user indices, first decoded first.
        active: (..., K) bool.

    Returns:
        (..., K) int64.
    """
    users = np.asarray(order, dtype=np.int64)
    sending = np.asarray(active, dtype=np.bool_)
    users, sending = np.broadcast_arrays(users, sending)
    num_users = users.shape[-1]
    key = np.where(np.take_along_axis(sending, users, axis=-1), np.arange(num_users), num_users + users)
    return np.take_along_axis(users, np.argsort(key, axis=-1), axis=-1)
