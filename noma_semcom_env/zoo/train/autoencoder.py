"""Trains the street preset's AutoencoderKL and whitens its latents.

    python -m noma_semcom_env.zoo.train.autoencoder --steps 4000

The latents are whitened by folding scale and mean into the 1x1 quantization convolutions, because the Stable Diffusion
pipelines know a scaling factor alone and ignore a shift.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.zoo.train.data import held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit


def build() -> AutoencoderKL:
    """The untrained autoencoder: 64 x 64 x 3 to 16 x 16 x 4."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[16, 32, 64],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )


def to_tensor(images: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float in [-1, 1], channels last in memory."""
    return (images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def whiten(model: AutoencoderKL, images: torch.Tensor) -> None:
    """Give the latents of ``images`` zero mean and unit covariance, leaving reconstructions unchanged."""
    latents = torch.cat([model.encode(to_tensor(batch)).latent_dist.mean for batch in images.split(100)])
    mean = latents.mean((0, 2, 3))
    centred = (latents - mean.view(1, -1, 1, 1)).permute(1, 0, 2, 3).flatten(1).double()
    values, vectors = torch.linalg.eigh(centred @ centred.T / centred.shape[1])
    forward = (vectors @ torch.diag(values**-0.5) @ vectors.T).float()
    backward = (vectors @ torch.diag(values**0.5) @ vectors.T).float()
    quant, post = model.quant_conv, model.post_quant_conv
    n = len(mean)
    weight, bias = quant.weight[:n, :, 0, 0].clone(), quant.bias[:n].clone()
    quant.weight[:n, :, 0, 0] = forward @ weight
    quant.bias[:n] = forward @ (bias - mean)
    quant.bias[n:] -= values.mean().log().float()
    kernel = post.weight[:, :, 0, 0].clone()
    post.bias += kernel @ mean
    post.weight[:, :, 0, 0] = kernel @ backward
    model.register_to_config(scaling_factor=1.0)


@torch.no_grad()
def floor(model: AutoencoderKL, images: torch.Tensor) -> float:
    """Mean LPIPS between images and their reconstructions: the floor of any recovery."""
    distance = PerceptualDistance()
    values = []
    for batch in images.split(64):
        raw = to_tensor(batch)
        recovered = model.decode(model.encode(raw).latent_dist.mode()).sample.clamp(-1, 1)
        values.append(distance(raw / 2 + 0.5, recovered / 2 + 0.5))
    return float(torch.cat(values).mean())


def train(steps: int, scenes: int, folder: Path, batch: int = 16) -> None:
    """Train, whiten, measure and save the autoencoder under ``folder``/autoencoder."""
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    images = training_scenes(scenes, folder).images
    distance = PerceptualDistance()

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        index = torch.randint(len(images), (batch,), generator=generator)
        raw = to_tensor(torch.from_numpy(images[index.sort().values.numpy()]))
        # Half precision is a third faster here; the few-channel pictures leave the rounding invisible.
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.encode(raw).latent_dist
            recovered = model.decode(posterior.sample(generator)).sample.float()
        absolute = F.l1_loss(recovered, raw)
        perceptual = distance(raw[: batch // 2] / 2 + 0.5, recovered[: batch // 2] / 2 + 0.5).mean()
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        total = absolute + 0.4 * perceptual + F.mse_loss(recovered, raw) + 2e-5 * divergence
        return {"loss": total, "l1": absolute.detach(), "lpips": perceptual.detach()}

    target = folder / "autoencoder"
    seconds = fit(
        "autoencoder", [model], loss, Schedule(steps, 2e-3, hold=0.1, averaging=0.995), target, data=f"{scenes} scenes"
    )
    model.eval()
    whiten(model, torch.from_numpy(images[:1500].copy()))
    value = floor(model, torch.from_numpy(held_out(256).images))
    model.save_pretrained(target / "model")
    card = {"steps": steps, "batch": batch, "scenes": scenes, "seconds": round(seconds), "lpips_floor": round(value, 4)}
    (target / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card))


def main() -> None:
    arguments = make_parser(__doc__, steps=4000).parse_args()
    train(arguments.steps, arguments.scenes, arguments.folder)


if __name__ == "__main__":
    main()
