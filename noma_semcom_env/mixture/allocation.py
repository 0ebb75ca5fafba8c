"""Rules that say which share alpha of a mixture's symbols the text gets. NumPy alone.

A rule is a fixed alpha, Table I of the paper, or thresholds fitted on training images. Table I is one law: n_text =
alpha * CBR * 3HW is 768, 264, 192, 144 and 120 symbols at 0, 5, 10, 15 and 20 dB whatever the CBR, which is 24 tokens
of 32, 11, 8, 6 and 5 symbols at 256 x 256 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.mixture.budget import fade_quantiles_db

PAPER_SNR_DB: Final = (0.0, 5.0, 10.0, 15.0, 20.0)
PAPER_CBR: Final = (0.016, 0.024, 0.032, 0.04, 0.048)
PAPER_TOKENS: Final = 24
PAPER_SYMBOLS: Final = (32, 11, 8, 6, 5)
"""Complex symbols a token at each of :data:`PAPER_SNR_DB`."""

PAPER_SAMPLES: Final = 3 * 256 * 256
"""Real source samples 3HW of the paper's images."""

INTERPOLATIONS: Final = ("none", "log", "lower")

Interpolation = Literal["none", "log", "lower"]
Criterion = Literal["ceiling", "rise"]

_SAME: Final = 1e-9
"""How far apart, relatively, two numbers may lie that are one point of a grid."""


def paper_table() -> np.ndarray:
    """Table I of the paper: (5, 5) alpha in per cent to two decimals, SNRs down, bandwidth ratios across."""
    snr, cbr = np.meshgrid(PAPER_SNR_DB, PAPER_CBR, indexing="ij")
    return np.asarray(np.round(100 * PaperRule().alpha(snr, cbr, PAPER_SAMPLES), 2))


@dataclass(frozen=True)
class FixedRule:
    """One alpha for every SNR, CBR and caption.

    Attributes:
        value: alpha in [0, 1].
    """

    value: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ValueError(f"value={self.value!r} of a fixed alpha must lie in [0, 1]")

    def alpha(
        self, snr_db: ArrayLike, cbr: ArrayLike, source_samples: ArrayLike, tokens: ArrayLike | None = None
    ) -> np.ndarray:
        """(...,) the one alpha; arguments as in :meth:`PaperRule.alpha`."""
        return np.full(
            np.broadcast_shapes(np.shape(snr_db), np.shape(cbr), np.shape(0 if tokens is None else tokens)), self.value
        )


@dataclass(frozen=True)
class TokenRule:
    """Symbols a token by SNR, from which alpha = symbols * tokens / (CBR * 3HW) follows.

    Attributes:
        snr_db: Grid, ascending.
        symbols: Symbols a token at each grid point.
        interpolation: Between grid points: ``"none"`` refuses, ``"log"`` interpolates the logarithm of the symbols over
            dB, ``"lower"`` takes the symbols of the next lower SNR, which never sends too few.
        extrapolate: Whether an SNR beyond the grid gets the nearest grid point's symbols instead of being refused.
    """

    snr_db: tuple[float, ...]
    symbols: tuple[float, ...]
    interpolation: Interpolation = "log"
    extrapolate: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation={self.interpolation!r} is unknown; choose one of {INTERPOLATIONS}")
        if not self.snr_db or len(self.snr_db) != len(self.symbols):
            raise ValueError(f"snr_db={self.snr_db} and symbols={self.symbols} must be equally many, at least one")
        if (np.diff(self.snr_db) <= 0).any() or min(self.symbols) < 0:
            raise ValueError(f"snr_db={self.snr_db} must ascend, and symbols={self.symbols} must be at least 0")

    def symbols_at(self, snr_db: ArrayLike) -> np.ndarray:
        """(...,) float64 symbols a token at SNRs in dB.

        Raises:
            ValueError: If an SNR lies outside the grid or between its points, and that is not provided for.
        """
        snr, grid = np.asarray(snr_db, dtype=np.float64), np.array(self.snr_db)
        if np.isnan(snr).any():
            raise ValueError(f"snr_db={snr_db!r} holds NaN; numbers of dB are needed")
        nearest = np.abs(snr[..., None] - grid).argmin(axis=-1)
        on_grid = np.isclose(snr, grid[nearest], rtol=_SAME, atol=_SAME)
        outside = ((snr < grid[0]) | (snr > grid[-1])) & ~on_grid
        if outside.any() and not self.extrapolate:
            raise ValueError(
                f"snr_db={snr[outside].flat[0]!r} lies outside the rule's [{grid[0]:g}, {grid[-1]:g}] dB; give an SNR "
                "within, or extrapolate=True for the nearest entry's symbols"
            )
        between = ~outside & ~on_grid
        if between.any() and self.interpolation == "none":
            raise ValueError(
                f"snr_db={snr[between].flat[0]!r} is none of the rule's {self.snr_db} dB; give one of them, or name an "
                "interpolation: 'log' or 'lower'"
            )
        counts = np.array(self.symbols, dtype=np.float64)
        if self.interpolation == "log" and (counts > 0).all():
            found = np.exp(np.interp(snr, grid, np.log(counts)))
        else:
            found = counts[np.clip(np.searchsorted(grid, snr + _SAME, side="right") - 1, 0, len(grid) - 1)]
        return np.asarray(np.where(on_grid, counts[nearest], found))

    def alpha(
        self, snr_db: ArrayLike, cbr: ArrayLike, source_samples: ArrayLike, tokens: ArrayLike | None = None
    ) -> np.ndarray:
        """Shares of the symbols for the text, at most 1.

        Args:
            snr_db: (...,) in dB.
            cbr: (...,) complex symbols a real source sample.
            source_samples: 3HW.
            tokens: (...,) tokens of the caption, its end token included; None is the paper's padded 24.

        Returns:
            (...,) float64 in [0, 1].

        Raises:
            ValueError: If an SNR is refused, or a CBR is negative or not finite.
        """
        count, ratio = PAPER_TOKENS if tokens is None else np.asarray(tokens), _checked_ratio(cbr)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = self.symbols_at(snr_db) * count / (ratio * np.asarray(source_samples))
        return np.asarray(np.clip(np.nan_to_num(share, nan=0.0), 0.0, 1.0))


