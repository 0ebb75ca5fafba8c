"""Budgets and rules: Table I of the paper, what is refused, and the edges of what can be split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from noma_semcom_env.mixture.allocation import (
    PAPER_CBR,
    PAPER_SAMPLES,
    PAPER_SNR_DB,
    FixedRule,
    PaperRule,
    TokenRule,
    fit_thresholds,
    paper_table,
)
from noma_semcom_env.mixture.budget import (
    fade_quantiles_db,
    mask_arrives,
    mask_cost,
    mask_rate,
    split_symbols,
    symbols_per_token,
    total_symbols,
)

TABLE_I = [
    [24.41, 16.28, 12.21, 9.77, 8.14],
    [8.39, 5.59, 4.20, 3.36, 2.80],
    [6.10, 4.07, 3.05, 2.44, 2.03],
    [4.58, 3.05, 2.29, 1.83, 1.53],
    [3.81, 2.54, 1.91, 1.53, 1.27],
]
"""As printed in the paper, in per cent."""


def test_the_paper_rule_is_table_i_to_two_decimals() -> None:
    np.testing.assert_array_equal(paper_table(), TABLE_I)


def test_the_paper_rule_is_one_law() -> None:
    """alpha * CBR * 3HW is the same number of symbols at every CBR, 24 tokens of a whole number of symbols."""
    snr, cbr = np.meshgrid(PAPER_SNR_DB, PAPER_CBR, indexing="ij")
    symbols = PaperRule().alpha(snr, cbr) * cbr * PAPER_SAMPLES
    np.testing.assert_allclose(symbols, np.repeat([[768], [264], [192], [144], [120]], 5, axis=1))


@pytest.mark.parametrize(
    ("snr_db", "cbr", "message"),
    [
        (-1.0, 0.032, r"snr_db=.*-1\.0.* lies outside the rule's \[0, 20\] dB"),
        (20.5, 0.032, r"20\.5.* lies outside"),
        (10.0, 0.015, r"cbr=.*0\.015.* lies outside the table's \[0\.016, 0\.048\]"),
        (10.0, 0.05, r"0\.05.* lies outside"),
        (7.0, 0.032, r"7\.0.* is none of .*name an interpolation"),
        (10.0, 0.02, r"0\.02.* is none of .*name an interpolation"),
        (np.nan, 0.032, r"NaN"),
        (10.0, np.nan, r"cbr=.*nan.* must be a finite number of at least 0"),
        (10.0, np.inf, r"cbr=.*inf.* must be a finite number of at least 0"),
        (10.0, -0.032, r"cbr=.*-0\.032.* must be a finite number of at least 0"),
    ],
)
def test_the_paper_rule_refuses_what_is_not_in_the_table(snr_db: float, cbr: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PaperRule().alpha(snr_db, cbr)


def test_extrapolation_and_interpolation_are_asked_for_by_name() -> None:
    far = PaperRule(extrapolate=True)
    assert far.alpha(-5.0, 0.096) == pytest.approx(768 / (0.096 * PAPER_SAMPLES))
    assert far.alpha(30.0, 0.004) == pytest.approx(120 / (0.004 * PAPER_SAMPLES))
    assert far.alpha(0.0, 0.001) == 1.0
    smooth, careful = PaperRule("log"), PaperRule("lower")
    samples = 0.02 * PAPER_SAMPLES
    assert smooth.alpha(2.5, 0.02) * samples == pytest.approx(24 * np.sqrt(32 * 11))
    assert careful.alpha(4.9, 0.02) * samples == pytest.approx(768)
    assert careful.alpha(5.0, 0.02) * samples == pytest.approx(264)
    for rule in (smooth, careful):
        with pytest.raises(ValueError, match="lies outside"):
            rule.alpha(-1.0, 0.02)
    with pytest.raises(ValueError, match=r"interpolation='cubic' is unknown"):
        PaperRule("cubic")  # type: ignore[arg-type]


def test_rules_count_the_tokens_that_are_sent() -> None:
    rule = PaperRule("log", extrapolate=True)
    np.testing.assert_allclose(rule.alpha(10.0, 0.05, 3 * 128**2, tokens=[6, 12, 24]) * 2457.6, [48, 96, 192])
    np.testing.assert_array_equal(FixedRule(0.2).alpha(np.zeros(3), 0.05, 1), 0.2)
    with pytest.raises(ValueError, match=r"value=1\.2"):
        FixedRule(1.2)
    with pytest.raises(ValueError, match="ascend"):
        TokenRule((5.0, 0.0), (3, 4))


def test_splits_add_up_and_serve_mask_text_and_region_in_this_order() -> None:
    rng = np.random.default_rng(0)
    alpha, total, mask = rng.random(500), rng.integers(0, 3000, 500), rng.integers(0, 4000, 500)
    split = split_symbols(alpha, total, mask)
    np.testing.assert_array_equal(split.mask_sent, mask <= total)
    np.testing.assert_array_equal(split.mask, np.where(split.mask_sent, mask, 0))
    placed = split.mask_sent
    np.testing.assert_array_equal((split.text + split.mask + split.roi)[placed], total[placed])
    np.testing.assert_array_equal(split.text, np.minimum(np.rint(alpha * total), total - split.mask))
    assert not split.roi[~placed].any()
    assert min(split.text.min(), split.mask.min(), split.roi.min()) >= 0


def test_alpha_of_0_and_1_and_budgets_too_small_for_anything() -> None:
    nothing, everything = split_symbols([0.0, 1.0], 1000, 300).text.tolist()
    assert (nothing, everything) == (0, 700)
    assert split_symbols([0.0, 1.0], 1000, 300).roi.tolist() == [700, 0]
    tight = split_symbols(0.5, 200, 300)
    assert (int(tight.text), int(tight.mask), int(tight.roi), bool(tight.mask_sent)) == (100, 0, 0, False)
    empty = split_symbols([0.0, 1.0], 0, 1)
    assert not any(symbols.any() for symbols in (empty.text, empty.mask, empty.roi, empty.mask_sent))
    unreachable = split_symbols(0.5, 200, np.inf)
    assert not unreachable.mask_sent
    assert symbols_per_token([59, 60, 71, 72, 5000], 12).tolist() == [0, 5, 5, 6, 32]


def test_bad_budgets_are_refused() -> None:
    for alpha in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="alpha="):
            split_symbols(alpha, 10, 1)
    with pytest.raises(ValueError, match="total="):
        split_symbols(0.5, -1, 1)
    with pytest.raises(ValueError, match="mask="):
        split_symbols(0.5, 1, -1)
    for cbr in (-0.1, np.inf, np.nan):
        with pytest.raises(ValueError, match="cbr="):
            total_symbols(cbr, 100)
    with pytest.raises(ValueError, match=r"tokens=0 .*at least 1"):
        symbols_per_token(10, 0)
    assert total_symbols([0.0, 0.032], 3 * 128**2).tolist() == [0, 1573]


def test_masks_cost_their_bits_at_capacity() -> None:
    assert mask_cost(300, 0.0, "awgn") == 300
    assert mask_cost(300, 20.0, "awgn") == np.ceil(300 / np.log2(101))
    assert mask_cost([0, 300], -np.inf, "awgn").tolist() == [0.0, np.inf]
    assert mask_cost(300, -np.inf, "awgn", accounting="paper") == 0
    for name, bad in {"channel": "fog", "accounting": "guess", "outage": 1.0}.items():
        with pytest.raises(ValueError, match=f"{name}="):
            mask_cost(300, 0.0, **({"channel": "awgn"} | {name: bad}))


@pytest.mark.parametrize("outage", [0.01, 0.1, 0.3])
def test_the_rate_of_an_outage_fails_that_often(outage: float) -> None:
    rng = np.random.default_rng(1)
    fades_db = 10 * np.log10(rng.exponential(size=200_000))
    lost = ~mask_arrives(7.0, 7.0 + fades_db, "rayleigh", outage)
    assert lost.mean() == pytest.approx(outage, rel=0.05)
    assert mask_rate(7.0, "rayleigh", outage) < mask_rate(7.0, "awgn", outage)
    assert mask_arrives(7.0, 7.0, "awgn", outage)
    assert mask_arrives(7.0, -99.0, "rayleigh", outage, accounting="paper")


def test_fade_quantiles_are_the_exponential_law() -> None:
    gain = 10 ** (fade_quantiles_db("rayleigh", 4000) / 10)
    assert gain.mean() == pytest.approx(1.0, rel=2e-3)
    assert (gain < np.log(2)).mean() == pytest.approx(0.5, abs=1e-3)
    assert fade_quantiles_db("awgn").tolist() == [0.0]
    with pytest.raises(ValueError, match="channel='fog'"):
        fade_quantiles_db("fog")


def curves(threshold: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CLIP-RONI of two images that jumps from 0.2 to 0.3 at a number of symbols a token that depends on the SNR."""
    counts, grid = np.array([0, 5, 8, 16, 32]), np.array([0.0, 10.0, 20.0])
    scores = 0.2 + 0.1 * (counts[:, None] >= threshold)
    return np.stack([scores, scores]), counts, grid


