"""Table I of Mixture of Semantics: the least alpha with which CLIP-RONI saturates, by SNR and CBR, beside the paper's.

    python -m noma_semcom_benchmarks.mos_table1

Validation scenes, since this is a choice. At each SNR and CBR captions are sent with 5 to 32 symbols a token, or not at
all, the rest is painted around the region that the budget leaves at a middling number, and the fewest symbols are taken
that reach a share of the best CLIP-RONI (``fit_thresholds``). Beside it the fewest symbols with which at most one token
in a hundred is received wrongly, which needs no painting and is measured on many more captions. The law to check:
alpha * CBR is the same at every CBR, that is, the text needs so many symbols whatever the budget.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_agents.report import make_console
from noma_semcom_benchmarks.mos_curves import TOKEN_SYMBOLS
from noma_semcom_benchmarks.mos_fig03 import captions_of, error_rates
from noma_semcom_benchmarks.mos_ledger import key_of_facts, write_json
from noma_semcom_benchmarks.mos_report import AGREES, CANNOT_TELL, DOES_NOT, Claim, make_parser, parse, report, save
from noma_semcom_benchmarks.mos_scenes import CBRS, CHANNELS, SAMPLES, SNRS_DB, Asked, ask
from noma_semcom_env.mixture.allocation import PAPER_CBR, PAPER_SNR_DB, fit_thresholds, paper_table
from noma_semcom_env.mixture.budget import mask_arrives, mask_cost, split_symbols, total_symbols
from noma_semcom_env.mixture_models import load_transceiver

STEM: Final = "mos_table1"
TRIED: Final = (0, 5, 6, 8, 11, 16, 22, 32)
"""Symbols a token."""

MIDDLING: Final = 11
SHARE: Final = 0.97
MOST_ERRORS: Final = 0.01
_SHIFT: Final = 0.37
"""Between the fades that a scene meets, as a share of the quantiles."""


def clip_over_symbols(asked: Asked, channel: str, snr_db: float, cbr: float, fade: float) -> np.ndarray:
    """(T,) CLIP-RONI by symbols a token of :data:`TRIED`; equal captions are painted once."""
    from noma_semcom_env.mixture.sending import send_regions, send_texts
    from noma_semcom_env.mixture.text_codec import to_captions

    transceiver, prepared, count = load_transceiver(), asked.prepared, len(TRIED)
    after = snr_db + 20 * np.log10(fade)
    cost = mask_cost(prepared.mask_bits, snr_db, channel)
    total = total_symbols(cbr, SAMPLES)
    split = split_symbols(min(1.0, MIDDLING * asked.tokens / int(total)), total, cost)
    arrives = split.mask_sent & mask_arrives(snr_db, after, channel)
    one = np.array([asked.number])
    received = send_regions(
        transceiver.image_codec,
        prepared.images,
        prepared.regions,
        np.where(arrives, split.roi, 0),
        np.array([snr_db]),
        np.array([after]),
        one,
    )
    ids = send_texts(
        transceiver.text_codec,
        np.repeat(prepared.ids, count, axis=0),
        np.repeat(prepared.tokens, count),
        np.array(TRIED),
        np.full(count, snr_db),
        np.full(count, after),
        np.repeat(one, count),
    )
    import torch

    texts = to_captions(transceiver.tokenizer, torch.from_numpy(ids))
    different = sorted(set(texts))
    known = np.repeat(prepared.regions & (arrives & (split.roi > 0))[:, None, None], len(different), axis=0)
    painted = transceiver.paint(np.repeat(received, len(different), axis=0), known, different, asked.number)
    scores = transceiver.clip_roni(
        painted, np.repeat(prepared.regions, len(different), axis=0), prepared.captions * len(different)
    )
    place = {text: i for i, text in enumerate(different)}
    return np.asarray(scores[[place[text] for text in texts]])


def key_of(channel: str, snr_db: float, cbr: float, fades: int) -> str:
    """A hash of all that the scores of a scene depend on."""
    return key_of_facts([channel, snr_db, cbr, fades, TRIED, MIDDLING, _SHIFT, dict(load_transceiver().origin)])


def scores_of(scenes: Sequence[Asked], channel: str, snr_db: float, cbr: float, fades: int, folder: Path) -> np.ndarray:
    """(n, T) CLIP-RONI, the mean over each scene's fades; kept on disk."""
    path = folder / f"table1-{key_of(channel, snr_db, cbr, fades)}.json"
    known: dict[str, list[float]] = json.loads(path.read_text()) if path.is_file() else {}
    for asked in scenes:
        if asked.name not in known:
            quantile = 1 - np.exp(-(abs(asked.fade) ** 2))
            places = (quantile + _SHIFT * np.arange(fades)) % 1.0 if channel == "rayleigh" else np.zeros(1)
            met = np.sqrt(-np.log1p(-places)) if channel == "rayleigh" else np.ones(1)
            rows = [clip_over_symbols(asked, channel, snr_db, cbr, float(fade)) for fade in met]
            known[asked.name] = np.mean(rows, axis=0).tolist()
            write_json(path, known)
    return np.array([known[asked.name] for asked in scenes])


