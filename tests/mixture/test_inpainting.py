"""Inpainting: what arrived stays, the rest is painted from the text by a genuine pipeline, of random weights here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noma_semcom_env.mixture.inpainting import Inpainting, PaintingError, load_inpainting
from noma_semcom_env.zoo.loading import ModelLoadError, write_sums

SIDE = 32


@pytest.fixture(scope="module")
def pipeline(make_pipeline: Callable[..., Any]) -> Any:
    from noma_semcom_env.zoo.train.recovery import build_tokenizer

    torch.manual_seed(3)
    made = make_pipeline(build_tokenizer(), levels=4)
    torch.nn.init.normal_(made.text_encoder.get_input_embeddings().weight, std=2.0)
    with torch.no_grad():
        # A posterior without spread, so that its sample is its mode.
        made.vae.quant_conv.weight[4:] = 0
        made.vae.quant_conv.bias[4:] = -30
    made.vae.register_to_config(scaling_factor=0.5)
    return made


@pytest.fixture(scope="module")
def receiver(pipeline: Any) -> Inpainting:
    return Inpainting(pipeline, steps=2)


@pytest.fixture(scope="module")
def received() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    region = np.zeros((3, SIDE, SIDE), bool)
    region[0, 5:21, 3:17], region[1, 16:, 8:30], region[2, :9, :] = True, True, True
    return region


TEXTS = ("clear sky by day with a red car", "rain by night near a green tree", "fog at sunset")


def test_known_pixels_stay_and_all_others_are_painted(
    receiver: Inpainting, received: np.ndarray, known: np.ndarray
) -> None:
    painted = receiver.paint(received, known, TEXTS, seeds=(0, 7))
    assert painted.shape == (3, 2, SIDE, SIDE, 3)
    assert painted.dtype == np.uint8
    for s in range(2):
        np.testing.assert_array_equal(painted[:, s][known], received[known])
        changed = (painted[:, s] != received).any(-1)[~known]
        assert changed.mean() > 0.95
    assert (painted[:, 0] != painted[:, 1]).any()


def test_images_are_painted_at_another_side_and_come_back_at_theirs(
    pipeline: Any, receiver: Inpainting, received: np.ndarray, known: np.ndarray
) -> None:
    larger = Inpainting(pipeline, steps=2, side=2 * SIDE)
    painted = larger.paint(received, known, TEXTS)
    assert painted.shape == (3, 1, SIDE, SIDE, 3)
    np.testing.assert_array_equal(painted[:, 0][known], received[known])
    assert (painted != receiver.paint(received, known, TEXTS)).any()
    # Squares of four equal pixels are seen by the pipeline as larger ones are; what it paints of them is averaged.
    whole = received.repeat(2, axis=1).repeat(2, axis=2)
    direct = receiver.paint(whole, known.repeat(2, axis=1).repeat(2, axis=2), TEXTS)[:, 0].astype(float)
    small = direct.reshape(3, SIDE, 2, SIDE, 2, 3).mean(axis=(2, 4))
    outside = ~known
    assert np.abs(painted[:, 0][outside] - small[outside]).mean() < 12
    # A side that does not suit the autoencoder becomes one that does.
    assert larger.paint(received[:, :30, :30], known[:, :30, :30], TEXTS).shape[2] == 30
    for side in (0, 2 * SIDE + 1):
        with pytest.raises(ValueError, match=f"side={side}"):
            Inpainting(pipeline, side=side)


@pytest.mark.parametrize("side", [None, 2 * SIDE])
def test_what_the_decoder_left_outside_the_region_does_not_matter(
    pipeline: Any, received: np.ndarray, known: np.ndarray, side: int | None
) -> None:
    receiver = Inpainting(pipeline, steps=2, side=side)
    other = np.where(known[..., None], received, 255 - received)
    np.testing.assert_array_equal(receiver.paint(other, known, TEXTS), receiver.paint(received, known, TEXTS))


def test_what_is_painted_depends_on_region_and_text(
    receiver: Inpainting, received: np.ndarray, known: np.ndarray
) -> None:
    base = receiver.paint(received, known, TEXTS)[0, 0][~known[0]]
    text = receiver.paint(received, known, ("snow by night", *TEXTS[1:]))[0, 0][~known[0]]
    region = receiver.paint(255 - received, known, TEXTS)[0, 0][~known[0]]
    assert (text != base).any()
    assert (region != base).any()


def test_seeds_are_common_to_images_and_free_of_the_batch(
    pipeline: Any, received: np.ndarray, known: np.ndarray
) -> None:
    twice = np.stack([received[0], received[0], received[1]])
    regions = np.stack([known[0], known[0], known[1]])
    texts = [TEXTS[0], TEXTS[0], TEXTS[1]]
    painted = Inpainting(pipeline, 2, batch_size=4).paint(twice, regions, texts, seeds=(5, 6))
    one_by_one = Inpainting(pipeline, 2, batch_size=1).paint(twice, regions, texts, seeds=(5, 6))
    np.testing.assert_allclose(painted.astype(int), one_by_one.astype(int), atol=1)
    np.testing.assert_array_equal(one_by_one[0], one_by_one[1])
    swapped = Inpainting(pipeline, 2, batch_size=1).paint(twice, regions, texts, seeds=(6, 5))
    np.testing.assert_array_equal(swapped, one_by_one[:, ::-1])


def test_paints_as_the_pipeline_alone_does(
    pipeline: Any, receiver: Inpainting, received: np.ndarray, known: np.ndarray
) -> None:
    """Same prompt, mask and noise through the pipeline's own call, which encodes the masked image itself."""
    noise = torch.randn(4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(11))
    with torch.inference_mode():
        stock = pipeline(
            prompt=list(TEXTS),
            image=torch.from_numpy(received).permute(0, 3, 1, 2).float() / 255,
            mask_image=torch.from_numpy(~known)[:, None].float(),
            latents=noise.repeat(3, 1, 1, 1),
            num_inference_steps=2,
            guidance_scale=1.0,
            height=SIDE,
            width=SIDE,
            output_type="np",
        ).images
    painted = receiver.paint(received, known, TEXTS, seeds=(11,))[:, 0]
    np.testing.assert_allclose(painted[~known], stock[~known] * 255, atol=0.51)


