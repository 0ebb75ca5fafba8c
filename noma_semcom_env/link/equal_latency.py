"""Among the decoding orders of least latency, the one that decodes strong users first.

The orders of least latency L are often many: all of them where every cost is airtime, and whenever a slow user leaves
the others time. By the exchange argument of :mod:`~noma_semcom_env.link.decoding_order` any user with c_k(S) <= L may
be decoded before the users S that remain: an order of latency L, with that user moved to its front, has latency L
again. So the user of highest SINR among these is taken, place by place, and what else depends on the SINRs follows the
link and not the airtimes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.link.beamforming import beams_against
from noma_semcom_env.link.sic import (
    BoolArray,
    FloatArray,
    Transmission,
    broadcast_lead,
    check_residual,
    checked,
    checked_demand,
    interference_share,
    pairwise_gain,
    rates_bps,
    scaled_channel,
    sort_silent_last,
)

SAME_LATENCY: Final = 1e-9
"""Relative difference up to which latencies are equal."""


def strongest_first(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    bandwidth_hz: float,
    demand_bits: ArrayLike,
    airtime_s: ArrayLike,
    least_latency_s: ArrayLike,
    sic_residual: float = 0.0,
) -> Transmission:
    """Order and MMSE receivers within the least latency, stronger users first.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        bandwidth_hz: B in Hz.
        demand_bits: (..., K) bits, at least 0.
        airtime_s: (..., K) time in s that a user sends besides its bits; without either it is silent.
        least_latency_s: (...,) latency of an optimal order, see
            :func:`~noma_semcom_env.link.decoding_order.minimize_latency_order`; may be inf.
        sic_residual: Share of a decoded user's power that stays as interference for those decoded after it.

    Returns:
        The transmission, its latency equal to the least to :data:`SAME_LATENCY`. Equally strong users are decoded by
        index, silent ones last.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    check_residual(sic_residual)
    own = scaled_channel(channel, power_w, noise_power_w)
    users = own.shape[-2]
    demand, airtime = checked_demand(demand_bits, users), checked("airtime_s", airtime_s, "[0, inf)")
    limit = np.asarray(least_latency_s, dtype=np.float64) * (1 + SAME_LATENCY)
    lead = broadcast_lead(
        channel=own.shape[:-2],
        demand_bits=demand.shape[:-1],
        airtime_s=airtime.shape[:-1],
        least_latency_s=limit.shape,
    )
    own = np.broadcast_to(own, (*lead, *own.shape[-2:]))
    active = np.broadcast_to((demand > 0.0) | (airtime > 0.0), (*lead, users))
    sending = own * active[..., None]  # silent users send nothing
    waiting = np.ones((*lead, users), dtype=np.bool_)
    order, ratio = np.zeros((*lead, users), dtype=np.int64), np.zeros((*lead, users))
    for place in range(users):
        share = np.where(waiting & active, 1.0, np.where(active, sic_residual, 0.0))[..., None, :]
        now = _ratios(sending, np.broadcast_to(share, (*lead, users, users)))
        free = waiting & active & (_times_s(demand, airtime, now, bandwidth_hz) <= limit[..., None])
        chosen = np.where(free, now, np.where(waiting, -1.0, -2.0)).argmax(axis=-1)[..., None]
        order[..., place : place + 1] = chosen
        np.put_along_axis(ratio, chosen, np.take_along_axis(now, chosen, axis=-1), axis=-1)
        np.put_along_axis(waiting, chosen, False, axis=-1)
    order = sort_silent_last(order, active)
    time_s = np.where(active, _times_s(demand, airtime, ratio, bandwidth_hz), 0.0)
    return Transmission(
        order=order,
        rate_bps=rates_bps(ratio, bandwidth_hz),
        latency_s=np.asarray(time_s.max(axis=-1)),
        beams=beams_against(own, interference_share(order, active, sic_residual)),
        fallback=np.zeros(lead, dtype=np.bool_),
    )


def _ratios(sending: np.ndarray, share: FloatArray | BoolArray) -> FloatArray:
    """(..., K) SINRs of each user's MMSE receiver against shares (..., K, K) of the others' power."""
    gain = pairwise_gain(sending, beams_against(sending, share))
    signal = np.diagonal(gain, axis1=-2, axis2=-1)
    others = np.where(np.eye(gain.shape[-1], dtype=np.bool_), 0.0, gain * share).sum(axis=-1)
    return np.asarray(signal / (1.0 + others))


def _times_s(demand: FloatArray, airtime: FloatArray, ratio: FloatArray, bandwidth_hz: float) -> FloatArray:
    """(..., K) airtime + D_k / R_k; inf where bits meet rate 0."""
    rate = rates_bps(ratio, bandwidth_hz)
    demand, rate = np.broadcast_arrays(demand, rate)
    wait = np.where(demand > 0.0, np.inf, 0.0)
    np.divide(demand, rate, out=wait, where=(demand > 0.0) & (rate > 0.0))
    return np.asarray(airtime + wait)
