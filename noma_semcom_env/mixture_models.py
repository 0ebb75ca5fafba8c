"""The models of the Mixture of Semantics by preset, put together to a transceiver. Needs torch when it loads them.

The rooms do not know one another; here the mixture's transceiver gets its captioner (BLIP), its code of masks
(:mod:`~noma_semcom_env.semantics.coding`) and LPIPS (:mod:`~noma_semcom_env.recovery.perceptual`).
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noma_semcom_env.zoo.presets import WEIGHTS

if TYPE_CHECKING:
    import numpy as np

    from noma_semcom_env.mixture.transceiver import Transceiver

Models = str | Mapping[str, Any]
"""Name of a preset, or a mapping with ``"preset"`` and the fields that differ from it."""


@dataclass(frozen=True)
class MixturePreset:
    """A set of models that fit one another.

    Attributes:
        name: The preset's name.
        image_codec: Folder of the image codec for regions.
        text_codec: Folder of the text codec.
        inpainting: Folder or hub id of the inpainting pipeline; its tokenizer is the text codec's as well.
        segment_anything: Folder or hub id of the SAM.
        clip: Folder or hub id of the CLIP that measures CLIP-RONI.
        captioner: Folder or hub id of the BLIP captioner.
        codebook: File with the code of the masks.
        denoising_steps: Steps of the painting.
        guidance: Scale of classifier-free guidance of the painting, at least 1; 1 is none, which the small street
            pipeline is made for. The pipelines of Stable Diffusion's size want 5 to 10.
        detector: Folder or hub id of a GroundingDINO that finds the boxes of texts, such as
            ``"IDEA-Research/grounding-dino-tiny"``; None knows the expressions that come with an image alone.
    """

    name: str
    image_codec: str
    text_codec: str
    inpainting: str
    segment_anything: str
    clip: str
    captioner: str
    codebook: str
    denoising_steps: int = 4
    detector: str | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "denoising_steps":
                if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
                    raise ValueError(f"models['denoising_steps']={value!r} must be a whole number in [1, 1000]")
            elif field.name == "guidance":
                number = isinstance(value, numbers.Real) and not isinstance(value, bool)
                if not number or not 1 <= value < math.inf:
                    raise ValueError(f"models['guidance']={value!r} must be a number in [1, inf)")
            elif (not isinstance(value, str) or not value) and not (field.name == "detector" and value is None):
                raise ValueError(f"models[{field.name!r}]={value!r} must be a folder or a hub id 'owner/name'")

    @property
    def sources(self) -> tuple[str, ...]:
        """Folders and ids of all models."""
        parts = ("image_codec", "text_codec", "inpainting", "segment_anything", "clip", "captioner", "detector")
        return tuple(getattr(self, part) for part in parts if getattr(self, part) is not None)

    @property
    def origin(self) -> dict[str, Any]:
        """What the models are, for the record of tables made with them.

        Raises:
            ModelLoadError: If a model is missing or damaged.
        """
        from noma_semcom_env.zoo.loading import models_digest

        found = {
            "models": self.name,
            "models_sha256": models_digest([*self.sources]),
            "denoising_steps": self.denoising_steps,
        }
        # Tables made before there was such a field do not tell of it.
        return found if self.guidance == 1 else {**found, "guidance": self.guidance}

    @property
    def receivers(self) -> MixturePreset:
        """This preset with the bundled parts of its name for those that only find regions and say the rest.

        What is sent of an item is settled once it is one: its region, caption and mask. What arrives of it is decided
        by the codecs, the painter and the CLIP alone, so that presets with equal ``receivers`` agree on all qualities.
        """
        known = PRESETS.get(self.name)
        return self if known is None else replace(self, **{part: getattr(known, part) for part in _SENDERS})


_SENDERS: Final = ("segment_anything", "captioner", "detector")
"""Parts that look at images before anything is sent."""

_STREET: Final = WEIGHTS / "street_mixture"
PRESETS: Final[Mapping[str, MixturePreset]] = {
    "street_mixture": MixturePreset(
        name="street_mixture",
        image_codec=str(_STREET / "image_roi"),
        text_codec=str(_STREET / "text_codec"),
        inpainting=str(_STREET / "inpainting"),
        segment_anything=str(_STREET / "segment_anything"),
        clip=str(_STREET / "clip"),
        captioner=str(WEIGHTS / "street" / "captioner"),
        codebook=str(WEIGHTS / "street" / "codebook.json"),
    )
}


def load_mixture_preset(models: Models = "street_mixture") -> MixturePreset:
    """A preset, with parts of it swapped if ``models`` is a mapping or the JSON of one.

    Raises:
        ValueError: If no preset has that name, or a field is unknown or out of range.
    """
    if isinstance(models, str) and not models.startswith("{"):
        models = {"preset": models}
    given = dict(json.loads(models) if isinstance(models, str) else models)
    name = given.pop("preset", "street_mixture")
    if name not in PRESETS:
        raise ValueError(f"models={name!r} is no mixture preset; choose one of {sorted(PRESETS)}")
    base = {field.name: getattr(PRESETS[name], field.name) for field in fields(MixturePreset)}
    for key, value in given.items():
        if key not in base:
            near = difflib.get_close_matches(key, base, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"fields are: {', '.join(base)}"
            raise ValueError(f"models holds {key!r}, which is no field of a mixture preset; {hint}")
        base[key] = fspath(value) if isinstance(value, Path) else value
    return MixturePreset(**base)


def load_transceiver(models: Models = "street_mixture", device: str = "cpu") -> Transceiver:
    """The transceiver of a preset, loaded once.

    Args:
        models: Name of a preset, a mapping that swaps parts of one, or the JSON of a mapping.
        device: Where the models run.

    Raises:
        ValueError: If the preset is unknown.
        ModelLoadError: If a model cannot be loaded or is damaged.
    """
    preset = load_mixture_preset(models)
    return _load(json.dumps({field.name: getattr(preset, field.name) for field in fields(preset)}), device)


@lru_cache(maxsize=2)
def _load(key: str, device: str) -> Transceiver:
    from noma_semcom_env.mixture.inpainting import load_inpainting
    from noma_semcom_env.mixture.metrics import ClipScore
    from noma_semcom_env.mixture.regions import RegionFinder
    from noma_semcom_env.mixture.swin_jscc import SwinJSCC
    from noma_semcom_env.mixture.text_codec import TextCodec
    from noma_semcom_env.mixture.transceiver import Transceiver
    from noma_semcom_env.recovery.perceptual import PerceptualDistance
    from noma_semcom_env.zoo.loading import load_model

    preset = MixturePreset(**json.loads(key))
    painter = load_inpainting(preset.inpainting, preset.denoising_steps, device, guidance=preset.guidance)
    segmenter = load_model("sam", preset.segment_anything)
    clip = load_model("clip", preset.clip)
    captioner = load_model("captioner", preset.captioner)
    detector = None if preset.detector is None else load_model("grounding-dino", preset.detector)
    for model, _ in filter(None, (segmenter, captioner, clip, detector)):
        model.to(device)
    return Transceiver(
        SwinJSCC.load(preset.image_codec).to(device),
        TextCodec.load(preset.text_codec).to(device),
        painter.pipeline.tokenizer,
        painter,
        ClipScore(*clip),
        RegionFinder(segmenter, detector),
        partial(write_captions, *captioner),
        partial(encode_mask, preset.codebook),
        PerceptualDistance(),
        tuple(json.loads(Path(preset.codebook).read_text())["labels"]),
        preset.origin,
        None if preset.receivers == preset else preset.receivers.origin,
    )


def encode_mask(codebook: str, mask: np.ndarray) -> Sized:
    """The code of an (H, W) bool mask, whose length is its bits, by the codebook in a file.

    A receiver of regions needs no class: that of the first one costs its few bits.
    """
    book = _codebook(codebook)
    code: Sized = book.encode_mask(book.labels[0], mask)
    return code


@lru_cache(maxsize=4)
def _codebook(path: str) -> Any:
    from noma_semcom_env.semantics.coding import Codebook

    return Codebook.load(path)


def write_captions(model: Any, processor: Any, images: np.ndarray, max_new_tokens: int = 32) -> list[str]:
    """Captions of (B, H, W, 3) uint8 images by a BLIP captioner, the likeliest word at each step."""
    import torch

    if not len(images):
        return []
    with torch.inference_mode():
        pixels = processor(images=list(images), return_tensors="pt").pixel_values.to(model.device, model.dtype)
        ids = model.generate(pixel_values=pixels, max_new_tokens=max_new_tokens, num_beams=1, do_sample=False)
    texts: Sequence[str] = processor.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in texts]