def test_guidance_leads_away_from_what_is_painted_without_a_text(
    pipeline: Any, receiver: Inpainting, received: np.ndarray, known: np.ndarray
) -> None:
    """Classifier-free guidance, by the UNet's own predictions with and without a text."""
    unguided, twice = Inpainting(pipeline, 1, guidance=1.0), Inpainting(pipeline, 1, guidance=4.0)
    assert receiver.guidance == unguided.guidance == 1.0
    plain, guided = unguided.paint(received, known, TEXTS), twice.paint(received, known, TEXTS)
    assert (plain != guided).any(axis=(1, 2, 3, 4)).all()
    for one in (plain, guided):
        np.testing.assert_array_equal(one[:, 0][known], received[known])
    nothing = ["", "", ""]
    np.testing.assert_allclose(
        twice.paint(received, known, nothing).astype(int), unguided.paint(received, known, nothing).astype(int), atol=1
    )
    with pytest.raises(ValueError, match=r"guidance=0\.5 must be at least 1"):
        Inpainting(pipeline, 1, guidance=0.5)


def test_a_wholly_known_image_needs_no_painting(
    monkeypatch: pytest.MonkeyPatch, receiver: Inpainting, received: np.ndarray
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the UNet was asked")

    monkeypatch.setattr(receiver.pipeline.unet, "forward", refuse)
    painted = receiver.paint(received, np.ones(received.shape[:3], bool), TEXTS, seeds=(0, 1))
    np.testing.assert_array_equal(painted[:, 0], received)
    np.testing.assert_array_equal(painted[:, 1], received)


def test_nothing_known_is_painted_from_the_text_alone(receiver: Inpainting, received: np.ndarray) -> None:
    nothing = np.zeros(received.shape[:3], bool)
    painted = receiver.paint(received, nothing, [TEXTS[0]] * 3)[:, 0].astype(int)
    other = receiver.paint(received, nothing, ["", TEXTS[1], TEXTS[0]])[:, 0].astype(int)
    # Where an image stands in a batch may change the last bit of a sum, and with it the rounding to a level.
    for same in (painted[1], other[2]):
        assert abs(same - painted[0]).max() <= 1
    assert abs(other[0] - painted[0]).max() > 1
    assert abs(other[1] - painted[0]).max() > 1


def test_sides_need_not_be_equal_or_those_of_training(receiver: Inpainting) -> None:
    wide = np.full((1, 24, 48, 3), 90, np.uint8)
    region = np.zeros((1, 24, 48), bool)
    region[0, 3:9, 40:] = True
    painted = receiver.paint(wide, region, ["fog"])[0, 0]
    assert painted.shape == (24, 48, 3)
    assert (painted[region[0]] == 90).all()


def test_no_images_are_no_images(receiver: Inpainting) -> None:
    none = receiver.paint(np.empty((0, SIDE, SIDE, 3), np.uint8), np.empty((0, SIDE, SIDE), bool), [], (0, 1))
    assert none.shape == (0, 2, SIDE, SIDE, 3)


def test_words_that_nobody_taught_and_endless_texts_are_texts(
    receiver: Inpainting, received: np.ndarray, known: np.ndarray
) -> None:
    texts = ("xqz 9 frog-like", "red car " * 40, "")
    painted = receiver.paint(received, known, texts)
    np.testing.assert_array_equal(painted[:, 0][known], received[known])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"received": a["received"][:, :30]}, r"received is 30 x 32 pixels.*multiples of 8"),
        (lambda a: a | {"received": a["received"] / 255}, r"dtype float64.*multiply float images"),
        (lambda a: a | {"received": a["received"][0]}, r"\(B, H, W, 3\) of uint8"),
        (lambda a: a | {"known": a["known"].astype(float)}, r"known has shape .* and dtype float64"),
        (lambda a: a | {"known": a["known"][:2]}, r"known has shape \(2, 32, 32\)"),
        (lambda a: a | {"texts": TEXTS[:2]}, r"must be a sequence of 3 texts"),
        (lambda a: a | {"texts": "abc"}, r"texts='abc' must be a sequence"),
        (lambda a: a | {"seeds": ()}, r"seeds=\(\) is empty"),
    ],
)
def test_refuses(
    receiver: Inpainting,
    received: np.ndarray,
    known: np.ndarray,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
) -> None:
    arguments = change({"received": received, "known": known, "texts": TEXTS, "seeds": (0,)})
    if arguments["received"].shape[1] == 30:
        arguments["known"] = known[:, :30]
    with pytest.raises(ValueError, match=message):
        receiver.paint(**arguments)