def threshold(scores: np.ndarray, share: float = SHARE) -> float:
    """Fewest symbols a token that reach a share of the best mean score of (n, T) scores."""
    return fit_thresholds(scores[:, :, None], TRIED, [0.0], (0.0,), share).symbols[0]


def spread(scores: np.ndarray, draws: int = 500) -> tuple[float, float]:
    """95 % bootstrap interval of the threshold over scenes."""
    rng = np.random.default_rng(0)
    found = [threshold(scores[rng.integers(len(scores), size=len(scores))]) for _ in range(draws)]
    return float(np.percentile(found, 2.5)), float(np.percentile(found, 97.5))


def judge(rows: Sequence[dict[str, Any]], tokens: float) -> list[Claim]:
    """The paper's claims about this table."""
    claims = []
    law = paper_table() * np.array(PAPER_CBR)
    apart = float((np.ptp(law, axis=1) / law.mean(axis=1)).max())
    for channel in CHANNELS:
        here = [row for row in rows if row["channel"] == channel]
        constant, undecided, found = True, False, []
        for snr_db in dict.fromkeys(row["snr_db"] for row in here):
            at = [row for row in here if row["snr_db"] == snr_db]
            found.append(f"{snr_db:g} dB: {', '.join(format(row['token_symbols'], 'g') for row in at)}")
            if len({row["token_symbols"] for row in at}) > 1:
                constant = False
                # Different numbers whose intervals have one in common may still be one number.
                undecided |= max(row["low"] for row in at) <= min(row["high"] for row in at)
        verdict = AGREES if constant else CANNOT_TELL if undecided else DOES_NOT
        claims.append(
            Claim(
                f"alpha * CBR is constant at each SNR (in its own 25 cells to {apart:.1%})",
                f"{channel}, symbols a token at each CBR: {'; '.join(found)}",
                verdict,
            )
        )
        by_snr = [
            [row for row in here if row["snr_db"] == snr_db] for snr_db in dict.fromkeys(row["snr_db"] for row in here)
        ]
        means = [np.mean([row["token_symbols"] for row in at]) for at in by_snr]
        errors = {row["snr_db"]: row["symbols_for_1_percent"] for row in here}
        claims.append(
            Claim(
                "the text needs fewer symbols at a higher SNR: 32, 11, 8, 6, 5 a token at 0 to 20 dB",
                f"{channel}: {', '.join(f'{m:.3g}' for m in means)} a token of {tokens:.1f} on average, by CLIP-RONI; "
                f"{', '.join(f'{e:g}' for e in errors.values())} by token errors of at most {MOST_ERRORS:.0%}",
                _falls(by_snr),
            )
        )
    return claims


def _falls(by_snr: Sequence[Sequence[dict[str, Any]]]) -> str:
    """Whether symbols a token are fewer at the last SNR than at the first at every CBR, and rise nowhere between."""
    steps = [pair for before, after in pairwise(by_snr) for pair in zip(before, after, strict=True)]
    ends = list(zip(by_snr[0], by_snr[-1], strict=True))
    if any(before["high"] < after["low"] for before, after in (*steps, *ends)):
        return DOES_NOT
    return AGREES if all(first["low"] > last["high"] for first, last in ends) else CANNOT_TELL


