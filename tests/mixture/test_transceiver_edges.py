"""The edges of what a mixture can be: no text, no region, no mask, no signal, no budget, nothing left to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.mixture.budget import Split
from noma_semcom_env.mixture.metrics import psnr_roi
from noma_semcom_env.mixture.sending import GREY
from noma_semcom_env.mixture.transceiver import Prepared, Reception, Transceiver

SAMPLES = 3 * 32 * 32


def grey(prepared: Prepared) -> np.ndarray:
    """PSNR of grey over the targets."""
    return psnr_roi(np.full_like(prepared.images, GREY), prepared.images, prepared.targets)


def painted_from_text(transceiver: Transceiver, got: Reception) -> np.ndarray:
    """What the captions that arrived are painted as when nothing else is known."""
    blank = np.zeros_like(got.received)
    return transceiver.paint(blank, np.zeros(blank.shape[:3], dtype=bool), got.captions, 0)


def edge(transceiver: Transceiver, prepared: Prepared, *arguments: Any, **options: Any) -> Reception:
    got = transceiver.transmit(prepared, *arguments, **options)
    assert np.isfinite(got.psnr_roi_db).all()
    assert np.isfinite(got.clip_roni).all()
    return got


def test_alpha_of_0_sends_no_text(transceiver: Transceiver, prepared: Prepared) -> None:
    got = edge(transceiver, prepared, 0.0, 0.08, 10.0)
    assert got.captions == ("",) * 4
    assert (got.token_error == 1).all()
    assert not got.symbols_per_token.any()
    np.testing.assert_array_equal(got.split.roi, got.split.total - got.split.mask)


def test_alpha_of_1_leaves_the_region_grey(transceiver: Transceiver, prepared: Prepared) -> None:
    got = edge(transceiver, prepared, 1.0, 0.08, 10.0)
    assert not got.split.roi.any()
    assert (got.received == GREY).all()
    np.testing.assert_allclose(got.psnr_roi_db, grey(prepared))
    assert got.mask_received.all()
    np.testing.assert_array_equal(got.painted, painted_from_text(transceiver, got))
    assert (got.painted[prepared.regions] != GREY).any(), "no grey is pasted, though the mask arrived"


def test_what_a_receiver_paints_around_is_what_arrived(transceiver: Transceiver, prepared: Prepared) -> None:
    """A mask without symbols, symbols without a mask, and neither over a dead channel, are no region."""
    roi, mask = np.array([0, 64, 64, 64]), np.array([True, False, True, True])
    effective = np.array([10.0, 10.0, -np.inf, 10.0])
    nothing = np.zeros(4, dtype=np.int64)
    split = Split(roi, nothing, nothing, roi, mask)
    got = transceiver.receive(prepared, split, np.full(4, 8), np.full(4, 10.0), effective, mask)
    assert (got.received[:3] == GREY).all()
    np.testing.assert_allclose(got.psnr_roi_db[:3], grey(prepared)[:3])
    whole = painted_from_text(transceiver, got)
    np.testing.assert_array_equal(got.painted[:3], whole[:3])
    region = prepared.regions[3]
    np.testing.assert_array_equal(got.painted[3][region], got.received[3][region])
    assert (got.painted[3] != whole[3]).any()
    scores = transceiver.clip_roni(whole, prepared.regions, prepared.captions)
    np.testing.assert_allclose(got.clip_roni[:3], scores[:3], atol=1e-6)


def test_too_few_symbols_for_the_text_send_none(transceiver: Transceiver, prepared: Prepared) -> None:
    tokens = prepared.tokens[0]
    below, enough = ((5 * tokens - 0.6) / 246, (5 * tokens + 0.4) / 246)
    assert edge(transceiver, prepared, below, 0.08, 10.0).symbols_per_token[0] == 0
    assert edge(transceiver, prepared, enough, 0.08, 10.0).symbols_per_token[0] == 5


@pytest.mark.parametrize("accounting", ["counted", "paper"])
def test_nothing_arrives_at_minus_infinity(transceiver: Transceiver, prepared: Prepared, accounting: str) -> None:
    got = edge(transceiver, prepared, 0.5, 0.08, -np.inf, accounting=accounting)
    assert (got.received == GREY).all()
    assert got.captions == ("",) * 4
    assert (got.token_error == 1).all()
    np.testing.assert_allclose(got.psnr_roi_db, grey(prepared))
    assert (got.mask_received == (accounting == "paper")).all()
    np.testing.assert_array_equal(got.painted, painted_from_text(transceiver, got))


def test_a_channel_without_noise_and_an_unlimited_budget(transceiver: Transceiver, prepared: Prepared) -> None:
    got = edge(transceiver, prepared, 0.3, 5.0, 90.0)
    assert (got.split.roi > transceiver.image_codec.max_symbols).all()
    assert (got.symbols_per_token == 32).all()


def test_no_budget_sends_nothing(transceiver: Transceiver, prepared: Prepared) -> None:
    got = edge(transceiver, prepared, 0.5, 0.0, 10.0)
    assert not got.split.total.any()
    assert not got.mask_received.any()
    assert (got.received == GREY).all()
    np.testing.assert_array_equal(got.painted, painted_from_text(transceiver, got))


def test_a_lost_mask_loses_the_region(transceiver: Transceiver, prepared: Prepared) -> None:
    fades = np.array([0.01, 1.0, 0.01, 1.0])
    got = edge(transceiver, prepared, 0.3, 0.08, 10.0, "rayleigh", fades=fades)
    assert got.mask_received.tolist() == [False, True, False, True]
    assert (got.received[[0, 2]] == GREY).all()
    assert got.split.roi.all(), "the sender does not know of it"
    np.testing.assert_array_equal(got.painted[[0, 2]], painted_from_text(transceiver, got)[[0, 2]])
    paper = edge(transceiver, prepared, 0.3, 0.08, 10.0, "rayleigh", fades=fades, accounting="paper")
    assert paper.mask_received.all()


def test_a_region_that_is_the_whole_image_leaves_no_rest(
    transceiver: Transceiver, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    images, regions = pictures
    prompts = [np.ones((32, 32), dtype=bool), regions[1]]
    whole = transceiver.prepare(images[:2], prompts)
    assert whole.captions[0] == ""
    assert whole.tokens[0] == 1
    got = transceiver.transmit(whole, 0.3, 0.08, 10.0)
    np.testing.assert_array_equal(got.painted[0], got.received[0])
    assert np.isnan(got.clip_roni[0])
    assert np.isfinite(got.clip_roni[1])
    assert np.isfinite(got.psnr_roi_db).all()


def test_an_empty_caption_is_sent_as_its_end(
    make_transceiver: Callable[..., Transceiver], pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    images, regions = pictures
    silent = make_transceiver(captioner=lambda batch: [""] * len(batch))
    ready = silent.prepare(images, list(regions))
    assert ready.tokens.tolist() == [1] * 4
    got = edge(silent, ready, 0.1, 0.08, 30.0)
    assert (got.symbols_per_token >= 5).all()
    assert set(got.token_error.tolist()) <= {0.0, 1.0}
