"""Fig. 2 of Mixture of Semantics: PSNR-ROI and CLIP-RONI over alpha, the share of the symbols for the text.

    python -m noma_semcom_benchmarks.mos_fig02

The threshold effect: below some alpha the text does not arrive and CLIP-RONI collapses; above it more symbols for the
text bring nothing and are taken from the region. Rayleigh fading as in the paper, and AWGN. The threshold is found on
half of the scenes, and slopes before and beyond it are compared on the other half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks.mos_ledger import Ledger
from noma_semcom_benchmarks.mos_report import (
    CANNOT_TELL,
    DOES_NOT,
    Claim,
    above,
    columns,
    interval,
    make_parser,
    parse,
    report,
    save,
    written,
)
from noma_semcom_benchmarks.mos_scenes import CBR, ask
from noma_semcom_benchmarks.mos_schemes import MOS, Condition
from noma_semcom_benchmarks.mos_threshold import FASTER, SLACK, find_edge

STEM: Final = "mos_fig02"
ALPHAS: Final = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.7)
CASES: Final = (("rayleigh", 10.0), ("awgn", 0.0))
"""Channel and SNR in dB. Which ones the paper's figure is of is lost in the text at hand."""

SHARE: Final = 0.97
"""Of the largest CLIP-RONI, at which the threshold lies."""

Found = Mapping[tuple[str, float], Sequence[Mapping[str, np.ndarray]]]
"""(channel, SNR) to what was measured at each alpha."""


def measure(ledger: Ledger, scenes: Sequence[Any], alphas: Sequence[float], cbr: float) -> Found:
    """Measure every alpha of :data:`CASES`."""
    asked = {
        (channel, snr_db): [Condition(MOS, channel, cbr, snr_db, alpha=alpha) for alpha in alphas]
        for channel, snr_db in CASES
    }
    known = ledger.gather([one for conditions in asked.values() for one in conditions], scenes)
    return {case: [known[one] for one in conditions] for case, conditions in asked.items()}


def judge(found: Found, alphas: Sequence[float]) -> list[Claim]:
    """The paper's claims about this figure."""
    claims = []
    for (channel, snr_db), points in found.items():
        where = f"{channel}, {snr_db:g} dB"
        clip = [point["clip_roni"] for point in points]
        edge = find_edge(np.stack(clip), alphas, SHARE)
        place = edge.place
        rise, rest = interval(clip[place] - clip[0]), interval(clip[-1] - clip[place])
        claims.append(
            Claim(
                "CLIP-RONI decreases fast below a threshold of alpha",
                f"{where}: threshold {alphas[place]:.1%}; without text {clip[0].mean():.3f}, at it "
                f"{clip[place].mean():.3f}, {written(rise, 3)}; slope before it {written(edge.below, 1)}, less "
                f"{FASTER:g} times that beyond {written(edge.faster, 1)}",
                above([edge.below, edge.faster]) if place else DOES_NOT,
            )
        )
        claims.append(
            Claim(
                "and its growth slows down or stops above",
                f"{where}: from alpha {alphas[place]:.1%} to {alphas[-1]:.0%} {written(rest, 3)}; slope beyond it "
                f"{written(edge.above, 3)}; {SLACK:g} times that before it, less this {written(edge.slower, 3)}",
                above([edge.slower]) if place else CANNOT_TELL,
            )
        )
        psnr = [point["psnr_roi_db"] for point in points]
        further = min(place + 3, len(psnr) - 1)
        lost: Interval = interval(psnr[place] - psnr[-1])
        near = interval(psnr[place] - psnr[further])
        claims.append(
            Claim(
                "a larger alpha decreases PSNR-ROI",
                f"{where}: from alpha {alphas[place]:.1%} to {alphas[further]:.0%} {-near.value:+.2f} dB, to "
                f"{alphas[-1]:.0%} {-lost.value:+.2f} [{-lost.high:+.2f}, {-lost.low:+.2f}] dB",
                above([lost]),
            )
        )
    return claims


def draw(found: Found, alphas: Sequence[float], title: str) -> Any:
    """Both qualities over alpha, a panel a channel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    cells = figure.subplots(1, len(found))
    # Evenly spaced: what matters happens within a few hundredths.
    x, names = np.arange(len(alphas)), [f"{100 * alpha:g}" for alpha in alphas]
    for axes, ((channel, snr_db), points) in zip(cells, found.items(), strict=True):
        twin = axes.twinx()
        for target, name, colour, marker in (
            (axes, "psnr_roi_db", "C3", "o"),
            (twin, "clip_roni", "C0", "s"),
        ):
            means = [interval(point[name]) for point in points]
            target.plot(x, [one.value for one in means], color=colour, marker=marker)
            target.fill_between(x, [one.low for one in means], [one.high for one in means], color=colour, alpha=0.15)
        place = find_edge(np.stack([point["clip_roni"] for point in points]), alphas, SHARE).place
        axes.axvline(x[place], color="grey", linestyle=":")
        axes.annotate(
            f" threshold {names[place]} %", (x[place], 0.03), xycoords=("data", "axes fraction"), color="grey"
        )
        axes.set_xticks(x, names)
        axes.set(
            xlabel="alpha in %, not to scale", title=f"{'AWGN' if channel == 'awgn' else 'Rayleigh'}, {snr_db:g} dB"
        )
        axes.set_ylabel("PSNR-ROI in dB", color="C3")
        twin.set_ylabel("CLIP-RONI", color="C0")
    figure.suptitle(title, fontsize=10)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, judge and draw."""
    parser = make_parser(__doc__, scenes=24)
    parser.add_argument("--cbr", type=float, default=CBR)
    given = parse(parser, arguments)
    alphas = (0.0, 0.03, 0.7) if given.quick else ALPHAS
    found = measure(Ledger(given.measurements), ask("test", given.scenes), alphas, given.cbr)
    rows = [
        {
            "channel": channel,
            "snr_db": snr_db,
            "cbr": given.cbr,
            "alpha": alpha,
            **columns("psnr_roi_db", interval(point["psnr_roi_db"])),
            **columns("clip_roni", interval(point["clip_roni"])),
            **columns("token_error", interval(point["token_error"])),
            **columns("lpips", interval(point["lpips"])),
        }
        for (channel, snr_db), points in found.items()
        for alpha, point in zip(alphas, points, strict=True)
    ]
    title = f"Fig. 2: {given.scenes} test scenes of 128 x 128, CBR {given.cbr:g}"
    report(title, rows, judge(found, alphas), given, STEM)
    save(draw(found, alphas, title), given, STEM)


if __name__ == "__main__":
    main()
