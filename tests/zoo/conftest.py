"""Full-size models at tiny size: the genuine classes, in the layouts that their repositories on the hub have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from noma_semcom_env.zoo.presets import WEIGHTS

SIDE = 64
CLASSES = ("wall", "building", "sky", "tree", "road", "bed ", "car", "pool table")
"""ADE20K's "bed" has a blank at its end on the hub."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class TinyModels(NamedTuple):
    """Folders of the four parts of a preset."""

    diffusion: Path
    controlnet: Path
    captioner: Path
    segmenter: Path


class TinyMixture(NamedTuple):
    """Folders of the five published parts of the preset ``sd15_mixture``."""

    inpainting: Path
    segment_anything: Path
    clip: Path
    captioner: Path
    detector: Path


def as_half(source: Path, target: Path) -> None:
    """Write float32 safetensors as float16, which is the hub's ``fp16`` variant."""
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in load_file(source).items()}
    save_file(tensors, target, {"format": "pt"})


def as_bin(source: Path, target: Path) -> None:
    """Replace safetensors by a pickle of the same tensors."""
    torch.save(load_file(source), target)
    source.unlink()


def write_captioner(folder: Path) -> None:
    """Salesforce/blip-image-captioning-base: pickled weights alone; its [DEC] and [ENC] lie beyond the vocabulary."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    words = (
        "[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] ! a b ##s ##ing the of in on car tree road sky bed street red".split()
    )
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(words) + 2, "encoder_hidden_size": 16, "max_position_embeddings": 40}
    ends = {"bos_token_id": len(words), "eos_token_id": 2, "sep_token_id": 4, "pad_token_id": 0}
    vision = {"image_size": 32, "patch_size": 8, "initializer_range": 0.1}
    config = BlipConfig(text_config=size | text | ends, vision_config=size | vision, projection_dim=8)
    model = BlipForConditionalGeneration(config)
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    # The pickle holds the tied tensors once more, and a buffer that is no longer stored.
    for tied, source in model.all_tied_weights_keys.items():
        tensors[tied] = tensors[source].clone()
    tensors["text_decoder.bert.embeddings.position_ids"] = torch.arange(40)[None]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    as_bin(folder / "model.safetensors", folder / "pytorch_model.bin")
    (folder / "generation_config.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    processor = {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "BlipImageProcessor",
        "image_std": [0.25, 0.25, 0.25],
        "processor_class": "BlipProcessor",
        "size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def write_segmenter(folder: Path) -> None:
    """openmmlab/upernet-convnext-tiny: safetensors beside a pickle, and the auxiliary head of training."""
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4, out_features=stages)
    names = dict(enumerate(CLASSES))
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=8,
        auxiliary_in_channels=8,
        auxiliary_channels=4,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    model = UperNetForSemanticSegmentation(config)
    # Wide enough that random weights find more than one class.
    torch.nn.init.normal_(model.decode_head.classifier.weight)
    model.save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    processor = {
        "do_normalize": True,
        "do_reduce_labels": False,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SegformerImageProcessor",
        "image_std": [0.25, 0.25, 0.25],
        "size": {"height": 32, "width": 32},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def build_diffusion(tokens: dict[str, int], positions: int, in_channels: int = 4) -> dict[str, Any]:
    """Untrained parts of a tiny Stable Diffusion; ``tokens`` are size and ends of its tokenizer."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4,
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = CLIPTextConfig(**size, **tokens, max_position_embeddings=positions)
    return {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel(text)}


def write_index(folder: Path, pipeline: str) -> None:
    """The scheduler and the list of parts of a Stable Diffusion pipeline, as saved years ago."""
    from diffusers import PNDMScheduler

    PNDMScheduler(skip_prk_steps=True, steps_offset=1, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "PNDMScheduler"}
    index = {"_class_name": pipeline, "_diffusers_version": "0.6.0"}
    index |= {name: ["diffusers", kind] for name, kind in kinds.items()}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index |= {"feature_extractor": ["transformers", "CLIPImageProcessor"]}
    (folder / "model_index.json").write_text(json.dumps(index))


def write_diffusion(folder: Path, controlnet: Path) -> None:
    """stable-diffusion-v1-5/stable-diffusion-v1-5 and lllyasviel/control_v11p_sd15_seg, as saved years ago."""
    from diffusers import ControlNetModel

    words = ["a</w>", "b</w>", "ab</w>", "a", "b", "<|startoftext|>", "<|endoftext|>"]
    ends = {"bos_token_id": 5, "eos_token_id": 6, "pad_token_id": 6}
    parts = build_diffusion({"vocab_size": len(words), **ends}, 8)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    ControlNetModel.from_unet(parts["unet"]).save_pretrained(controlnet)

    encoder = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(encoder).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(8)[None]
    save_file(tensors, encoder, {"format": "pt"})
    decoder = folder / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(decoder)
    for new, old in names.items():
        tensors = {key.replace(f".{new}.", f".{old}."): value for key, value in tensors.items()}
    save_file(tensors, decoder, {"format": "pt"})

    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 8, "tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"})
    )
    (folder / "safety_checker").mkdir()
    junk = ("safety_checker/model.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors", "v1-5-pruned.ckpt")
    for name in (*junk, "unet/diffusion_pytorch_model.bin"):
        (folder / name).write_bytes(b"never read")
    write_index(folder, "StableDiffusionPipeline")

    weights = controlnet / "diffusion_pytorch_model.safetensors"
    as_half(weights, controlnet / "diffusion_pytorch_model.fp16.safetensors")
    as_bin(weights, controlnet / "diffusion_pytorch_model.bin")


