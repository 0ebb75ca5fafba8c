"""The models of the Mixture of Semantics by preset, put together to a transceiver. Needs torch when it loads them.

The rooms do not know one another; here the mixture's transceiver gets its captioner (BLIP), its code of masks
(:mod:`~noma_semcom_env.semantics.coding`) and LPIPS (:mod:`~noma_semcom_env.recovery.perceptual`).
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
import operator
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from noma_semcom_env.scenes.annotated import COCO_CLASSES
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
        image_codec: Folder of the image codec for regions; None where nobody has published one, so that it must be
            trained and given.
        text_codec: Folder of the text codec; None likewise.
        inpainting: Folder or hub id of the inpainting pipeline; its tokenizer is the text codec's as well.
        segment_anything: Folder or hub id of the SAM.
        clip: Folder or hub id of the CLIP that measures CLIP-RONI.
        captioner: Folder or hub id of the BLIP captioner.
        codebook: File with the code of the masks; None codes them without any class.
        denoising_steps: Steps of the painting.
        guidance: Scale of classifier-free guidance of the painting, at least 1; 1 is none, at half the cost. The small
            street pipeline paints best at about 2, those of Stable Diffusion's size want 5 to 10.
        detector: Folder or hub id of a GroundingDINO that finds the boxes of texts, such as
            ``"IDEA-Research/grounding-dino-tiny"``; None knows the expressions that come with an image alone.
        painted_side: Side in pixels at which images are painted, for a pipeline of larger images than the image
            codec's; None is the codec's own side.
        kinds: Names of kinds of things, by which a referring expression tells what its region is; none takes the
            classes of the codebook.
        allow_bin: Names of parts whose weights may come from a ``.bin`` file, read as plain tensors; others must be
            safetensors.
    """

    name: str
    image_codec: str | None
    text_codec: str | None
    inpainting: str
    segment_anything: str
    clip: str
    captioner: str
    codebook: str | None
    denoising_steps: int = 4
    detector: str | None = None
    guidance: float = 1.0
    painted_side: int | None = None
    kinds: tuple[str, ...] = ()
    allow_bin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            allowed, wanted = _ALLOWED[field.name]
            if not allowed(value):
                raise ValueError(f"models[{field.name!r}]={value!r} must be {wanted}")
            if field.name in _PLAIN and value is not None:
                # NumPy's numbers are no JSON, as which records keep them.
                object.__setattr__(self, field.name, _PLAIN[field.name](value))

    @property
    def sources(self) -> tuple[str, ...]:
        """Folders and ids of all models that there are."""
        parts = ("image_codec", "text_codec", "inpainting", "segment_anything", "clip", "captioner", "detector")
        return tuple(getattr(self, part) for part in parts if getattr(self, part) is not None)

    @property
    def origin(self) -> dict[str, Any]:
        """What the models are, for the record of tables made with them.

        Raises:
            ModelLoadError: If a model is missing or damaged.
        """
        from noma_semcom_env.zoo.loading import models_digest

        return {
            "models": self.name,
            "models_sha256": models_digest([*self.sources]),
            "denoising_steps": self.denoising_steps,
            "guidance": self.guidance,
            "painted_side": self.painted_side,
        }

    @property
    def receivers(self) -> MixturePreset:
        """This preset with the bundled parts of its name for those that only find regions and say the rest.

        What is sent of an item is settled once it is one: its region, caption and mask. What arrives of it is decided
        by the codecs, the painter and the CLIP alone, so that presets with equal ``receivers`` agree on all qualities.
        A preset of hub ids is its own, since a hub need not be within reach to tell what its parts are.
        """
        usual = {part: getattr(PRESETS[self.name], part) for part in _SENDERS} if self.name in PRESETS else {}
        if not all(source is None or Path(source).is_relative_to(WEIGHTS) for source in usual.values()):
            return self
        return replace(self, **usual)


_CAPTIONED_TOGETHER: Final = 64

_SENDERS: Final = ("segment_anything", "captioner", "detector")
"""Parts that look at images before anything is sent."""

BIN_PARTS: Final = ("inpainting", "segment_anything", "clip", "captioner", "detector")
"""Parts that may be read from a pickle if they are allowed by name."""

_CODECS: Final = ("image_codec", "text_codec")
_LISTS: Final = ("kinds", "allow_bin")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_text_or_none(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Integral) and low <= int(value) <= high


def _is_scale(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and 1 <= float(value) < math.inf


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_text, value))


_ALLOWED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "name": (_is_text, "a text"),
    **dict.fromkeys(BIN_PARTS, (_is_text, "a folder or a hub id 'owner/name'")),
    **dict.fromkeys(_CODECS, (_is_text_or_none, "the folder of a trained codec")),
    "detector": (_is_text_or_none, "a folder or a hub id 'owner/name', or None"),
    "codebook": (_is_text_or_none, "a file, or None for masks without a class"),
    "denoising_steps": (lambda value: _is_whole(value, 1, 1000), "a whole number in [1, 1000]"),
    "guidance": (_is_scale, "a number in [1, inf)"),
    "painted_side": (lambda value: value is None or _is_whole(value, 8, 4096), "a whole number in [8, 4096], or None"),
    "kinds": (_is_texts, "a list of texts, none of them empty"),
    "allow_bin": (lambda value: _is_texts(value) and set(value) <= {*BIN_PARTS}, f"a list of parts among {BIN_PARTS}"),
}
"""What each field may be, and how an error says it."""

_PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "denoising_steps": operator.index,
    "guidance": float,
    "painted_side": operator.index,
}

