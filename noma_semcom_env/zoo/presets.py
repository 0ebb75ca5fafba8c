"""Model presets by name: which folders or hub ids to load, and the settings that belong to them.

A preset is data alone; the rooms that use its models load them through :mod:`noma_semcom_env.zoo.loading`. Wherever a
``models`` argument is taken, it is the name of a preset or a mapping that swaps parts of one::

    models={"preset": "sd15", "controlnet": "folder/of/another", "denoising_steps": 30}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from noma_semcom_env.scenario import Scenario

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
        for name, (allowed, wanted) in _ALLOWED.items():
            value = getattr(self, name)
            if not allowed(value):
                raise ValueError(f"models[{name!r}]={value!r} must be {wanted}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_text_or_none(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_whole(value: Any, high: int) -> bool:
    return isinstance(value, int) and _is_number(value, 1, high)


def _is_share(value: Any) -> bool:
    return _is_number(value, 0, 1)


def _is_palette(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(colour, tuple) and len(colour) == 3 and all(type(one) is int and 0 <= one <= 255 for one in colour)
        for colour in value.values()
    )


def _is_labels(value: Any) -> bool:
    return isinstance(value, tuple) and value[:1] == ("",) and all(map(_is_text, value[1:]))


_ALLOWED: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    **dict.fromkeys(PARTS, (_is_text, "a folder or a hub id 'owner/name'")),
    "codebook": (_is_text_or_none, "a file, or None for the captioner's vocabulary"),
    "importance": (_is_text_or_none, "a file, or None"),
    "palette": (_is_palette, "a mapping from class names to three whole numbers in [0, 255]"),
    "labels": (_is_labels, "a list of texts, the first one empty and no other"),
    "text_unit": (lambda value: value in ("phrase", "word"), "'phrase' or 'word'"),
    "max_features": (
        lambda value: _is_whole(value, 62),
        "a whole number in [1, 62]: a subset is one number of 64 bits",
    ),
    "denoising_steps": (lambda value: _is_whole(value, 1000), "a whole number in [1, 1000]"),
    "decoder_precision": (lambda value: value in PRECISIONS, f"one of {PRECISIONS}"),
    "text_threshold": (_is_share, "a number in [0, 1]"),
    "visual_threshold": (_is_share, "a number in [0, 1]"),
    "latency_ref_s": (lambda value: _is_number(value, 1e-12, 1e6), "a number in [1e-12, 1e6] seconds"),
    "allow_bin": (
        lambda value: isinstance(value, tuple) and set(value) <= set(PARTS),
        f"a list of parts among {PARTS}",
    ),
}
"""What each field may be, and how an error says it."""


def load_preset(models: Models = "street") -> Preset:
    """Read a preset, with parts of it swapped if ``models`` is a mapping.

    Args:
        models: Name of a preset, or a mapping of fields of :class:`Preset`, with the name of the preset that it starts
            from under ``"preset"`` (``"street"`` if it has none).

    Raises:
        ValueError: If no preset has that name, or a field is unknown or out of range.
    """
    return _load(models_key(models))


def settle(scenario: Scenario) -> Scenario:
    """A scenario with what it leaves to its model preset filled in, which is tau_ref."""
    return scenario.settled(load_preset(scenario.models).latency_ref_s)


def models_key(models: Models) -> str:
    """One text for each choice of models, by which what was loaded is kept."""
    if isinstance(models, str):
        return models
    return json.dumps(dict(models), sort_keys=True, default=_plain)


@lru_cache(maxsize=16)
def _load(key: str) -> Preset:
    try:
        swapped = json.loads(key) if key.startswith("{") else {"preset": key}
    except json.JSONDecodeError as error:
        raise ValueError(
            f"models={key!r} is no preset and no JSON object ({error}); give a name or a mapping"
        ) from error
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
    if isinstance(data["palette"], dict):
        data["palette"] = {label: _as_tuple(colour) for label, colour in data["palette"].items()}
    for field in ("labels", "allow_bin"):
        data[field] = _as_tuple(data.get(field, ()))
    return Preset(name=name, **data)


def _as_tuple(value: Any) -> Any:
    """A tuple in place of JSON's list; anything else stays, to be refused by its own name."""
    return tuple(value) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """A path as text; JSON does not know it."""
    if isinstance(value, PathLike):
        return fspath(value)
    raise TypeError(f"models holds {value!r}, a {type(value).__name__}; texts, numbers, lists and mappings are needed")
