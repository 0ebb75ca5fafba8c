"""Trains the autoencoder of the street mixture's inpainting pipeline; see :mod:`.inpainting`, which runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.zoo.train.autoencoder import to_tensor, whiten
from noma_semcom_env.zoo.train.fit import Schedule, fit
from noma_semcom_env.zoo.train.mixture.drawing import device_generator

RESOLUTION: Final = 128


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


def train_autoencoder(
    model: AutoencoderKL, images: torch.Tensor, steps: int, limit_s: float, batch: int, folder: Path, data: str
) -> None:
    """Train an autoencoder in place and whiten its latents.

    Args:
        model: An autoencoder on the device of the images.
        images: (n, H, W, 3) uint8.
        steps: Optimizer steps.
        limit_s: Seconds after which it must be done.
        batch: Images a step.
        folder: Where its checkpoint goes.
        data: Names what is trained on.
    """
    losses = _Reconstruction(model, images, batch)

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        raw, on_device = losses.draw(generator)
        with torch.autocast(images.device.type, torch.bfloat16):
            posterior = model.encode(raw).latent_dist
            recovered = model.decode(posterior.sample(on_device)).sample.float()
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        found = losses(raw, recovered)
        return {**found, "loss": found["loss"] + 2e-5 * divergence}

    schedule = Schedule(steps, 2e-3, hold=0.1, averaging=0.995, checkpoint_s=60, limit_s=limit_s)
    fit("mixture autoencoder", [model], loss, schedule, folder, data=data)
    model.eval().requires_grad_(False)
    whiten(model, images[:1500])


def train_decoder(
    model: AutoencoderKL, images: torch.Tensor, steps: int, limit_s: float, batch: int, folder: Path, data: str
) -> None:
    """Train the decoder of a trained autoencoder in place; the latents stay what they are.

    Args:
        model: See :func:`train_autoencoder`, likewise the rest.
        images: (n, H, W, 3) uint8.
        steps: Optimizer steps.
        limit_s: Seconds after which it must be done.
        batch: Images a step.
        folder: Where its checkpoint goes.
        data: Names what is trained on.
    """
    losses = _Reconstruction(model, images, batch)
    decoder = torch.nn.ModuleList([model.post_quant_conv, model.decoder]).requires_grad_(True)

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        raw, on_device = losses.draw(generator)
        with torch.autocast(images.device.type, torch.bfloat16):
            with torch.no_grad():
                latents = model.encode(raw).latent_dist.sample(on_device)
            recovered = model.decode(latents).sample.float()
        return losses(raw, recovered)

    schedule = Schedule(steps, 1e-3, hold=0.1, averaging=0.99, checkpoint_s=60, limit_s=limit_s)
    fit("mixture decoder", [decoder], loss, schedule, folder, data=data)
    model.eval().requires_grad_(False)


class _Reconstruction:
    """Draws images and tells how far recovered ones are from them."""

    def __init__(self, model: AutoencoderKL, images: torch.Tensor, batch: int) -> None:
        self.images, self.batch = images, batch
        self.distance = PerceptualDistance()
        model.train()

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Generator]:
        """(batch, 3, H, W) images in [-1, 1], and a generator of their device."""
        on_device = device_generator(generator, self.images.device)
        index = torch.randint(len(self.images), (self.batch,), generator=on_device, device=self.images.device)
        return to_tensor(self.images[index]), on_device

    def __call__(self, raw: torch.Tensor, recovered: torch.Tensor) -> dict[str, torch.Tensor]:
        perceptual = self.distance(raw / 2 + 0.5, recovered / 2 + 0.5).mean()
        absolute = F.l1_loss(recovered, raw)
        total = absolute + 0.4 * perceptual + F.mse_loss(recovered, raw)
        return {"loss": total, "l1": absolute.detach(), "lpips": perceptual.detach()}
