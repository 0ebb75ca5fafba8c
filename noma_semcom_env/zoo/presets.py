"""Model presets by name: which folders or hub ids to load, and the settings that belong to them.

A preset is data alone; the rooms that use its models load them through :mod:`noma_semcom_env.zoo.loading`. Wherever a
``models`` argument is taken, it is the name of a preset or a mapping that swaps parts of one::

    models={"preset": "sd15", "controlnet": "folder/of/another", "denoising_steps": 30}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

WEIGHTS: Final = Path(__file__).parent / "weights"

PARTS: Final = ("diffusion", "controlnet", "captioner", "segmenter")
"""Fields of a preset that name a model."""

PRECISIONS: Final = ("float32", "bfloat16")

Models = str | Mapping[str, Any]
"""Name of a preset, or a mapping with ``"preset"`` and the fields that differ from it."""


@dataclass(frozen=True)
class Preset:
    """A set of models and the settings that fit them.

    Attributes:
        name: The preset's name.
        diffusion: Folder or hub id of the Stable Diffusion pipeline.
        controlnet: Folder or hub id of the segmentation ControlNet.
        captioner: Folder or hub id of the BLIP captioner.
        segmenter: Folder or hub id of the UperNet segmenter.
        codebook: File with the word frequencies of the textual code; None takes the captioner's vocabulary, whose
            order is one of frequency.
        palette: Conditioning colour of each class that the ControlNet was trained on.
        labels: Label vocabulary of the observation; entry 0 is empty.
        text_unit: ``"phrase"`` or ``"word"``.
        max_features: F, the most features an image may have.
        denoising_steps: T.
        decoder_precision: ``"float32"``, or ``"bfloat16"`` for the products of the autoencoder's decoder.
        text_threshold: eps_t of JTSC (22).
        visual_threshold: eps_v of JTSC (23).
        latency_ref_s: tau_ref, latency in seconds that weighs as much as LPIPS 1.0.
        importance: File of the fitted importance; None if there is none.
        allow_bin: Names of parts whose weights may come from a ``.bin`` file, read as plain tensors; others must be
            safetensors.
    """

    name: str
    diffusion: str
    controlnet: str
    captioner: str
    segmenter: str
    codebook: str | None
    palette: dict[str, tuple[int, int, int]]
    labels: tuple[str, ...]
    text_unit: str
    max_features: int
    denoising_steps: int
    decoder_precision: str
    text_threshold: float
    visual_threshold: float
    latency_ref_s: float
    importance: str | None = None
    allow_bin: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in PARTS:
            if not getattr(self, part):
                raise ValueError(f"models[{part!r}] is empty; give a folder or a hub id 'owner/name'")
        for part in self.allow_bin:
            if part not in PARTS:
                raise ValueError(f"models['allow_bin'] holds {part!r}; its entries are among {PARTS}")
        if self.text_unit not in ("phrase", "word"):
            raise ValueError(f"models['text_unit']={self.text_unit!r} must be 'phrase' or 'word'")
        if self.decoder_precision not in PRECISIONS:
            raise ValueError(f"models['decoder_precision']={self.decoder_precision!r} must be one of {PRECISIONS}")
        for name in ("max_features", "denoising_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"models[{name!r}]={value!r} must be a whole number of at least 1")
        if self.max_features > 62:
            raise ValueError(f"models['max_features']={self.max_features!r} must be at most 62: a subset is one number")
        for name in ("text_threshold", "visual_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"models[{name!r}]={getattr(self, name)!r} must lie in [0, 1]")
        if not self.latency_ref_s > 0:
            raise ValueError(f"models['latency_ref_s']={self.latency_ref_s!r} must be above 0 seconds")


def load_preset(models: Models = "street") -> Preset:
    """Read a preset, with parts of it swapped if ``models`` is a mapping.

    Args:
        models: Name of a preset, or a mapping of fields of :class:`Preset`, with the name of the preset that it starts
            from under ``"preset"`` (``"street"`` if it has none).

    Raises:
        ValueError: If no preset has that name, or a field is unknown or out of range.
    """
    return _load(models_key(models))


def models_key(models: Models) -> str:
    """One text for each choice of models, by which what was loaded is kept."""
    if isinstance(models, str):
        return models
    return json.dumps(dict(models), sort_keys=True, default=_plain)


@lru_cache(maxsize=16)
def _load(key: str) -> Preset:
    swapped = json.loads(key) if key.startswith("{") else {"preset": key}
    name = swapped.pop("preset", "street")
    path = WEIGHTS / str(name) / "preset.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in WEIGHTS.glob("*/preset.json"))
        raise ValueError(f"models={name!r} is no preset; choose one of {known}")
    data = json.loads(path.read_text())
    for part in (*PARTS, "codebook", "importance"):
        bundled = path.parent / str(data.get(part))
        if data.get(part) is not None and bundled.exists():
            data[part] = str(bundled)
    known = [field.name for field in fields(Preset) if field.name != "name"]
    for field in swapped:
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"fields are: {', '.join(known)}"
            raise ValueError(f"models holds {field!r}, which is no field of a preset; {hint}")
    data.update(swapped)
    data["palette"] = {label: tuple(colour) for label, colour in data["palette"].items()}
    for field in ("labels", "allow_bin"):
        data[field] = tuple(data.get(field, ()))
    return Preset(name=name, **data)


def _plain(value: Any) -> Any:
    """A path as text, a tuple as a list; JSON knows neither."""
    if isinstance(value, PathLike):
        return fspath(value)
    raise TypeError(f"models holds {value!r}, a {type(value).__name__}; texts, numbers, lists and mappings are needed")
