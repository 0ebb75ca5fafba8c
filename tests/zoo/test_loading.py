"""Whatever is wrong with a model folder gets one error that names the file and the remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from noma_semcom_env.zoo.loading import SUMS_FILE, ModelLoadError, check_sums, load_diffusion, load_model, write_sums
from noma_semcom_env.zoo.presets import load_preset

WEIGHTS = "model.safetensors"


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    return Path(shutil.copytree(load_preset("street").segmenter, tmp_path / "segmenter"))


@pytest.fixture
def captioner(tmp_path: Path) -> Path:
    return Path(shutil.copytree(load_preset("street").captioner, tmp_path / "captioner"))


@pytest.mark.parametrize("kind", ["captioner", "segmenter"])
def test_the_bundled_models_load_complete_and_in_float32(kind: Any) -> None:
    import torch

    model, processor = load_model(kind, getattr(load_preset("street"), kind))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert callable(processor)


def test_a_folder_without_sums_loads_too(segmenter: Path) -> None:
    (segmenter / SUMS_FILE).unlink()
    load_model("segmenter", segmenter)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kind='painter'.*captioner"):
        load_model("painter", ".")  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["", "/nowhere/at/all", "./missing", Path("missing")])
def test_a_missing_folder_is_named(source: str | Path) -> None:
    with pytest.raises(ModelLoadError, match="give a"):
        load_model("segmenter", source)


def test_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no config\.json"):
        load_model("captioner", tmp_path)


def test_a_model_of_another_type_is_named(segmenter: Path) -> None:
    with pytest.raises(ModelLoadError, match="'upernet'; a captioner of type 'blip'"):
        load_model("captioner", segmenter)


def test_a_changed_file_is_named(segmenter: Path) -> None:
    content = bytearray((segmenter / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (segmenter / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"{WEIGHTS} differs.*{SUMS_FILE}"):
        load_model("segmenter", segmenter)


def test_a_missing_file_is_named(captioner: Path) -> None:
    (captioner / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json is missing"):
        load_model("captioner", captioner)


def test_sums_cover_every_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("a")
    write_sums(tmp_path)
    check_sums(tmp_path)
    (tmp_path / "deep" / "file").write_text("b")
    with pytest.raises(ModelLoadError, match="deep/file differs"):
        check_sums(tmp_path)


def _without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors.pop("decode_head.classifier.weight")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _of_another_shape(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["decode_head.classifier.weight"] = tensors["decode_head.classifier.weight"][:5].clone()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _not_finite(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["decode_head.classifier.bias"][3] = float("nan")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _truncated(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:10_000])


def _pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def _no_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def _garbled(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_without_a_tensor, r"lacks 1 weights.*decode_head\.classifier\.weight"),
        (_of_another_shape, r"cannot load|lacks 1 weights"),
        (_not_finite, r"decode_head\.classifier\.bias.*not finite"),
        (_truncated, r"cannot load.*fetch"),
        (_pickled, r"cannot load.*\.safetensors again"),
        (_no_processor, "processor"),
        (_garbled, "configuration"),
    ],
)
def test_damage_that_sums_would_not_show_is_named(segmenter: Path, damage: Callable[[Path], None], named: str) -> None:
    (segmenter / SUMS_FILE).unlink()
    damage(segmenter)
    with pytest.raises(ModelLoadError, match=named) as caught:
        load_model("segmenter", segmenter)
    assert str(segmenter) in str(caught.value)


def test_a_captioner_without_its_tokenizer_is_named(captioner: Path) -> None:
    (captioner / SUMS_FILE).unlink()
    for path in captioner.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelLoadError, match="tokenizer|processor"):
        load_model("captioner", captioner)


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Stable Diffusion pipeline and a ControlNet of the smallest sizes, in the hub's layout."""
    import torch
    from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    words = ["a</w>", "b</w>", "a", "b", "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=8)
    text = CLIPTextConfig(
        vocab_size=6,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8,
        bos_token_id=4,
        eos_token_id=5,
        pad_token_id=5,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    folder = tmp_path_factory.mktemp("diffusion")
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8)).save_pretrained(folder / "controlnet")
    return folder / "pipeline", folder / "controlnet"


@pytest.fixture
def copied(diffusion: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    pipeline, controlnet = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in diffusion)
    return pipeline, controlnet


def test_a_diffusion_pipeline_loads_from_two_folders(diffusion: tuple[Path, Path]) -> None:
    import torch

    pipeline = load_diffusion(*diffusion)
    assert pipeline.safety_checker is None
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder, pipeline.controlnet):
        assert part.dtype == torch.float32
        assert not part.training


def _unet_without_a_tensor(pipeline: Path, controlnet: Path) -> None:
    path = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.pop("conv_in.weight")
    save_file(tensors, path, {"format": "pt"})


def _pickled_controlnet(pipeline: Path, controlnet: Path) -> None:
    weights = controlnet / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))


def _another_unet(pipeline: Path, controlnet: Path) -> None:
    index = json.loads((pipeline / "model_index.json").read_text())
    index["unet"] = ["diffusers", "UNet2DModel"]
    (pipeline / "model_index.json").write_text(json.dumps(index))


def _no_tokenizer(pipeline: Path, controlnet: Path) -> None:
    shutil.rmtree(pipeline / "tokenizer")


def _no_vae(pipeline: Path, controlnet: Path) -> None:
    shutil.rmtree(pipeline / "vae")


def _no_index(pipeline: Path, controlnet: Path) -> None:
    (pipeline / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_unet_without_a_tensor, r"unet.*conv_in\.weight|conv_in\.weight.*unet"),
        (_pickled_controlnet, r"ControlNetModel.*\.safetensors again"),
        (_another_unet, "'UNet2DModel' as its unet"),
        (_no_tokenizer, "tokenizer"),
        (_no_vae, "AutoencoderKL"),
        (_no_index, r"has no model_index\.json"),
    ],
)
def test_a_damaged_pipeline_is_named(
    copied: tuple[Path, Path], damage: Callable[[Path, Path], None], named: str
) -> None:
    damage(*copied)
    with pytest.raises(ModelLoadError, match=named):
        load_diffusion(*copied)
