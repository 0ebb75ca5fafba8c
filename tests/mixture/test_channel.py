"""The channel of complex symbols: power, noise, fading, and what a symbol is."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from noma_semcom_env.mixture.channel import AWGN, CHANNELS, RAYLEIGH, bandwidth_ratio, normalize_power, send, symbols_of


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codewords(count: int, symbols: int) -> torch.Tensor:
    reals = torch.randn(count, 2 * symbols, generator=seeded(7))
    return normalize_power(reals, torch.full((count,), symbols))


def measured_snr_db(sent: torch.Tensor, received: torch.Tensor) -> float:
    return float(10 * (sent.square().sum() / (received - sent).square().sum()).log10())


@pytest.mark.parametrize("snr_db", [-3.0, 0.0, 12.5])
def test_white_noise_has_the_stated_snr_over_a_million_symbols(snr_db: float) -> None:
    sent = codewords(4, 250_000)
    received, after_db = send(sent, torch.full((4,), snr_db), AWGN, seeded())
    assert measured_snr_db(sent, received) == pytest.approx(snr_db, abs=0.05)
    torch.testing.assert_close(after_db, torch.full((4,), snr_db))


def test_noise_is_circular() -> None:
    sent = torch.zeros(1, 1_000_000)
    noise = send(sent, torch.tensor([0.0]), AWGN, seeded())[0].view(-1, 2)
    covariance = noise.T @ noise / len(noise)
    torch.testing.assert_close(covariance, 0.5 * torch.eye(2), atol=0.005, rtol=0)


def test_rayleigh_power_is_exponential_with_one_coefficient_a_codeword() -> None:
    count, snr_db = 20_000, 7.0
    _, after_db = send(codewords(count, 2), torch.full((count,), snr_db), RAYLEIGH, seeded())
    power = 10 ** ((after_db.double() - snr_db) / 10)
    assert stats.kstest(power.numpy(), "expon").pvalue > 0.01


def test_the_snr_after_equalization_is_that_of_the_codeword() -> None:
    sent = codewords(5, 200_000)
    received, after_db = send(sent, torch.full((5,), 10.0), RAYLEIGH, seeded())
    assert float(after_db.max() - after_db.min()) > 3
    for one, got, stated_db in zip(sent, received, after_db.tolist(), strict=True):
        assert measured_snr_db(one, got) == pytest.approx(stated_db, abs=0.05)


def test_power_is_normalized_over_what_each_codeword_sends() -> None:
    reals = torch.randn(3, 40, generator=seeded()) * torch.tensor([[0.1], [1.0], [50.0]])
    symbols = torch.tensor([5, 20, 1])
    sent = torch.arange(40)[None] < 2 * symbols[:, None]
    scaled = normalize_power(reals * sent, symbols)
    torch.testing.assert_close(scaled.square().sum(1), symbols.float())
    assert not scaled[~sent].any()
    # Each codeword keeps its direction: no other one's power has a say in it.
    torch.testing.assert_close(scaled[0], normalize_power((reals * sent)[:1], symbols[:1])[0])


def test_a_codeword_of_zeros_sends_nothing() -> None:
    reals = torch.stack([torch.zeros(8), torch.ones(8)]).requires_grad_()
    scaled = normalize_power(reals, torch.tensor([4, 4]))
    torch.testing.assert_close(scaled.square().sum(1), torch.tensor([0.0, 4.0]))


@pytest.mark.parametrize("channel", CHANNELS)
def test_no_codewords_are_sent_as_none(channel: str) -> None:
    received, after_db = send(torch.zeros(0, 6), torch.zeros(0), channel, seeded())
    assert received.shape == (0, 6)
    assert after_db.shape == (0,)


def test_the_generator_alone_decides() -> None:
    sent, snr_db = codewords(3, 10), torch.tensor([0.0, 5.0, 10.0])
    for channel in CHANNELS:
        first, again, other = (send(sent, snr_db, channel, seeded(seed))[0] for seed in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_an_infinite_snr_is_a_channel_without_noise() -> None:
    sent = codewords(2, 10)
    for channel in CHANNELS:
        received, after_db = send(sent, torch.full((2,), math.inf), channel, seeded())
        assert torch.equal(received, sent)
        assert after_db.tolist() == [math.inf] * 2


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_an_snr_that_leaves_nothing_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="snr_db holds NaN or -inf"):
        send(codewords(2, 3), torch.tensor([0.0, bad]), AWGN, seeded())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="channel='rician' is unknown"):
        send(codewords(1, 3), torch.zeros(1), "rician", seeded())
    with pytest.raises(ValueError, match="two reals a complex symbol"):
        send(torch.zeros(1, 5), torch.zeros(1), AWGN, seeded())
    with pytest.raises(ValueError, match="one SNR a codeword"):
        send(torch.zeros(2, 4), torch.zeros(1), AWGN, seeded())


def test_the_bandwidth_ratio_counts_complex_symbols_over_real_samples() -> None:
    assert bandwidth_ratio(49152, 128, 128) == 1
    assert symbols_of(0.048, 128, 128) == 2359
    for symbols in (1, 983, 5898):
        assert symbols_of(bandwidth_ratio(symbols, 128, 128), 128, 128) == symbols
    for bad in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="must be a finite number above 0"):
            symbols_of(bad, 128, 128)
