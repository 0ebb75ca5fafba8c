"""DiffCom: the received signal guides the sampling; networks of random weights here."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from noma_semcom_env.mixture.channel import AWGN, RAYLEIGH, normalize_power, send
from noma_semcom_env.mixture.diffcom import DiffCom, SamplingError, _measure, _turn, load_diffcom
from noma_semcom_env.zoo.loading import ModelLoadError, write_sums

SIDE = 16
SYMBOLS = 96


class LinearCodec(torch.nn.Module):
    """An analogue codec in the smallest sense: a random projection, its transpose to decode."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        basis = torch.randn(3 * SIDE**2, 2 * SYMBOLS, generator=generator)
        self.register_buffer("basis", torch.linalg.qr(basis).Q)

    def encode(self, image: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        assert bool(((image >= 0) & (image <= 1)).all())
        sent = torch.arange(2 * SYMBOLS)[None] < 2 * symbols[:, None]
        return normalize_power(((image - 0.5).flatten(1) @ self.basis) * sent, symbols)

    def decode(self, received: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        flat = received @ self.basis.T * 0.3 + 0.5
        return flat.view(-1, 3, SIDE, SIDE).clamp(0, 1)


def make_model(block: int = 2, seed: int = 0) -> Any:
    from diffusers import UNet2DModel

    torch.manual_seed(seed)
    model = UNet2DModel(
        sample_size=SIDE // block,
        in_channels=3 * block**2,
        out_channels=3 * block**2,
        down_block_types=["DownBlock2D"] * 2,
        up_block_types=["UpBlock2D"] * 2,
        block_out_channels=[8, 8],
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
    )
    return model.eval().requires_grad_(False)


def make_scheduler(prediction: str = "v_prediction") -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
        rescale_betas_zero_snr=prediction == "v_prediction",
        timestep_spacing="trailing",
        clip_sample=True,
    )


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    return LinearCodec()


@pytest.fixture(scope="module")
def signal(codec: LinearCodec) -> dict[str, torch.Tensor]:
    """Three smooth images sent at 20 dB, the last one with fewer symbols."""
    generator = torch.Generator().manual_seed(1)
    images = F.interpolate(torch.rand(3, 3, 4, 4, generator=generator), SIDE, mode="bilinear")
    snr_db, symbols = torch.full((3,), 20.0), torch.tensor([SYMBOLS, SYMBOLS, 40])
    received, after_db = send(codec.encode(images, snr_db, symbols), snr_db, AWGN, generator)
    return {"received": received, "snr_db": snr_db, "after_db": after_db, "symbols": symbols}


def mismatch(codec: LinearCodec, signal: dict[str, torch.Tensor], images: np.ndarray) -> np.ndarray:
    """(B,) distance between a received signal and what (B, H, W, 3) images would have sent."""
    given = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    symbols = signal["symbols"]
    sent = torch.arange(2 * SYMBOLS)[None] < 2 * symbols[:, None]
    difference = (signal["received"] - codec.encode(given, signal["snr_db"], symbols)) * sent
    distance: np.ndarray = difference.norm(dim=1).numpy()
    return distance


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize(("block", "through_denoiser"), [(1, False), (2, False), (2, True)])
def test_guidance_explains_the_signal_better(
    codec: LinearCodec, signal: dict[str, torch.Tensor], prediction: str, block: int, through_denoiser: bool
) -> None:
    model, scheduler = make_model(block), make_scheduler(prediction)
    plain = DiffCom(model, scheduler, steps=20, guidance=0.0).recover(codec, **signal)
    guided = DiffCom(model, scheduler, steps=20, guidance=0.3, through_denoiser=through_denoiser).recover(
        codec, **signal
    )
    assert guided.shape == (3, 1, SIDE, SIDE, 3)
    assert guided.dtype == np.uint8
    before, after = mismatch(codec, signal, plain[:, 0]), mismatch(codec, signal, guided[:, 0])
    assert (after < 0.7 * before).all(), (before, after)


def test_without_guidance_the_signal_does_not_matter(codec: LinearCodec, signal: dict[str, torch.Tensor]) -> None:
    sampler = DiffCom(make_model(), make_scheduler(), steps=4, guidance=0.0)
    recovered = sampler.recover(codec, **signal, seeds=(3, 4))
    drawn = sampler.sample((3, 4))
    for image in recovered:
        np.testing.assert_allclose(image.astype(int), drawn.astype(int), atol=1)


def test_samples_as_the_scheduler_does() -> None:
    model, scheduler = make_model(), make_scheduler()
    generator = torch.Generator().manual_seed(9)
    state = torch.randn(1, 12, 8, 8, generator=generator)
    scheduler.set_timesteps(5)
    for time in scheduler.timesteps:
        with torch.no_grad():
            predicted = model(state, time).sample
        noise = torch.zeros_like(state) if int(time) < 200 else torch.randn(state.shape, generator=generator)
        state = scheduler.step(
            predicted, int(time), state, eta=1.0, use_clipped_model_output=True, variance_noise=noise
        ).prev_sample
    expected = F.pixel_shuffle(state, 2)[0].permute(1, 2, 0).clamp(-1, 1) * 127.5 + 127.5
    sampled = DiffCom(model, make_scheduler(), steps=5).sample((9,))[0]
    np.testing.assert_allclose(sampled, expected.numpy(), atol=0.52)


@pytest.mark.parametrize("through_denoiser", [False, True])
def test_descends_the_distance(signal: dict[str, torch.Tensor], through_denoiser: bool) -> None:
    """The direction of a step against finite differences of the distance."""
    model, scheduler = make_model().double(), make_scheduler()
    model.conv_out.weight.mul_(0.2)
    sampler = DiffCom(model, scheduler, steps=10, through_denoiser=through_denoiser)
    time, power = 499, float(scheduler.alphas_cumprod[499])
    generator = torch.Generator().manual_seed(2)
    state = 0.2 * torch.randn(1, 12, 8, 8, generator=generator).double()
    one = {name: value[:1] for name, value in signal.items()} | {"received": signal["received"][:1].double()}
    excess = _measure(LinearCodec().double(), **one)

    def expected(at: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return power**0.5 * at - (1 - power) ** 0.5 * model(at, torch.tensor([time])).sample

    def distance(clean: torch.Tensor) -> float:
        return float(excess(F.pixel_shuffle(clean, 2) / 2 + 0.5)[0])

    clean, descent, share = sampler._look_ahead(state, time, power, excess)
    assert clean.abs().max() < 1, "no colour may be clipped, or differences are not the gradient"
    assert 0 < float(share) < 0.1
    aside = 1e-5 * torch.randn(state.shape, generator=generator).double()
    if through_denoiser:
        slope = (distance(expected(state + aside)) - distance(expected(state - aside))) / 2
    else:
        slope = (distance(expected(state) + aside) - distance(expected(state) - aside)) / 2
    assert float((descent * aside).sum()) == pytest.approx(-slope, rel=1e-5)


def test_guidance_ends_where_noise_alone_explains_the_distance(codec: LinearCodec) -> None:
    """At the true image the distance is the noise's own; far from it hardly any of the distance is."""
    images = torch.rand(64, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    snr_db, symbols = torch.full((64,), 3.0), torch.tensor([SYMBOLS, 40]).repeat(32)
    sent = codec.encode(images, snr_db, symbols)
    received, after_db = send(sent, snr_db, RAYLEIGH, torch.Generator().manual_seed(1))
    received = torch.where(sent != 0, received, 0)
    distance, unexplained = _measure(codec, received, snr_db, after_db, symbols)(images)
    energy = symbols * 10 ** (-after_db / 10)
    assert (distance.square() / energy).mean().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(unexplained, (1 - 0.5 * energy / distance.square()).clamp_min(0).sqrt())
    calm = _measure(codec, received, snr_db, torch.full((64,), float("inf")), symbols)(images)[1]
    torch.testing.assert_close(calm, torch.ones(64))
    deaf = _measure(codec, received, snr_db, after_db - 10, symbols)(images)[1]
    assert not deaf.any()


def test_noise_turns_towards_the_descent_and_keeps_its_length() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, descent = torch.randn(2, 4, 12, 8, 8, generator=generator)
    descent[2] = 0
    share = torch.tensor([0.3, 1.0, 0.3, 0.0])
    turned = _turn(noise, 1e-3 * descent, share)
    torch.testing.assert_close(turned[:2].flatten(1).norm(dim=1), torch.full((2,), 768**0.5))
    likeness = F.cosine_similarity(turned.flatten(1), descent.flatten(1))
    assert 0.3 < likeness[0] < 0.5
    assert likeness[1] > 0.999
    torch.testing.assert_close(turned[2:], noise[2:])


def test_finds_the_image_where_the_prior_is_known(codec: LinearCodec) -> None:
    """White Gaussian images and their exact denoiser: what was measured comes back, the rest is the prior's."""
    scheduler = make_scheduler()
    deviation = 0.3

    class Exact(torch.nn.Module):
        config = SimpleNamespace(in_channels=3, out_channels=3, sample_size=SIDE)
        device = torch.device("cpu")

        def forward(self, state: torch.Tensor, times: torch.Tensor) -> SimpleNamespace:
            share = scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
            clean = state * share.sqrt() * deviation**2 / (share * deviation**2 + 1 - share)
            noise = (state - share.sqrt() * clean) / (1 - share).sqrt()
            return SimpleNamespace(sample=share.sqrt() * noise - (1 - share).sqrt() * clean)

    generator = torch.Generator().manual_seed(4)
    truth = (deviation * torch.randn(4, 3, SIDE, SIDE, generator=generator)).clamp(-1, 1)
    snr_db, symbols = torch.full((4,), 20.0), torch.full((4,), SYMBOLS)
    received, after_db = send(codec.encode(truth / 2 + 0.5, snr_db, symbols), snr_db, AWGN, generator)
    recovered = DiffCom(Exact(), scheduler, guidance=0.3).recover(codec, received, snr_db, after_db, symbols)[:, 0]
    found = torch.from_numpy(recovered).permute(0, 3, 1, 2).float() / 127.5 - 1
    measured, rest = truth.flatten(1) @ codec.basis, (truth.flatten(1) - truth.flatten(1) @ codec.basis @ codec.basis.T)
    # The codec hides an image's power, so directions are compared.
    assert (F.cosine_similarity(found.flatten(1) @ codec.basis, measured) > 0.9).all()
    assert (F.cosine_similarity(found.flatten(1), rest).abs() < 0.15).all()
    assert 0.25 < found.std() < 0.4


def test_starts_from_the_decoder_where_asked(codec: LinearCodec, signal: dict[str, torch.Tensor]) -> None:
    decoded = codec.decode(signal["received"], signal["after_db"], signal["symbols"])
    decoded = decoded.permute(0, 2, 3, 1).numpy() * 255
    # Noise that an untrained network does not remove grows with the time to start from.
    errors = [
        np.abs(
            DiffCom(make_model(), make_scheduler(), steps=2, guidance=0.0, start=start).recover(codec, **signal)[:, 0]
            - decoded
        ).mean()
        for start in (0.01, 0.2, 1.0)
    ]
    assert errors[0] < 8
    assert errors[0] < errors[1] < errors[2]


def test_seeds_are_common_to_images_and_free_of_the_batch(codec: LinearCodec, signal: dict[str, torch.Tensor]) -> None:
    model, scheduler = make_model(), make_scheduler()
    same = {name: value[[0, 0, 1]] for name, value in signal.items()}
    together = DiffCom(model, scheduler, steps=4, batch_size=6).recover(codec, **same, seeds=(1, 2))
    alone = DiffCom(model, scheduler, steps=4, batch_size=1).recover(codec, **same, seeds=(1, 2))
    np.testing.assert_allclose(together.astype(int), alone.astype(int), atol=1)
    np.testing.assert_array_equal(alone[0], alone[1])
    assert (alone[0, 0] != alone[0, 1]).any()
    assert (alone[0] != alone[2]).any()


def test_what_lies_beyond_the_symbols_sent_does_not_matter(codec: LinearCodec, signal: dict[str, torch.Tensor]) -> None:
    sampler = DiffCom(make_model(), make_scheduler(), steps=3)
    noisy = signal["received"].clone()
    noisy[2, 80:] = 9.0
    np.testing.assert_array_equal(
        sampler.recover(codec, **(signal | {"received": noisy})), sampler.recover(codec, **signal)
    )


def test_leaves_no_gradients_behind(codec: LinearCodec, signal: dict[str, torch.Tensor]) -> None:
    model = make_model().requires_grad_(True)
    DiffCom(model, make_scheduler(), steps=2).recover(codec, **signal)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"guidance": -0.1}, r"guidance=-0.1 must lie in \[0, 1\]"),
        ({"guidance": float("nan")}, r"guidance=nan must lie in \[0, 1\]"),
        ({"start": 0.0}, r"start=0.0 must lie in \(0, 1\]"),
    ],
)
def test_refuses_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffCom(make_model(), make_scheduler(), **options)


