"""How learned codecs are kept: a folder of configuration, float16 weights, a card and SHA-256 sums. Needs torch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from torch import nn

from noma_semcom_env.zoo.hub import ModelLoadError, explained
from noma_semcom_env.zoo.loading import CARD_FILE, check_sums, write_sums

Codec = TypeVar("Codec", bound=nn.Module)

_CONFIG_FILE: Final = "config.json"
_WEIGHTS_FILE: Final = "model.safetensors"


def save_codec(codec: nn.Module, config: Any, folder: Path, card: Mapping[str, object]) -> None:
    """Write a codec, by a folder that is renamed; it replaces the folder.

    Args:
        codec: What is kept.
        config: Its configuration, a dataclass of plain numbers.
        folder: Where it goes.
        card: What was trained.

    Raises:
        ValueError: If a weight is not finite in float16.
    """
    from safetensors.torch import save_file

    weights = {name: value.detach().half().contiguous().cpu() for name, value in codec.state_dict().items()}
    for name, value in weights.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"weight {name} is not finite in float16; train anew at a lower rate")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    facts = {"class": type(codec).__name__, **asdict(config)}
    (part / _CONFIG_FILE).write_text(json.dumps(facts, indent=2) + "\n")
    (part / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n")
    save_file(weights, part / _WEIGHTS_FILE, {"format": "pt"})
    write_sums(part)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def load_codec(
    folder: str | os.PathLike[str], class_name: str, build: Callable[[Mapping[str, Any]], Codec], what: str
) -> Codec:
    """Read what :func:`save_codec` wrote, in float32 and evaluation mode, without gradients.

    Args:
        folder: Where it is.
        class_name: Class that the configuration must state.
        build: Makes an untrained codec of the configuration's entries, lists as tuples.
        what: What errors call the codec.

    Raises:
        ModelLoadError: If the folder does not hold such a codec, complete, finite and unchanged.
    """
    from safetensors.torch import load_file

    folder = Path(folder).expanduser()
    config, weights = folder / _CONFIG_FILE, folder / _WEIGHTS_FILE
    for file in (config, weights):
        if not file.is_file():
            raise ModelLoadError(f"{file} is missing, so the {what} cannot be loaded; fetch {folder} again")
    check_sums(folder)
    with explained(f"cannot read the configuration {config}", "fetch the file again"):
        facts = json.loads(config.read_text())
        if facts.pop("class") != class_name:
            raise ModelLoadError(f"{config} describes no {class_name}; give the folder of one")
        codec = build({name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})
    with explained(f"cannot read {weights}", "fetch the file again"):
        tensors = {name: value.float() for name, value in load_file(weights).items()}
    with explained(f"{weights} does not fit {config}", "fetch both again, or train anew"):
        codec.load_state_dict(tensors)
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise ModelLoadError(f"weight {name} in {weights} is not finite; fetch the file again or train anew")
    return codec.eval().requires_grad_(False)
