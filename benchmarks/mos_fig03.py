"""Fig. 3 of Mixture of Semantics: how many tokens of the text arrive wrongly, over alpha.

    python -m noma_semcom_benchmarks.mos_fig03

Captions of test scenes without the phrase of the region. The street world's captions are so predictable that the
decoder guesses much of what noise destroys; random tokens beside them show what the code does without that help. Where
alpha leaves a token fewer symbols than the codec's least, no text is sent and every token counts as wrong. Whether the
errors fall steeply up to a threshold is judged from where texts are sent at all, by those texts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks.mos_report import Claim, above, columns, interval, make_parser, parse, report, save, written
from noma_semcom_benchmarks.mos_scenes import CBR, CHANNELS, SAMPLES, SIDE, SNRS_DB
from noma_semcom_benchmarks.mos_threshold import SLACK, find_edge
from noma_semcom_env.mixture.budget import fade_quantiles_db, symbols_per_token, total_symbols
from noma_semcom_env.mixture.captions import leave_out
from noma_semcom_env.mixture_models import load_transceiver
from noma_semcom_env.scenes.street import SPLITS, render

STEM: Final = "mos_fig03"
ALPHAS: Final = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2)
KINDS: Final = ("captions", "random tokens")
SHARE: Final = 0.9
"""Of the fall of the errors, at which the threshold lies."""

NEGLIGIBLE: Final = 0.01
"""Errors where texts are first sent of which at most so many leave no fall to be seen."""

Rates = dict[tuple[str, str, float], np.ndarray]
"""(kind, channel, SNR) to (A, n) token errors."""


def captions_of(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Captions of the first scenes of a split, each without the phrase of its first item.

    Returns:
        (n, T) int64 ids and (n,) tokens, end tokens included.
    """
    from noma_semcom_env.mixture.text_codec import to_tokens

    scenes = [render(seed, SIDE) for seed in SPLITS[split][:count]]
    texts = [leave_out(scene.caption, scene.items[0].kind if scene.items else None) for scene in scenes]
    transceiver = load_transceiver()
    ids, tokens = to_tokens(transceiver.tokenizer, texts, transceiver.text_codec.config.max_tokens)
    return ids.numpy(), tokens.numpy()


