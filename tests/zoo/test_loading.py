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
    with pytest.raises(ModelLoadError, match=r"config\.json .*'upernet'; the captioner must be of type 'blip'"):
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


def _a_pointer(folder: Path) -> None:
    """What git leaves of a large file where git-lfs is not installed."""
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def _no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _garbled_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{")


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
        (_of_another_shape, rf"{WEIGHTS} .*decode_head\.classifier\.weight|cannot load .*{WEIGHTS}"),
        (_not_finite, rf"decode_head\.classifier\.bias.*{WEIGHTS} is not finite"),
        (_truncated, rf"{WEIGHTS} is truncated or no safetensors.*fetch"),
        (_a_pointer, rf"{WEIGHTS} is truncated or no safetensors.*fetch"),
        (_pickled, r"pytorch_model\.bin alone, a pickle.*'allow_bin': \['segmenter'\]"),
        (_no_weights, rf"{WEIGHTS} is missing; fetch"),
        (_no_processor, r"preprocessor_config\.json.* is missing.*fetch"),
        (_garbled_processor, "cannot load the segmenter's processor"),
        (_garbled, r"cannot read the configuration .*config\.json"),
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
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json or .*vocab\.txt is missing.*fetch"):
        load_model("captioner", captioner)


def test_a_diffusion_pipeline_loads_from_two_folders(originals: Any) -> None:
    import torch

    pipeline = load_diffusion(originals.diffusion, originals.controlnet)
    assert pipeline.safety_checker is None
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder, pipeline.controlnet):
        assert part.dtype == torch.float32
        assert not part.training


def _unet_without_a_tensor(pipeline: Path, controlnet: Path) -> None:
    path = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.pop("conv_in.weight")
    save_file(tensors, path, {"format": "pt"})


def _unet_of_another_type(pipeline: Path, controlnet: Path) -> None:
    shutil.copy(pipeline / "vae" / "config.json", pipeline / "unet" / "config.json")


def _text_encoder_of_another_type(pipeline: Path, controlnet: Path) -> None:
    path = pipeline / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "t5"}))


def _controlnet_of_another_type(pipeline: Path, controlnet: Path) -> None:
    shutil.copy(pipeline / "unet" / "config.json", controlnet / "config.json")


def _controlnet_of_another_pipeline(pipeline: Path, controlnet: Path) -> None:
    from diffusers import ControlNetModel, UNet2DConditionModel

    shutil.rmtree(controlnet)
    config = UNet2DConditionModel.load_config(pipeline / "unet") | {"cross_attention_dim": 4}
    ControlNetModel.from_unet(UNet2DConditionModel.from_config(config)).save_pretrained(controlnet)


def _truncated_vae(pipeline: Path, controlnet: Path) -> None:
    path = pipeline / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def _vae_without_weights(pipeline: Path, controlnet: Path) -> None:
    (pipeline / "vae" / "diffusion_pytorch_model.safetensors").unlink()


def _no_tokenizer(pipeline: Path, controlnet: Path) -> None:
    shutil.rmtree(pipeline / "tokenizer")


def _no_merges(pipeline: Path, controlnet: Path) -> None:
    (pipeline / "tokenizer" / "merges.txt").unlink()


def _a_tokenizer_of_another_model(pipeline: Path, controlnet: Path) -> None:
    words = json.loads((pipeline / "tokenizer" / "vocab.json").read_text())
    more = {f"w{i}": len(words) + i for i in range(20)}
    (pipeline / "tokenizer" / "vocab.json").write_text(json.dumps(words | more))


def _no_scheduler(pipeline: Path, controlnet: Path) -> None:
    shutil.rmtree(pipeline / "scheduler")


def _garbled_index(pipeline: Path, controlnet: Path) -> None:
    (pipeline / "model_index.json").write_text("{")


def _no_vae(pipeline: Path, controlnet: Path) -> None:
    shutil.rmtree(pipeline / "vae")


def _no_index(pipeline: Path, controlnet: Path) -> None:
    (pipeline / "model_index.json").unlink()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_unet_without_a_tensor, r"unet/diffusion_pytorch_model\.safetensors lacks 1 weights.*conv_in\.weight"),
        (
            _unet_of_another_type,
            r"unet/config\.json .*'AutoencoderKL'; the unet must be of type 'UNet2DConditionModel'",
        ),
        (_text_encoder_of_another_type, r"text_encoder/config\.json .*'t5'; .* 'clip_text_model'"),
        (_controlnet_of_another_type, r"controlnet/config\.json .*'UNet2DConditionModel'; .* 'ControlNetModel'"),
        (_controlnet_of_another_pipeline, r"widths .*'controlnet': 4.*give a ControlNet of that"),
        (_truncated_vae, r"vae/diffusion_pytorch_model\.safetensors is truncated"),
        (_vae_without_weights, r"vae/diffusion_pytorch_model\.safetensors is missing; fetch"),
        (_no_tokenizer, r"tokenizer/tokenizer\.json or .*tokenizer/vocab\.json is missing.* fetch"),
        (_no_merges, r"tokenizer/merges\.txt is missing.* fetch"),
        (_a_tokenizer_of_another_model, r"tokenizer' has 27 tokens but the model 7"),
        (_no_scheduler, r"scheduler/scheduler_config\.json is missing.* fetch"),
        (_garbled_index, "cannot load the tokenizer or scheduler"),
        (_no_vae, r"vae/config\.json is missing.* fetch"),
        (_no_index, r"has no model_index\.json"),
    ],
)
def test_a_damaged_pipeline_is_named(tiny: Any, damage: Callable[[Path, Path], None], named: str) -> None:
    damage(tiny.diffusion, tiny.controlnet)
    with pytest.raises(ModelLoadError, match=named):
        load_diffusion(tiny.diffusion, tiny.controlnet)