PEOPLE: Final = "man woman boy girl guy lady kid child baby player".split()
"""What captions and expressions call a person."""

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
        guidance=2.0,
    ),
    # Stable Diffusion's inpainting was trained on 512 x 512; the paper's images are of 256 x 256.
    "sd15_mixture": MixturePreset(
        name="sd15_mixture",
        image_codec=None,
        text_codec=None,
        inpainting="stable-diffusion-v1-5/stable-diffusion-inpainting",
        segment_anything="facebook/sam-vit-base",
        clip="openai/clip-vit-base-patch32",
        captioner="Salesforce/blip-image-captioning-base",
        codebook=None,
        denoising_steps=20,
        detector="IDEA-Research/grounding-dino-tiny",
        guidance=7.5,
        painted_side=512,
        kinds=(*COCO_CLASSES, *PEOPLE),
    ),
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
        if key in _LISTS and isinstance(value, list):
            value = tuple(value)
        base[key] = fspath(value) if isinstance(value, Path) else value
    return MixturePreset(**base)


def load_transceiver(models: Models = "street_mixture", device: str | None = None) -> Transceiver:
    """The transceiver of a preset, loaded once.

    Args:
        models: Name of a preset, a mapping that swaps parts of one, or the JSON of a mapping.
        device: Where the models run; None takes a GPU if there is one, except for the bundled models, whose tables are
            made on a CPU.

    Raises:
        ValueError: If the preset is unknown or lacks a codec, or torch knows no such device here.
        ModelLoadError: If a model cannot be loaded or is damaged.
    """
    from noma_semcom_env.zoo.devices import choose_device

    preset = load_mixture_preset(models)
    missing = [codec for codec in _CODECS if getattr(preset, codec) is None]
    if missing:
        scripts = " and ".join(f"python -m noma_semcom_env.zoo.train.mixture.{codec}" for codec in missing)
        folders = ", ".join(f"{codec!r}: 'folder'" for codec in missing)
        raise ValueError(
            f"models={preset.name!r} has no {' and no '.join(missing)}, since nobody has published such codecs. Train "
            f"with {scripts} (docs/mixture-full-size.md has the options) and name what they write: "
            f"models={{'preset': {preset.name!r}, {folders}}}"
        )
    return _load(preset, choose_device(preset, device))


@lru_cache(maxsize=2)
def _load(preset: MixturePreset, device: str) -> Transceiver:
    from noma_semcom_env.mixture.inpainting import load_inpainting
    from noma_semcom_env.mixture.metrics import ClipScore
    from noma_semcom_env.mixture.regions import RegionFinder
    from noma_semcom_env.mixture.swin_jscc import SwinJSCC
    from noma_semcom_env.mixture.text_codec import TextCodec
    from noma_semcom_env.mixture.transceiver import Transceiver
    from noma_semcom_env.recovery.perceptual import PerceptualDistance

    assert preset.image_codec is not None
    assert preset.text_codec is not None
    painter = load_inpainting(
        preset.inpainting,
        preset.denoising_steps,
        device,
        allow_bin="inpainting" in preset.allow_bin,
        guidance=preset.guidance,
        side=preset.painted_side,
    )
    segmenter, clip = load_part_of(preset, "segment_anything"), load_part_of(preset, "clip")
    captioner = load_part_of(preset, "captioner")
    detector = None if preset.detector is None else load_part_of(preset, "detector")
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
        preset.kinds or _classes(preset.codebook),
        preset.origin,
        None if preset.receivers == preset else preset.receivers.origin,
    )


def load_part_of(
    preset: MixturePreset, part: Literal["segment_anything", "clip", "captioner", "detector"]
) -> tuple[Any, Any]:
    """One model of a preset with its processor, see :func:`~noma_semcom_env.zoo.loading.load_model`.

    Raises:
        ModelLoadError: If it cannot be loaded or is damaged.
    """
    from noma_semcom_env.zoo.loading import load_model

    return load_model(_MODELS[part], getattr(preset, part), part in preset.allow_bin, part)


_MODELS: Final[Mapping[str, Literal["captioner", "sam", "grounding-dino", "clip"]]] = {
    "segment_anything": "sam",
    "clip": "clip",
    "captioner": "captioner",
    "detector": "grounding-dino",
}
"""What the zoo calls the parts that are models of their own."""


def encode_mask(codebook: str | None, mask: np.ndarray) -> Sized:
    """The code of an (H, W) bool mask, whose length is its bits, by the codebook in a file.

    A receiver of regions needs no class: that of the first one costs its few bits. Without a codebook there is but one
    class, of one bit.
    """
    book = _codebook(codebook)
    code: Sized = book.encode_mask(book.labels[0], mask)
    return code


@lru_cache(maxsize=4)
def _codebook(path: str | None) -> Any:
    from noma_semcom_env.semantics.coding import Codebook

    return Codebook({"region": 1}, {"region": 1}, 1, (1,)) if path is None else Codebook.load(path)


def _classes(codebook: str | None) -> tuple[str, ...]:
    return () if codebook is None else tuple(json.loads(Path(codebook).read_text())["labels"])


def write_captions(model: Any, processor: Any, images: np.ndarray, max_new_tokens: int = 32) -> list[str]:
    """Captions of (B, H, W, 3) uint8 images by a BLIP captioner, the likeliest word at each step."""
    import torch

    texts: list[str] = []
    for start in range(0, len(images), _CAPTIONED_TOGETHER):
        part = list(images[start : start + _CAPTIONED_TOGETHER])
        with torch.inference_mode():
            pixels = processor(images=part, return_tensors="pt").pixel_values.to(model.device, model.dtype)
            ids = model.generate(pixel_values=pixels, max_new_tokens=max_new_tokens, num_beams=1, do_sample=False)
        texts += processor.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in texts]
