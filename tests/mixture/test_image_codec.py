"""Swin JSCC: sizes against the paper's, rates as prefixes, adaptation, regions of interest, files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from noma_semcom_env.mixture.channel import AWGN, RAYLEIGH, bandwidth_ratio
from noma_semcom_env.mixture.image_codec import count_multiply_adds, count_parameters, keep_region
from noma_semcom_env.mixture.swin import PatchDivision, PatchMerging, SwinBlock, WindowAttention
from noma_semcom_env.mixture.swin_jscc import PAPER, STREET, STREET_REGION_GATE, SwinConfig, SwinJSCC
from noma_semcom_env.zoo.loading import ModelLoadError, write_sums

TINY = SwinConfig(
    side=16, patch=2, widths=(8, 16), depths=(2, 1), heads=(2, 2), window=4, expansion=2.0, channels=4
)  # 32 symbols


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(config: SwinConfig = TINY) -> SwinJSCC:
    """A codec whose parts all matter, as those of a trained one do."""
    torch.manual_seed(0)
    codec = SwinJSCC(config)
    for module in codec.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return codec.eval().requires_grad_(False)


def pictures(count: int, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=seeded(1))


def on_meta(config: SwinConfig) -> SwinJSCC:
    with torch.device("meta"):
        return SwinJSCC(config)


@pytest.mark.parametrize(
    ("snr_modulation", "parameters", "multiply_adds"), [(True, 21.87e6, 28.6e9), (False, 12.0e6, 27.7e9)]
)
def test_the_papers_codec_has_the_papers_size(snr_modulation: bool, parameters: float, multiply_adds: float) -> None:
    codec = on_meta(replace(PAPER, snr_modulation=snr_modulation))
    assert count_parameters(codec) == pytest.approx(parameters, rel=0.001)
    assert count_multiply_adds(codec) == pytest.approx(multiply_adds, rel=0.01)


@pytest.mark.parametrize("config", [STREET, STREET_REGION_GATE])
def test_the_street_codec_is_small_and_reaches_the_highest_rate(config: SwinConfig) -> None:
    codec = on_meta(config)
    assert count_parameters(codec) <= 1.5e6
    assert bandwidth_ratio(codec.max_symbols, codec.side, codec.side) >= 0.12


def test_multiply_adds_are_those_of_every_product() -> None:
    config = SwinConfig(8, 2, (6,), (1,), (2,), 2, 2.0, 4, snr_modulation=False, rate_modulation=False)
    places, width, window = 4 * 4, 6, 2 * 2
    block = places * (4 * width**2 + 2 * 2 * width**2) + 2 * places * window * width
    ends = places * (3 * 2 * 2 * width + width * 4)
    assert count_multiply_adds(on_meta(config)) == 2 * (block + ends)


def test_codewords_have_unit_power_over_the_prefix_they_send() -> None:
    codec, symbols = build(), torch.tensor([1, 7, 32])
    sent = codec.encode(pictures(3), torch.tensor([0.0, 10.0, 20.0]), symbols)
    assert sent.shape == (3, 64)
    torch.testing.assert_close(sent.square().sum(1), symbols.float())
    for row, count in zip(sent, symbols.tolist(), strict=True):
        assert not row[2 * count :].any()
        assert row[: 2 * count].all()


def test_a_lower_rate_is_a_prefix_of_a_higher_one() -> None:
    codec = build(replace(TINY, rate_modulation=False))
    image, snr_db = pictures(1), torch.tensor([5.0])
    low, high = (codec.encode(image, snr_db, torch.tensor([count]))[0, :10] for count in (5, 32))
    torch.testing.assert_close(low / low.norm(), high / high.norm())


def test_the_decoder_reads_nothing_beyond_what_was_sent() -> None:
    codec, symbols, snr_db = build(), torch.tensor([3, 9]), torch.tensor([0.0, 9.0])
    received = torch.randn(2, 64, generator=seeded())
    disturbed = received.clone()
    disturbed[0, 6:], disturbed[1, 18:] = math.nan, 1e6
    assert torch.equal(codec.decode(received, snr_db, symbols), codec.decode(disturbed, snr_db, symbols))
    disturbed[1, 17] = -1e6
    assert not torch.equal(codec.decode(received, snr_db, symbols)[1], codec.decode(disturbed, snr_db, symbols)[1])


def test_each_image_has_its_own_snr_and_rate() -> None:
    codec, image = build(), pictures(3)
    snr_db, symbols = torch.tensor([0.0, 8.0, 20.0]), torch.tensor([4, 32, 15])
    sent = codec.encode(image, snr_db, symbols)
    seen = codec.decode(sent, snr_db, symbols)
    for i in range(3):
        alone = codec.encode(image[i : i + 1], snr_db[i : i + 1], symbols[i : i + 1])
        torch.testing.assert_close(alone[0], sent[i])
        torch.testing.assert_close(codec.decode(alone, snr_db[i : i + 1], symbols[i : i + 1])[0], seen[i])


@pytest.mark.parametrize("adapts", [True, False])
def test_modulation_is_what_adapts_to_snr_and_rate(adapts: bool) -> None:
    codec = build(replace(TINY, snr_modulation=adapts, rate_modulation=adapts))
    one, full = torch.tensor([10.0]), torch.tensor([32])
    sent = codec.encode(pictures(1), one, full)
    assert torch.equal(sent, codec.encode(pictures(1), one - 10, full)) is not adapts
    half = torch.tensor([16])
    direction = codec.encode(pictures(1), one, half)[0, :32]
    same = torch.allclose(direction / direction.norm(), sent[0, :32] / sent[0, :32].norm(), atol=1e-5)
    assert same is not adapts
    # In the decoder, beside the scale that the SNR gives what was received.
    received = sent * (1 + 10 ** (-one / 10)).sqrt()
    other = sent * (1 + 10 ** (-(one - 10) / 10)).sqrt()
    first, second = codec.decode(received, one, full), codec.decode(other, one - 10, full)
    assert torch.allclose(first, second, atol=1e-6) is not adapts


def test_transmission_is_encoding_channel_and_decoding() -> None:
    codec, image, symbols = build(), pictures(2), torch.tensor([32, 20])
    silent = torch.full((2,), math.inf)
    direct = codec.decode(codec.encode(image, silent, symbols), silent, symbols)
    assert torch.equal(codec.transmit(image, silent, symbols, AWGN, seeded()), direct)
    snr_db = torch.full((2,), 3.0)
    noisy = codec.transmit(image, snr_db, symbols, RAYLEIGH, seeded())
    assert noisy.shape == image.shape
    assert 0 <= float(noisy.min()) <= float(noisy.max()) <= 1
    assert torch.equal(noisy, codec.transmit(image, snr_db, symbols, RAYLEIGH, seeded()))
    # What training sees is the same before clipping.
    assert torch.equal(noisy, codec(image, snr_db, symbols, RAYLEIGH, seeded()).clamp(0, 1))
    assert codec.transmit(image[:0], snr_db[:0], symbols[:0], AWGN, seeded()).shape == (0, 3, 16, 16)


def test_every_weight_learns() -> None:
    codec = build(replace(TINY, region_gate=True)).requires_grad_(True)
    region = torch.rand(8, 16, 16, generator=seeded()) < 0.5
    arguments = (torch.linspace(0, 20, 8), torch.arange(4, 36, 4), RAYLEIGH, seeded(), region)
    (codec(pictures(8), *arguments) - pictures(8)).square().mean().backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def test_shifted_windows_reach_over_borders_but_not_around_edges() -> None:
    torch.manual_seed(0)
    plain, shifted = (SwinBlock(8, 2, 16, 4, one, 2.0).requires_grad_(False) for one in (False, True))
    x = torch.randn(1, 16, 16, 8)
    changed = x.clone()
    changed[0, 0, 0, 0] += 1
    reach = {block: (block(changed) - block(x))[0].abs().sum(-1) > 1e-6 for block in (plain, shifted)}
    assert reach[plain].nonzero().max() == 3
    assert reach[shifted].nonzero().max() == 1
    changed = x.clone()
    changed[0, 3, 3, 0] += 1
    touched = ((shifted(changed) - shifted(x))[0].abs().sum(-1) > 1e-6).nonzero()
    assert touched.min() == 2
    assert touched.max() == 5
    assert SwinBlock(8, 2, 4, 8, True, 2.0).shift == 0


def test_attention_is_softmax_of_scores_and_biases() -> None:
    torch.manual_seed(0)
    layer = WindowAttention(6, 2, 2).requires_grad_(False)
    nn.init.normal_(layer.bias)
    x = torch.randn(3, 5, 4, 6)
    mask = torch.where(torch.rand(5, 4, 4) < 0.3, -100.0, 0.0)
    q, k, v = layer.qkv(x).view(3, 5, 4, 3, 2, 3).permute(3, 0, 1, 4, 2, 5)
    for given, added in ((None, 0.0), (mask, mask[:, None])):
        scores = q @ k.transpose(-1, -2) / 3**0.5 + layer.bias[layer.index].permute(2, 0, 1) + added
        expected = layer.proj((scores.softmax(-1) @ v).transpose(2, 3).reshape(3, 5, 4, 6))
        torch.testing.assert_close(layer(x, given), expected)
    # The bias of a pair depends on its offset alone: (0, 0) to (0, 1) is (1, 0) to (1, 1).
    assert layer.index[0, 1] == layer.index[2, 3] != layer.index[1, 0]


def test_division_undoes_the_order_of_merging() -> None:
    merge, divide = PatchMerging(2, 8, norm=False), PatchDivision(8, 2)
    merge.reduction.weight.data, divide.expansion.weight.data = torch.eye(8), torch.eye(8)
    divide.expansion.bias.data.zero_()
    divide.norm = nn.Identity()
    x = torch.randn(1, 6, 6, 2)
    torch.testing.assert_close(divide(merge(x)), x)


def test_a_gated_encoder_is_told_the_region() -> None:
    codec, image = build(replace(TINY, region_gate=True)), pictures(2)
    snr_db, symbols = torch.full((2,), 10.0), torch.full((2,), 32)
    left = torch.zeros(2, 16, 16, dtype=torch.bool)
    left[:, :, :8] = True
    sent = codec.encode(image, snr_db, symbols, left)
    assert not torch.allclose(sent, codec.encode(image, snr_db, symbols, ~left), atol=1e-3)
    assert codec.transmit(image, snr_db, symbols, AWGN, seeded(), left).shape == image.shape
    with pytest.raises(ValueError, match="region is missing"):
        codec.encode(image, snr_db, symbols)
    with pytest.raises(ValueError, match="bool of"):
        codec.encode(image, snr_db, symbols, left.float())
    with pytest.raises(ValueError, match="takes no region"):
        build().encode(image, snr_db, symbols, left)


def test_all_outside_a_region_becomes_grey() -> None:
    image, region = pictures(1), torch.zeros(1, 16, 16, dtype=torch.bool)
    region[0, 2:5, 3] = True
    kept = keep_region(image, region)
    assert torch.equal(kept[:, :, 2:5, 3], image[:, :, 2:5, 3])
    assert (kept == 0.5).sum() == 3 * (256 - 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": torch.rand(2, 3, 16, 18)}, r"image has shape .* takes \(B, 3, 16, 16\)"),
        ({"image": torch.rand(2, 3, 16, 16) * 255}, "image holds values outside"),
        ({"image": torch.full((2, 3, 16, 16), math.nan)}, "image holds values outside"),
        ({"snr_db": torch.zeros(1)}, "snr_db has shape"),
        ({"snr_db": torch.tensor([0.0, math.nan])}, "snr_db holds NaN"),
        ({"symbols": torch.tensor([1, 33])}, r"whole numbers in \[1, 32\]"),
        ({"symbols": torch.tensor([0, 3])}, r"whole numbers in \[1, 32\]"),
        ({"symbols": torch.tensor([1.0, 3.0])}, r"whole numbers in \[1, 32\]"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, torch.Tensor], message: str) -> None:
    arguments = {"image": pictures(2), "snr_db": torch.zeros(2), "symbols": torch.tensor([1, 2])} | changes
    with pytest.raises(ValueError, match=message):
        build().encode(**arguments)


def test_received_symbols_must_be_the_codecs() -> None:
    with pytest.raises(ValueError, match=r"received has shape .* \(B, 64\)"):
        build().decode(torch.zeros(1, 62), torch.zeros(1), torch.tensor([3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 18}, "side=18 must be a multiple of 4"),
        ({"heads": (3, 2)}, "must divide widths"),
        ({"depths": (2,)}, "equally many"),
        ({"window": 3}, "window=3 must divide"),
        ({"channels": 0}, "at least 1"),
        ({"side": 4, "channels": 3}, "must be even"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_a_saved_codec_is_loaded_the_same(tmp_path: Path) -> None:
    codec = build(replace(TINY, region_gate=True)).half().float()
    codec.save(tmp_path / "codec", {"steps": 3})
    codec.save(tmp_path / "codec", {"steps": 4})
    again = SwinJSCC.load(tmp_path / "codec")
    assert again.config == codec.config
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    for name, value in codec.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert json.loads((tmp_path / "codec" / "card.json").read_text()) == {"steps": 4}
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]


def test_a_folder_that_holds_no_whole_codec_is_refused(tmp_path: Path) -> None:
    codec, folder = build(), tmp_path / "codec"
    weights, config = folder / "model.safetensors", folder / "config.json"

    def spoil(path: Path, old: str = "", new: str = "") -> None:
        codec.save(folder, {})
        path.write_text(path.read_text().replace(old, new)) if old else path.unlink()
        write_sums(folder)

    with pytest.raises(ModelLoadError, match="config.json is missing"):
        SwinJSCC.load(folder)
    spoil(weights)
    with pytest.raises(ModelLoadError, match="model.safetensors is missing"):
        SwinJSCC.load(folder)
    spoil(config, "SwinJSCC", "ADJSCC")
    with pytest.raises(ModelLoadError, match="describes no SwinJSCC"):
        SwinJSCC.load(folder)
    spoil(config, '"channels": 4', '"channels": 6')
    with pytest.raises(ModelLoadError, match="does not fit"):
        SwinJSCC.load(folder)
    spoil(config, '"patch": 2', '"patch": 5')
    with pytest.raises(ModelLoadError, match="cannot read the configuration"):
        SwinJSCC.load(folder)
    codec.save(folder, {})
    config.write_text(config.read_text() + " ")
    with pytest.raises(ModelLoadError, match="differs from its SHA-256"):
        SwinJSCC.load(folder)
    for change, message in (({"head.bias": None}, "does not fit"), ({"head.bias": math.inf}, "is not finite")):
        codec.save(folder, {})
        tensors = load_file(weights)
        for name, value in change.items():
            bias = tensors.pop(name)
            if value is not None:
                tensors[name] = torch.full_like(bias, value)
        save_file(tensors, weights)
        write_sums(folder)
        with pytest.raises(ModelLoadError, match=message):
            SwinJSCC.load(folder)


def test_weights_beyond_float16_are_not_written(tmp_path: Path) -> None:
    codec = build()
    codec.head.bias.fill_(1e6)
    with pytest.raises(ValueError, match=r"head\.bias is not finite in float16"):
        codec.save(tmp_path / "codec", {})
    assert not list(tmp_path.iterdir())
