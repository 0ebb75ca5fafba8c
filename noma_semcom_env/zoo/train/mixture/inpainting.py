"""Trains the street mixture's inpainting pipeline from scratch: autoencoder, then text encoder and UNet together.

    python -m noma_semcom_env.zoo.train.mixture.inpainting --steps 4000 --device cuda

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

from noma_semcom_env.mixture.inpainting import Inpainting
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES
from noma_semcom_env.semantics.phrases import head_word, split_caption
from noma_semcom_env.zoo.loading import write_sums
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.autoencoder import to_tensor, whiten
from noma_semcom_env.zoo.train.data import Scenes, held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit, steps_done
from noma_semcom_env.zoo.train.mixture.drawing import (
    Texts,
    device_generator,
    disturb,
    draw_known,
    presence,
)
from noma_semcom_env.zoo.train.recovery import (
    MAX_TOKENS,
    build_scheduler,
    build_text_encoder,
    build_tokenizer,
    build_unet,
)

RESOLUTION: Final = 128
WIDTHS: Final = (64, 64, 96)
EVALUATED_STEPS: Final = (4, 8, 20)

_KNOWN_WEIGHT = 0.1
"""Weight of the region that is pasted over afterwards: small, but the picture should be one."""


def build_autoencoder() -> AutoencoderKL:
    """The untrained autoencoder: 128 x 128 x 3 to 16 x 16 x 4, 0.62 M parameters."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[24, 32, 48, 48],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=RESOLUTION,
    )


def build(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """The untrained text encoder (0.08 M parameters) and UNet (3.2 M)."""
    return build_text_encoder(tokenizer), build_unet(WIDTHS, in_channels=9)


def train_autoencoder(
    images: torch.Tensor, steps: int, limit_s: float, batch: int, folder: Path, data: str
) -> AutoencoderKL:
    """Train and whiten the autoencoder.

    Args:
        images: (n, H, W, 3) uint8 on the device that trains.
        steps: Optimizer steps.
        limit_s: Seconds after which it must be done.
        batch: Images a step.
        folder: Where its checkpoint goes.
        data: Names what is trained on.
    """
    torch.manual_seed(0)
    device = images.device
    model = build_autoencoder().to(device)
    distance = PerceptualDistance()

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        on_device = device_generator(generator, device)
        index = torch.randint(len(images), (batch,), generator=on_device, device=device)
        raw = to_tensor(images[index])
        with torch.autocast(device.type, torch.bfloat16):
            posterior = model.encode(raw).latent_dist
            recovered = model.decode(posterior.sample(on_device)).sample.float()
        perceptual = distance(raw / 2 + 0.5, recovered / 2 + 0.5).mean()
        absolute = F.l1_loss(recovered, raw)
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        total = absolute + 0.4 * perceptual + F.mse_loss(recovered, raw) + 2e-5 * divergence
        return {"loss": total, "l1": absolute.detach(), "lpips": perceptual.detach()}

    schedule = Schedule(steps, 2e-3, hold=0.1, averaging=0.995, checkpoint_s=60, limit_s=limit_s)
    fit("mixture autoencoder", [model], loss, schedule, folder, data=data)
    model.eval().requires_grad_(False)
    whiten(model, images[:1500])
    return model


@torch.no_grad()
def _encode(model: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """(n, 4, H/8, W/8) float32 means of the latents."""
    return torch.cat([model.encode(to_tensor(part)).latent_dist.mean for part in images.split(200)])


class Denoising:
    """The loss of text encoder and UNet on a device's scenes.

    Args:
        scenes: What is trained on.
        autoencoder: A trained autoencoder on the device.
        tokenizer: Tokenizer in which every street word is one token.
        batch: Scenes a step.
    """

    def __init__(
        self, scenes: Scenes, images: torch.Tensor, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer, batch: int
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
        self.text, self.unet = (module.to(self.device) for module in build(tokenizer))

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
        "share_known": round(float(regions.mean()), 4),
        "lpips_painted": {},
    }
    for steps in EVALUATED_STEPS:
        painter = Inpainting(receiver.pipeline, steps, batch_size=len(raw) if device.type == "cuda" else None)
        figures["lpips_painted"][f"{steps} steps"] = {
            name: compare(painter.paint(scenes.images, regions, prompts)[:, 0])
            for name, prompts in (
                ("caption", texts),
                ("empty caption", [""] * len(texts)),
                ("another scene's caption", texts[1:] + texts[:1]),
            )
        }
    return figures


def train(
    steps: int,
    scenes: int,
    folder: Path,
    target: Path,
    device: torch.device,
    batch: int = 256,
    autoencoder_steps: int | None = None,
    limit_s: float = math.inf,
) -> None:
    """Train, measure and export the pipeline.

    Args:
        steps: Steps of text encoder and UNet.
        scenes: Training scenes.
        folder: Where scenes and checkpoints go.
        target: Folder that gets the pipeline.
        device: Where it is trained.
        batch: Scenes a step; the autoencoder takes a quarter of it.
        autoencoder_steps: Steps of the autoencoder; None is two fifths of ``steps``.
        limit_s: Seconds after which training must be over; three tenths of them are the autoencoder's.
    """
    work = folder / "mixture" / "inpainting"
    # A tiny set is a trial of the script; its batches need be no larger.
    batch = min(batch, -(-scenes // 4))
    torch.set_float32_matmul_precision("high")
    of_autoencoder = max(1, 2 * steps // 5) if autoencoder_steps is None else autoencoder_steps
    data = training_scenes(scenes, folder, RESOLUTION)
    images = torch.from_numpy(np.array(data.images)).to(device)
    autoencoder = train_autoencoder(
        images, of_autoencoder, 0.3 * limit_s, -(-batch // 4), work / "autoencoder", f"{scenes} scenes, batch {batch}"
    )
    torch.manual_seed(1)
    tokenizer = build_tokenizer()
    loss = Denoising(data, images, autoencoder, tokenizer, batch)
    schedule = Schedule(steps, 1.5e-3, checkpoint_s=60, limit_s=0.7 * limit_s)
    origin = f"{scenes} scenes, batch {batch}, autoencoder of {of_autoencoder} steps"
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
    card: dict[str, Any] = {
        "steps": steps_done(work / "unet"),
        "batch": batch,
        "scenes": scenes,
        "autoencoder_steps": steps_done(work / "autoencoder"),
        "seconds": round(seconds),
        **_measure(Inpainting(pipeline), held_out(max(8, min(256, scenes // 8)), RESOLUTION), device),
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
    )


if __name__ == "__main__":
    main()
