"""Trains the street preset's text encoder, UNet and segmentation ControlNet, jointly and from scratch.

    python -m noma_semcom_env.zoo.train.recovery --steps 8500

Masks and phrases are dropped at random, so that any selection of features is in distribution. Captions are cut into the
same phrases that are sent, and ground-truth masks stand for the segmenter's.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
from rich.progress import track
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from noma_semcom_env.scenes.street import CLASSES, PALETTE, vocabulary
from noma_semcom_env.semantics.phrases import split_caption
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.train.autoencoder import to_tensor
from noma_semcom_env.zoo.train.data import make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit

MAX_TOKENS = 24
WIDTHS = (32, 64, 128)
TEXT_WIDTH = 64


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer in which every street word is one token and any other word is spelled in letters and digits.

    Characters outside a to z, 0 to 9, hyphen and apostrophe are unknown to it. Byte-pair merges are learned by plain
    BPE until each word is one token.
    """
    words = vocabulary()
    letters = sorted({chr(c) for c in range(ord("a"), ord("z") + 1)} | set("0123456789'-"))
    tokens = letters + [letter + "</w>" for letter in letters]
    merges: list[tuple[str, str]] = []
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    while any(len(parts) > 1 for parts in pieces.values()):
        pairs = Counter(pair for parts in pieces.values() for pair in pairwise(parts))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        tokens.append("".join(best))
        pieces = {word: _merge(parts, best) for word, parts in pieces.items()}
    entries = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(entries)}, merges=merges, model_max_length=MAX_TOKENS
    )


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged, i = [], 0
    while i < len(parts):
        if tuple(parts[i : i + 2]) == pair:
            merged.append("".join(pair))
            i += 2
        else:
            merged.append(parts[i])
            i += 1
    return merged


def build_scheduler() -> DDIMScheduler:
    """DDIM with v-prediction, zero terminal signal-to-noise ratio and trailing steps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=0,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The untrained text encoder, 0.08 M parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
            projection_dim=TEXT_WIDTH,
        )
    )


def build_unet(widths: Sequence[int], in_channels: int = 4) -> UNet2DConditionModel:
    """The untrained UNet over latents of 16 x 16 x 4, told a text at every level but the first.

    Args:
        widths: Channels at each level.
        in_channels: Four of noisy latents, and those of what else it is shown.
    """
    count = len(widths)
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * (count - 1),
        up_block_types=["CrossAttnUpBlock2D"] * (count - 1) + ["UpBlock2D"],
        block_out_channels=list(widths),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def build(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, UNet2DConditionModel, ControlNetModel]:
    """The untrained text encoder, UNet and ControlNet."""
    text, unet = build_text_encoder(tokenizer), build_unet(WIDTHS)
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32))
    # Trained from scratch with the UNet, zero-initialized convolutions would starve ControlNet's encoder of gradients.
    for layer in (
        control.controlnet_cond_embedding.conv_out,
        control.controlnet_mid_block,
        *control.controlnet_down_blocks,
    ):
        torch.nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
        layer.weight.data.mul_(0.5)
        torch.nn.init.zeros_(layer.bias)
    return text, unet, control


class _Batches:
    """Draws training batches: latents, conditioning pictures and token ids with random features left out."""

    def __init__(self, folder: Path, scenes: int, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer) -> None:
        data = training_scenes(scenes, folder)
        origin = models_digest([folder / "autoencoder" / "model"])[:12]
        self.latents = _encode(folder / f"latents-{scenes}-{origin}.npy", data.images, autoencoder)
        self.origin = f"{scenes} scenes, autoencoder {origin}"
        self.labels = torch.from_numpy(np.array(data.labels))
        phrases = [split_caption(caption) for caption in data.captions]
        known = {p: tokenizer(p, add_special_tokens=False).input_ids for p in {p for ps in phrases for p in ps}}
        self.tokens = [[known[p] for p in ps] for ps in phrases]
        self.bos, self.eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.palette = torch.cat([torch.from_numpy(PALETTE).float() / 255, torch.zeros(1, 3)])

    def draw(self, generator: torch.Generator, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(latents, conditioning pictures in [0, 1], token ids)."""
        index = torch.randint(len(self.latents), (size,), generator=generator)
        dice = torch.rand(size, 3, generator=generator)
        mask_rate, text_rate = dice[:, 1].clone(), dice[:, 2].clone()
        for low, high, masks, texts in (
            (0.0, 0.25, 1.0, 1.0),
            (0.25, 0.3, 0.0, 0.0),
            (0.3, 0.38, 1.0, 0.0),
            (0.38, 0.46, 0.0, 1.0),
        ):
            chosen = (dice[:, 0] >= low) & (dice[:, 0] < high)
            mask_rate[chosen], text_rate[chosen] = masks, texts
        keep = torch.rand(size, len(CLASSES), generator=generator) < mask_rate[:, None]
        labels = self.labels[index].long()
        kept = torch.gather(keep, 1, labels.flatten(1)).view(labels.shape)
        pictures = self.palette[torch.where(kept, labels, len(CLASSES))].permute(0, 3, 1, 2)
        ids = torch.full((size, MAX_TOKENS), self.eos)
        ids[:, 0] = self.bos
        drop = torch.rand(size, 8, generator=generator)
        for row, scene in enumerate(index.tolist()):
            sent = [t for i, phrase in enumerate(self.tokens[scene]) if drop[row, i] < text_rate[row] for t in phrase]
            ids[row, 1 : 1 + len(sent)] = torch.tensor(sent, dtype=torch.long)
        return self.latents[index], pictures.contiguous(memory_format=torch.channels_last), ids


