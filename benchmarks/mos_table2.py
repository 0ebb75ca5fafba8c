"""Table II of Mixture of Semantics: parameters, multiply-adds and latency of MoS, SwinJSCC and DiffCom, measured.

    python -m noma_semcom_benchmarks.mos_table2

Multiply-adds are counted by PyTorch's own counter while one image goes through sender and receiver: matrix products,
convolutions and attention, backward passes included; the paper's "FLOPs" are multiply-adds too (its baseline's 27.81 G
is what a SwinJSCC of its size does). Latency is the least of a few repetitions on one thread of whatever CPU this runs
on, and CPU time stands beside it, which other programs disturb less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from rich.progress import track
from rich.table import Table

from noma_semcom_agents.report import make_console
from noma_semcom_benchmarks.mos_curves import Point
from noma_semcom_benchmarks.mos_report import AGREES, DOES_NOT, Claim, make_parser, parse, report, save
from noma_semcom_benchmarks.mos_scenes import CBR, Asked, ask
from noma_semcom_benchmarks.mos_schemes import DIFFCOM, MOS, ROI_JSCC, SWIN, codec_of, diffcom, recover
from noma_semcom_env.mixture_models import load_transceiver

STEM: Final = "mos_table2"
PAPER: Final = {
    MOS: (2.05e9, 19.08e12, 2.588),
    SWIN: (0.02e9, 27.81e9, 42.819e-3),
    DIFFCOM: (0.55e9, 1449.24e12, 33.67),
}
"""Parameters, multiply-adds and latency in s of the paper's table."""

PARTS: Final = ("find the region", "write the caption", "image codec", "text codec", "paint the rest")
SNR_DB: Final = 10.0


def steps_of(asked: Asked, point: Point) -> dict[str, Callable[[], Any]]:
    """What MoS does with one image, part by part; metrics are no part of it."""
    from noma_semcom_env.mixture.sending import send_regions, send_texts

    transceiver, prepared = load_transceiver(), asked.prepared
    left, top, right, bottom = asked.scene.boxes[[item.kind for item in asked.scene.items].index(asked.kind)].tolist()
    db, seed = np.array([point.snr_db]), np.zeros(1, dtype=np.int64)
    roi = np.array([int(point.cbr * asked.scene.image.size)])

    def send_region() -> np.ndarray:
        return send_regions(transceiver.image_codec, prepared.images, prepared.regions, roi, db, db, seed)

    received = send_region()
    return {
        "find the region": lambda: transceiver.finder.find(asked.scene.image, [(left, top, right, bottom)]),
        "write the caption": lambda: transceiver.captioner(prepared.images),
        "image codec": send_region,
        "text codec": lambda: send_texts(
            transceiver.text_codec, prepared.ids, prepared.tokens, np.array([5]), db, db, seed
        ),
        "paint the rest": lambda: transceiver.paint(received, prepared.regions, prepared.captions, 0),
    }


class _Everything:
    """Counts all under one name; the counter's own tracker of modules does not bear gradients taken in passing."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def count_multiply_adds(step: Callable[[], Any]) -> int:
    """Multiply-adds that a step runs."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter: Any = FlopCounterMode(display=False)
    counter.mod_tracker = _Everything()
    with counter, sdpa_kernel(SDPBackend.MATH):
        step()
    return int(counter.get_total_flops()) // 2


def time_of(step: Callable[[], Any], repetitions: int) -> tuple[float, float]:
    """Least wall-clock and CPU seconds of a step, after one that warms up."""
    step()
    wall, busy = [], []
    for _ in range(repetitions):
        before = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - before[0])
        busy.append(time.process_time() - before[1])
    return min(wall), min(busy)


def parameters_of_parts() -> dict[str, int]:
    """Learned values of each part of MoS."""
    from noma_semcom_env.mixture.image_codec import count_parameters as count

    transceiver = load_transceiver()
    pipeline = transceiver.painter.pipeline
    captioner: Any = transceiver.captioner
    finder: Any = transceiver.finder
    return {
        "find the region": count(finder._model),
        "write the caption": count(captioner.args[0]),
        "image codec": count(transceiver.image_codec),
        "text codec": count(transceiver.text_codec),
        "paint the rest": sum(count(part) for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)),
    }


def measure(asked: Asked, point: Point, repetitions: int, with_diffcom: bool = True) -> list[dict[str, Any]]:
    """One row a scheme and a part of MoS."""
    from noma_semcom_env.mixture.image_codec import count_parameters

    rows: list[dict[str, Any]] = []
    sizes = parameters_of_parts()
    for name, step in track(steps_of(asked, point).items(), "MoS"):
        wall, busy = time_of(step, repetitions)
        rows.append(_row(f"MoS: {name}", sizes[name], count_multiply_adds(step), wall, busy))
    sums = (sum(row[key] for row in rows) for key in ("parameters", "multiply_adds", "latency_s", "cpu_s"))
    rows.insert(0, _row(MOS, *sums))
    schemes = [SWIN, ROI_JSCC] + ([DIFFCOM] if with_diffcom else [])
    for scheme in track(schemes, "baselines"):
        condition = point.condition(scheme, "awgn")
        size = count_parameters(codec_of(scheme)) + (count_parameters(diffcom().model) if scheme == DIFFCOM else 0)

        def step(condition: Any = condition) -> np.ndarray:
            return recover(condition, asked)

        again = 1 if scheme == DIFFCOM else repetitions
        rows.append(_row(scheme, size, count_multiply_adds(step), *time_of(step, again)))
    return rows


