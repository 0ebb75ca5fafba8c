"""Trains the unconditional diffusion of street scenes that DiffCom samples from.

    python -m noma_semcom_env.zoo.train.mixture.unconditional --steps 3000 --device cuda

It works on pixels: blocks of 2 x 2 pixels become channels, which changes no distance and leaves white noise white, and
makes the network four times cheaper.
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
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from PIL import Image

from noma_semcom_env.mixture.diffcom import DiffCom
from noma_semcom_env.zoo.loading import write_sums
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.autoencoder import to_tensor
from noma_semcom_env.zoo.train.data import held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit, steps_done
from noma_semcom_env.zoo.train.mixture.drawing import device_generator

RESOLUTION: Final = 128
BLOCK: Final = 2
WIDTHS: Final = (32, 48, 64, 80)
EVALUATED_TIMES: Final = (100, 300, 500, 700, 900)


def build() -> UNet2DModel:
    """The untrained network: 1.7 M parameters, attention on 16 x 16 and 8 x 8."""
    return UNet2DModel(
        sample_size=RESOLUTION // BLOCK,
        in_channels=3 * BLOCK**2,
        out_channels=3 * BLOCK**2,
        down_block_types=["DownBlock2D"] * 2 + ["AttnDownBlock2D"] * 2,
        up_block_types=["AttnUpBlock2D"] * 2 + ["UpBlock2D"] * 2,
        block_out_channels=list(WIDTHS),
        layers_per_block=1,
        attention_head_dim=16,
        norm_num_groups=8,
    )


def build_scheduler() -> DDIMScheduler:
    """Cosine schedule down to zero signal, v-prediction, trailing steps."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=True,
    )


def velocity_error(
    model: UNet2DModel, raw: torch.Tensor, times: torch.Tensor, noise: torch.Tensor, signal: torch.Tensor
) -> torch.Tensor:
    """Squared error of the predicted velocity.

    Args:
        model: The network.
        raw: (B, C, h, w) images in [-1, 1], blocks as channels.
        times: (B,) steps of the schedule.
        noise: White noise of the images' shape.
        signal: (1000,) cumulative share of the signal's power at each step.

    Returns:
        (B,) means over an image.
    """
    share = signal[times].view(-1, 1, 1, 1)
    noisy = share.sqrt() * raw + (1 - share).sqrt() * noise
    velocity = share.sqrt() * noise - (1 - share).sqrt() * raw
    with torch.autocast(raw.device.type, torch.bfloat16):
        predicted = model(noisy, times).sample
    error: torch.Tensor = (predicted.float() - velocity).square().mean((1, 2, 3))
    return error


@torch.no_grad()
def _measure(model: UNet2DModel, images: np.ndarray, device: torch.device) -> dict[str, float]:
    """Mean squared error of the velocity on held-out scenes, at a few times."""
    signal = build_scheduler().alphas_cumprod.to(device)
    generator = torch.Generator(device).manual_seed(0)
    figures = {}
    for time in EVALUATED_TIMES:
        errors = []
        for part in torch.from_numpy(images).split(32):
            raw = F.pixel_unshuffle(to_tensor(part.to(device)), BLOCK)
            noise = torch.randn(raw.shape, generator=generator, device=device)
            errors.append(velocity_error(model, raw, torch.full((len(raw),), time, device=device), noise, signal))
        figures[f"t = {time}"] = round(float(torch.cat(errors).mean()), 5)
    return figures


def train(
    steps: int,
    scenes: int,
    folder: Path,
    target: Path,
    device: torch.device,
    batch: int = 128,
    limit_s: float = math.inf,
) -> None:
    """Train, measure and export the network and its scheduler.

    Args:
        steps: Optimizer steps.
        scenes: Training scenes.
        folder: Where scenes, checkpoints and a sheet of samples go.
        target: Folder that gets the model.
        device: Where it is trained.
        batch: Scenes a step.
        limit_s: Seconds after which training must be over.
    """
    work = folder / "mixture" / "unconditional"
    # A tiny set is a trial of the script; its batches need be no larger.
    batch = min(batch, -(-scenes // 4))
    torch.set_float32_matmul_precision("high")
    images = torch.from_numpy(np.array(training_scenes(scenes, folder, RESOLUTION).images)).to(device)
    torch.manual_seed(0)
    model, signal = build().to(device), build_scheduler().alphas_cumprod.to(device)

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        on_device = device_generator(generator, device)
        index = torch.randint(len(images), (batch,), generator=on_device, device=device)
        raw = F.pixel_unshuffle(to_tensor(images[index]), BLOCK)
        times = torch.randint(1000, (batch,), generator=on_device, device=device)
        noise = torch.randn(raw.shape, generator=on_device, device=device)
        return {"loss": velocity_error(model, raw, times, noise, signal).mean()}

    schedule = Schedule(steps, 1.5e-3, checkpoint_s=60, limit_s=limit_s)
    seconds = fit("unconditional", [model], loss, schedule, work, data=f"{scenes} scenes, batch {batch}")
    model.eval().requires_grad_(False).half()
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    DDIMPipeline(model, build_scheduler()).save_pretrained(part)
    # What is measured is what is exported, rounded weights and all.
    model.float()
    count = max(8, min(256, scenes // 8))
    card: dict[str, Any] = {
        "steps": steps_done(work),
        "batch": batch,
        "scenes": scenes,
        "seconds": round(seconds),
        "held_out_scenes": count,
        "velocity_mse": _measure(model, held_out(count, RESOLUTION).images, device),
    }
    (part / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    write_sums(part)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(part, target)
    side = min(8, math.isqrt(count) // 2)
    samples = DiffCom(model, build_scheduler(), steps=min(100, 5 * count)).sample(range(side * side))
    sheet = np.concatenate([np.concatenate(list(row), 1) for row in samples.reshape(side, side, *samples.shape[1:])])
    Image.fromarray(sheet).save(work / "samples.png")
    print(json.dumps(card))


def main() -> None:
    parser = make_parser(__doc__, steps=3000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=math.inf, help="training is over by then, whatever --steps")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--target", type=Path, default=WEIGHTS / "street_mixture", help="folder that gets the weights")
    given = parser.parse_args()
    train(
        given.steps,
        given.scenes,
        given.folder,
        given.target / "unconditional",
        given.device,
        given.batch,
        given.seconds,
    )


if __name__ == "__main__":
    main()
