"""Fig. 6 of Mixture of Semantics: the same comparison on other pictures, here the street world's second style, crayon.

    python -m noma_semcom_benchmarks.mos_fig06

The paper shows Pascal VOC beside RefCOCO. Here no model has seen the style: neither the codecs, nor what finds regions,
writes captions, paints or judges.
"""

from __future__ import annotations

from collections.abc import Sequence

from noma_semcom_benchmarks.mos_curves import Curves, Point, claim_gain, draw_curves, measure_curves, rows_of
from noma_semcom_benchmarks.mos_ledger import Ledger
from noma_semcom_benchmarks.mos_report import Claim, make_parser, parse, report, save
from noma_semcom_benchmarks.mos_scenes import CBR, CHANNELS, SNRS_DB, ask
from noma_semcom_benchmarks.mos_schemes import MOS, ROI_JSCC, SEPARATE, SWIN

STEM = "mos_fig06"
STYLE = "crayon"


def judge(curves: Curves) -> list[Claim]:
    """The paper's claim about this figure, by quality and channel."""
    same = "the same trend as on the first images:"
    claims = []
    for channel in CHANNELS:
        claims += [
            claim_gain(curves, f"{same} PSNR-ROI above SwinJSCC", channel, SWIN, "psnr_roi_db", "snr_db"),
            claim_gain(curves, f"{same} CLIP-RONI above SwinJSCC", channel, SWIN, "clip_roni", "snr_db"),
        ]
    return claims


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, judge and draw."""
    parser = make_parser(__doc__, scenes=24)
    parser.add_argument("--cbr", type=float, default=CBR)
    given = parse(parser, arguments)
    points = [Point(given.cbr, snr) for snr in (SNRS_DB[:1] if given.quick else SNRS_DB[::2])]
    curves = measure_curves(
        Ledger(given.measurements), ask("test", given.scenes, STYLE), points, (MOS, SWIN, ROI_JSCC, SEPARATE)
    )
    title = f"Fig. 6: {given.scenes} test scenes of 128 x 128 in crayon, CBR {given.cbr:g}"
    report(title, rows_of(curves), judge(curves), given, STEM)
    save(draw_curves(curves, "snr_db", "SNR in dB", title), given, STEM)


if __name__ == "__main__":
    main()
