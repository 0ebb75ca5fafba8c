"""Model presets by name: which folders or hub ids to load, and the settings that belong to them.

A preset is data alone; the rooms that use its models load them through :mod:`noma_semcom_env.zoo.loading`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Preset:
    """A set of models and the settings that fit them.

    Attributes:
        name: The preset's name.
        diffusion: Folder of the Stable Diffusion pipeline.
        controlnet: Folder of the segmentation ControlNet.
        captioner: Folder of the BLIP captioner.
        segmenter: Folder of the UperNet segmenter.
        codebook: File with the word frequencies of the textual code.
        palette: Conditioning colour of each class that the ControlNet was trained on.
        labels: Label vocabulary of the observation; entry 0 is empty.
        text_unit: ``"phrase"`` or ``"word"``.
        max_features: F, the most features an image may have.
        denoising_steps: T.
        text_threshold: eps_t of JTSC (22).
        visual_threshold: eps_v of JTSC (23).
        latency_ref_s: Latency in seconds that weighs as much as LPIPS 1.0.
    """

    name: str
    diffusion: str
    controlnet: str
    captioner: str
    segmenter: str
    codebook: str
    palette: dict[str, tuple[int, int, int]]
    labels: tuple[str, ...]
    text_unit: str
    max_features: int
    denoising_steps: int
    text_threshold: float
    visual_threshold: float
    latency_ref_s: float


@lru_cache(maxsize=8)
def load_preset(name: str) -> Preset:
    """Read a bundled preset.

    Raises:
        ValueError: If no preset has that name.
    """
    path = WEIGHTS / name / "preset.json"
    if not path.is_file():
        known = sorted(p.parent.name for p in WEIGHTS.glob("*/preset.json"))
        raise ValueError(f"models={name!r} is no preset; choose one of {known}")
    data = json.loads(path.read_text())
    for key in ("diffusion", "controlnet", "captioner", "segmenter", "codebook"):
        data[key] = str(path.parent / data[key])
    data["palette"] = {label: tuple(colour) for label, colour in data["palette"].items()}
    data["labels"] = tuple(data["labels"])
    return Preset(name=name, **data)
