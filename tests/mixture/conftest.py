"""A transceiver whose every part is genuine and tiny, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

SIDE = 32
SENTENCE = "clear sky by day with a red car near a green tree"


def build_transceiver(**options: Any) -> Any:
    """Swin codec, text codec, inpainting pipeline and CLIP of 32 x 32; the captioner always says the same."""
    import torch

    from noma_semcom_env.mixture.inpainting import Inpainting
    from noma_semcom_env.mixture.metrics import ClipScore
    from noma_semcom_env.mixture.regions import RegionFinder
    from noma_semcom_env.mixture.swin_jscc import SwinConfig, SwinJSCC
    from noma_semcom_env.mixture.text_codec import TextCodec, TextCodecConfig
    from noma_semcom_env.mixture.transceiver import Transceiver
    from noma_semcom_env.zoo.train.recovery import build_tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = build_tokenizer()
        image = SwinJSCC(SwinConfig(SIDE, 4, (8,), (1,), (2,), 8, 1.0, channels=4)).eval()
        text = TextCodec(TextCodecConfig(len(tokenizer), tokenizer.eos_token_id, width=8, blocks=1, heads=2)).eval()
        with torch.no_grad():
            # What arrives decides, not where it stands.
            text.from_symbols[2].weight.mul_(40.0)
            text.to_symbols.weight.mul_(10.0)
        painter = Inpainting(build_pipeline(tokenizer), steps=1)
        judge = ClipScore(*build_clip(tokenizer))
    arguments = {
        "captioner": lambda images: [SENTENCE] * len(images),
        "encode_mask": lambda mask: bytes(int(mask.sum()) % 7 + 20),
        "origin": {"models": "tiny"},
        **options,
    }
    return Transceiver(image, text, tokenizer, painter, judge, RegionFinder((None, None)), **arguments)


def build_pipeline(tokenizer: Any, levels: int = 3) -> Any:
    """An inpainting pipeline whose latents have 1 / 2 ** (levels - 1) of the sides."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from noma_semcom_env.zoo.train.recovery import build_scheduler

    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=24,
            pad_token_id=tokenizer.eos_token_id,
            initializer_factor=50.0,
            **ends,
            **size,
        )
    )
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=[4] * levels,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=SIDE,
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE >> levels - 1,
        in_channels=9,
        out_channels=4,
        down_block_types=["CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D"],
        block_out_channels=[8],
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=DDIMScheduler.from_config(build_scheduler().config, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.requires_grad_(False)
    return pipeline


def build_clip(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        vision_config={**size, "image_size": SIDE, "patch_size": 8},
        text_config={**size, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 24},
        projection_dim=8,
    )
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return CLIPModel(config).eval().requires_grad_(False), CLIPProcessor(processor, tokenizer)


def draw_pictures(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, 32, 32, 3) smooth pictures, and (n, 32, 32) rectangles in them."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    regions = np.zeros((count, SIDE, SIDE), dtype=bool)
    for region in regions:
        top, left = rng.integers(2, 14, 2)
        region[top : top + 12, left : left + 14] = True
    return coarse.astype(np.uint8), regions


@pytest.fixture(scope="session")
def make_transceiver() -> Callable[..., Any]:
    """``build_transceiver``."""
    return build_transceiver


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[..., Any]:
    """``build_pipeline``."""
    return build_pipeline


@pytest.fixture(scope="session")
def transceiver() -> Any:
    """A tiny transceiver, not to be changed."""
    return build_transceiver()


@pytest.fixture(scope="session")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Four pictures and their regions, not to be changed."""
    return draw_pictures(4)


@pytest.fixture(scope="session")
def prepared(transceiver: Any, pictures: tuple[np.ndarray, np.ndarray]) -> Any:
    """What the sender makes of them, not to be changed."""
    images, regions = pictures
    return transceiver.prepare(images, list(regions), kinds=["car", "tree", None, "car"])