def test_refuses_models_of_other_kinds() -> None:
    grey = SimpleNamespace(config=SimpleNamespace(in_channels=1, out_channels=1))
    with pytest.raises(ValueError, match=r"takes 1 channels.*3 n\^2"):
        DiffCom(grey, make_scheduler())
    with pytest.raises(ValueError, match="predicts 'sample'"):
        DiffCom(make_model(), make_scheduler("sample"))


def test_refuses_signals_that_do_not_fit(codec: LinearCodec, signal: dict[str, torch.Tensor]) -> None:
    sampler = DiffCom(make_model(), make_scheduler(), steps=1)
    with pytest.raises(ValueError, match=r"received has shape \(192,\); \(B, 2k\)"):
        sampler.recover(codec, **(signal | {"received": signal["received"][0]}))
    with pytest.raises(ValueError, match=r"symbols has shape \(2,\); \(3,\) is needed"):
        sampler.recover(codec, **(signal | {"symbols": signal["symbols"][:2]}))
    with pytest.raises(ValueError, match=r"seeds=\(\) is empty"):
        sampler.recover(codec, **signal, seeds=())


def test_says_so_where_an_image_is_not_finite(codec: LinearCodec, signal: dict[str, torch.Tensor]) -> None:
    model = make_model()
    model.conv_out.bias.fill_(float("nan"))
    with pytest.raises(SamplingError, match=r"not finite at time 999.*lower guidance=0\.1"):
        DiffCom(model, make_scheduler(), steps=3).recover(codec, **signal)


