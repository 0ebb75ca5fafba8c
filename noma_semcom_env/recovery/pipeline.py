"""Generative recovery: features become an image by Stable Diffusion with segmentation ControlNet (JTSC II-C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.zoo.presets import PRECISIONS, Models, load_preset, models_key

if TYPE_CHECKING:
    import torch

_DENOISED_PIXELS: Final = 64 * 64**2
_DECODED_PIXELS: Final = 16 * 64**2
"""Pixels that are computed together on a CPU: more of them would leave its cache, fewer leave it idle."""

_GPU_DENOISED_PIXELS: Final = 1024 * 64**2
_GPU_DECODED_PIXELS: Final = 256 * 64**2
"""Likewise on a GPU, which is busy with that many, and has the memory for it with full-size models too."""


class RecoveryError(RuntimeError):
    """The pipeline gave an image that is none; the message names the prompt and the remedy."""


class DiffusionRecovery:
    """The receiver: selected words form the prompt, selected masks the segmentation map; unselected regions are black.

    Args:
        pipeline: A ``StableDiffusionControlNetPipeline``. Resolution, latent shape and scheduler come from it.
        palette: Conditioning colour (0 to 255) of each mask label. A label without a colour is left black.
        steps: Denoising steps T.
        batch_size: Images denoised together; None is what suits the resolution and the device.
        decoder_precision: ``"float32"``, or ``"bfloat16"`` for the products inside the autoencoder's decoder.
        allow_tf32: Whether a GPU may round the factors of float32 products to TF32. Without it a GPU's recoveries are a
            CPU's to rounding, and so are their entries in tables.

    Raises:
        ValueError: If ``steps`` or ``batch_size`` is below 1, or the precision is unknown.
    """

    def __init__(
        self,
        pipeline: Any,
        palette: Mapping[str, tuple[int, int, int]],
        steps: int,
        batch_size: int | None = None,
        decoder_precision: str = "float32",
        allow_tf32: bool = False,
    ) -> None:
        for name, value in (("steps", steps), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value!r} must be at least 1")
        if decoder_precision not in PRECISIONS:
            raise ValueError(f"decoder_precision={decoder_precision!r} is unknown; choose one of {PRECISIONS}")
        self.pipeline = pipeline
        self.palette = dict(palette)
        self.steps = steps
        self.decoder_precision = decoder_precision
        self.allow_tf32 = allow_tf32
        self.device: torch.device = pipeline.device
        self.pipeline.set_progress_bar_config(disable=True)
        # The segmentation map is the same at every step, and so is what the ControlNet's first layers make of it.
        conditioning = pipeline.controlnet.controlnet_cond_embedding
        conditioning.forward = _remember_last(conditioning.forward)
        self.resolution = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
        on_cpu = self.device.type == "cpu"
        denoised = _DENOISED_PIXELS if on_cpu else _GPU_DENOISED_PIXELS
        decoded = _DECODED_PIXELS if on_cpu else _GPU_DECODED_PIXELS
        self.batch_size = batch_size or max(1, denoised // self.resolution**2)
        self._decoded_together = max(1, decoded // self.resolution**2)
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

        Raises:
            RecoveryError: If a recovery is not finite.
        """
        recovered = np.concatenate([b.cpu().numpy() for b in self._batches(features, selections, seeds)])
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

        Raises:
            ValueError: If the raw images have another shape than the recovered ones, or are not of uint8.
            RecoveryError: If a recovery is not finite.
        """
        import torch

        wanted = (len(features), self.resolution, self.resolution, 3)
        if raw.shape != wanted or raw.dtype != np.uint8:
            raise ValueError(
                f"raw has shape {raw.shape} and dtype {raw.dtype}; {wanted} of uint8 in 0..255 is needed: resize the "
                "images, and multiply float images in [0, 1] by 255"
            )
        values, start = [], 0
        for recovered in self._batches(features, selections, seeds):
            owner = np.arange(start, start + len(recovered)) // len(seeds)
            # A batch of one image's subsets needs the raw image's own features once.
            one = raw.strides[0] == 0 or (raw[owner] == raw[owner[0]]).all()
            reference = torch.from_numpy(raw[owner[:1] if one else owner]).permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode(), self._precision():
                values.append(distance(reference.to(recovered.device), recovered))
            start += len(recovered)
        return torch.cat(values).cpu().numpy().reshape(len(features), len(seeds))

    def _batches(
        self, features: Sequence[SemanticFeatures], selections: np.ndarray, seeds: Sequence[int]
    ) -> Iterator[torch.Tensor]:
        """Recovered images in [0, 1], (b, 3, H, W), image by image with the seeds innermost."""
        import torch

        selections = np.asarray(selections, dtype=bool)
        if selections.ndim != 2 or len(selections) != len(features):
            raise ValueError(f"selections has shape {selections.shape}; ({len(features)}, F) is needed")
        noise = torch.stack([self._noise(seed) for seed in seeds]).to(self.device)
        chosen = [one.selected(row) for one, row in zip(features, selections, strict=True)]
        prompts = [" ".join(texts) for _, texts in chosen]
        embeddings = self._embed(prompts)
        jobs = [(i, s) for i in range(len(features)) for s in range(len(seeds))]
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            rows = [i for i, _ in batch]
            first, last = rows[0], rows[-1] + 1
            pictures = self._conditioning(features[first:last], [sent for sent, _ in chosen[first:last]])
            recovered = self._decode(
                self._denoise(embeddings[rows], pictures[[i - first for i in rows]], noise[[s for _, s in batch]])
            )
            finite = recovered.flatten(1).isfinite().all(1)
            if not finite.all():
                row = rows[int(finite.int().argmin())]
                raise RecoveryError(
                    f"the recovery of {features[row].image_id!r} from the prompt {prompts[row]!r} is not finite; the "
                    "models overflow on it (an empty prompt can do that): use another checkpoint or scheduler"
                )
            yield recovered.clamp(0, 1)

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
        ).input_ids.to(encoder.device)
        with torch.inference_mode():
            encoded = torch.cat([encoder(part).last_hidden_state for part in ids.split(256)])
        place = {prompt: i for i, prompt in enumerate(unique)}
        return encoded[[place[prompt] for prompt in prompts]]

    def _conditioning(self, features: Sequence[SemanticFeatures], sent: Sequence[np.ndarray]) -> torch.Tensor:
        """(b, 3, H, W) segmentation maps in [0, 1]: the masks (V,) bool that are sent, each in its class's colour."""
        import torch

        pictures, start = [], 0
        for _, group in groupby(features, key=id):
            one, end = features[start], start + len(list(group))
            colours = np.array([self.palette.get(label, (0, 0, 0)) for label in one.mask_labels], dtype=np.float32)
            chosen = torch.from_numpy(np.stack(sent[start:end])).to(self.device)
            masks = torch.from_numpy(one.masks).to(self.device)
            # Masks do not overlap, so that no sum has more than one term, and a whole number up to 255 is exact.
            weights = chosen[:, None] * torch.from_numpy(colours.reshape(-1, 3).T.copy()).to(self.device)
            pictures.append((weights @ masks.flatten(1).float()).unflatten(-1, masks.shape[1:]) / 255)
            start = end
        return torch.cat(pictures)

    def _denoise(self, embeddings: torch.Tensor, pictures: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        import torch

        with torch.inference_mode(), self._precision():
            latents: torch.Tensor = self.pipeline(
                prompt_embeds=embeddings,
                image=pictures,
                latents=noise,
                num_inference_steps=self.steps,
                guidance_scale=1.0,
                output_type="latent",
            ).images
        return latents

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(b, 3, H, W) float32, in [0, 1] but for what the decoder overshoots."""
        import torch

        vae = self.pipeline.vae
        low = self.decoder_precision == "bfloat16"
        with torch.inference_mode(), self._precision(), torch.autocast(self.device.type, torch.bfloat16, low):
            scaled = latents / vae.config.scaling_factor
            parts = [vae.decode(part).sample for part in scaled.split(self._decoded_together)]
        return torch.cat(parts).float() / 2 + 0.5

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """For all products: torch itself would take TF32 for the convolutions of a GPU."""
        from torch.backends import cudnn

        convolutions = cudnn.conv  # type: ignore[attr-defined]  # torch puts it there at run time
        before = convolutions.fp32_precision
        if self.device.type == "cuda":
            convolutions.fp32_precision = "tf32" if self.allow_tf32 else "ieee"
        try:
            yield
        finally:
            if self.device.type == "cuda":
                convolutions.fp32_precision = before


def _remember_last(compute: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function of one tensor that answers at once when it is given the very same tensor again."""
    last: list[torch.Tensor] = []

    def remembered(given: torch.Tensor) -> torch.Tensor:
        if not last or last[0] is not given:
            last[:] = given, compute(given)
        return last[1]

    return remembered


def load_recovery(models: Models = "street", steps: int | None = None, device: str | None = None) -> DiffusionRecovery:
    """The recovery of a preset, loaded once.

    Args:
        models: Name of a preset or a mapping; see :func:`noma_semcom_env.zoo.presets.load_preset`.
        steps: Denoising steps; None is the preset's number.
        device: Where the models run; None is a GPU if there is one, except for the bundled models, whose tables are
            made on a CPU.

    Raises:
        ValueError: If the preset is unknown.
        ModelLoadError: If a model cannot be loaded or is damaged.
    """
    return _load(models_key(models), load_preset(models).denoising_steps if steps is None else steps, device)


@lru_cache(maxsize=4)
def _load(key: str, steps: int, device: str | None) -> DiffusionRecovery:
    from noma_semcom_env.zoo.devices import choose_device
    from noma_semcom_env.zoo.loading import load_diffusion

    preset = load_preset(key)
    pipeline = load_diffusion(preset.diffusion, preset.controlnet, preset.allow_bin)
    import torch

    device = choose_device(preset, device)
    if device == "cpu":
        # A third faster there; the numbers stay the same to rounding.
        for part in (pipeline.unet, pipeline.controlnet, pipeline.vae):
            part.to(memory_format=torch.channels_last)
    pipeline.to(device)
    return DiffusionRecovery(pipeline, preset.palette, steps, decoder_precision=preset.decoder_precision)