def random_tokens(ids: np.ndarray, tokens: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, T) ids with each word replaced by one drawn from the whole vocabulary; ends stay."""
    config = load_transceiver().text_codec.config
    drawn = np.random.default_rng(seed).integers(config.vocabulary, size=ids.shape)
    return np.where(np.arange(ids.shape[1]) < tokens[:, None] - 1, drawn, ids)


def error_rates(
    ids: np.ndarray, tokens: np.ndarray, channel: str, snr_db: float, symbols: Sequence[Any], fades: int = 16
) -> np.ndarray:
    """Token errors of captions.

    Args:
        ids: (n, T).
        tokens: (n,).
        channel: ``"awgn"``, or ``"rayleigh"``, over equally likely fades.
        snr_db: Mean SNR in dB.
        symbols: A symbols a token, each one number or (n,); 0 sends nothing.
        fades: Number of fades of each caption.

    Returns:
        (A, n) share of the tokens received as others.
    """
    from noma_semcom_env.mixture.sending import send_texts, token_errors

    gains = fade_quantiles_db(channel, fades)
    count = len(ids)
    sent, lengths = np.repeat(ids, len(gains), axis=0), np.repeat(tokens, len(gains))
    effective = snr_db + np.tile(gains, count)
    found = []
    for one in symbols:
        each = np.repeat(np.broadcast_to(np.asarray(one), (count,)), len(gains))
        received = send_texts(
            load_transceiver().text_codec,
            sent,
            lengths,
            each,
            np.full(len(each), snr_db),
            effective,
            np.arange(len(each)),
        )
        found.append(token_errors(received, sent, lengths, each).reshape(count, -1).mean(axis=1))
    return np.stack(found)


def measure(given: Any, snrs: Sequence[float], alphas: Sequence[float]) -> tuple[Rates, np.ndarray]:
    """Token errors, and (A, n) bool: whether alpha suffices for a caption to be sent."""
    captions, tokens = captions_of("test", given.scenes)
    config = load_transceiver().text_codec.config
    total = int(total_symbols(CBR, SAMPLES))
    symbols = [
        symbols_per_token(np.rint(alpha * total), tokens, config.min_symbols, config.max_symbols) for alpha in alphas
    ]
    found = {}
    for kind in KINDS:
        ids = captions if kind == "captions" else random_tokens(captions, tokens)
        for channel in CHANNELS:
            for snr_db in track(snrs, f"{kind} over {channel}"):
                found[kind, channel, snr_db] = error_rates(ids, tokens, channel, snr_db, symbols, given.fades)
    return found, np.stack(symbols) > 0


def judge(found: Rates, alphas: Sequence[float], sent: np.ndarray) -> list[Claim]:
    """The paper's claims about this figure.

    Args:
        found: Token errors.
        alphas: (A,) ascending.
        sent: (A, n) bool, see :func:`measure`.
    """
    claims = []
    low = len(alphas) // 3
    # Where no text is sent its errors are 1 by definition, which is no fall of the codec's.
    start = int(np.argmax(sent.mean(axis=1) >= 0.5))
    texts, shares = sent[start], alphas[start:]
    for channel in CHANNELS:
        falls, told = [], []
        for (kind, where, snr_db), errors in found.items():
            if kind == "captions" and where == channel:
                fall, words = _fall(errors[start:, texts], shares)
                falls += fall
                told.append(f"{snr_db:g} dB: {words}")
        claims.append(
            Claim(
                "the error rate falls as alpha rises: steeply up to a threshold, little beyond",
                f"{channel}, {texts.sum()} texts from alpha {shares[0]:g} on, where they are sent: {'; '.join(told)}",
                above(falls),
            )
        )
    if ("random tokens", "awgn", 0.0) in found:
        gap = interval(found["random tokens", "awgn", 0.0][low] - found["captions", "awgn", 0.0][low])
        claims.append(
            Claim(
                "(not the paper's) the language helps the decoder",
                f"AWGN, 0 dB, alpha {alphas[low]:g}: random tokens {written(gap, 3)} above captions",
                above([gap]),
            )
        )
    return claims


def _fall(errors: np.ndarray, alphas: Sequence[float]) -> tuple[list[Interval], str]:
    """What must be above 0 if (A, n) errors fall steeply up to a threshold and little beyond, and words about it."""
    mean = errors.mean(axis=1)
    if mean[0] <= NEGLIGIBLE:
        return [], f"{mean[0]:.2%} from the first, no fall to be seen"
    edge = find_edge(-errors, alphas, SHARE, from_first=True)
    if not edge.place:
        return [interval(errors[0] - errors[-1])], f"{mean[0]:.2%}, at last {mean[-1]:.2%}: no fall"
    words = (
        f"{mean[0]:.2%}, {mean[edge.place]:.2%} at the threshold of {alphas[edge.place]:g}, at last {mean[-1]:.2%}; "
        f"fall before it {written(edge.below)} a unit of alpha, {SLACK:g} times that less the fall beyond "
        f"{written(edge.slower, 3)}"
    )
    return [edge.below, edge.slower], words


def draw(found: Rates, alphas: Sequence[float], given: Any) -> Any:
    """Token error rate over alpha by channel and SNR."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    cells = figure.subplots(1, 2, sharey=True)
    snrs = list(dict.fromkeys(snr for _, _, snr in found))
    for axes, channel in zip(cells, CHANNELS, strict=True):
        for (kind, where, snr_db), errors in found.items():
            if where == channel:
                mean = np.maximum(errors.mean(axis=1), 1e-5)
                solid = kind == "captions"
                axes.plot(
                    100 * np.array(alphas),
                    mean,
                    color=f"C{snrs.index(snr_db)}",
                    marker="." if solid else "",
                    linestyle="-" if solid else ":",
                    label=f"{snr_db:g} dB" if solid else None,
                )
        axes.set(
            yscale="log", ylim=(0.9e-5, 1.3), xlabel="alpha in %", title="AWGN" if channel == "awgn" else "Rayleigh"
        )
        axes.grid(alpha=0.3)
    cells[0].set_ylabel("token error rate (0 is drawn at 1e-5)")
    cells[1].legend(title="SNR; dotted: random tokens")
    figure.suptitle(
        f"Fig. 3: captions of {given.scenes} test scenes of 128 x 128, CBR {CBR:g}; none sent below 5 symbols a token",
        fontsize=10,
    )
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, judge and draw."""
    parser = make_parser(__doc__, scenes=32, quick=8)
    parser.add_argument("--fades", type=int, default=16, help="fades that each caption meets")
    given = parse(parser, arguments)
    snrs, alphas = (SNRS_DB[::4], ALPHAS[::4]) if given.quick else (SNRS_DB, ALPHAS)
    if given.quick:
        given.fades = min(given.fades, 4)
    found, sent = measure(given, snrs, alphas)
    rows = [
        {
            "text": kind,
            "channel": channel,
            "snr_db": snr_db,
            "alpha": alpha,
            **columns("token_error_rate", interval(one)),
        }
        for (kind, channel, snr_db), errors in found.items()
        for alpha, one in zip(alphas, errors, strict=True)
    ]
    report(f"Fig. 3: captions of {given.scenes} test scenes", rows, judge(found, alphas, sent), given, STEM)
    save(draw(found, alphas, given), given, STEM)


if __name__ == "__main__":
    main()
