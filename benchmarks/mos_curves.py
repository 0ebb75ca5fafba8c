"""PSNR-ROI and CLIP-RONI of all schemes over an axis: what Fig. 4, 5 and 6 of Mixture of Semantics share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks.mos_ledger import Ledger
from noma_semcom_benchmarks.mos_report import Claim, above, columns, interval, written
from noma_semcom_benchmarks.mos_scenes import CHANNELS, Asked
from noma_semcom_benchmarks.mos_schemes import DIFFCOM, MOS, ROI_JSCC, SEPARATE, SWIN, Condition

MASK_FREE: Final = "MoS, mask not counted"
TWICE: Final = "MoS, twice the text"
VARIANTS: Final = (MASK_FREE, TWICE)
"""Ways of counting and sharing of which PSNR-ROI alone is measured."""

CURVES: Final = (MOS, MASK_FREE, TWICE, SWIN, ROI_JSCC, DIFFCOM, SEPARATE)

TOKEN_SYMBOLS: Final[Mapping[str, Mapping[float, float]]] = {
    "awgn": {0.0: 6, 5.0: 5, 10.0: 5, 15.0: 5, 20.0: 5},
    "rayleigh": {0.0: 16, 5.0: 8, 10.0: 5, 15.0: 5, 20.0: 5},
}
"""Symbols a token that mos_table1 finds on validation scenes, by channel and SNR in dB."""

_STYLES: Final = {
    MOS: {"color": "C3", "marker": "o"},
    MASK_FREE: {"color": "C3", "marker": "", "linestyle": "--"},
    TWICE: {"color": "C1", "marker": "", "linestyle": ":"},
    SWIN: {"color": "C0", "marker": "s"},
    ROI_JSCC: {"color": "C2", "marker": "^"},
    DIFFCOM: {"color": "C4", "marker": "D"},
    SEPARATE: {"color": "0.5", "marker": "x"},
}


@dataclass(frozen=True)
class Point:
    """One point of the axis.

    Attributes:
        cbr: Complex symbols a source sample.
        snr_db: Mean SNR in dB.
    """

    cbr: float
    snr_db: float

    def condition(self, curve: str, channel: str) -> Condition:
        """What a curve stands for at this point."""
        if curve not in (MOS, *VARIANTS):
            return Condition(curve, channel, self.cbr, self.snr_db)
        text = TOKEN_SYMBOLS[channel][self.snr_db]
        found = Condition(MOS, channel, self.cbr, self.snr_db, token_symbols=text)
        if curve == MASK_FREE:
            return replace(found, accounting="paper", painted=False)
        return replace(found, token_symbols=2 * text, painted=False) if curve == TWICE else found


@dataclass(frozen=True, eq=False)
class Curves:
    """Measurements along an axis.

    Attributes:
        points: P points.
        values: (channel, curve, point) to what was measured of each scene, NaN where a scene was left out.
    """

    points: Sequence[Point]
    values: Mapping[tuple[str, str, Point], Mapping[str, np.ndarray]]

    def mean(self, channel: str, curve: str, point: Point, what: str) -> Interval:
        """Mean over scenes."""
        return interval(self.values[channel, curve, point][what])

    def gain(self, channel: str, first: str, second: str, point: Point, what: str) -> Interval:
        """Mean of the first less the second, scene by scene; over those that both were measured on."""
        return interval(self.values[channel, first, point][what] - self.values[channel, second, point][what])

    def has(self, channel: str, curve: str, point: Point) -> bool:
        """Whether a curve was measured at a point."""
        return (channel, curve, point) in self.values


def measure_curves(
    ledger: Ledger,
    scenes: Sequence[Asked],
    points: Sequence[Point],
    curves: Sequence[str] = CURVES,
    diffcom_scenes: int = 0,
    diffcom_points: Sequence[Point] = (),
    diffcom_channels: Sequence[str] = ("awgn",),
) -> Curves:
    """Measure.

    Args:
        ledger: Keeps what is measured.
        scenes: n scenes.
        points: P points.
        curves: Of :data:`CURVES`; DiffCom follows ``diffcom_scenes``.
        diffcom_scenes: How many of the scenes are sampled by DiffCom, which takes seconds for each.
        diffcom_points: Points at which.
        diffcom_channels: Channels over which.
    """
    values: dict[tuple[str, str, Point], Mapping[str, np.ndarray]] = {}
    for some, count, where, channels in (
        ([curve for curve in curves if curve != DIFFCOM], len(scenes), points, CHANNELS),
        ([DIFFCOM], min(diffcom_scenes, len(scenes)), diffcom_points, diffcom_channels),
    ):
        if not count:
            continue
        keys = [(channel, curve, point) for curve in some for channel in channels for point in where]
        asked = {key: key[2].condition(key[1], key[0]) for key in keys}
        found = ledger.gather(list(dict.fromkeys(asked.values())), scenes[:count])
        missing = np.full(len(scenes) - count, np.nan)
        for key, condition in asked.items():
            values[key] = {name: np.concatenate([one, missing]) for name, one in found[condition].items()}
    return Curves(points, values)


def rows_of(curves: Curves) -> list[dict[str, Any]]:
    """One row a channel, curve and point, for a CSV file."""
    rows = []
    for (channel, curve, point), found in curves.values.items():
        row: dict[str, Any] = {"channel": channel, "curve": curve, "cbr": point.cbr, "snr_db": point.snr_db}
        row["scenes"] = int((~np.isnan(found["psnr_roi_db"])).sum())
        for name in ("psnr_roi_db", "clip_roni", "lpips"):
            row |= columns(name, interval(found[name]))
        own = curve in (MOS, *VARIANTS)
        rows.append(
            row | {name: round(float(found[name].mean()), 1) if own else "" for name in ("text", "mask", "roi")}
        )
    return rows


def gains_over(curves: Curves, channel: str, other: str, what: str, first: str = MOS) -> dict[Point, Interval]:
    """What a curve gains over another at each point where both were measured."""
    return {
        point: curves.gain(channel, first, other, point, what)
        for point in curves.points
        if curves.has(channel, first, point) and curves.has(channel, other, point)
    }


def claim_gain(
    curves: Curves, text: str, channel: str, other: str, what: str, axis: str, sign: int = 1, first: str = MOS
) -> Claim:
    """The claim that MoS lies above another scheme at every point, or below it.

    Args:
        curves: Measurements.
        text: What the paper says.
        channel: Over which.
        other: The other scheme.
        what: Quality.
        axis: Field of the points that is named.
        sign: 1 above, -1 below.
        first: MoS, or one of :data:`VARIANTS`.
    """
    gains = gains_over(curves, channel, other, what, first)
    digits = 2 if what == "psnr_roi_db" else 3
    name = {"snr_db": "SNR", "cbr": "CBR"}[axis]
    found = "; ".join(f"{name} {getattr(point, axis):g}: {written(one, digits)}" for point, one in gains.items())
    signed = [one if sign > 0 else Interval(-one.value, -one.high, -one.low) for one in gains.values()]
    return Claim(text, f"{channel}, {first} less {other}: {found}", above(signed))


def claims_on_diffcom(curves: Curves, channel: str, axis: str) -> list[Claim]:
    """The claims against DiffCom, none over a channel on which it was not measured."""
    if not gains_over(curves, channel, DIFFCOM, "psnr_roi_db"):
        return []
    return [
        claim_gain(curves, "PSNR-ROI above DiffCom", channel, DIFFCOM, "psnr_roi_db", axis),
        claim_gain(curves, "CLIP-RONI below DiffCom", channel, DIFFCOM, "clip_roni", axis, sign=-1),
    ]


def draw_curves(curves: Curves, axis: str, axis_label: str, title: str) -> Any:
    """PSNR-ROI and CLIP-RONI over the axis, a row a quality, a column a channel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 7.6), layout="constrained")
    cells = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, channel in enumerate(CHANNELS):
        for row, (what, heading) in enumerate((("psnr_roi_db", "PSNR-ROI in dB"), ("clip_roni", "CLIP-RONI"))):
            axes = cells[row, column]
            for curve in CURVES:
                places = [point for point in curves.points if curves.has(channel, curve, point)]
                if not places or (what == "clip_roni" and curve in VARIANTS):
                    continue
                means = [curves.mean(channel, curve, point, what) for point in places]
                x = [getattr(point, axis) for point in places]
                kept = curves.values[channel, curve, places[0]]["psnr_roi_db"]
                some = int((~np.isnan(kept)).sum())
                label = curve if some == len(kept) else f"{curve} (first {some} scenes)"
                axes.plot(x, [one.value for one in means], label=label, **_STYLES[curve])
                axes.fill_between(
                    x, [one.low for one in means], [one.high for one in means], color=_STYLES[curve]["color"], alpha=0.1
                )
            axes.grid(alpha=0.3)
            axes.set(ylabel=heading if column == 0 else None)
            axes.set_xlabel(axis_label if row == 1 else "")
            if row == 0:
                axes.set_title("AWGN" if channel == "awgn" else "Rayleigh, mean SNR")
    handles, names = cells[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    figure.suptitle(title, fontsize=10)
    return figure
