"""Trains the street mixture's inpainting pipeline: autoencoder, then text encoder and UNet together.

    python -m noma_semcom_env.zoo.train.mixture.inpainting --steps 4000 --device cuda

From scratch, or with ``--start`` from a pipeline that is there, whose latents then stay what they are: of its
autoencoder the decoder alone is trained.

The UNet has the nine input channels of Stable Diffusion inpainting: four of noisy latents, one of the mask, four of the
latents of the masked image.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from noma_semcom_env.mixture.inpainting import Inpainting, load_inpainting
from noma_semcom_env.mixture_models import PRESETS
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES
from noma_semcom_env.semantics.phrases import head_word, split_caption
from noma_semcom_env.zoo.loading import models_digest, write_sums
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.autoencoder import to_tensor
from noma_semcom_env.zoo.train.data import Scenes, held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, earlier_training, fit, steps_done
from noma_semcom_env.zoo.train.mixture.drawing import (
    Texts,
    device_generator,
    disturb,
    draw_known,
    presence,
)
from noma_semcom_env.zoo.train.mixture.inpainting_autoencoder import (
    RESOLUTION,
    build_autoencoder,
    train_autoencoder,
    train_decoder,
)
from noma_semcom_env.zoo.train.recovery import (
    MAX_TOKENS,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
)

WIDTHS: Final = (64, 64, 96)
EVALUATED_STEPS: Final = (4, 8, 20)

_KNOWN_WEIGHT = 0.1
"""Weight of the region that is pasted over afterwards: small, but the picture should be one."""


def build(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Untrained text encoder (0.08 M parameters) and UNet (3.2 M)."""
    return build_text_encoder(tokenizer), build_unet(WIDTHS, in_channels=9)