def write_words(folder: Path) -> Any:
    """A CLIP tokenizer of street words and letters in the files of old, of 77 tokens; returns it."""
    from transformers import CLIPTokenizer

    from noma_semcom_env.zoo.train.recovery import build_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(build_tokenizer().backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>"})
    )
    return CLIPTokenizer.from_pretrained(folder)


def write_inpainting(folder: Path) -> None:
    """stable-diffusion-v1-5/stable-diffusion-inpainting: float32 pickled, safetensors in half precision alone."""

    tokenizer = write_words(folder / "tokenizer")
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ends["pad_token_id"] = tokenizer.eos_token_id
    parts = build_diffusion({"vocab_size": len(tokenizer), **ends}, 77, in_channels=9)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        stem = folder / name / ("model" if name == "text_encoder" else "diffusion_pytorch_model")
        weights = stem.with_suffix(".safetensors")
        as_half(weights, stem.with_suffix(".fp16.safetensors"))
        as_bin(weights, folder / name / ("pytorch_model.bin" if name == "text_encoder" else f"{stem.name}.bin"))
    write_index(folder, "StableDiffusionInpaintPipeline")
    (folder / "sd-v1-5-inpainting.ckpt").write_bytes(b"never read")


def write_sam(folder: Path) -> None:
    """facebook/sam-vit-base: the bundled model, which finds what boxes hold, with the hub's files."""
    bundled = WEIGHTS / "street_mixture" / "segment_anything"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(bundled / name, folder)
    processor = json.loads((bundled / "processor_config.json").read_text())
    described = processor["image_processor"] | {"processor_class": processor["processor_class"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    (folder / "pytorch_model.bin").write_bytes(b"never read")


def write_clip(folder: Path) -> None:
    """openai/clip-vit-base-patch32: pickled weights alone, with a buffer that is no longer stored."""
    from transformers import CLIPConfig, CLIPModel

    tokenizer = write_words(folder)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**size, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    vision = {**size, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)).save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    as_bin(folder / "model.safetensors", folder / "pytorch_model.bin")
    processor = {
        "crop_size": 32,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 32,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def write_detector(folder: Path) -> None:
    """IDEA-Research/grounding-dino-tiny."""
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    words = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? the red car on left".split()
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    swin = {"embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4, "out_indices": [2, 3, 4]}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(image_size=64, **swin),
        text_config=BertConfig(vocab_size=len(words), max_position_embeddings=64, **small),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=8,
        max_text_len=16,
    )
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    )
    processor = {
        "do_normalize": True,
        "do_pad": True,
        "do_resize": True,
        "format": "coco_detection",
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "GroundingDinoImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "processor_class": "GroundingDinoProcessor",
        "size": {"longest_edge": 128, "shortest_edge": 96},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.fixture(scope="session")
def mixture_originals(tmp_path_factory: pytest.TempPathFactory) -> TinyMixture:
    """The five folders of the mixture's preset, not to be changed."""
    root = tmp_path_factory.mktemp("mixture_originals")
    folders = TinyMixture(*(root / part for part in TinyMixture._fields))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_inpainting(folders.inpainting)
        write_clip(folders.clip)
        write_captioner(folders.captioner)
        write_detector(folders.detector)
    write_sam(folders.segment_anything)
    return folders


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """The four folders, not to be changed."""
    root = tmp_path_factory.mktemp("originals")
    folders = TinyModels(*(root / part for part in TinyModels._fields))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_diffusion(folders.diffusion, folders.controlnet)
        write_captioner(folders.captioner)
        write_segmenter(folders.segmenter)
    return folders


@pytest.fixture
def tiny(originals: TinyModels, tmp_path: Path) -> TinyModels:
    """Copies of the four folders, to be changed at will."""
    return TinyModels(*(Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in originals))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Path]:
    """An empty cache of the hub without network, and a function that puts a folder into it under an id."""
    import huggingface_hub

    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def put(name: str, folder: Path) -> Path:
        storage = cache / f"models--{name.replace('/', '--')}"
        (storage / "refs").mkdir(parents=True)
        (storage / "refs" / "main").write_text(COMMIT)
        return Path(shutil.copytree(folder, storage / "snapshots" / COMMIT))

    return put
