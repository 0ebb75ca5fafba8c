"""The generative receiver: what did not arrive as an image is painted from the text .

The received region of interest (ROI) and its mask stay as they are; an inpainting pipeline paints the rest (RONI) from
the received text. The pipeline alone does not preserve the ROI, so it is pasted back, pixel by pixel.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from noma_semcom_env.zoo.loading import (
    ModelLoadError,
    import_models,
    load_networks,
    put_together,
    without_progress_bars,
)

_DENOISED_PIXELS: Final = 16 * 128**2
"""Pixels that are painted together on a CPU; more would leave its cache, fewer leave it idle."""

_GPU_BATCH: Final = 16


class PaintingError(RuntimeError):
    """The pipeline gave an image that is none; the message names the text and the remedy."""


class Inpainting:
    """Paints the RONI of images from text.

    Args:
        pipeline: A ``StableDiffusionInpaintPipeline`` whose UNet takes mask and masked image beside the latents, as
            Stable Diffusion inpainting's does. Latent shape and scheduler come from it.
        steps: Denoising steps.
        batch_size: Images painted together; None is what suits the resolution and the device.
        guidance: Scale of classifier-free guidance towards the text; 1 is none, at half the cost. Stable Diffusion
            is commonly run at 7.5.
        side: Side in pixels at which images are painted, a multiple of the autoencoder's factor: they are resized to
            it and back, so that a pipeline paints at its own size what is sent at another. None paints them as they
            are.

    Raises:
        ValueError: If ``steps``, ``batch_size``, ``guidance`` or ``side`` is out of range, or the UNet is not an
            inpainting one.
    """

    def __init__(
        self,
        pipeline: Any,
        steps: int = 4,
        batch_size: int | None = None,
        guidance: float = 1.0,
        side: int | None = None,
    ) -> None:
        for name, value in (("steps", steps), ("batch_size", batch_size), ("guidance", guidance), ("side", side)):
            if value is not None and not 1 <= value < np.inf:
                raise ValueError(f"{name}={value!r} must be at least 1, and finite")
        latent, taken = pipeline.vae.config.latent_channels, pipeline.unet.config.in_channels
        if taken != 2 * latent + 1:
            raise ValueError(
                f"the pipeline's UNet takes {taken} channels; {2 * latent + 1} are needed: {latent} of latents, 1 of "
                f"the mask and {latent} of the masked image. Give an inpainting model"
            )
        if side is not None and side % pipeline.vae_scale_factor:
            raise ValueError(
                f"side={side!r} must be a multiple of the autoencoder's factor {pipeline.vae_scale_factor}"
            )
        self.pipeline = pipeline
        self.steps = steps
        self.batch_size = batch_size
        self.guidance = guidance
        self.side = side
        self.pipeline.set_progress_bar_config(disable=True)

    @property
    def resolution(self) -> int:
        """Side in pixels of the images that the pipeline was made for."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    def paint(
        self, received: np.ndarray, known: np.ndarray, texts: Sequence[str], seeds: Sequence[int] = (0,)
    ) -> np.ndarray:
        """Paint what is not known.

        Args:
            received: (B, H, W, 3) uint8 decoded images; what they hold outside ``known`` does not matter.
            known: (B, H, W) bool, the ROI. Without any known pixel the whole image is painted from the text; an image
                that is wholly known is returned as it is.
            texts: B received texts; words beyond the tokenizer's length are cut off.
            seeds: S diffusion seeds, common to all images.

        Returns:
            (B, S, H, W, 3) uint8, equal to ``received`` where ``known`` is set.

        Raises:
            ValueError: If shapes or dtypes do not agree, a side that is painted is no multiple of the autoencoder's
                factor, or there is no seed.
            PaintingError: If an image is not finite.
        """
        received, known = np.asarray(received), np.asarray(known)
        self._check(received, known, texts, seeds)
        height, width = self._painted_sides(received)
        result = np.repeat(received[:, None], len(seeds), axis=1)
        incomplete = np.flatnonzero(~known.all(axis=(1, 2))).tolist()
        jobs = [(i, s) for i in incomplete for s in range(len(seeds))]
        if not jobs:
            return result
        noise = torch.stack([self._noise(seed, height, width) for seed in seeds])
        embeddings = self._embed([texts[i] for i in incomplete])
        place = {i: n for n, i in enumerate(incomplete)}
        together = self.batch_size or max(
            1 if self.pipeline.device.type == "cpu" else _GPU_BATCH, _DENOISED_PIXELS // (height * width)
        )
        for start in range(0, len(jobs), together):
            batch = jobs[start : start + together]
            rows = [i for i, _ in batch]
            unique = sorted(set(rows))
            images = torch.from_numpy(received[unique]).permute(0, 3, 1, 2).float() / 255
            region = torch.from_numpy(known[unique])[:, None].float()
            repeat = [unique.index(i) for i in rows]
            painted = self._paint(
                images, region, embeddings[[place[i] for i in rows]], noise[[s for _, s in batch]], repeat
            )
            finite = painted.flatten(1).isfinite().all(1)
            if not finite.all():
                row = rows[int(finite.int().argmin())]
                raise PaintingError(
                    f"image {row} painted from the text {texts[row]!r} is not finite; the models overflow on it (an "
                    "empty text can do that): use another checkpoint or scheduler"
                )
            levels = np.round(painted.clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
            for (i, s), level in zip(batch, levels, strict=True):
                result[i, s] = np.where(known[i, :, :, None], received[i], level)
        return result

    def _check(self, received: np.ndarray, known: np.ndarray, texts: Sequence[str], seeds: Sequence[int]) -> None:
        if received.ndim != 4 or received.shape[3] != 3 or received.dtype != np.uint8:
            raise ValueError(
                f"received has shape {received.shape} and dtype {received.dtype}; (B, H, W, 3) of uint8 in 0..255 is "
                "needed: multiply float images in [0, 1] by 255"
            )
        if known.shape != received.shape[:3] or known.dtype != np.bool_:
            raise ValueError(
                f"known has shape {known.shape} and dtype {known.dtype}; {received.shape[:3]} of bool is needed, True "
                "where a pixel was received"
            )
        if isinstance(texts, str) or len(texts) != len(received):
            raise ValueError(f"texts={texts!r} must be a sequence of {len(received)} texts, one an image")
        if not len(seeds):
            raise ValueError(f"seeds={seeds!r} is empty; give at least one diffusion seed")
        factor = self.pipeline.vae_scale_factor
        if any(side % factor or not side for side in self._painted_sides(received)):
            raise ValueError(
                f"received is {received.shape[1]} x {received.shape[2]} pixels; both sides must be multiples of "
                f"{factor}, at best {self.resolution}: resize or pad the images"
            )

    def _painted_sides(self, received: np.ndarray) -> tuple[int, int]:
        """Height and width at which images are painted."""
        return (received.shape[1], received.shape[2]) if self.side is None else (self.side, self.side)

    def _noise(self, seed: int, height: int, width: int) -> torch.Tensor:
        factor = self.pipeline.vae_scale_factor
        shape = (self.pipeline.vae.config.latent_channels, height // factor, width // factor)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def _embed(self, texts: list[str]) -> torch.Tensor:
        """(B, tokens, width) text embeddings; equal texts are encoded once."""
        unique = list(dict.fromkeys(texts))
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        ids = tokenizer(
            unique, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids.to(encoder.device)
        with torch.inference_mode():
            encoded = torch.cat([encoder(part).last_hidden_state for part in ids.split(256)])
        place = {text: i for i, text in enumerate(unique)}
        return encoded[[place[text] for text in texts]]

    def _paint(
        self,
        images: torch.Tensor,
        known: torch.Tensor,
        embeddings: torch.Tensor,
        noise: torch.Tensor,
        repeat: list[int],
    ) -> torch.Tensor:
        """(b, 3, H, W) float32 on the CPU, in [0, 1] but for what the decoder overshoots."""
        pipeline, vae = self.pipeline, self.pipeline.vae
        shown = images.shape[2:]
        if self.side is not None:
            # Resizing mixes neighbours, so that what the decoder left beside the region must be gone before.
            images = torch.where(known.bool(), images, 0.5)
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True).clamp(0, 1)
            known = F.interpolate(known, (self.side, self.side), mode="nearest")
        with torch.inference_mode():
            # Mid grey stands for what is unknown, and the posterior's mode spares a second random draw.
            masked = ((images * 2 - 1) * known).to(vae.device)
            encoded = vae.encode(masked).latent_dist.mode() * vae.config.scaling_factor
            latents = pipeline(
                prompt_embeds=embeddings,
                negative_prompt_embeds=self._embed([""] * len(embeddings)) if self.guidance > 1 else None,
                image=images[repeat],
                mask_image=1 - known[repeat],
                masked_image_latents=encoded[repeat],
                latents=noise,
                height=images.shape[2],
                width=images.shape[3],
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                output_type="latent",
            ).images
            decoded: torch.Tensor = vae.decode(latents / vae.config.scaling_factor).sample
        painted = decoded.float().cpu() / 2 + 0.5
        if painted.shape[2:] != shown:
            painted = F.interpolate(painted, shown, mode="bicubic", antialias=True)
        return painted


@without_progress_bars("transformers", "diffusers")
def load_inpainting(
    source: str | os.PathLike[str],
    steps: int = 4,
    device: str = "cpu",
    batch_size: int | None = None,
    allow_bin: bool = False,
    guidance: float = 1.0,
    side: int | None = None,
) -> Inpainting:
    """Load an inpainting pipeline.

    Args:
        source: Folder or hub id in the layout of a Stable Diffusion pipeline.
        steps: Denoising steps.
        device: Where it runs.
        batch_size: Images painted together; None is what suits the resolution and the device.
        allow_bin: Whether weights may come from a ``.bin`` pickle where there are no safetensors; only plain tensors
            are taken from it.
        guidance: Scale of classifier-free guidance, see :class:`Inpainting`; likewise ``side``.
        side: Side in pixels at which images are painted.

    Raises:
        ModelLoadError: If a part is missing, incomplete or changed.
        ValueError: If an argument is out of range, or the model is not an inpainting one.
    """
    folder, parts = load_networks(source, "inpainting", allow_bin)
    widths = parts["unet"].config.cross_attention_dim, parts["text_encoder"].config.hidden_size
    if widths[0] != widths[1]:
        raise ModelLoadError(
            f"the UNet in {str(folder)!r} takes text embeddings of width {widths[0]} but the text encoder gives "
            f"{widths[1]}; fetch the folder again"
        )
    pipeline = put_together(import_models("diffusers").StableDiffusionInpaintPipeline, folder, parts)
    # A third faster on CPUs; the numbers stay the same to rounding.
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    return Inpainting(pipeline.to(device), steps, batch_size, guidance, side)
