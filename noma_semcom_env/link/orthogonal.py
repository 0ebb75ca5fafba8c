"""Orthogonal access with the same users: one at a time (TDMA) or side by side (FDMA), shares chosen for least latency.

Every user is received by maximum ratio combining, alone, at g_k = p_k ||h_k||^2 / sigma^2 with sigma^2 the noise of the
whole band, and sends at its full power: no energy is saved up for its turn or gained in its sub-band.

**TDMA.** Alone, user k needs n_k / B seconds, n_k the channel uses that carry D_k bits at g_k. With a share s_k of the
time it is done after n_k / (B s_k); the latency is at least sum_k n_k / B, since the shares add up to at most 1, and
s_k in proportion to n_k reaches it.

**FDMA.** In a share b_k of the band the noise shrinks as well: R_k = b_k B log2(1 + g_k / b_k), which grows with b_k.
At the optimum all active users end together, at the tau where the shares that they need add up to 1: if one ended
earlier, a little of its band would speed up the others. It is never slower than TDMA, since a user with b_k in place of
s_k has its full power all the time.

Finding tau: the share that user k needs at the speed 1 / tau is convex in the speed (the inverse of an increasing
concave function), so that Newton's method on sum_k b_k = 1 comes down monotonically from the speed at which the first
user needs the whole band. With x = g_k / b_k the need reads log(1 + x) / x = y; log(1 + x) - y x is concave, and
Newton's method comes down from a bound on Lambert's function, x = -W(-y exp(-y)) / y - 1 on the branch W <= -1.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.link.blocklength import channel_uses
from noma_semcom_env.link.sic import (
    BoolArray,
    ComplexArray,
    FloatArray,
    Transmission,
    broadcast_lead,
    checked,
    checked_demand,
    latency_s,
    scaled_channel,
    sort_silent_last,
    squared_magnitude,
    unit_beams,
)

_ITERATIONS: Final = 50
_TINY: Final = 1e-300


def time_division(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    bandwidth_hz: ArrayLike,
    demand_bits: ArrayLike,
    *,
    estimate: ArrayLike | None = None,
    error_probability: float | None = None,
) -> Transmission:
    """TDMA with the time shares of least latency.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 of the whole band in W, one number or (...,).
        bandwidth_hz: B in Hz, one number or (...,).
        demand_bits: (..., K) bits, at least 0; 0 makes a user silent, and it takes no share.
        estimate: (..., K, N) channels from which beams and shares are chosen; None is the true ones.
        error_probability: Of each message, by the normal approximation for short messages; None sends at capacity.

    Returns:
        The transmission. The order is active users by index, then silent ones; ``rate_bps`` is each user's rate while
        it sends times its share of the time, so that the latency is max D_k / R_k, and all D_k / R_k are equal if the
        channel is known. A user that cannot be heard takes no share and makes the latency inf.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    link = _Link(channel, power_w, noise_power_w, bandwidth_hz, demand_bits, estimate)
    uses = channel_uses(link.demand, link.sinr, error_probability)
    planned = np.where(link.heard, channel_uses(link.demand, link.seen_sinr, error_probability), 0.0)
    total = planned.sum(axis=-1, keepdims=True)
    share = np.divide(planned, total, out=np.zeros(planned.shape), where=planned > 0.0)
    sends = (uses > 0.0) & (share > 0.0)
    alone = np.divide(link.demand * link.bandwidth, uses, out=np.zeros(uses.shape), where=sends)
    return link.transmission(share * alone)


def frequency_division(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    bandwidth_hz: ArrayLike,
    demand_bits: ArrayLike,
    *,
    estimate: ArrayLike | None = None,
) -> Transmission:
    """FDMA with the shares of the band of least latency; arguments and result as in :func:`time_division`.

    ``rate_bps`` is each user's rate in its sub-band. There is no form for short messages: a wider sub-band would not
    always carry more of one.
    """
    link = _Link(channel, power_w, noise_power_w, bandwidth_hz, demand_bits, estimate)
    share = band_shares(np.where(link.heard, link.demand, 0.0), link.seen_sinr)
    narrow = np.divide(link.sinr, share, out=np.zeros(share.shape), where=share > 0.0)
    return link.transmission(share * link.bandwidth * np.log1p(narrow) / np.log(2.0))


