"""Counts classes, words and phrase positions of the training scenes: the street preset's codebook.

python -m noma_semcom_env.zoo.train.codebook
"""

from __future__ import annotations

import json
from collections import Counter
from typing import get_args

import numpy as np

from noma_semcom_env.scenes.street import CLASSES, vocabulary
from noma_semcom_env.semantics.phrases import TextUnit, split_caption
from noma_semcom_env.zoo.train.data import Scenes, make_parser, training_scenes
from noma_semcom_env.zoo.train.package import WEIGHTS

MAX_POSITIONS = 32


def count(scenes: Scenes) -> dict[str, object]:
    """The codebook's counts; each symbol is counted once more than it occurs, so that all can be coded."""
    present = [np.unique(labels) for labels in scenes.labels]
    classes = np.bincount(np.concatenate(present), minlength=len(CLASSES))
    units = {}
    for unit in get_args(TextUnit):
        words: Counter[str] = Counter(vocabulary())
        positions = Counter(range(MAX_POSITIONS))
        ends = 0
        for caption in scenes.captions:
            phrases = split_caption(caption, unit)
            words.update(word for phrase in phrases for word in phrase.split())
            positions.update(range(len(phrases)))
            ends += len(phrases)
        units[unit] = {
            "words": dict(sorted(words.items())),
            "ends": ends,
            "positions": [positions[i] for i in range(MAX_POSITIONS)],
        }
    return {"labels": {name: int(n) + 1 for name, n in zip(CLASSES, classes, strict=True)}, "units": units}


def main() -> None:
    arguments = make_parser(__doc__).parse_args()
    path = WEIGHTS / "codebook.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(count(training_scenes(arguments.scenes, arguments.folder)), indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
