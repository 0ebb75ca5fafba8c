"""Captions of photographs, as the MoS side sends them, in the tokens of a preset's painter.

A picture's captions are those of its source, COCO's, or what the preset's captioner says of it. Each is a sentence as
it is and, for each kind of thing that is annotated on the picture, without the phrase that names it, as it is sent
where that thing is the region of interest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.progress import track
from transformers import CLIPTokenizer

from noma_semcom_env.mixture.captions import leave_out
from noma_semcom_env.mixture.text_codec import to_tokens
from noma_semcom_env.mixture_models import MixturePreset, load_part_of, write_captions
from noma_semcom_env.zoo.hub import find_folder
from noma_semcom_env.zoo.loading import DIFFUSION, models_digest
from noma_semcom_env.zoo.train.mixture.annotated import Annotated

SIDE: Final = 256
"""Side in pixels of the pictures that are captioned, the paper's."""

_TOGETHER: Final = 64


@dataclass(frozen=True)
class Captions:
    """Sentences to train a text codec on.

    Attributes:
        texts: U sentences, no two alike.
        ids: (U, T) int64 token ids without start token, padded with end tokens.
        tokens: (U,) int64 tokens of each, its end token included.
    """

    texts: list[str]
    ids: torch.Tensor
    tokens: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any, max_tokens: int) -> Captions:
        """Those of sentences, the beginnings of long ones."""
        unique = list(dict.fromkeys(texts))
        return cls(unique, *to_tokens(tokenizer, unique, max_tokens))

    def draw_rows(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """(size,) int64 random rows."""
        return torch.randint(len(self.texts), (size,), generator=generator, device=generator.device)


def painters_tokenizer(preset: MixturePreset) -> CLIPTokenizer:
    """The tokenizer of a preset's painter, which is the text codec's as well.

    Raises:
        ModelLoadError: If the painter is missing or not whole.
    """
    folder, _ = find_folder(preset.inpainting, DIFFUSION, "inpainting", "inpainting" in preset.allow_bin)
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return tokenizer


def read_captions(known: Annotated, preset: MixturePreset, folder: Path, device: str) -> list[list[str]]:
    """Sentences about each picture, see above.

    Args:
        known: The pictures, all of what was read.
        preset: Whose captioner is asked where the source has no captions.
        folder: Where what the captioner said is kept; an interrupted run is taken up.
        device: Where the captioner runs.

    Raises:
        ModelLoadError: If the captioner is needed and cannot be loaded.
    """
    silent = [row for row, said in enumerate(known.captions) if not said]
    written: list[str] = []
    if silent:
        model, processor = load_part_of(preset, "captioner")
        describe = partial(write_captions, model.to(device), processor)
        file = folder / f"captions-{known.name}-{models_digest([preset.captioner])[:12]}.jsonl"
        written = caption_all(known.images, silent, describe, file)
    said = {row: [text] for row, text in zip(silent, written, strict=True)}
    kinds: list[set[str]] = [set() for _ in range(len(known))]
    for row, kind in zip(known.picture.tolist(), known.kinds, strict=True):
        kinds[row].add(kind)
    sentences: list[list[str]] = [[] for _ in range(len(known))]
    for row, captions in enumerate(known.captions):
        for caption in said.get(row, captions):
            # COCO's annotators wrote sentences; BLIP writes words, in lower case and without a full stop.
            text = " ".join(caption.lower().rstrip(" .").split())
            sentences[row] += [text, *(leave_out(text, kind) for kind in sorted(kinds[row]))]
    return sentences


def caption_all(
    images: np.ndarray, rows: Sequence[int], describe: Callable[[np.ndarray], list[str]], file: Path
) -> list[str]:
    """What a captioner says of some rows of (n, H, W, 3) uint8 images.

    Args:
        images: All images.
        rows: Which of them.
        describe: The captioner.
        file: Where it is kept, a line each; what is there is not asked for again.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # A line without its end was being written when the run was stopped.
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    texts: list[str] = [json.loads(line) for line in lines]
    with file.open("w") as log:
        log.writelines(f"{line}\n" for line in lines)
        log.flush()
        for start in track(range(len(texts), len(rows), _TOGETHER), "captioning"):
            found = describe(np.asarray(images[list(rows[start : start + _TOGETHER])]))
            log.writelines(f"{json.dumps(text)}\n" for text in found)
            log.flush()
            texts += found
    return texts
