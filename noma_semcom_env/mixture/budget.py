"""The budget of a mixture: symbols of text, mask and region of interest (ROI). NumPy alone.

CBR * 3HW complex symbols are text + mask + ROI: the share alpha of all symbols is the text's, the mask of the region
costs what it costs, and the rest is the region's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

ACCOUNTINGS: Final = ("counted", "paper")
CHANNELS: Final = ("awgn", "rayleigh")


@dataclass(frozen=True, eq=False)
class Split:
    """Complex symbols of mixtures; all arrays are (...,) int64 unless noted.

    Attributes:
        total: The whole budget.
        text: What the text may use; it uses a whole number of symbols a token, the remainder stays idle.
        mask: What the mask of the region costs; 0 where it is not sent.
        roi: What is left for the region of interest; 0 leaves it grey.
        mask_sent: (...,) bool; False where the mask alone exceeds the budget. Without its mask no region can be placed,
            so that neither is sent and the text may use its share.
    """

    total: np.ndarray
    text: np.ndarray
    mask: np.ndarray
    roi: np.ndarray
    mask_sent: np.ndarray


def total_symbols(cbr: ArrayLike, source_samples: ArrayLike) -> np.ndarray:
    """Complex symbols that a bandwidth ratio allows, round(CBR * 3HW), int64.

    Args:
        cbr: (...,) complex symbols a real source sample, finite and at least 0.
        source_samples: 3HW, broadcast against ``cbr``.

    Raises:
        ValueError: If a ratio is negative or not finite.
    """
    ratio = np.asarray(cbr, dtype=np.float64)
    if not (np.isfinite(ratio) & (ratio >= 0)).all():
        raise ValueError(f"cbr={cbr!r} must hold finite numbers of at least 0: complex symbols a real source sample")
    return np.asarray(np.rint(ratio * np.asarray(source_samples)).astype(np.int64))


def split_symbols(alpha: ArrayLike, total: ArrayLike, mask: ArrayLike) -> Split:
    """Divide budgets.

    The mask comes first, since a region cannot be placed without it; then the text gets round(alpha * total), at most
    what the mask leaves; the rest is the region's.

    Args:
        alpha: (...,) share of all symbols for the text, in [0, 1].
        total: (...,) symbols of the budget, at least 0.
        mask: (...,) symbols that the mask costs, at least 0; ``inf`` where no number of symbols would do.

    Raises:
        ValueError: If an argument is out of range.
    """
    share, budget = np.asarray(alpha, dtype=np.float64), np.asarray(total, dtype=np.int64)
    cost = np.asarray(mask, dtype=np.float64)
    if not ((share >= 0) & (share <= 1)).all():
        raise ValueError(f"alpha={alpha!r} must hold shares in [0, 1] of all symbols")
    for name, value in (("total", budget), ("mask", cost)):
        if not (value >= 0).all():
            raise ValueError(f"{name}={value!r} must hold numbers of symbols of at least 0")
    share, budget, cost = np.broadcast_arrays(share, budget, cost)
    sent = cost <= budget
    masks = np.where(sent, cost, 0).astype(np.int64)
    text = np.minimum(np.rint(share * budget).astype(np.int64), budget - masks)
    return Split(budget.copy(), text, masks, np.where(sent, budget - masks - text, 0), sent)


def symbols_per_token(text: ArrayLike, tokens: ArrayLike, least: int = 5, most: int = 32) -> np.ndarray:
    """Symbols a token that a text's budget allows, int64.

    Args:
        text: (...,) symbols of the text.
        tokens: (...,) tokens to send, the end token included; at least 1.
        least: Fewest symbols a token of the text codec.
        most: Most symbols a token.

    Returns:
        (...,), 0 where the budget is below ``least`` a token: then no text is sent and the caption arrives empty.

    Raises:
        ValueError: If a text has no token.
    """
    count = np.asarray(tokens)
    if not (count >= 1).all():
        raise ValueError(f"tokens={tokens!r} must hold whole numbers of at least 1; an empty caption has its end token")
    each = np.minimum(np.asarray(text, dtype=np.int64) // count, most)
    return np.asarray(np.where(each >= least, each, 0))


def mask_rate(snr_db: ArrayLike, channel: str, outage: float) -> np.ndarray:
    """Bits a complex symbol at which the mask is sent: the capacity, or the rate of a stated outage.

    Args:
        snr_db: (...,) mean SNR in dB.
        channel: ``"awgn"``, or ``"rayleigh"``, whose fade falls short of the rate with probability ``outage``.
        outage: In (0, 1); read by ``"rayleigh"`` alone.

    Returns:
        (...,) float64, at least 0.

    Raises:
        ValueError: If the channel is unknown or the outage out of range.
    """
    if channel not in CHANNELS:
        raise ValueError(f"channel={channel!r} is unknown; choose one of {CHANNELS}")
    if not 0.0 < outage < 1.0:
        raise ValueError(f"outage={outage!r} must lie in (0, 1)")
    gain = -math.log1p(-outage) if channel == "rayleigh" else 1.0
    return np.asarray(np.log1p(gain * 10 ** (np.asarray(snr_db, dtype=np.float64) / 10)) / np.log(2.0))


def mask_cost(
    bits: ArrayLike, snr_db: ArrayLike, channel: str, outage: float = 0.1, accounting: str = "counted"
) -> np.ndarray:
    """Complex symbols of masks, as float64: ceil(bits / :func:`mask_rate`), ``inf`` where the rate is 0.

    The mask is all side information that is counted. Free, by either accounting, are the split of the budget (alpha),
    the number of tokens, the symbols a token, and whether there is a mask at all, although all of them differ from item
    to item and no receiver can do without: a header of some 24 bits beside a mask of some hundreds.

    Args:
        bits: (...,) bits of the coded masks.
        snr_db: (...,) mean SNR in dB.
        channel: See :func:`mask_rate`.
        outage: See :func:`mask_rate`.
        accounting: ``"counted"``; or ``"paper"``, whose masks reach the receiver for nothing.

    Raises:
        ValueError: If an argument is unknown or out of range.
    """
    if accounting not in ACCOUNTINGS:
        raise ValueError(f"accounting={accounting!r} is unknown; choose one of {ACCOUNTINGS}")
    rate = mask_rate(snr_db, channel, outage)
    size, rate = np.broadcast_arrays(np.asarray(bits, dtype=np.float64), rate)
    if accounting == "paper":
        return np.zeros(size.shape)
    cost = np.where(size > 0, np.inf, 0.0)
    np.divide(size, rate, out=cost, where=rate > 0)
    return np.asarray(np.ceil(cost))


def mask_arrives(
    snr_db: ArrayLike, effective_db: ArrayLike, channel: str, outage: float = 0.1, accounting: str = "counted"
) -> np.ndarray:
    """(...,) bool: whether the channel carries the rate that :func:`mask_cost` relied on.

    Args:
        snr_db: (...,) mean SNR in dB.
        effective_db: (...,) SNR in dB after equalization, that of the fade.
        channel: See :func:`mask_rate`.
        outage: See :func:`mask_rate`.
        accounting: With ``"paper"`` every mask arrives.
    """
    wanted, carried = np.broadcast_arrays(mask_rate(snr_db, channel, outage), mask_rate(effective_db, "awgn", outage))
    if accounting == "paper" or channel == "awgn":
        return np.ones(wanted.shape, dtype=bool)
    return np.asarray(carried >= wanted)


def fade_quantiles_db(channel: str, count: int = 64) -> np.ndarray:
    """(count,) equally likely values of 10 log10 abs(h)^2, the mid-quantiles of the law; one 0 for AWGN.

    Raises:
        ValueError: If the channel is unknown.
    """
    if channel not in CHANNELS:
        raise ValueError(f"channel={channel!r} is unknown; choose one of {CHANNELS}")
    if channel == "awgn":
        return np.zeros(1)
    probability = (np.arange(count) + 0.5) / count
    return np.asarray(10 * np.log10(-np.log1p(-probability)))