def draw(rows: Sequence[dict[str, Any]]) -> Any:
    """Our alpha by SNR and CBR, and the paper's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.9), layout="constrained")
    cells = figure.subplots(1, 3)
    for axes, channel in zip(cells, CHANNELS, strict=False):
        here = [row for row in rows if row["channel"] == channel]
        snrs = list(dict.fromkeys(row["snr_db"] for row in here))
        cbrs = list(dict.fromkeys(row["cbr"] for row in here))
        grid = np.array([row["alpha"] for row in here]).reshape(len(snrs), len(cbrs)) * 100
        _matrix(axes, grid, snrs, cbrs, f"ours, {'AWGN' if channel == 'awgn' else 'Rayleigh'}")
    _matrix(cells[2], paper_table(), PAPER_SNR_DB, PAPER_CBR, "the paper's, Rayleigh, 256 x 256")
    figure.suptitle("alpha in %: share of the symbols for the text", fontsize=10)
    return figure


def _matrix(axes: Any, grid: np.ndarray, snrs: Sequence[float], cbrs: Sequence[float], title: str) -> None:
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=25, aspect="auto")
    axes.set(title=title, xlabel="CBR", ylabel="SNR in dB")
    axes.set_xticks(range(len(cbrs)), [f"{cbr:g}" for cbr in cbrs])
    axes.set_yticks(range(len(snrs)), [f"{snr:g}" for snr in snrs])
    for (row, column), value in np.ndenumerate(grid):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 15 else "black")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, judge and draw."""
    parser = make_parser(__doc__, scenes=8)
    parser.add_argument("--fades", type=int, default=2, help="fades that each scene meets")
    parser.add_argument("--captions", type=int, default=32, help="captions for the token errors")
    given = parse(parser, arguments)
    snrs, cbrs = (SNRS_DB[::4], CBRS[::4]) if given.quick else (SNRS_DB, CBRS[::2])
    scenes = ask("validation", given.scenes)
    tokens = float(np.mean([asked.tokens for asked in scenes]))
    ids, counts = captions_of("validation", 16 if given.quick else given.captions)
    spoken = TRIED[1:]
    rows: list[dict[str, Any]] = []
    for channel in CHANNELS:
        for snr_db in track(snrs, f"CLIP-RONI over {channel}"):
            rates = error_rates(ids, counts, channel, snr_db, spoken)
            few = [symbols for symbols, rate in zip(spoken, rates.mean(axis=1), strict=True) if rate <= MOST_ERRORS]
            for cbr in cbrs:
                scores = scores_of(scenes, channel, snr_db, cbr, given.fades, given.measurements)
                symbols = threshold(scores)
                low, high = spread(scores)
                mean = dict(zip((f"clip_roni_{t}" for t in TRIED), scores.mean(axis=0).round(4).tolist(), strict=True))
                rows.append(
                    {
                        "channel": channel,
                        "snr_db": snr_db,
                        "cbr": cbr,
                        "token_symbols": symbols,
                        "low": low,
                        "high": high,
                        "alpha": round(symbols * tokens / (cbr * SAMPLES), 5),
                        "symbols_for_1_percent": few[0] if few else np.inf,
                        **mean,
                    }
                )
    claims = judge(rows, tokens)
    report(f"Table I: thresholds of {len(scenes)} validation scenes", rows, claims, given, STEM)
    save(draw(rows), given, STEM)
    console = make_console()
    for channel in CHANNELS:
        for snr_db in snrs:
            at = [row["token_symbols"] for row in rows if row["channel"] == channel and row["snr_db"] == snr_db]
            used = TOKEN_SYMBOLS[channel][snr_db]
            console.print(f"{channel}, {snr_db:g} dB: {max(at):g} symbols a token; Fig. 4 to 7 use {used:g}")


if __name__ == "__main__":
    main()
