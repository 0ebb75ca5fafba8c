"""Writes a trained extraction model into the package: float16 safetensors, processor, card and sums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noma_semcom_env.zoo.loading import write_sums

WEIGHTS = Path(__file__).parents[1] / "weights" / "street"
"""Folder of the street preset's models."""


def package_model(model: Any, processor: Any, card: Mapping[str, object], target: Path) -> None:
    """Save a transformers model and its processor in the hub's layout.

    Args:
        model: A ``PreTrainedModel``; it is saved in float16 and left as it is.
        processor: Its processor.
        card: What was trained, for how long and how well; written to ``card.json``.
        target: Folder to write, made if it does not exist.
    """
    import copy

    target.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).half().save_pretrained(target)
    processor.save_pretrained(target)
    (target / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    write_sums(target)
