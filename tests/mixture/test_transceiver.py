"""The chain of a mixture: every intermediate, what is common to all mixtures, and the edges of what can be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from noma_semcom_env.mixture.budget import mask_cost
from noma_semcom_env.mixture.channel import AWGN, RAYLEIGH, send
from noma_semcom_env.mixture.metrics import psnr_roi
from noma_semcom_env.mixture.regions import RegionError, RegionFinder
from noma_semcom_env.mixture.sending import GREY, send_regions, send_texts, token_errors
from noma_semcom_env.mixture.transceiver import Prepared, Transceiver

SAMPLES = 3 * 32 * 32


def test_the_sender_finds_regions_and_says_the_rest(
    transceiver: Transceiver, prepared: Prepared, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    images, regions = pictures
    np.testing.assert_array_equal(prepared.regions, regions)
    np.testing.assert_array_equal(prepared.targets, regions)
    assert prepared.captions == (
        "clear sky by day near a green tree",
        "clear sky by day with a red car",
        "clear sky by day with a red car near a green tree",
        "clear sky by day near a green tree",
    )
    assert prepared.tokens.tolist() == [9, 9, 13, 9]
    assert prepared.mask_bits.tolist() == [len(transceiver.encode_mask(region)) for region in regions]
    grown = transceiver.prepare(images, list(regions), margin=2)
    assert (grown.regions.sum(axis=(1, 2)) == 16 * 18).all()
    np.testing.assert_array_equal(grown.targets, regions)
    other = transceiver.prepare(images, list(regions), targets=~regions)
    np.testing.assert_array_equal(other.targets, ~regions)


def test_an_expression_tells_the_kind(
    make_transceiver: Callable[..., Transceiver], pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    images, regions = pictures

    class Boxes(RegionFinder):
        def _segment(self, image: Any, boxes: Any, points: Any, found: np.ndarray) -> None:
            for row, (left, top, right, bottom) in ((row, box.astype(int)) for row, box in boxes):
                found[row, top:bottom, left:right] = True

    transceiver = make_transceiver(kinds=("car", "tree", "sky"))
    transceiver.finder = Boxes((None, None))
    named = [[("The red car on the left", (2, 3, 20, 22)), ("a hill", (2, 3, 9, 9))]] * 3
    ready = transceiver.prepare(images[:3], ["the red car on the left", "a hill", regions[2]], named=named)
    assert ready.captions[0] == "clear sky by day near a green tree"
    assert ready.captions[1] == ready.captions[2] == "clear sky by day with a red car near a green tree"
    assert ready.regions[0].sum() == 18 * 19
    whole = transceiver.run(images[:1], ["a hill"], 0.3, 0.08, 10.0, "rayleigh", named=named[:1], margin=1, seed=2)
    apart = transceiver.transmit(
        transceiver.prepare(images[:1], ["a hill"], named=named[:1], margin=1), 0.3, 0.08, 10.0, "rayleigh", seed=2
    )
    np.testing.assert_array_equal(whole.painted, apart.painted)


@pytest.mark.parametrize("channel", ["awgn", "rayleigh"])
@pytest.mark.parametrize("accounting", ["counted", "paper"])
def test_every_intermediate_is_returned(
    transceiver: Transceiver, prepared: Prepared, channel: str, accounting: str
) -> None:
    got = transceiver.transmit(prepared, 0.4, 0.08, 12.0, channel, accounting=accounting, seed=3)
    total = round(0.08 * SAMPLES)
    cost = mask_cost(prepared.mask_bits, 12.0, channel, 0.1, accounting)
    assert (got.split.total == total).all()
    np.testing.assert_array_equal(got.split.mask, cost)
    np.testing.assert_array_equal(got.split.text + got.split.mask + got.split.roi, total)
    np.testing.assert_array_equal(got.symbols_per_token, got.split.text // prepared.tokens)
    assert bool((got.effective_db == 12.0).all()) is (channel == "awgn")
    assert got.ids.shape == prepared.ids.shape
    assert len(got.captions) == 4
    assert len(set(got.ids[0, :9].tolist())) > 1
    np.testing.assert_array_equal(
        got.token_error, token_errors(got.ids, prepared.ids, prepared.tokens, got.symbols_per_token)
    )
    assert got.split.roi[got.mask_received].all()
    shown = got.mask_received[:, None, None] & prepared.regions
    assert (got.received[~shown] == GREY).all()
    np.testing.assert_array_equal(got.painted[shown], got.received[shown])
    np.testing.assert_allclose(got.psnr_roi_db, psnr_roi(got.received, prepared.images, prepared.targets))
    assert np.isfinite(got.clip_roni).all()
    assert (np.abs(got.clip_roni) <= 1).all()
    assert got.lpips is None


def test_a_batch_is_its_mixtures(transceiver: Transceiver, prepared: Prepared) -> None:
    """Noise depends on the seed alone, so that mixtures are compared under equal conditions."""
    alpha, cbr, snr = (
        np.array([0.1, 0.3, 0.5, 0.9]),
        np.array([0.05, 0.06, 0.07, 0.08]),
        np.array([0.0, 5.0, 9.0, 20.0]),
    )
    many = transceiver.transmit(prepared, alpha, cbr, snr, seed=5)
    for i in range(4):
        one = Prepared(*(getattr(prepared, name)[i : i + 1] for name in Prepared.__dataclass_fields__))
        got = transceiver.transmit(one, alpha[i], cbr[i], snr[i], seed=5)
        np.testing.assert_array_equal(got.ids[0], many.ids[i])
        assert np.abs(got.received[0].astype(int) - many.received[i]).max() <= 1
        assert got.psnr_roi_db[0] == pytest.approx(many.psnr_roi_db[i], abs=0.05)


def test_seeds_change_noise_and_fades_and_nothing_else_does(transceiver: Transceiver, prepared: Prepared) -> None:
    once, again, other = (transceiver.transmit(prepared, 0.4, 0.08, 3.0, "rayleigh", seed=seed) for seed in (1, 1, 2))
    for name in ("ids", "received", "painted", "effective_db"):
        np.testing.assert_array_equal(getattr(once, name), getattr(again, name))
    assert (once.effective_db != other.effective_db).all()
    assert (once.received != other.received).any()


def test_a_known_block_fade_is_white_noise_at_the_effective_snr() -> None:
    """The channel's own code: Rayleigh equalized, and AWGN at SNR + 10 log10 abs(h)^2, from the same variates."""
    reals = torch.randn(5000, 64, generator=torch.Generator().manual_seed(0)).sign() * 0.5**0.5
    snr_db = torch.linspace(-5.0, 25.0, 5000)
    faded, effective = send(reals, snr_db, RAYLEIGH, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    torch.randn(5000, 2, generator=generator)  # the fades' own draws come first
    plain, told = send(reals, effective, AWGN, generator)
    torch.testing.assert_close(plain, faded, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(told, effective)
    noise_db = -10 * (2 * (faded - reals).square().mean(dim=1)).log10()
    assert float((noise_db - effective).mean()) == pytest.approx(0.0, abs=0.1)
    gain_db = (effective - snr_db).double().numpy()
    from scipy.stats import kstest

    assert kstest(10 ** (gain_db / 10), "expon").pvalue > 1e-3


def test_one_fade_is_one_awgn_channel(transceiver: Transceiver, prepared: Prepared) -> None:
    """So that one table serves both: what is decoded follows from mean and effective SNR alone."""
    fades = np.array([0.3, 1.0, 1j, 2.0])
    faded = transceiver.transmit(prepared, 0.4, 0.08, 9.0, "rayleigh", fades=fades, accounting="paper", seed=1)
    np.testing.assert_allclose(faded.effective_db, 9.0 + 20 * np.log10(np.abs(fades)))
    for i in range(4):
        plain = send_regions(
            transceiver.image_codec,
            prepared.images[i : i + 1],
            prepared.regions[i : i + 1],
            faded.split.roi[i : i + 1],
            np.array([9.0]),
            faded.effective_db[i : i + 1],
            np.array([1]),
        )
        assert np.abs(plain[0].astype(int) - faded.received[i]).max() <= 1


def test_codewords_of_one_seed_share_its_noise(
    transceiver: Transceiver, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, heard = transceiver.text_codec, []
    monkeypatch.setattr(codec, "decode", lambda received, *rest: heard.append(received) or torch.zeros(3, 24))
    monkeypatch.setattr(codec, "encode", lambda ids, *rest: torch.zeros(len(ids), 24 * 64))
    rows = np.zeros(3, dtype=int)
    effective = np.array([0.0, 20.0, 0.0])
    send_texts(
        codec, prepared.ids[rows], prepared.tokens[rows], np.array([8, 9, 8]), effective, effective, np.array([4, 4, 5])
    )
    torch.testing.assert_close(heard[0][0], 10 * heard[0][1])
    assert float(heard[0][0].var()) == pytest.approx(0.5, rel=0.1)
    assert abs(float((heard[0][0] * heard[0][2]).mean())) < 0.05


def test_empty_regions_and_prompts_outside_are_refused(
    make_transceiver: Callable[..., Transceiver], pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    images, _ = pictures
    transceiver = make_transceiver()
    with pytest.raises(ValueError, match="mask is an empty region of interest"):
        transceiver.prepare(images[:1], [np.zeros((32, 32), dtype=bool)])
    with pytest.raises(ValueError, match="lies outside the image"):
        transceiver.prepare(images[:1], [(40.0, 40.0, 50.0, 50.0)])

    class Blind(RegionFinder):
        def _segment(self, *arguments: Any) -> None:
            """Finds nothing."""

    transceiver.finder = Blind((None, None))
    with pytest.raises(RegionError, match="finds nothing at prompt"):
        transceiver.prepare(images[:1], [(4.0, 4.0, 20.0, 20.0)])


@pytest.mark.parametrize("side", [31, 33, 47, 64])
def test_images_of_other_sizes_are_refused_with_the_size_that_fits(transceiver: Transceiver, side: int) -> None:
    images = np.zeros((1, side, side, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"uint8 of \(B, 32, 32, 3\) is needed.*resize or crop"):
        transceiver.prepare(images, [np.ones((side, side), dtype=bool)])


def test_bad_arguments_are_refused(transceiver: Transceiver, prepared: Prepared) -> None:
    images = prepared.images
    for change, message in (
        ({"images": images / 255}, "images is float64"),
        ({"prompts": list(prepared.regions[:3])}, "prompts has 3 entries for 4 images"),
        ({"kinds": ["car"]}, "kinds has 1 entries"),
        ({"margin": -1}, "margin=-1"),
    ):
        arguments = {"images": images, "prompts": list(prepared.regions)} | change
        with pytest.raises(ValueError, match=message):
            transceiver.prepare(**arguments)
    for arguments, message in (
        ((1.2, 0.08, 10.0), "alpha="),
        ((0.5, -0.1, 10.0), "cbr="),
        ((0.5, np.inf, 10.0), "cbr="),
        ((0.5, 0.08, np.nan), "snr_db=nan holds NaN"),
        ((np.zeros(3), 0.08, 10.0), r"alpha has shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            transceiver.transmit(prepared, *arguments)
    for options, message in (
        ({"channel": "fog"}, "channel='fog'"),
        ({"accounting": "guess"}, "accounting='guess'"),
        ({"outage": 0.0}, "outage=0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            transceiver.transmit(prepared, 0.5, 0.08, 10.0, **options)


def test_no_mixtures_are_no_trouble(transceiver: Transceiver) -> None:
    nothing = transceiver.prepare(np.zeros((0, 32, 32, 3), dtype=np.uint8), [])
    assert len(nothing) == 0


def test_lpips_is_measured_where_a_distance_is_given(
    make_transceiver: Callable[..., Transceiver], prepared: Prepared
) -> None:
    from noma_semcom_env.recovery.perceptual import PerceptualDistance

    got = make_transceiver(perceptual=PerceptualDistance()).transmit(prepared, 0.4, 0.08, 12.0)
    assert got.lpips is not None
    assert got.lpips.shape == (4,)
    assert (got.lpips > 0).all()


def test_a_codec_that_takes_a_region_sends_the_whole_image(
    make_transceiver: Callable[..., Transceiver], prepared: Prepared
) -> None:
    from dataclasses import replace

    from noma_semcom_env.mixture.swin_jscc import SwinJSCC

    one = make_transceiver()
    torch.manual_seed(0)
    one.image_codec = SwinJSCC(replace(one.image_codec.config, region_gate=True)).eval()
    got = one.transmit(prepared, 0.3, 0.08, 10.0)
    assert (got.received[~prepared.regions] == GREY).all()


def test_fades_that_it_draws_itself_are_of_rayleighs_law(
    transceiver: Transceiver, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import fields

    from scipy.stats import kstest

    count = 4000
    rows = np.arange(count) % len(prepared)
    many = Prepared(
        **{
            field.name: tuple(value[i] for i in rows) if isinstance(value, tuple) else value[rows]
            for field in fields(Prepared)
            for value in [getattr(prepared, field.name)]
        }
    )
    seen: list[np.ndarray] = []
    monkeypatch.setattr(transceiver, "receive", lambda *given: seen.append(given[4]))
    for channel, seed in (("rayleigh", 0), ("rayleigh", 0), ("rayleigh", 1), ("awgn", 0)):
        transceiver.transmit(many, 0.3, 0.08, 10.0, channel, seed=seed)
    gains = 10 ** ((seen[0] - 10.0) / 10)
    assert kstest(gains, "expon").pvalue > 0.01
    assert gains.mean() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).all()
    assert (seen[3] == 10.0).all()