BUILT: Final = "SwinJSCC of the paper's size"
WITHOUT: Final = f"{BUILT}, without SNR adaptors"


def paper_size() -> list[dict[str, Any]]:
    """SwinJSCC in the paper's configuration, built on no device: no weights, no time."""
    from dataclasses import replace

    import torch

    from noma_semcom_env.mixture import image_codec, swin_jscc

    rows = []
    for name, config in ((BUILT, swin_jscc.PAPER), (WITHOUT, replace(swin_jscc.PAPER, snr_modulation=False))):
        with torch.device("meta"):
            codec = swin_jscc.SwinJSCC(config)
        counted = image_codec.count_multiply_adds(codec)
        rows.append(_row(name, image_codec.count_parameters(codec), counted, np.nan, np.nan))
    return rows


def judge(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    """The paper's claims about this table."""
    by_name = {row["scheme"]: row for row in rows}
    mos, swin = by_name[MOS], by_name[SWIN]
    claims = []
    for key, place, unit in (("parameters", 0, ""), ("multiply_adds", 1, ""), ("cpu_s", 2, " of CPU time")):
        ratio = mos[key] / swin[key]
        claims.append(
            Claim(
                f"MoS needs more {key.replace('_', '-').replace('cpu-s', 'time')} than SwinJSCC: "
                f"{PAPER[MOS][place] / PAPER[SWIN][place]:.0f} times",
                f"{ratio:.1f} times{unit}",
                AGREES if ratio > 1 else DOES_NOT,
            )
        )
    if DIFFCOM in by_name:
        other = by_name[DIFFCOM]
        for key, place, more in (("parameters", 0, True), ("multiply_adds", 1, False), ("cpu_s", 2, False)):
            ratio = mos[key] / other[key]
            order = "more" if more else "less" if key == "cpu_s" else "fewer"
            claims.append(
                Claim(
                    f"MoS needs {order} {key.replace('_', '-').replace('cpu-s', 'time')} than "
                    f"DiffCom: {PAPER[MOS][place] / PAPER[DIFFCOM][place]:.3g} times",
                    f"{ratio:.3g} times",
                    AGREES if (ratio > 1) == more else DOES_NOT,
                )
            )
    built, without = by_name[BUILT], by_name[WITHOUT]
    near = abs(without["multiply_adds"] / PAPER[SWIN][1] - 1)
    claims.append(
        Claim(
            "SwinJSCC at 256 x 256: 0.02 B parameters, 27.81 G",
            f"{built['parameters'] / 1e6:.2f} M parameters; {without['multiply_adds'] / 1e9:.2f} G multiply-adds "
            f"without the SNR adaptors ({near:.1%} off), {built['multiply_adds'] / 1e9:.2f} G with them",
            AGREES if near < 0.01 and round(built["parameters"] / 1e9, 2) == 0.02 else DOES_NOT,
        )
    )
    return claims


def draw(rows: Sequence[dict[str, Any]]) -> Any:
    """Bars of the schemes, beside the paper's numbers, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    cells = figure.subplots(1, 3)
    schemes = [row for row in rows if row["scheme"] in PAPER]
    x = np.arange(len(schemes))
    for axes, key, place, title in zip(
        cells,
        ("parameters", "multiply_adds", "cpu_s"),
        range(3),
        ("parameters", "multiply-adds an image", "s an image (ours: one CPU thread)"),
        strict=True,
    ):
        for shift, values, label in (
            (-0.2, [row[key] for row in schemes], "ours, 128 x 128"),
            (0.2, [PAPER[row["scheme"]][place] for row in schemes], "paper, 256 x 256"),
        ):
            bars = axes.bar(x + shift, values, 0.38, label=label)
            axes.bar_label(bars, labels=[_short(value) for value in values], fontsize=7)
        axes.set(yscale="log", title=title)
        axes.margins(y=0.15)
        axes.set_xticks(x, [row["scheme"] for row in schemes])
    cells[0].legend(fontsize=8)
    return figure


def _short(value: float) -> str:
    for limit, unit in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _row(scheme: str, parameters: float, multiply_adds: float, wall: float, busy: float) -> dict[str, Any]:
    return {
        "scheme": scheme,
        "parameters": int(parameters),
        "multiply_adds": int(multiply_adds),
        "latency_s": round(wall, 4),
        "cpu_s": round(busy, 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, time, judge and draw."""
    parser = make_parser(__doc__, scenes=1, quick=1)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parse(parser, arguments)
    (asked,) = ask("test", 1)
    rows = measure(asked, Point(CBR, SNR_DB), 1 if given.quick else given.repetitions, not given.quick)
    rows += paper_size()
    shown = Table(title=f"Table II: one image of 128 x 128, {given.repetitions} repetitions")
    for heading in rows[0]:
        shown.add_column(heading, justify="left" if heading == "scheme" else "right")
    for row in rows:
        shown.add_row(row["scheme"], *(f"{value:,}" for key, value in row.items() if key != "scheme"))
    make_console().print(shown)
    report("Table II", rows, judge(rows), given, STEM)
    save(draw(rows), given, STEM)


if __name__ == "__main__":
    main()
