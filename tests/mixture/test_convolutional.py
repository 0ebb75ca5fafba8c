"""ADJSCC: size, attention to SNR and rate, any rate by prefix, files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from noma_semcom_env.mixture.channel import AWGN, RAYLEIGH, bandwidth_ratio
from noma_semcom_env.mixture.convolutional import (
    ADJSCC,
    STREET_ADJSCC,
    ADJSCCConfig,
    AttentionFeature,
    DivisiveNormalization,
)
from noma_semcom_env.mixture.image_codec import count_multiply_adds, count_parameters
from noma_semcom_env.mixture.swin_jscc import SwinJSCC
from noma_semcom_env.zoo.loading import ModelLoadError

TINY = ADJSCCConfig(side=16, widths=(6, 8), kernel=3, channels=4)  # 32 symbols


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(config: ADJSCCConfig = TINY) -> ADJSCC:
    torch.manual_seed(0)
    return ADJSCC(config).eval().requires_grad_(False)


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=seeded(1))


def test_the_street_codec_is_small_and_reaches_the_highest_rate() -> None:
    codec = build(STREET_ADJSCC)
    assert count_parameters(codec) <= 0.7e6
    assert bandwidth_ratio(codec.max_symbols, codec.side, codec.side) >= 0.12


def test_multiply_adds_are_those_of_every_product() -> None:
    config = ADJSCCConfig(side=8, widths=(6,), kernel=3, channels=4)
    places, width, rows = 4 * 4, 6, (6 + 2) * 1 + 1 * 6
    layer = places * width**2 + rows
    encoder = places * (27 * width + 9 * width**2 + 9 * width * 4) + 2 * layer
    decoder = places * (9 * 4 * width + 9 * width**2 + 9 * width * 3) + 2 * layer
    assert count_multiply_adds(build(config)) == encoder + decoder


def test_codewords_have_unit_power_over_the_prefix_they_send() -> None:
    codec, symbols = build(), torch.tensor([1, 7, 32])
    sent = codec.encode(pictures(3), torch.tensor([0.0, 10.0, 20.0]), symbols)
    assert sent.shape == (3, 64)
    torch.testing.assert_close(sent.square().sum(1), symbols.float())
    for row, count in zip(sent, symbols.tolist(), strict=True):
        assert not row[2 * count :].any()


def test_each_image_has_its_own_snr_and_rate() -> None:
    codec, image = build(), pictures(2)
    snr_db, symbols = torch.tensor([0.0, 20.0]), torch.tensor([4, 32])
    seen = codec.decode(codec.encode(image, snr_db, symbols), snr_db, symbols)
    for i in range(2):
        one = (snr_db[i : i + 1], symbols[i : i + 1])
        torch.testing.assert_close(codec.decode(codec.encode(image[i : i + 1], *one), *one)[0], seen[i])


def test_attention_weakens_channels_by_snr_and_rate() -> None:
    torch.manual_seed(0)
    attention = AttentionFeature(32).requires_grad_(False)
    x = torch.randn(1, 32, 4, 4)
    ratio = attention(x, torch.tensor([[0.0, 0.0]])) / x
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    assert 0 < float(ratio.min()) <= float(ratio.max()) < 1
    for other in ([1.0, 0.0], [0.0, 1.0]):
        assert not torch.allclose(attention(x, torch.tensor([other])) / x, ratio, atol=1e-3)


def test_normalization_divides_by_the_neighbours_power() -> None:
    layer = DivisiveNormalization(2).requires_grad_(False)
    layer.beta.copy_(torch.tensor([1.0, 2.0]))
    layer.gamma.copy_(torch.tensor([[0.5, -0.25], [0.0, 1.0]]))
    x = torch.tensor([2.0, 4.0]).view(1, 2, 1, 1)
    root = torch.tensor([1 + 0.5 * 4 + 0.25 * 16, 2 + 16]).sqrt().view(1, 2, 1, 1)
    torch.testing.assert_close(layer(x), x / root)
    layer.inverse = True
    torch.testing.assert_close(layer(x), x * root)


def test_transmission_is_encoding_channel_and_decoding() -> None:
    codec, image, symbols = build(), pictures(2), torch.tensor([32, 20])
    silent = torch.full((2,), math.inf)
    direct = codec.decode(codec.encode(image, silent, symbols), silent, symbols)
    assert torch.equal(codec.transmit(image, silent, symbols, AWGN, seeded()), direct)
    noisy = codec.transmit(image, torch.zeros(2), symbols, RAYLEIGH, seeded())
    assert noisy.shape == image.shape
    assert 0 <= float(noisy.min()) <= float(noisy.max()) <= 1


def test_the_received_signal_guides_the_image() -> None:
    """DiffCom follows the gradient of what the encoder would send."""
    codec, image = build(), pictures(1).requires_grad_()
    arguments = (torch.tensor([10.0]), torch.tensor([32]))
    target = codec.encode(torch.rand(1, 3, 16, 16, generator=seeded(2)), *arguments)
    (codec.encode(image, *arguments) - target).square().sum().backward()
    assert image.grad is not None
    assert bool(image.grad.isfinite().all())
    assert float(image.grad.abs().sum()) > 0


def test_every_weight_learns() -> None:
    codec = build().requires_grad_(True)
    error = codec(pictures(8), torch.linspace(0, 20, 8), torch.arange(4, 36, 4), AWGN, seeded()) - pictures(8)
    error.square().mean().backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_no_region_is_taken() -> None:
    with pytest.raises(ValueError, match="takes no region"):
        build().encode(pictures(1), torch.zeros(1), torch.tensor([3]), torch.ones(1, 16, 16, dtype=torch.bool))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": ()}, "one width or more"),
        ({"kernel": 4}, "kernel=4 must be odd"),
        ({"side": 18}, "side=18 must be a multiple of 4"),
        ({"side": 4, "channels": 3}, "must be even"),
        ({"channels": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_a_saved_codec_is_loaded_the_same(tmp_path: Path) -> None:
    codec = build().half().float().to(memory_format=torch.channels_last)
    codec.save(tmp_path / "codec", {})
    again = ADJSCC.load(tmp_path / "codec")
    assert again.config == codec.config
    assert not any(isinstance(module, nn.Module) and module.training for module in again.modules())
    for name, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(ModelLoadError, match="describes no SwinJSCC"):
        SwinJSCC.load(tmp_path / "codec")