@dataclass(frozen=True)
class PaperRule(TokenRule):
    """Table I of the paper.

    Attributes:
        snr_db: The table's.
        symbols: The table's.
        interpolation: Between the table's SNRs, see :class:`TokenRule`; between its bandwidth ratios the law
            alpha * CBR = constant needs no name but a name all the same: ``"none"`` refuses those too.
        extrapolate: Whether SNRs beyond the table get the nearest entry's symbols, and bandwidth ratios beyond it
            follow the law, instead of being refused.
    """

    snr_db: tuple[float, ...] = field(default=PAPER_SNR_DB, init=False)
    symbols: tuple[float, ...] = field(default=PAPER_SYMBOLS, init=False)
    interpolation: Interpolation = "none"
    extrapolate: bool = False

    def alpha(
        self,
        snr_db: ArrayLike,
        cbr: ArrayLike,
        source_samples: ArrayLike = PAPER_SAMPLES,
        tokens: ArrayLike | None = None,
    ) -> np.ndarray:
        """Shares of the symbols for the text, see :meth:`TokenRule.alpha`.

        Raises:
            ValueError: If an SNR or a CBR lies outside the table, or between its entries, and that is not provided for.
        """
        ratio, grid = _checked_ratio(cbr), np.array(PAPER_CBR)
        on_grid = np.isclose(ratio[..., None], grid, rtol=_SAME, atol=0).any(axis=-1)
        inside = (ratio >= grid[0]) & (ratio <= grid[-1])
        if not (on_grid | inside).all() and not self.extrapolate:
            raise ValueError(
                f"cbr={ratio[~(on_grid | inside)].flat[0]!r} lies outside the table's [{grid[0]}, {grid[-1]}]; give a "
                "CBR within, or extrapolate=True for the law alpha * CBR = constant"
            )
        if self.interpolation == "none" and not (on_grid | ~inside).all():
            raise ValueError(
                f"cbr={ratio[inside & ~on_grid].flat[0]!r} is none of the table's {PAPER_CBR}; give one of them, or "
                "name an interpolation: 'log' or 'lower'"
            )
        return super().alpha(snr_db, ratio, source_samples, tokens)


def _checked_ratio(cbr: ArrayLike) -> np.ndarray:
    ratio = np.asarray(cbr, dtype=np.float64)
    wrong = ~(np.isfinite(ratio) & (ratio >= 0))
    if wrong.any():
        raise ValueError(
            f"cbr={ratio[wrong].flat[0]!r} must be a finite number of at least 0: complex symbols a real source sample"
        )
    return ratio


def fit_thresholds(
    clip_roni: ArrayLike,
    symbols: ArrayLike,
    grid_db: ArrayLike,
    snr_db: tuple[float, ...] = PAPER_SNR_DB,
    share: float = 0.97,
    channel: str = "awgn",
    of: Criterion = "ceiling",
    **options: Any,
) -> TokenRule:
    """The paper's choice of alpha, fitted: at each SNR the fewest symbols a token with which CLIP-RONI saturates.

    Args:
        clip_roni: (I, T, S) CLIP-RONI of training images; row 0 is without any text.
        symbols: (T,) symbols a token, ascending, the first 0.
        grid_db: (S,) SNR in dB after equalization, ascending.
        snr_db: Mean SNRs to fit, in dB.
        share: Share of the saturated score that must be reached, in (0, 1].
        channel: ``"awgn"``; or ``"rayleigh"``, over whose fades the scores are averaged.
        of: ``"ceiling"`` measures the share from 0, ``"rise"`` from the score without text.
        **options: Of the :class:`TokenRule`.

    Raises:
        ValueError: If shapes or arguments do not fit.
    """
    scores, counts, grid = (np.asarray(a, dtype=np.float64) for a in (clip_roni, symbols, grid_db))
    if scores.ndim != 3 or scores.shape[1:] != (len(counts), len(grid)) or not len(scores) or counts[0] != 0:
        raise ValueError(
            f"clip_roni has shape {scores.shape}; (images, {len(counts)} symbol counts from 0, {len(grid)} SNRs) is "
            "needed"
        )
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share={share!r} must lie in (0, 1]")
    if of not in ("ceiling", "rise"):
        raise ValueError(f"of={of!r} is unknown; choose 'ceiling' or 'rise'")
    mean = scores.mean(axis=0)
    needed = []
    for snr in snr_db:
        effective = snr + fade_quantiles_db(channel)
        curve = np.array([np.interp(effective, grid, row).mean() for row in mean])
        base = curve[0] if of == "rise" else 0.0
        reached = curve - base >= share * (curve.max() - base) - 1e-12
        needed.append(float(counts[int(np.argmax(reached))]))
    return TokenRule(tuple(snr_db), tuple(needed), **options)