class TestLoading:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        from diffusers import DDIMPipeline

        DDIMPipeline(make_model(), make_scheduler()).save_pretrained(tmp_path / "model")
        write_sums(tmp_path / "model")
        return tmp_path / "model"

    def test_a_loaded_model_samples_the_same(self, folder: Path) -> None:
        loaded = load_diffcom(folder, steps=3)
        np.testing.assert_array_equal(
            loaded.sample((0, 1)), DiffCom(make_model(), make_scheduler(), steps=3).sample((0, 1))
        )

    def test_changed_weights_are_refused(self, folder: Path) -> None:
        file = folder / "unet" / "diffusion_pytorch_model.safetensors"
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
        with pytest.raises(ModelLoadError, match="differs from its SHA-256"):
            load_diffcom(folder)

    def test_another_pipeline_is_refused(self, folder: Path) -> None:
        (folder / "sha256.json").unlink()
        index = folder / "model_index.json"
        index.write_text(index.read_text().replace('"DDIMPipeline"', '"StableDiffusionPipeline"'))
        with pytest.raises(ModelLoadError, match="StableDiffusionPipeline"):
            load_diffcom(folder)

    def test_a_missing_scheduler_is_refused(self, folder: Path) -> None:
        (folder / "sha256.json").unlink()
        (folder / "scheduler" / "scheduler_config.json").unlink()
        with pytest.raises(ModelLoadError, match="scheduler"):
            load_diffcom(folder)


@pytest.mark.slow
def test_the_training_script_runs_to_the_end(tmp_path: Path) -> None:
    from noma_semcom_env.zoo.train.mixture.unconditional import train

    train(2, 24, tmp_path, tmp_path / "model", torch.device("cpu"))
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["steps"] == 2
    assert (tmp_path / "mixture" / "unconditional" / "samples.png").is_file()
    sampler = load_diffcom(tmp_path / "model", steps=1)
    assert sampler.resolution == 128
    assert sum(p.numel() for p in sampler.model.parameters()) < 2e6