def test_refuses_numbers_below_one(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        Inpainting(pipeline, 0)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        Inpainting(pipeline, 1, 0)


def test_says_so_where_an_image_is_not_finite(
    pipeline: Any, received: np.ndarray, known: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    bias = pipeline.unet.conv_out.bias
    kept = bias.detach().clone()
    bias.fill_(float("nan"))
    try:
        with pytest.raises(PaintingError, match=r"image 1 painted from the text 'rain by night.*not finite"):
            Inpainting(pipeline, 1).paint(received[:2], np.stack([np.ones_like(known[0]), known[1]]), TEXTS[:2])
    finally:
        bias.copy_(kept)


class TestLoading:
    @pytest.fixture
    def folder(self, pipeline: Any, tmp_path: Path) -> Path:
        pipeline.save_pretrained(tmp_path / "model")
        write_sums(tmp_path / "model")
        return tmp_path / "model"

    def test_a_loaded_pipeline_paints_the_same(
        self, folder: Path, receiver: Inpainting, received: np.ndarray, known: np.ndarray
    ) -> None:
        loaded = load_inpainting(folder, steps=2)
        assert loaded.resolution == SIDE
        assert (loaded.guidance, load_inpainting(folder, steps=2, guidance=3.0).guidance) == (1.0, 3.0)
        again = loaded.paint(received, known, TEXTS).astype(int)
        np.testing.assert_allclose(again, receiver.paint(received, known, TEXTS).astype(int), atol=1)

    def test_changed_files_are_refused(self, folder: Path) -> None:
        file = folder / "scheduler" / "scheduler_config.json"
        file.write_text(file.read_text().replace("0.012", "0.013"))
        with pytest.raises(ModelLoadError, match=r"scheduler_config\.json differs from its SHA-256"):
            load_inpainting(folder)

    def test_a_plain_unet_is_refused(self, folder: Path) -> None:
        from diffusers import UNet2DConditionModel

        config = json.loads((folder / "unet" / "config.json").read_text())
        UNet2DConditionModel.from_config(config | {"in_channels": 4}).save_pretrained(folder / "unet")
        (folder / "sha256.json").unlink()
        with pytest.raises(ValueError, match="UNet takes 4 channels; 9 are needed"):
            load_inpainting(folder)

    def test_a_missing_part_is_refused(self, folder: Path) -> None:
        (folder / "sha256.json").unlink()
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        with pytest.raises(ModelLoadError, match="unet"):
            load_inpainting(folder)

    def test_a_text_encoder_of_another_width_is_refused(self, folder: Path) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        (folder / "sha256.json").unlink()
        config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
        config.hidden_size = 16
        CLIPTextModel(config).save_pretrained(folder / "text_encoder")
        with pytest.raises(ModelLoadError, match="width 8 but the text encoder gives 16"):
            load_inpainting(folder)


@pytest.mark.slow
def test_the_training_script_runs_to_the_end(tmp_path: Path) -> None:
    from noma_semcom_env.zoo.train.mixture.inpainting import train

    train(2, 24, tmp_path, tmp_path / "model", torch.device("cpu"))
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["steps"] == 2
    assert set(card["lpips_painted"]) == {"4 steps", "8 steps", "20 steps"}
    receiver = load_inpainting(tmp_path / "model", steps=1)
    assert receiver.resolution == 128
    parts = (receiver.pipeline.unet, receiver.pipeline.text_encoder, receiver.pipeline.vae)
    assert sum(p.numel() for part in parts for p in part.parameters()) < 4.3e6


@pytest.mark.slow
def test_training_goes_on_from_a_pipeline_and_keeps_its_latents(tmp_path: Path) -> None:
    from noma_semcom_env.zoo.presets import WEIGHTS
    from noma_semcom_env.zoo.train.mixture.inpainting import train

    start = WEIGHTS / "street_mixture" / "inpainting"
    train(2, 24, tmp_path, tmp_path / "model", torch.device("cpu"), autoencoder_steps=1, start=start)
    known = json.loads((start / "card.json").read_text())
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert (card["steps"], card["decoder_steps"], card["began_from"]["steps"]) == (2, 1, known["steps"])
    before, after = (load_inpainting(folder).pipeline for folder in (start, tmp_path / "model"))
    moved = {
        name.partition(".")[0]
        for name, value in after.vae.state_dict().items()
        if not torch.equal(value, before.vae.state_dict()[name])
    }
    assert moved == {"decoder", "post_quant_conv"}
    for part in ("unet", "text_encoder"):
        pairs = zip(getattr(before, part).parameters(), getattr(after, part).parameters(), strict=True)
        largest = max(float((a - b).detach().abs().max()) for a, b in pairs)
        assert 0 < largest < 0.01  # far from untrained weights
