"""What must hold of Mixture of Semantics before its figures mean anything, checked on test scenes.

    python -m noma_semcom_benchmarks.mos_checks

The channel has the SNR and the fading law that it states and codewords their power; SwinJSCC's PSNR rises with SNR and
CBR; PSNR-ROI of MoS is above whole-image SwinJSCC's at every SNR and CBR; and the budget is at least five times what
text and mask take. Beside SwinJSCC stands a separate code at capacity, which fits the same budget.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_benchmarks.mos_curves import TOKEN_SYMBOLS
from noma_semcom_benchmarks.mos_ledger import key_of_facts, write_json
from noma_semcom_benchmarks.mos_report import (
    AGREES,
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
from noma_semcom_benchmarks.mos_scenes import CBRS, CHANNELS, SAMPLES, SNRS_DB, Asked, ask
from noma_semcom_benchmarks.mos_schemes import MOS, SWIN, codec_of, origin
from noma_semcom_benchmarks.mos_separation import best_coding, budget_bits, every_coding
from noma_semcom_env.mixture.budget import mask_cost, split_symbols, total_symbols
from noma_semcom_env.mixture_models import load_transceiver

STEM: Final = "mos_checks"
SYMBOLS: Final = 1_000_000
TOLERANCE_DB: Final = 0.05
LEAST_BUDGET: Final = 5.0
"""Of the symbols of text and mask."""

_FADES: Final = 20_000


def check_channel(snrs_db: Sequence[float] = SNRS_DB) -> list[Claim]:
    """SNR of white noise, law of the fades, power of codewords."""
    import torch
    from scipy.stats import kstest

    from noma_semcom_env.mixture.channel import send

    generator = torch.Generator().manual_seed(0)
    apart = []
    for snr_db in snrs_db:
        reals = torch.randn(1, 2 * SYMBOLS, generator=generator, dtype=torch.float32)
        reals *= (SYMBOLS / reals.square().sum()).sqrt()
        received, _ = send(reals, torch.tensor([snr_db], dtype=torch.float32), "awgn", generator)
        noise = (received - reals).double().square().sum() / SYMBOLS
        apart.append(float(-10 * noise.log10()) - snr_db)
    worst = max(map(abs, apart))
    told = torch.zeros(_FADES)
    _, after = send(torch.zeros(_FADES, 2), told, "rayleigh", generator)
    test = kstest(10 ** (after.numpy() / 10), "expon")
    return [
        Claim(
            f"AWGN has its SNR within {TOLERANCE_DB} dB over 10^6 symbols",
            f"largest deviation {worst:.4f} dB at {', '.join(f'{snr:g}' for snr in snrs_db)} dB",
            AGREES if worst <= TOLERANCE_DB else DOES_NOT,
        ),
        Claim(
            "Rayleigh: abs(h)^2 of the fades is exponential",
            f"Kolmogorov-Smirnov over {_FADES} fades: D = {test.statistic:.4f}, p = {test.pvalue:.2f}",
            AGREES if test.pvalue > 0.01 else DOES_NOT,
        ),
    ]


def check_power(scenes: Sequence[Asked], cbrs: Sequence[float]) -> Claim:
    """Average power of every codeword of image and text."""
    import torch

    transceiver, worst = load_transceiver(), 0.0
    for asked in scenes[:4]:
        prepared = asked.prepared
        image = torch.from_numpy(prepared.images).permute(0, 3, 1, 2).float() / 255
        snr = torch.tensor([10.0])
        with torch.no_grad():
            for cbr in cbrs:
                count = torch.tensor([int(total_symbols(cbr, SAMPLES))])
                power = transceiver.image_codec.encode(image, snr, count).square().sum() / count
                worst = max(worst, abs(float(power) - 1))
            ids, tokens = torch.from_numpy(prepared.ids), torch.from_numpy(prepared.tokens)
            each = torch.tensor([5])
            power = transceiver.text_codec.encode(ids, tokens, snr, each).square().sum() / (tokens * each)
            worst = max(worst, abs(float(power) - 1))
    return Claim(
        "every codeword has an average power of 1 a complex symbol",
        f"largest deviation {worst:.1e}",
        AGREES if worst < 1e-4 else DOES_NOT,
    )


def measure_grid(scenes: Sequence[Asked], snrs_db: Sequence[float], cbrs: Sequence[float]) -> dict[str, np.ndarray]:
    """PSNR in dB over AWGN, (S, C, n) each: of MoS and SwinJSCC over the region, SwinJSCC and separate over all."""
    from noma_semcom_env.mixture.metrics import psnr_roi
    from noma_semcom_env.mixture.sending import send_regions

    images, regions = (
        np.concatenate([getattr(asked.prepared, name) for asked in scenes]) for name in ("images", "regions")
    )
    bits = np.concatenate([asked.prepared.mask_bits for asked in scenes])
    tokens, seeds = (np.array([getattr(asked, name) for asked in scenes]) for name in ("tokens", "number"))
    everywhere, count = np.ones_like(regions), len(scenes)
    codings = [every_coding(asked.scene.image) for asked in scenes]
    names = (
        "MoS, region",
        "MoS, region, mask not counted",
        "SwinJSCC, region",
        "SwinJSCC",
        "separate, region",
        "separate",
    )
    found = {name: np.empty((len(snrs_db), len(cbrs), count)) for name in names}
    for s, snr_db in enumerate(snrs_db):
        db = np.full(count, snr_db)
        for c, cbr in enumerate(cbrs):
            total = int(total_symbols(cbr, SAMPLES))
            share = np.minimum(1.0, TOKEN_SYMBOLS["awgn"][snr_db] * tokens / total)
            for name, accounting in (("MoS, region", "counted"), ("MoS, region, mask not counted", "paper")):
                split = split_symbols(share, total, mask_cost(bits, db, "awgn", accounting=accounting))
                got = send_regions(load_transceiver().image_codec, images, regions, split.roi, db, db, seeds)
                found[name][s, c] = psnr_roi(got, images, regions)
            whole = send_regions(codec_of(SWIN), images, everywhere, np.full(count, total), db, db, seeds)
            best = [best_coding(one, budget_bits(cbr, SAMPLES, snr_db)) for one in codings]
            other = np.stack([one.image for one in best])
            found["SwinJSCC, region"][s, c] = psnr_roi(whole, images, regions)
            found["SwinJSCC"][s, c] = psnr_roi(whole, images, everywhere)
            found["separate, region"][s, c] = psnr_roi(other, images, regions)
            found["separate"][s, c] = psnr_roi(other, images, everywhere)
    return found


def keep_grid(
    folder: Path, scenes: Sequence[Asked], snrs_db: Sequence[float], cbrs: Sequence[float]
) -> dict[str, np.ndarray]:
    """:func:`measure_grid`, a file a scene kept on disk."""
    rows = []
    for asked in track(scenes, "scenes"):
        facts = [asked.name, asked.number, list(snrs_db), list(cbrs), list(TOKEN_SYMBOLS["awgn"].items())]
        path = folder / f"grid-{key_of_facts([facts, dict(origin(MOS)), dict(origin(SWIN))])}.json"
        if not path.is_file():
            found = measure_grid([asked], snrs_db, cbrs)
            write_json(path, {name: values.tolist() for name, values in found.items()})
        rows.append(json.loads(path.read_text()))
    return {name: np.concatenate([row[name] for row in rows], axis=2) for name in rows[0]}


def budgets(scenes: Sequence[Asked], snrs_db: Sequence[float], cbrs: Sequence[float]) -> dict[str, np.ndarray]:
    """By channel, (S, C) budget over the mean symbols of text and mask."""
    bits, tokens = (
        np.array([float(getattr(asked.prepared, name)[0]) for asked in scenes]) for name in ("mask_bits", "tokens")
    )
    found = {}
    for channel in CHANNELS:
        cost = [
            (mask_cost(bits, snr_db, channel) + TOKEN_SYMBOLS[channel][snr_db] * tokens).mean() for snr_db in snrs_db
        ]
        found[channel] = np.array([[int(total_symbols(cbr, SAMPLES)) / one for cbr in cbrs] for one in cost])
    return found


def judge(
    found: dict[str, np.ndarray],
    ratio: dict[str, np.ndarray],
    snrs_db: Sequence[float],
    cbrs: Sequence[float],
) -> list[Claim]:
    """Verdicts."""
    mean = found["SwinJSCC"].mean(axis=2)
    least = min(float(np.diff(mean, axis=axis).min()) for axis in (0, 1))
    claims = [
        Claim(
            "SwinJSCC, AWGN: PSNR rises with SNR and with CBR",
            f"{mean[0, 0]:.2f} dB at {snrs_db[0]:g} dB and CBR {cbrs[0]:g}, {mean[-1, -1]:.2f} dB at "
            f"{snrs_db[-1]:g} dB and CBR {cbrs[-1]:g}; smallest rise from one cell to the next {least:+.3f} dB",
            AGREES if least > 0 else DOES_NOT,
        )
    ]
    gains = {
        (s, c): interval(found["MoS, region"][s, c] - found["SwinJSCC, region"][s, c])
        for s in range(len(snrs_db))
        for c in range(len(cbrs))
    }
    low = min(gains, key=lambda key: gains[key].value)
    middle = len(cbrs) // 2
    lines = "; ".join(f"{snr:g} dB: {written(gains[s, middle])}" for s, snr in enumerate(snrs_db))
    claims.append(
        Claim(
            "PSNR-ROI of MoS, mask counted, above SwinJSCC's at every SNR of 0-20 dB and CBR (3.68 dB at 0 dB)",
            f"at CBR {cbrs[middle]:g}: {lines}; the least of all cells, at {snrs_db[low[0]]:g} dB and CBR "
            f"{cbrs[low[1]]:g}: {written(gains[low])}",
            above(list(gains.values())),
        )
    )
    for first, second, what in (
        ("SwinJSCC", "separate", "SwinJSCC, whole image"),
        ("MoS, region", "separate, region", "MoS, region"),
    ):
        ends = {(s, c): interval(found[first][s, c] - found[second][s, c]) for s in (0, -1) for c in (0, middle)}
        lines = "; ".join(f"{snrs_db[s]:g} dB, CBR {cbrs[c]:g}: {written(one)}" for (s, c), one in ends.items())
        claims.append(
            Claim(
                f"(not the paper's) {what}: PSNR above that of WebP/JPEG at capacity", lines, above(list(ends.values()))
            )
        )
    for channel, values in ratio.items():
        missing = [
            f"{snr:g} dB, CBR {', '.join(f'{cbr:g}' for c, cbr in enumerate(cbrs) if values[s, c] < LEAST_BUDGET)}"
            for s, snr in enumerate(snrs_db)
            if (values[s] < LEAST_BUDGET).any()
        ]
        claims.append(
            Claim(
                f"budget at least {LEAST_BUDGET:g} times text and mask, {channel}",
                f"{values.min():.1f} to {values.max():.1f} times"
                + (f"; less at {'; '.join(missing)}" if missing else ""),
                DOES_NOT if missing else AGREES,
            )
        )
    return claims


def draw(
    found: dict[str, np.ndarray],
    ratio: dict[str, np.ndarray],
    snrs_db: Sequence[float],
    cbrs: Sequence[float],
    title: str,
) -> Any:
    """PSNR of SwinJSCC and the separate code, gains of MoS, and budgets over text and mask."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.0, 8.0), layout="constrained")
    cells = figure.subplots(2, 3)
    for axes, what, heading in (
        (cells[0, 0], "", "whole image, AWGN"),
        (cells[0, 1], ", region", "region of interest, AWGN"),
    ):
        for c, cbr in enumerate(cbrs):
            lines = [(f"SwinJSCC{what}", "-"), (f"separate{what}", ":")] + ([("MoS, region", "--")] if what else [])
            for name, style in lines:
                label = f"CBR {cbr:g}" if style == "-" else None
                axes.plot(snrs_db, found[name][:, c].mean(axis=1), style, marker=".", color=f"C{c}", label=label)
        axes.set(xlabel="SNR in dB", ylabel="PSNR in dB", title=heading)
        axes.grid(alpha=0.3)
    handles, names = cells[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=len(cbrs),
        title="solid: SwinJSCC; dotted: WebP/JPEG at capacity; dashed: MoS",
    )
    swin = found["SwinJSCC, region"]
    for axes, name, heading in (
        (cells[0, 2], "MoS, region", "gain of MoS over SwinJSCC in dB"),
        (cells[1, 2], "MoS, region, mask not counted", "the same, mask not counted"),
    ):
        _matrix(axes, (found[name] - swin).mean(axis=2), snrs_db, cbrs, f"PSNR-ROI: {heading}", "{:+.2f}", 6.0)
    for axes, (channel, values) in zip(cells[1], ratio.items(), strict=False):
        _matrix(axes, values, snrs_db, cbrs, f"budget over text and mask, {channel}", "{:.1f}", 2 * LEAST_BUDGET)
    figure.suptitle(title, fontsize=10)
    return figure


