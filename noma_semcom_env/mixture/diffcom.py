"""DiffCom: the received signal guides the sampling of a diffusion model (Wang et al., IEEE JSAC 43(7), 2025).

A baseline that sends the whole image by an analogue codec. Instead of decoding, the receiver samples from the posterior
of images given the signal: an unconditional diffusion runs backwards, and each step also descends the distance between
the received signal and what the codec's encoder makes of the image expected so far (diffusion posterior sampling, Chung
et al., ICLR 2023).

How far a step descends is not a tuned number times the gradient, which would hang on codec, rate and number of steps:
the fresh noise of a step is turned towards the descent and keeps its length (spherical Gaussian constraint, Yang et
al., ICML 2024), so that the image stays as noisy as the network expects it. It turns the less the closer the distance
is to what the channel's noise alone accounts for; beyond that, images would explain the noise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from noma_semcom_env.zoo.hub import Layout, explained
from noma_semcom_env.zoo.loading import find_unchanged, import_models, load_part

UNCONDITIONAL: Final = Layout(
    "model_index.json", ("_class_name", "DDIMPipeline"), {"unet": "diffusers"}, (("scheduler/scheduler_config.json",),)
)

_CPU_BATCH: Final = 4
_GPU_BATCH: Final = 64
_NOISE_SHARE: Final = 0.5
"""Share of the noise's energy at which guidance ends. Even a sample of the true posterior fits some of the noise."""

_PREDICTIONS: Final = ("v_prediction", "epsilon")

