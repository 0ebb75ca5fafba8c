"""Fig. 7 of Mixture of Semantics: pictures at 20 dB over AWGN, by every scheme, with PSNR-ROI and CLIP-RONI.

python -m noma_semcom_benchmarks.mos_fig07
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_benchmarks.mos_curves import Point
from noma_semcom_benchmarks.mos_report import AGREES, CANNOT_TELL, DOES_NOT, Claim, make_parser, parse, report, save
from noma_semcom_benchmarks.mos_scenes import CBR, Asked, ask
from noma_semcom_benchmarks.mos_schemes import DIFFCOM, MOS, ROI_JSCC, SEPARATE, SWIN, recover
from noma_semcom_env.mixture_models import load_transceiver

STEM: Final = "mos_fig07"
CHANNEL: Final = "awgn"
LIKE: Final = 0.02
"""CLIP-RONI that counts as comparable."""


def show(asked: Asked, point: Point, schemes: Sequence[str]) -> dict[str, tuple[np.ndarray, float, float]]:
    """A picture by every scheme, with its PSNR-ROI in dB and CLIP-RONI."""
    from noma_semcom_env.mixture.metrics import psnr_roi

    found, prepared = {}, asked.prepared
    for scheme in schemes:
        image = recover(point.condition(scheme, CHANNEL), asked)
        clip = float(load_transceiver().clip_roni(image[None], prepared.regions, prepared.captions)[0])
        found[scheme] = image, float(psnr_roi(image[None], prepared.images, prepared.targets)[0]), clip
    return found


def draw(scenes: Sequence[Asked], shown: Sequence[dict[str, tuple[np.ndarray, float, float]]], title: str) -> Any:
    """A row a scene: the image with its region, then every scheme."""
    from matplotlib.figure import Figure

    columns = 1 + len(shown[0])
    figure = Figure(figsize=(2.05 * columns, 2.55 * len(scenes) + 0.4), layout="constrained")
    cells = figure.subplots(len(scenes), columns, squeeze=False)
    for row, asked, pictures in zip(cells, scenes, shown, strict=True):
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].imshow(asked.scene.image)
        row[0].contour(asked.region, levels=[0.5], colors="#ff00c8", linewidths=1.2)
        row[0].set_title(f"sent; region: {asked.kind}", fontsize=8)
        row[0].set_xlabel(fill(f'"{asked.prepared.captions[0]}"', 30), fontsize=7)
        for axes, (scheme, (image, psnr, clip)) in zip(row[1:], pictures.items(), strict=True):
            axes.imshow(image)
            axes.set_title(scheme, fontsize=8)
            axes.set_xlabel(f"{psnr:.2f} dB, CLIP {clip:.3f}", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def judge(shown: Sequence[dict[str, tuple[np.ndarray, float, float]]]) -> list[Claim]:
    """The paper's claim about these pictures; a handful of them prove little."""
    psnr = [one[MOS][1] - one[SWIN][1] for one in shown]
    clip = [one[MOS][2] - one[SWIN][2] for one in shown]
    both = [p > 0 and c > -LIKE for p, c in zip(psnr, clip, strict=True)]
    share = float(np.mean(both))
    return [
        Claim(
            "MoS typically yields higher PSNR-ROI and higher or comparable CLIP-RONI than SwinJSCC",
            f"PSNR-ROI {', '.join(f'{p:+.2f}' for p in psnr)} dB; CLIP-RONI {', '.join(f'{c:+.3f}' for c in clip)}: "
            f"both in {sum(both)} of {len(both)} pictures",
            AGREES if share > 0.5 else DOES_NOT if share < 0.5 else CANNOT_TELL,
        )
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Send, judge and draw."""
    parser = make_parser(__doc__, scenes=4, quick=1)
    parser.add_argument("--cbr", type=float, default=CBR)
    parser.add_argument("--snr-db", type=float, default=20.0)
    parser.add_argument("--first", type=int, default=0, help="scenes to pass over")
    parser.add_argument("--without-diffcom", action="store_true")
    given = parse(parser, arguments)
    point = Point(given.cbr, given.snr_db)
    scenes = ask("test", given.first + given.scenes)[given.first :]
    order = (SEPARATE, SWIN, ROI_JSCC, DIFFCOM, MOS)
    left_out = (DIFFCOM,) if given.without_diffcom or given.quick else ()
    schemes = [one for one in order if one not in left_out]
    shown = [show(asked, point, schemes) for asked in track(scenes, "sending")]
    rows = [
        {"scene": asked.name, "scheme": scheme, "psnr_roi_db": round(psnr, 3), "clip_roni": round(clip, 4)}
        for asked, pictures in zip(scenes, shown, strict=True)
        for scheme, (_, psnr, clip) in pictures.items()
    ]
    title = f"Fig. 7: test scenes of 128 x 128, AWGN, {given.snr_db:g} dB, CBR {given.cbr:g}"
    report(title, rows, judge(shown), given, STEM)
    save(draw(scenes, shown, title), given, STEM)


if __name__ == "__main__":
    main()