@torch.no_grad()
def _encode(model: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """(n, 4, H/8, W/8) float32 means of the latents."""
    return torch.cat([model.encode(to_tensor(part)).latent_dist.mean for part in images.split(200)])


class Denoising:
    """The loss of text encoder and UNet on a device's scenes.

    Args:
        scenes: What is trained on.
        images: (n, H, W, 3) uint8, those of the scenes, on the device that trains.
        autoencoder: A trained autoencoder on the device.
        tokenizer: Tokenizer in which every street word is one token.
        text: Text encoder to train.
        unet: UNet to train.
        batch: Scenes a step.
    """

    def __init__(
        self,
        scenes: Scenes,
        images: torch.Tensor,
        autoencoder: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        text: CLIPTextModel,
        unet: UNet2DConditionModel,
        batch: int,
    ) -> None:
        self.batch = batch
        self.device = images.device
        self.images, self.autoencoder = images, autoencoder
        self.latents = _encode(autoencoder, images)
        self.labels = torch.from_numpy(np.array(scenes.labels)).to(self.device)
        self.weights = torch.cat([presence(part) for part in self.labels.split(2000)])
        words = sorted({word for caption in scenes.captions for word in caption.split()})
        known = {word: tokenizer(word, add_special_tokens=False).input_ids[0] for word in words}
        self.texts = Texts.of(scenes.captions, known, tokenizer.bos_token_id, tokenizer.eos_token_id, self.device)
        self.signal = build_scheduler().alphas_cumprod.to(self.device)
        self.text, self.unet = (module.to(self.device).train().requires_grad_(True) for module in (text, unet))

    def __call__(self, generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        """Mean squared error of the velocity, mostly over the region to paint."""
        device = self.device
        on_device = device_generator(generator, device)
        index = torch.randint(len(self.latents), (self.batch,), generator=on_device, device=device)
        weights = self.weights[index]
        chances = torch.empty_like(weights).exponential_(generator=on_device)
        classes = (weights / chances).argmax(1)
        known = draw_known(self.labels[index], classes, on_device)
        clean = self.latents[index]
        times = torch.randint(1000, (self.batch,), generator=on_device, device=device)
        # Few-step sampling starts from pure noise, so the last step is met more often than by chance.
        last = torch.rand(self.batch, generator=on_device, device=device) < 0.1
        times = torch.where(last, 999, times)
        noise = torch.randn(clean.shape, generator=on_device, device=device)
        share = self.signal[times].view(-1, 1, 1, 1)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        velocity = share.sqrt() * noise - (1 - share).sqrt() * clean
        paint = 1 - known
        mask = F.interpolate(paint, clean.shape[-2:])
        ids = self.texts.draw(index, classes, MAX_TOKENS, on_device)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                received = disturb(to_tensor(self.images[index]), on_device) * known
                masked = self.autoencoder.encode(received).latent_dist.sample(on_device).float()
            hidden = self.text(ids).last_hidden_state
            predicted = self.unet(torch.cat([noisy, mask, masked], 1), times, hidden).sample
        weight = _KNOWN_WEIGHT + (1 - _KNOWN_WEIGHT) * F.interpolate(paint, clean.shape[-2:], mode="area")
        error = (predicted.float() - velocity).square().mean(1, keepdim=True)
        return {"loss": (weight * error).sum() / weight.sum()}


@torch.no_grad()
def _measure(receiver: Inpainting, scenes: Scenes, device: torch.device) -> dict[str, Any]:
    """Figures on held-out scenes whose region of interest, an object where there is one, arrives unharmed."""
    distance = PerceptualDistance()

    def compare(recovered: np.ndarray) -> float:
        pairs = zip(*(torch.from_numpy(a).split(64) for a in (scenes.images, recovered)), strict=True)
        values = [distance(*(to_tensor(x).to(device) / 2 + 0.5 for x in pair)) for pair in pairs]
        return round(float(torch.cat(values).mean()), 4)

    vae = receiver.pipeline.vae
    raw = torch.from_numpy(scenes.images)
    decoded = [vae.decode(vae.encode(to_tensor(part).to(device)).latent_dist.mode()).sample for part in raw.split(32)]
    levels = (torch.cat(decoded).clamp(-1, 1) * 127.5 + 127.5).round().permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    error = ((levels.astype(np.float64) - scenes.images) ** 2).mean((1, 2, 3))
    known, texts = [], []
    for labels, caption in zip(scenes.labels, scenes.captions, strict=True):
        phrases = split_caption(caption)
        things = [head_word(phrase) for phrase in phrases if head_word(phrase) in ATTRIBUTES]
        known.append(labels == (CLASSES.index(things[0]) if things else labels[-1, 0]))
        texts.append(" ".join(phrase for phrase in phrases if head_word(phrase) not in things[:1]))
    regions = np.stack(known)
    figures: dict[str, Any] = {
        "held_out_scenes": len(raw),
        "autoencoder": {"lpips": compare(levels), "psnr_db": round(float(10 * np.log10(255**2 / error).mean()), 2)},
        "guidance": receiver.guidance,
        "share_known": round(float(regions.mean()), 4),
        "lpips_painted": {},
    }
    for steps in EVALUATED_STEPS:
        together = len(raw) if device.type == "cuda" else None
        painter = Inpainting(receiver.pipeline, steps, together, receiver.guidance)
        figures["lpips_painted"][f"{steps} steps"] = {
            name: compare(painter.paint(scenes.images, regions, prompts)[:, 0])
            for name, prompts in (
                ("caption", texts),
                ("empty caption", [""] * len(texts)),
                ("another scene's caption", texts[1:] + texts[:1]),
            )
        }
    return figures


def _begin(tokenizer: CLIPTokenizer, start: Path | None) -> tuple[AutoencoderKL, CLIPTextModel, UNet2DConditionModel]:
    """Autoencoder, text encoder and UNet: untrained, or those of a pipeline."""
    if start is not None:
        begun = load_inpainting(start).pipeline
        if begun.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise ValueError(f"--start {start} has another vocabulary than the street world's; give a pipeline of that")
        return begun.vae, begun.text_encoder, begun.unet
    torch.manual_seed(0)
    autoencoder = build_autoencoder()
    torch.manual_seed(1)
    return autoencoder, *build(tokenizer)


def train(
    steps: int,
    scenes: int,
    folder: Path,
    target: Path,
    device: torch.device,
    batch: int = 256,
    autoencoder_steps: int | None = None,
    limit_s: float = math.inf,
    rate: float = 1.5e-3,
    start: Path | None = None,
) -> None:
    """Train, measure and export the pipeline.

    Args:
        steps: Steps of text encoder and UNet.
        scenes: Training scenes.
        folder: Where scenes and checkpoints go.
        target: Folder that gets the pipeline.
        device: Where it is trained.
        batch: Scenes a step; the autoencoder takes a quarter of it.
        autoencoder_steps: Steps of the autoencoder, or of its decoder where there is a ``start``; None is two fifths
            of ``steps``.
        limit_s: Seconds after which training must be over; three tenths of them are the autoencoder's.
        rate: Highest learning rate of text encoder and UNet.
        start: Folder of a pipeline to go on from; None begins anew.
    """
    work = folder / "mixture" / "inpainting"
    # A tiny set is a trial of the script; its batches need be no larger.
    batch = min(batch, -(-scenes // 4))
    torch.set_float32_matmul_precision("high")
    of_autoencoder = max(1, 2 * steps // 5) if autoencoder_steps is None else autoencoder_steps
    data = training_scenes(scenes, folder, RESOLUTION)
    images = torch.from_numpy(np.array(data.images)).to(device)
    tokenizer = build_tokenizer()
    seen = f"{scenes} scenes, batch {batch}"
    if start is not None:
        seen += f", from {models_digest([start])}"
    autoencoder, text, unet = _begin(tokenizer, start)
    earlier = {} if start is None else {"began_from": earlier_training(start)}
    train_images = train_autoencoder if start is None else train_decoder
    limits = 0.3 * limit_s, 0.7 * limit_s
    train_images(autoencoder.to(device), images, of_autoencoder, limits[0], -(-batch // 4), work / "autoencoder", seen)
    loss = Denoising(data, images, autoencoder, tokenizer, text, unet, batch)
    schedule = Schedule(steps, rate, checkpoint_s=60, limit_s=limits[1])
    origin = f"{seen}, autoencoder of {of_autoencoder} steps"
    seconds = fit("inpainting", [loss.text, loss.unet], loss, schedule, work / "unet", seed=1, data=origin)
    pipeline = StableDiffusionInpaintPipeline(
        vae=autoencoder,
        text_encoder=loss.text.eval().requires_grad_(False),
        tokenizer=tokenizer,
        unet=loss.unet.eval().requires_grad_(False),
        # The offset is without effect on trailing steps, but the pipeline warns of another one.
        scheduler=DDIMScheduler.from_config(build_scheduler().config, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    parts = (pipeline.vae, pipeline.text_encoder, pipeline.unet)
    for part in parts:
        part.half()
    part_target = target.with_name(f"{target.name}.part")
    shutil.rmtree(part_target, ignore_errors=True)
    pipeline.save_pretrained(part_target)
    # What is measured is what is exported, rounded weights and all.
    for part in parts:
        part.float()
    held_back = held_out(max(8, min(256, scenes // 8)), RESOLUTION)
    card: dict[str, Any] = {
        "steps": steps_done(work / "unet"),
        "batch": batch,
        "scenes": scenes,
        "autoencoder_steps" if start is None else "decoder_steps": steps_done(work / "autoencoder"),
        "seconds": round(seconds),
        **earlier,
        **_measure(Inpainting(pipeline, guidance=PRESETS["street_mixture"].guidance), held_back, device),
    }
    (part_target / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    write_sums(part_target)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part_target, target)
    print(json.dumps(card))


def main() -> None:
    parser = make_parser(__doc__, steps=4000)
    parser.add_argument("--autoencoder-steps", type=int)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=math.inf, help="training is over by then, whatever --steps")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rate", type=float, default=1.5e-3, help="highest learning rate of text encoder and UNet")
    parser.add_argument("--start", type=Path, help="folder of a pipeline to go on from")
    parser.add_argument("--target", type=Path, default=WEIGHTS / "street_mixture", help="folder that gets the weights")
    given = parser.parse_args()
    train(
        given.steps,
        given.scenes,
        given.folder,
        given.target / "inpainting",
        given.device,
        given.batch,
        given.autoencoder_steps,
        given.seconds,
        given.rate,
        given.start,
    )


if __name__ == "__main__":
    main()
