"""Scores the street preset's recovery on held-out scenes and draws a contact sheet.

    python -m noma_semcom_env.zoo.train.evaluate --scenes 128 --features extracted

Prints the LPIPS with all features, masks alone, words alone and none, and the autoencoder's floor. ``--features truth``
takes masks and caption from the renderer instead of the preset's UperNet and BLIP.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from noma_semcom_env.features import FeatureKind, SemanticFeatures, select_kind
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.recovery.pipeline import load_recovery
from noma_semcom_env.scenes.street import CLASSES
from noma_semcom_env.semantics.extraction import load_extractor
from noma_semcom_env.semantics.phrases import head_word, split_caption
from noma_semcom_env.zoo.train.autoencoder import floor
from noma_semcom_env.zoo.train.data import Scenes, held_out

KINDS: Final[tuple[FeatureKind, ...]] = ("all", "masks", "words", "none")


def true_features(scenes: Scenes) -> list[SemanticFeatures]:
    """Features of the ground truth; sizes and importance are placeholders, since recovery does not read them."""
    features = []
    for i, (labels, caption) in enumerate(zip(scenes.labels, scenes.captions, strict=True)):
        present = np.unique(labels)
        phrases = split_caption(caption)
        count = len(present) + len(phrases)
        features.append(
            SemanticFeatures(
                image_id=f"held-out:{i}",
                caption=caption,
                masks=labels == present[:, None, None],
                mask_labels=tuple(CLASSES[c] for c in present),
                phrases=phrases,
                phrase_labels=tuple(head_word(p) for p in phrases),
                size_bits=np.ones(count, dtype=np.int64),
                importance=np.ones(count),
                kept=np.ones(count, dtype=bool),
            )
        )
    return features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--features", choices=("extracted", "truth"), default="extracted")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (raw, all, masks, words, none) here")
    arguments = parser.parse_args()
    scenes = held_out(arguments.scenes)
    if arguments.features == "truth":
        features = true_features(scenes)
    else:
        features = load_extractor("street").extract(scenes.images, [f"held-out:{i}" for i in range(arguments.scenes)])
    distance, seeds = PerceptualDistance(), range(arguments.seeds)
    recovery = load_recovery("street")
    figures: dict[str, Any] = {}
    for kind in KINDS:
        values = recovery.distances(features, scenes.images, select_kind(features, kind), seeds, distance)
        error = values.mean(1).std(ddof=1) / len(values) ** 0.5
        figures[kind] = [round(float(values.mean()), 4), round(float(error), 4)]
    figures["floor"] = round(floor(recovery.pipeline.vae, torch.from_numpy(scenes.images)), 4)
    print(json.dumps(figures, indent=2))
    if arguments.sheet:
        shown = features[:12]
        columns = [scenes.images[:12]]
        for kind in KINDS:
            columns.append(recovery.recover(shown, select_kind(shown, kind))[:, 0])
        sheet = np.concatenate([np.concatenate(list(column), axis=1) for column in columns])
        Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2), Image.Resampling.NEAREST).save(
            arguments.sheet
        )


if __name__ == "__main__":
    main()
