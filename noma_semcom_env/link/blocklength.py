"""Short messages: how many channel uses carry D bits at an error probability (the normal approximation).

Over n complex channel uses at SINR g, a good code of error probability e carries about

    n C - sqrt(n V) Q^-1(e) + log2(n) / 2 bits,   C = log2(1 + g),   V = (1 - (1 + g)^-2) log2(e)^2

(Polyanskiy, Poor and Verdu, 2010), interference taken as Gaussian. Solved for n, which is a real number of at least one
use, since one use more or less is below what the approximation knows. The logarithm is counted between 0 and D bits:
beyond that it would carry a message by itself, over a channel that carries nothing.

**n falls with g**, for every g. Let a = Q^-1(e) sqrt(V) / C and l(n) the logarithm's share; then n uses suffice if

    n - a sqrt(n) >= (D - l(n)) / C.

C grows with g and a falls with it (with u = 1 + g its derivative has the sign of log(u) - (u^2 - 1), below 0), so that
what suffices goes on sufficing. The right side is not negative, so sqrt(n) >= a, where the left side grows with
n and the right falls: there is one root.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LN2 = float(np.log(2.0))


def channel_uses(
    demand_bits: ArrayLike, sinr: ArrayLike, error_probability: float | None = None
) -> NDArray[np.float64]:
    """Complex channel uses that carry the demands, B of them a second.

    Args:
        demand_bits: (...,) bits, at least 0.
        sinr: (...,) linear, at least 0.
        error_probability: e of the normal approximation, in (0, 0.5]; None is capacity, D / log2(1 + SINR).

    Returns:
        (...,), 0 where there is nothing to send, inf where there is but the SINR is 0.

    Raises:
        ValueError: if the error probability is out of range.
    """
    demand, ratio = np.broadcast_arrays(np.asarray(demand_bits, np.float64), np.asarray(sinr, np.float64))
    uses = np.where(demand > 0.0, np.inf, 0.0)
    carried = (demand > 0.0) & (ratio > 0.0)
    bits, heard = demand[carried], ratio[carried]
    if error_probability is None:
        uses[carried] = bits * _LN2 / np.log1p(heard)
    else:
        uses[carried] = _normal_uses(bits, heard, quantile(error_probability))
    return uses


def quantile(error_probability: float) -> float:
    """Q^-1(e), the point that a standard normal variate exceeds with probability e.

    Args:
        error_probability: e in (0, 0.5].

    Raises:
        ValueError: if it is out of range.
    """
    if not 0.0 < error_probability <= 0.5:
        raise ValueError(f"error_probability is {error_probability}; a number in (0, 0.5] is needed")
    return -NormalDist().inv_cdf(error_probability)


def _normal_uses(bits: NDArray[np.float64], sinr: NDArray[np.float64], point: float) -> NDArray[np.float64]:
    """The root n, by Newton's method on sqrt(n), halving the bracket where a step would leave it; all 1-D."""
    capacity = np.log1p(sinr) / _LN2
    a = point * np.sqrt(sinr / (1.0 + sinr) * ((sinr + 2.0) / (1.0 + sinr))) / _LN2 / capacity
    low = np.maximum(a, 1.0)
    high = np.maximum((a + np.sqrt(a**2 + 4.0 * bits / capacity)) / 2.0, 1.0)  # the root without the logarithm
    root = high
    for _ in range(100):
        logarithm = np.log2(root)
        excess = root * (root - a) - (bits - np.clip(logarithm, 0.0, bits)) / capacity
        slope = 2.0 * root - a + (logarithm < bits) / (root * _LN2 * capacity)
        low, high = np.where(excess < 0.0, root, low), np.where(excess < 0.0, high, root)
        step = root - excess / slope
        step = np.where((step >= low) & (step <= high), step, (low + high) / 2.0)
        settled = np.abs(step - root) <= 4e-16 * root
        root = step
        if settled.all():
            break
    uses: NDArray[np.float64] = root**2
    return uses
