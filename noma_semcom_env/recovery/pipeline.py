"""Generative recovery: features become an image by Stable Diffusion with segmentation ControlNet (JTSC II-C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.zoo.presets import load_preset

if TYPE_CHECKING:
    import torch


class DiffusionRecovery:
    """The receiver: selected words form the prompt, selected masks the segmentation map; unselected regions are black.

    Args:
        pipeline: A ``StableDiffusionControlNetPipeline``. Resolution, latent shape and scheduler come from it.
        palette: Conditioning colour (0 to 255) of each mask label. A label without a colour is left black.
        steps: Denoising steps T.
        batch_size: Images denoised together.

    Raises:
        ValueError: If ``steps`` or ``batch_size`` is below 1.
    """

    def __init__(
        self, pipeline: Any, palette: Mapping[str, tuple[int, int, int]], steps: int, batch_size: int = 64
    ) -> None:
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name}={value!r} must be at least 1")
        self.pipeline = pipeline
        self.palette = dict(palette)
        self.steps = steps
        self.batch_size = batch_size
        self.pipeline.set_progress_bar_config(disable=True)
        self.resolution = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        self._latent = (pipeline.unet.config.in_channels, *(2 * (pipeline.unet.config.sample_size,)))

    def recover(
        self, features: Sequence[SemanticFeatures], selections: np.ndarray, seeds: Sequence[int] = (0,)
    ) -> np.ndarray:
        """Recover images for display.

        Args:
            features: B entries, one for each image to recover.
            selections: (B, F) bool, which of its features were received.
            seeds: S diffusion seeds, common to all images.

        Returns:
            (B, S, H, W, 3) uint8.
        """
        recovered = np.concatenate([b.numpy() for b in self._batches(features, selections, seeds)])
        images = np.round(recovered.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        return images.reshape(len(features), len(seeds), *images.shape[1:])

    def distances(
        self,
        features: Sequence[SemanticFeatures],
        raw: np.ndarray,
        selections: np.ndarray,
        seeds: Sequence[int],
        distance: PerceptualDistance,
    ) -> np.ndarray:
        """LPIPS between raw images and their recoveries.

        Args:
            features: B entries.
            raw: (B, H, W, 3) uint8.
            selections: (B, F) bool.
            seeds: S diffusion seeds.
            distance: The metric.

        Returns:
            (B, S) float32.
        """
        import torch

        values, start = [], 0
        for recovered in self._batches(features, selections, seeds):
            owner = np.arange(start, start + len(recovered)) // len(seeds)
            reference = torch.from_numpy(raw[owner]).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                values.append(distance(reference, recovered).numpy())
            start += len(recovered)
        return np.concatenate(values).reshape(len(features), len(seeds))

    def _batches(self, features: Sequence[SemanticFeatures], selections: np.ndarray, seeds: Sequence[int]) -> Any:
        """Recovered images in [0, 1], (b, 3, H, W), image by image with the seeds innermost."""
        import torch

        selections = np.asarray(selections, dtype=bool)
        if selections.ndim != 2 or len(selections) != len(features):
            raise ValueError(f"selections has shape {selections.shape}; ({len(features)}, F) is needed")
        noise = torch.stack([self._noise(seed) for seed in seeds])
        chosen = [one.selected(row) for one, row in zip(features, selections, strict=True)]
        embeddings = self._embed([" ".join(texts) for _, texts in chosen])
        jobs = [(i, s) for i in range(len(features)) for s in range(len(seeds))]
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            rows = [i for i, _ in batch]
            pictures = {i: self._conditioning(features[i], chosen[i][0]) for i in set(rows)}
            yield self._denoise(
                embeddings[rows], torch.stack([pictures[i] for i in rows]), noise[[s for _, s in batch]]
            )

    def _noise(self, seed: int) -> torch.Tensor:
        import torch

        return torch.randn(self._latent, generator=torch.Generator().manual_seed(seed))

    def _embed(self, prompts: list[str]) -> torch.Tensor:
        """(B, tokens, width) text embeddings; equal prompts are encoded once."""
        import torch

        unique = list(dict.fromkeys(prompts))
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        ids = tokenizer(
            unique, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).input_ids
        with torch.inference_mode():
            encoded = torch.cat([encoder(part).last_hidden_state for part in ids.split(256)])
        place = {prompt: i for i, prompt in enumerate(unique)}
        return encoded[[place[prompt] for prompt in prompts]]

    def _conditioning(self, features: SemanticFeatures, sent: np.ndarray) -> torch.Tensor:
        import torch

        picture = np.zeros((3, *features.masks.shape[1:]), dtype=np.float32)
        for mask, label, on in zip(features.masks, features.mask_labels, sent, strict=True):
            if on and label in self.palette:
                picture += mask * np.asarray(self.palette[label], dtype=np.float32)[:, None, None] / 255
        return torch.from_numpy(picture)

    def _denoise(self, embeddings: torch.Tensor, pictures: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            images: torch.Tensor = self.pipeline(
                prompt_embeds=embeddings,
                image=pictures,
                latents=noise,
                num_inference_steps=self.steps,
                guidance_scale=1.0,
                output_type="pt",
            ).images
        return images.float().clamp(0, 1)


def load_recovery(models: str = "street", steps: int | None = None) -> DiffusionRecovery:
    """The recovery of a preset, loaded once.

    Args:
        models: Preset name.
        steps: Denoising steps; the preset's own number by default.

    Raises:
        ValueError: If the preset is unknown.
        ModelLoadError: If a model cannot be loaded or is damaged.
    """
    return _load(models, load_preset(models).denoising_steps if steps is None else steps)


@lru_cache(maxsize=4)
def _load(models: str, steps: int) -> DiffusionRecovery:
    from noma_semcom_env.zoo.loading import load_diffusion

    preset = load_preset(models)
    pipeline = load_diffusion(preset.diffusion, preset.controlnet)
    import torch

    # A third faster on CPUs; the numbers stay the same to rounding.
    for part in (pipeline.unet, pipeline.controlnet, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    return DiffusionRecovery(pipeline, preset.palette, steps)