@torch.no_grad()
def _encode(cache: Path, images: np.ndarray, autoencoder: AutoencoderKL) -> torch.Tensor:
    if not cache.exists():
        batches = [
            autoencoder.encode(to_tensor(torch.from_numpy(images[i : i + 100].copy()))).latent_dist.mean
            for i in track(range(0, len(images), 100), "encoding scenes")
        ]
        part = cache.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, torch.cat(batches).numpy())
        os.replace(part, cache)
    return torch.from_numpy(np.load(cache))


def train(steps: int, scenes: int, folder: Path, batch: int = 32, rate: float = 1.2e-3) -> None:
    """Train the three models on frozen latents and save a pipeline under ``folder``/recovery."""
    torch.manual_seed(0)
    autoencoder = AutoencoderKL.from_pretrained(folder / "autoencoder" / "model").eval().requires_grad_(False)
    tokenizer, scheduler = build_tokenizer(), build_scheduler()
    text, unet, control = build(tokenizer)
    unet.to(memory_format=torch.channels_last)
    control.to(memory_format=torch.channels_last)
    batches = _Batches(folder, scenes, autoencoder, tokenizer)
    signal = scheduler.alphas_cumprod

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        clean, pictures, ids = batches.draw(generator, batch)
        clean = clean.contiguous(memory_format=torch.channels_last)
        times = torch.randint(1000, (batch,), generator=generator)
        # Few-step sampling starts from pure noise, so the last step is met more often than by chance.
        times[torch.rand(batch, generator=generator) < 0.1] = 999
        noise = torch.randn(clean.shape, generator=generator)
        share = signal[times].view(-1, 1, 1, 1)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        velocity = share.sqrt() * noise - (1 - share).sqrt() * clean
        hidden = text(ids).last_hidden_state
        down, middle = control(noisy, times, hidden, pictures, return_dict=False)
        predicted = unet(
            noisy, times, hidden, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        return {"loss": F.mse_loss(predicted, velocity)}

    target = folder / "recovery"
    seconds = fit("recovery", [text, unet, control], loss, Schedule(steps, rate), target, data=batches.origin)
    for module in (text, unet, control):
        module.eval()
    StableDiffusionControlNetPipeline(
        vae=autoencoder,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        controlnet=control,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(target / "model")
    card = {"steps": steps, "batch": batch, "scenes": scenes, "seconds": round(seconds)}
    (target / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card))


def main() -> None:
    arguments = make_parser(__doc__, steps=8500).parse_args()
    train(arguments.steps, arguments.scenes, arguments.folder)


if __name__ == "__main__":
    main()