def band_shares(demand_bits: FloatArray, sinr: FloatArray) -> FloatArray:
    """The shares of a band with which all users end together.

    Args:
        demand_bits: (..., K), at least 0; where it is 0 the share is 0.
        sinr: (..., K) received power over the whole band's noise, above 0 where the demand is.

    Returns:
        (..., K), adding up to 1, or all 0 if nobody has bits to send.
    """
    takes = (demand_bits > 0.0) & (sinr > 0.0)
    gain = np.where(takes, sinr, 1.0)
    need = np.where(takes, demand_bits, 0.0) / gain
    hardest = need.max(axis=-1, keepdims=True)
    need = np.where(takes, need / np.where(hardest > 0.0, hardest, 1.0), 0.0)
    # The speed is measured by what an endless band would give the user in greatest need. Far below the noise it is
    # nearly 1 and all its digits lie in the gap, far above the noise it is nearly 0, so that both are carried along.
    # Each user alone in the band bounds it.
    speed = np.divide(np.log1p(gain) / gain, need, out=np.ones(need.shape), where=takes).min(axis=-1, keepdims=True)
    gap = np.divide(need - 1.0 + _log_deficit(gain) / gain, need, out=np.zeros(need.shape), where=takes)
    gap = np.maximum(gap.max(axis=-1, keepdims=True), _TINY)
    for _ in range(_ITERATIONS):
        x = _narrow_sinr(np.where(takes, need * speed, 0.5), np.where(takes, 1.0 - need + need * gap, 0.5))
        share = np.where(takes, gain / x, 0.0)
        marginal = np.where(x > 1.0, np.log1p(x) - x / (1.0 + x), x * (x / (1.0 + x)) - _log_deficit(x))
        growth = (need * gain / np.maximum(marginal, _TINY)).sum(axis=-1, keepdims=True)
        excess = np.where(growth > 0.0, share.sum(axis=-1, keepdims=True) - 1.0, 0.0)
        step = excess / np.where(growth > 0.0, growth, 1.0)
        speed, gap = speed - step, np.maximum(gap + step, _TINY)
        if (np.abs(excess) <= 1e-13).all():
            break
    total = share.sum(axis=-1, keepdims=True)
    shares: FloatArray = share / np.where(total > 0.0, total, 1.0)
    return shares


def _narrow_sinr(y: FloatArray, rest: FloatArray) -> FloatArray:
    """The x > 0 with log(1 + x) = y x, from y in (0, 1) and rest = 1 - y, each with all its digits."""
    u = np.where(rest < 0.01, _log_deficit(-np.minimum(rest, 0.01)), -rest - np.log(y))
    x: FloatArray = (u + np.sqrt(2.0 * u) + rest) / y  # an upper bound, a few per cent above
    for _ in range(_ITERATIONS):
        high = x > 1.0
        value = np.where(high, y * x - np.log1p(x), _log_deficit(x) - rest * x)
        slope = np.where(high, y - 1.0 / (1.0 + x), x / (1.0 + x) - rest)
        step = np.divide(value, slope, out=np.zeros(x.shape), where=(value > 0.0) & (slope > 0.0))
        x = x - step
        if (step <= 1e-15 * x).all():
            break
    return x


def _log_deficit(x: FloatArray) -> FloatArray:
    """The difference x - log(1 + x), by its series where the two are nearly the same."""
    near = np.where(np.abs(x) <= 0.01, x, 0.0)
    series = np.zeros(near.shape)
    for power in range(9, 1, -1):
        series = 1.0 / power - near * series
    difference: FloatArray = np.where(near == x, near**2 * series, x - np.log1p(x))
    return difference


class _Link:
    """The arguments of orthogonal access, validated and broadcast, with what each user receives alone."""

    def __init__(
        self,
        channel: ArrayLike,
        power_w: ArrayLike,
        noise_power_w: ArrayLike,
        bandwidth_hz: ArrayLike,
        demand_bits: ArrayLike,
        estimate: ArrayLike | None,
    ) -> None:
        true = scaled_channel(channel, power_w, noise_power_w)
        seen = true if estimate is None else scaled_channel(estimate, power_w, noise_power_w)
        users, antennas = true.shape[-2:]
        bandwidth = checked("bandwidth_hz", bandwidth_hz, "(0, inf)")
        demand = checked_demand(demand_bits, users)
        lead = broadcast_lead(
            channel=true.shape[:-2],
            estimate=seen.shape[:-2],
            bandwidth_hz=bandwidth.shape,
            demand_bits=demand.shape[:-1],
        )
        matched = np.where(squared_magnitude(seen).sum(axis=-1, keepdims=True) > 0.0, seen, np.eye(1, antennas))
        beams = unit_beams(matched, users, antennas)
        self.beams: ComplexArray = np.broadcast_to(beams, (*lead, users, antennas)).copy()
        self.bandwidth: FloatArray = np.broadcast_to(bandwidth, lead)[..., None]
        self.demand: FloatArray = np.broadcast_to(demand, (*lead, users))
        self.seen_sinr: FloatArray = np.broadcast_to(_combined(beams, seen), (*lead, users))
        self.sinr: FloatArray = np.broadcast_to(_combined(beams, true), (*lead, users))
        self.heard: BoolArray = (self.demand > 0.0) & (self.seen_sinr > 0.0)

    def transmission(self, rate: FloatArray) -> Transmission:
        """The result of the users' rates (..., K)."""
        return Transmission(
            order=sort_silent_last(np.arange(self.demand.shape[-1]), self.demand > 0.0),
            rate_bps=rate,
            latency_s=latency_s(self.demand, rate),
            beams=self.beams,
            fallback=np.zeros(rate.shape[:-1], dtype=np.bool_),
        )


def _combined(beams: ComplexArray, scaled: ComplexArray) -> FloatArray:
    """p_k |w_k^H h_k|^2 / sigma^2, (..., K)."""
    return squared_magnitude((beams.conj() * scaled).sum(axis=-1))
