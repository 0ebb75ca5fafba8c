"""Fig. 5 of Mixture of Semantics: PSNR-ROI and CLIP-RONI over CBR at 10 dB, AWGN and Rayleigh, all schemes.

    python -m noma_semcom_benchmarks.mos_fig05

Besides, MoS with twice the text: what more symbols for the text cost the region.
"""

from __future__ import annotations

from collections.abc import Sequence

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks.mos_curves import (
    CURVES,
    MASK_FREE,
    TWICE,
    Curves,
    Point,
    claim_gain,
    claims_on_diffcom,
    draw_curves,
    gains_over,
    measure_curves,
    rows_of,
)
from noma_semcom_benchmarks.mos_ledger import Ledger
from noma_semcom_benchmarks.mos_report import DOES_NOT, Claim, above, make_parser, parse, report, save, written
from noma_semcom_benchmarks.mos_scenes import CBRS, CHANNELS, ask
from noma_semcom_benchmarks.mos_schemes import MOS, ROI_JSCC, SWIN

STEM = "mos_fig05"
SNR_DB = 10.0


def judge(curves: Curves) -> list[Claim]:
    """The paper's claims about this figure."""
    claims = []
    for channel in ("awgn", "rayleigh"):
        claims += [
            *(
                claim_gain(
                    curves, "a PSNR-ROI gain over SwinJSCC at every CBR", channel, SWIN, "psnr_roi_db", "cbr", first=own
                )
                for own in (MOS, MASK_FREE)
            ),
            claim_gain(curves, "CLIP-RONI surpasses SwinJSCC", channel, SWIN, "clip_roni", "cbr"),
            claim_gain(curves, "PSNR-ROI above ROI-JSCC", channel, ROI_JSCC, "psnr_roi_db", "cbr"),
        ]
        claims += claims_on_diffcom(curves, channel, "cbr")
        lost = gains_over(curves, channel, TWICE, "psnr_roi_db")
        falls = above(list(lost.values()))
        # Slight: no point loses more than half a decibel.
        slight = all(one.value < 0.5 for one in lost.values())
        found = "; ".join(
            f"CBR {point.cbr:g}: {written(Interval(-g.value, -g.high, -g.low), 3)}" for point, g in lost.items()
        )
        claims.append(
            Claim(
                "a larger alpha leads to a slight decline of PSNR-ROI",
                f"{channel}, twice the text: {found} dB",
                falls if slight else DOES_NOT,
            )
        )
    return claims


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, judge and draw."""
    parser = make_parser(__doc__, scenes=32)
    parser.add_argument("--diffcom-scenes", type=int, default=12, help="0 leaves DiffCom out")
    parser.add_argument("--diffcom-channels", nargs="+", choices=CHANNELS, default=list(CHANNELS))
    given = parse(parser, arguments)
    points = [Point(cbr, SNR_DB) for cbr in (CBRS[::4] if given.quick else CBRS)]
    sampled = points[:1] if given.quick else points[::2]
    curves = measure_curves(
        Ledger(given.measurements),
        ask("test", given.scenes),
        points,
        CURVES,
        min(given.diffcom_scenes, 1) if given.quick else given.diffcom_scenes,
        sampled,
        given.diffcom_channels,
    )
    title = f"Fig. 5: {given.scenes} test scenes of 128 x 128, {SNR_DB:g} dB"
    report(title, rows_of(curves), judge(curves), given, STEM)
    save(draw_curves(curves, "cbr", "CBR", title), given, STEM)


if __name__ == "__main__":
    main()
