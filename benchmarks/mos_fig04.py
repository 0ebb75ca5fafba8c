"""Fig. 4 of Mixture of Semantics: PSNR-ROI and CLIP-RONI over SNR at one CBR, AWGN and Rayleigh, all schemes.

    python -m noma_semcom_benchmarks.mos_fig04

MoS sends its text with the symbols that mos_table1 finds on validation scenes; the figure is of test scenes. DiffCom,
which samples for seconds, is measured on the first few of them.
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
    measure_curves,
    rows_of,
)
from noma_semcom_benchmarks.mos_ledger import Ledger
from noma_semcom_benchmarks.mos_report import (
    AGREES,
    CANNOT_TELL,
    DOES_NOT,
    Claim,
    above,
    make_parser,
    parse,
    report,
    save,
    written,
)
from noma_semcom_benchmarks.mos_scenes import CBR, CHANNELS, SNRS_DB, ask
from noma_semcom_benchmarks.mos_schemes import MOS, ROI_JSCC, SWIN

STEM = "mos_fig04"
PAPER_GAIN_DB, PAPER_CLIP_GAIN = 3.68, 0.019


def claim_size(text: str, gain: Interval, size: float, found: str) -> Claim:
    """The claim that a gain is of a size, apart from its sign; an interval that holds 0 besides tells nothing."""
    if not gain.low <= size <= gain.high:
        return Claim(text, f"{found}, which leaves out {size}", DOES_NOT)
    return Claim(text, f"{found}, which holds {size}", AGREES if gain.low > 0 or gain.high < 0 else CANNOT_TELL)


def judge(curves: Curves) -> list[Claim]:
    """The paper's claims about this figure."""
    first = curves.points[0]
    gain = curves.gain("awgn", MOS, SWIN, first, "psnr_roi_db")
    clip = curves.gain("awgn", MOS, SWIN, first, "clip_roni")
    there = f"over SwinJSCC at {first.snr_db:g} dB, AWGN"
    claims = [
        Claim(f"a PSNR-ROI gain {there}", f"{written(gain)} dB at CBR {first.cbr:g}", above([gain])),
        claim_size(f"it is of {PAPER_GAIN_DB} dB", gain, PAPER_GAIN_DB, f"{written(gain)} dB"),
        Claim(f"a CLIP-RONI gain {there}", written(clip, 3), above([clip])),
        claim_size(f"it is of {PAPER_CLIP_GAIN}", clip, PAPER_CLIP_GAIN, written(clip, 3)),
    ]
    for channel in ("awgn", "rayleigh"):
        claims += [
            *(
                claim_gain(
                    curves, "PSNR-ROI above SwinJSCC at every SNR", channel, SWIN, "psnr_roi_db", "snr_db", first=own
                )
                for own in (MOS, MASK_FREE)
            ),
            claim_gain(curves, "CLIP-RONI above SwinJSCC at every SNR", channel, SWIN, "clip_roni", "snr_db"),
            claim_gain(curves, "PSNR-ROI above ROI-JSCC", channel, ROI_JSCC, "psnr_roi_db", "snr_db"),
            claim_gain(curves, "CLIP-RONI above ROI-JSCC", channel, ROI_JSCC, "clip_roni", "snr_db"),
        ]
        claims += claims_on_diffcom(curves, channel, "snr_db")
    return claims


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, judge and draw."""
    parser = make_parser(__doc__, scenes=32)
    parser.add_argument("--cbr", type=float, default=CBR)
    parser.add_argument("--diffcom-scenes", type=int, default=12, help="0 leaves DiffCom out")
    parser.add_argument("--diffcom-channels", nargs="+", choices=CHANNELS, default=list(CHANNELS))
    given = parse(parser, arguments)
    snrs = (0.0, 20.0) if given.quick else SNRS_DB
    points = [Point(given.cbr, snr) for snr in snrs]
    sampled = points[:1] if given.quick else points[::2]
    scenes = ask("test", given.scenes)
    curves = measure_curves(
        Ledger(given.measurements),
        scenes,
        points,
        [curve for curve in CURVES if curve != TWICE],
        min(given.diffcom_scenes, 1) if given.quick else given.diffcom_scenes,
        sampled,
        given.diffcom_channels,
    )
    title = f"Fig. 4: {given.scenes} test scenes of 128 x 128, CBR {given.cbr:g}"
    report(title, rows_of(curves), judge(curves), given, STEM)
    save(draw_curves(curves, "snr_db", "SNR in dB", title), given, STEM)


if __name__ == "__main__":
    main()