Excess = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""(B, 3, H, W) images in [0, 1] -> (B,) distances to the signal and shares in [0, 1] that noise does not explain."""


class SamplingError(RuntimeError):
    """Sampling ran away; the message names the remedy."""


class Codec(Protocol):
    """What DiffCom needs of an analogue image codec: a differentiable encoder, and a decoder to start from."""

    def encode(self, image: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) images in [0, 1] to (B, 2k) reals, 0 where nothing is sent."""

    def decode(self, received: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        """(B, 2k) received reals to (B, 3, H, W) images in [0, 1]."""


class DiffCom:
    """Posterior sampling of images given a received signal.

    Args:
        model: A ``UNet2DModel`` over images in [-1, 1] whose blocks of n x n pixels are channels; 3 channels mean
            n = 1.
        scheduler: A ``DDIMScheduler``; its noise schedule and what the model predicts are taken from it.
        steps: Denoising steps.
        guidance: Share of the descent in each step's fresh noise, in [0, 1]; 0 ignores the signal.
        through_denoiser: Whether the gradient is taken with respect to the noisy image, through the denoising network,
            as diffusion posterior sampling has it, or with respect to the clean image expected from it, at half the
            cost; that wants about twice the guidance.
        start: Share of the schedule that is run through, in (0, 1]. Below 1, sampling starts from the codec's own
            reconstruction with as much noise as belongs there.
        batch_size: Images sampled together; None is what suits the device.

    Raises:
        ValueError: If an argument is out of range, or the model or scheduler is of another kind.
    """

    def __init__(
        self,
        model: Any,
        scheduler: Any,
        steps: int = 50,
        guidance: float = 0.1,
        through_denoiser: bool = True,
        start: float = 1.0,
        batch_size: int | None = None,
    ) -> None:
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value!r} must be at least 1")
        if not 0 <= guidance <= 1:
            raise ValueError(f"guidance={guidance!r} must lie in [0, 1]")
        if not 0 < start <= 1:
            raise ValueError(f"start={start!r} must lie in (0, 1]")
        channels = model.config.in_channels
        block = math.isqrt(channels // 3)
        if channels != 3 * block**2 or model.config.out_channels != channels:
            raise ValueError(
                f"the model takes {channels} channels and gives {model.config.out_channels}; both must be 3 n^2, the "
                "colours of blocks of n x n pixels"
            )
        if scheduler.config.prediction_type not in _PREDICTIONS:
            raise ValueError(
                f"the model predicts {scheduler.config.prediction_type!r}; one of {_PREDICTIONS} is needed"
            )
        self.model, self.scheduler = model, scheduler
        self.steps, self.guidance, self.start = steps, guidance, start
        self.through_denoiser = through_denoiser
        self.batch_size = batch_size or (_CPU_BATCH if model.device.type == "cpu" else _GPU_BATCH)
        self.block = block
        self.resolution = int(model.config.sample_size * block)

    def recover(
        self,
        codec: Codec,
        received: torch.Tensor,
        snr_db: torch.Tensor,
        after_db: torch.Tensor,
        symbols: torch.Tensor,
        seeds: Sequence[int] = (0,),
    ) -> np.ndarray:
        """Sample images that explain a received signal.

        Args:
            codec: The codec that the signal was encoded with, in evaluation mode, on any device.
            received: (B, 2k) equalized reals, as :func:`noma_semcom_env.mixture.channel.send` returns them.
            snr_db: (B,) SNR in dB that the encoder knew.
            after_db: (B,) SNR in dB after equalization.
            symbols: (B,) complex symbols sent.
            seeds: S sampling seeds, common to all images.

        Returns:
            (B, S, H, W, 3) uint8.

        Raises:
            ValueError: If shapes do not agree or there is no seed.
            SamplingError: If an image is not finite.
        """
        if received.ndim != 2:
            raise ValueError(f"received has shape {tuple(received.shape)}; (B, 2k) is needed")
        for name, value in (("snr_db", snr_db), ("after_db", after_db), ("symbols", symbols)):
            if value.shape != received.shape[:1]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}; ({len(received)},) is needed, one an image")
        if not len(seeds):
            raise ValueError(f"seeds={seeds!r} is empty; give at least one sampling seed")
        side = self.resolution
        images = np.empty((len(received), len(seeds), side, side, 3), np.uint8)
        jobs = [(i, s) for i in range(len(received)) for s in range(len(seeds))]
        # What is not sent is 0 in what the encoder gives, whatever the channel left there.
        sent = torch.arange(received.shape[1], device=received.device)[None] < 2 * symbols[:, None]
        received = torch.where(sent, received, 0)
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            rows = [i for i, _ in batch]
            excess = _measure(codec, received[rows], snr_db[rows], after_db[rows], symbols[rows])
            first = None
            if self.start < 1:
                with torch.no_grad():
                    first = codec.decode(received[rows], after_db[rows], symbols[rows])
            sampled = self._sample([seeds[s] for _, s in batch], excess, first)
            for (i, s), image in zip(batch, sampled, strict=True):
                images[i, s] = image
        return images

    def sample(self, seeds: Sequence[int]) -> np.ndarray:
        """Images of the prior alone, without any signal.

        Args:
            seeds: One seed an image.

        Returns:
            (len(seeds), H, W, 3) uint8.

        Raises:
            SamplingError: If an image is not finite.
        """
        side = self.resolution
        parts = [np.empty((0, side, side, 3), np.uint8)]
        for start in range(0, len(seeds), self.batch_size):
            parts.append(self._sample(seeds[start : start + self.batch_size], None, None))
        return np.concatenate(parts)

    def _sample(self, seeds: Sequence[int], excess: Excess | None, first: torch.Tensor | None) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        device = self.model.device
        shape = (self.model.config.in_channels, *(2 * (int(self.model.config.sample_size),)))

        def draw() -> torch.Tensor:
            return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)

        shares = self._shares()
        state = draw()
        if first is not None:
            clean = F.pixel_unshuffle(first.to(device) * 2 - 1, self.block)
            state = shares[0][1] ** 0.5 * clean + (1 - shares[0][1]) ** 0.5 * state
        for (time, now), (_, after) in zip(shares, [*shares[1:], (0, 1.0)], strict=True):
            clean, descent, share = self._look_ahead(state, time, now, excess)
            noise = (state - now**0.5 * clean) / (1 - now) ** 0.5
            fresh = ((1 - after) / (1 - now) * (1 - now / after)) ** 0.5
            state = after**0.5 * clean + max(0.0, 1 - after - fresh**2) ** 0.5 * noise
            if fresh > 0:
                state = state + fresh * _turn(draw(), descent, share)
        image = F.pixel_shuffle(state, self.block)
        levels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return levels.permute(0, 2, 3, 1).cpu().numpy()

    def _shares(self) -> list[tuple[int, float]]:
        """Time and cumulative share of the signal's power at each step, trailing, from the noisiest on."""
        total = self.scheduler.config.num_train_timesteps
        times = np.linspace(self.start * total, 0, self.steps, endpoint=False).round().astype(int) - 1
        return [(int(time), float(self.scheduler.alphas_cumprod[time])) for time in times.clip(0)]

    def _look_ahead(
        self, state: torch.Tensor, time: int, power: float, excess: Excess | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The clean image expected of a state, in [-1, 1]; where the distance falls; (B,) shares of that direction."""
        guided = excess is not None and self.guidance > 0
        with torch.set_grad_enabled(guided and self.through_denoiser):
            state = state.detach().requires_grad_(guided and self.through_denoiser)
            predicted = self.model(state, torch.full((len(state),), time, device=state.device)).sample
            if self.scheduler.config.prediction_type == "v_prediction":
                clean = power**0.5 * state - (1 - power) ** 0.5 * predicted
            else:
                clean = (state - (1 - power) ** 0.5 * predicted) / power**0.5
        bounded = clean.detach().clamp(-1, 1)
        if not bool(bounded.isfinite().all()):
            raise SamplingError(
                f"an image is not finite at time {time}; the network or the codec overflows on it: lower "
                f"guidance={self.guidance!r}, or use other weights"
            )
        if excess is None or not guided:
            return bounded, torch.zeros_like(bounded), bounded.new_zeros(len(bounded))
        with torch.enable_grad():
            if not self.through_denoiser:
                clean = clean.requires_grad_()
            # Clipped values, but the gradient of unclipped ones: a colour beyond its bound must find its way back.
            image = F.pixel_shuffle((bounded + (clean - clean.detach())) / 2 + 0.5, self.block)
            distances, unexplained = excess(image)
            (gradient,) = torch.autograd.grad(distances.sum(), state if self.through_denoiser else clean)
        return bounded, -gradient, self.guidance * unexplained.detach().to(state.device)


def _measure(
    codec: Codec, received: torch.Tensor, snr_db: torch.Tensor, after_db: torch.Tensor, symbols: torch.Tensor
) -> Excess:
    """How far images are from what was received, in the codec's symbols."""
    # Complex noise of variance 10^(-SNR/10) in each of the symbols.
    of_noise = symbols * 10 ** (-after_db / 10)

    def excess(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        distance = torch.linalg.vector_norm(received - codec.encode(image.to(received.device), snr_db, symbols), dim=1)
        explained = _NOISE_SHARE * of_noise / distance.detach().square().clamp_min(torch.finfo(distance.dtype).tiny)
        return distance, (1 - explained).clamp_min(0).sqrt()

    return excess


def _turn(noise: torch.Tensor, descent: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """White noise turned towards a direction, its length unchanged.

    Args:
        noise: (B, C, h, w).
        descent: (B, C, h, w), of any length.
        share: (B,) share of the direction, in [0, 1].
    """
    radius = noise[0].numel() ** 0.5
    tiny = torch.finfo(noise.dtype).tiny
    lengths = torch.linalg.vector_norm(descent.flatten(1), dim=1).view(-1, 1, 1, 1)
    aimed = torch.lerp(noise, descent * (radius / lengths.clamp_min(tiny)), share.view(-1, 1, 1, 1))
    length = torch.linalg.vector_norm(aimed.flatten(1), dim=1).view(-1, 1, 1, 1)
    # Where the signal says nothing, the noise stays what it is.
    return torch.where((lengths > 0) & (share.view(-1, 1, 1, 1) > 0), aimed * (radius / length.clamp_min(tiny)), noise)


def load_diffcom(source: str | os.PathLike[str], device: str = "cpu", **options: Any) -> DiffCom:
    """Load the unconditional diffusion that DiffCom samples from.

    Args:
        source: Folder or hub id in the layout of a ``DDIMPipeline``.
        device: Where it runs.
        **options: Of :class:`DiffCom`, such as ``steps`` and ``guidance``.

    Raises:
        ModelLoadError: If a part is missing, incomplete or changed.
        ValueError: If an option is out of range.
    """
    diffusers = import_models("diffusers")
    folder, weights = find_unchanged(source, UNCONDITIONAL, "unconditional", False)
    model = load_part(diffusers.UNet2DModel, Path(folder), "unet", weights["unet"]).to(device)
    with explained(f"cannot load the scheduler of {str(folder)!r}", "fetch the folder again"):
        scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    return DiffCom(model, scheduler, **options)