def test_thresholds_are_found_where_the_score_saturates() -> None:
    scores, counts, grid = curves(np.array([16, 8, 5]))
    rule = fit_thresholds(scores, counts, grid, (0.0, 10.0, 20.0), 0.97)
    assert rule.symbols == (16.0, 8.0, 5.0)
    assert rule.symbols_at(10.0) == 8.0
    low = fit_thresholds(scores, counts, grid, (0.0, 10.0), 0.6)
    assert low.symbols == (0.0, 0.0), "without text the score is two thirds of its ceiling"
    assert fit_thresholds(scores, counts, grid, (0.0, 10.0), 0.6, of="rise").symbols == (16.0, 8.0)
    faded = fit_thresholds(scores, counts, grid, (10.0,), 0.97, "rayleigh")
    assert faded.symbols[0] > 8.0, "a fade needs more"


def test_bad_fits_are_refused() -> None:
    scores, counts, grid = curves(np.array([16, 8, 5]))
    for change, message in (
        ({"clip_roni": scores[0]}, "clip_roni has shape"),
        ({"symbols": counts + 1}, "symbol counts from 0"),
        ({"share": 0.0}, "share=0.0"),
        ({"of": "floor"}, "of='floor'"),
        ({"channel": "fog"}, "channel='fog'"),
    ):
        arguments = {"clip_roni": scores, "symbols": counts, "grid_db": grid} | change
        with pytest.raises(ValueError, match=message):
            fit_thresholds(**arguments)


def test_a_paper_rule_is_replaced_in_part() -> None:
    rule = replace(PaperRule("lower"), extrapolate=True)
    assert rule == PaperRule("lower", extrapolate=True)
    assert (rule.interpolation, rule.snr_db, rule.symbols) == ("lower", PAPER_SNR_DB, (32, 11, 8, 6, 5))
    assert rule.alpha(-5.0, 0.2) == rule.symbols_at(0.0) * 24 / (0.2 * PAPER_SAMPLES)


@pytest.mark.parametrize("rule", [PaperRule("lower", extrapolate=True), TokenRule((0.0, 20.0), (8, 5))])
@pytest.mark.parametrize("cbr", [np.nan, np.inf, -0.01])
def test_no_rule_takes_what_is_no_bandwidth_ratio(rule: TokenRule, cbr: float) -> None:
    with pytest.raises(ValueError, match="cbr=.* must be a finite number of at least 0"):
        rule.alpha(10.0, np.array([0.03, cbr]), PAPER_SAMPLES)
    assert rule.alpha(10.0, 0.0, PAPER_SAMPLES) == 1.0