def _matrix(
    axes: Any, grid: np.ndarray, snrs: Sequence[float], cbrs: Sequence[float], title: str, form: str, most: float
) -> None:
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    axes.set(xlabel="CBR", ylabel="SNR in dB")
    axes.set_title(title, fontsize=9)
    axes.set_xticks(range(len(cbrs)), [f"{cbr:g}" for cbr in cbrs])
    axes.set_yticks(range(len(snrs)), [f"{snr:g}" for snr in snrs])
    for (row, column), value in np.ndenumerate(grid):
        ink = "white" if value > 0.6 * most else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", color=ink)


def main(arguments: Sequence[str] | None = None) -> None:
    """Check, judge and draw."""
    given = parse(make_parser(__doc__, scenes=32), arguments)
    snrs, cbrs = (SNRS_DB[::4], CBRS[::4]) if given.quick else (SNRS_DB, CBRS)
    scenes = ask("test", given.scenes)
    found, ratio = keep_grid(given.measurements, scenes, snrs, cbrs), budgets(scenes, snrs, cbrs)
    rows = [
        {"snr_db": snr_db, "cbr": cbr}
        | {key: value for name, values in found.items() for key, value in columns(name, interval(values[s, c])).items()}
        | {f"budget over text and mask, {channel}": round(values[s, c], 3) for channel, values in ratio.items()}
        for s, snr_db in enumerate(snrs)
        for c, cbr in enumerate(cbrs)
    ]
    claims = [*check_channel(snrs), check_power(scenes, cbrs), *judge(found, ratio, snrs, cbrs)]
    title = f"What must hold: {len(scenes)} test scenes of 128 x 128"
    report(title, rows, claims, given, STEM)
    save(draw(found, ratio, snrs, cbrs, title), given, STEM)


if __name__ == "__main__":
    main()
