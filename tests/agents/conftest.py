"""A small image set with a plausible L(image, subset), written as a recovery table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from noma_semcom_agents.provenance import write_json
from noma_semcom_agents.report import write_rows
from noma_semcom_agents.runs import Request, make_record
from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.subsets import subset_selections
from noma_semcom_env.recovery.table import RecoveryTable

CLASSES = ("sky", "road", "building", "tree", "car", "person", "sign", "water")
WORDS = ("rain", "night", "building", "tree", "car", "person", "sign")
LABELS = ("", *CLASSES, *(f"word:{word}" for word in WORDS))


def synthetic_table(images: int, width: int, seed: int) -> RecoveryTable:
    """Masks cost many bits, phrases few; what each is worth depends on its label and on the image's own scale."""
    law = np.random.default_rng(0)
    worth = dict(zip(LABELS[1:], law.uniform(0.05, 0.6, len(LABELS) - 1), strict=True))
    price = dict(zip(CLASSES, law.uniform(130, 450, len(CLASSES)), strict=True))
    rng = np.random.default_rng(seed)
    features, values = [], []
    for number in range(images):
        visual = int(rng.integers(width // 3, width // 2 + 1))
        textual = int(rng.integers(1, width - visual + 1))
        classes = tuple(str(name) for name in rng.choice(CLASSES, visual, replace=False))
        words = tuple(str(name) for name in rng.choice(WORDS, min(textual, len(WORDS)), replace=False))
        count = visual + len(words)
        area = rng.uniform(0.5, 1.5, count)
        gain = area * [worth[name] for name in classes + tuple(f"word:{word}" for word in words)]
        masks = np.zeros((visual, 8, 8), dtype=bool)
        masks[np.arange(visual), np.arange(visual)] = True
        bits = [price[name] * rng.uniform(0.8, 1.2) for name in classes] + list(rng.uniform(9, 27, len(words)))
        features.append(
            SemanticFeatures(
                image_id=f"synthetic:{seed}:{number}",
                caption=" and ".join(words),
                masks=masks,
                mask_labels=classes,
                phrases=words,
                phrase_labels=tuple(f"word:{word}" for word in words),
                size_bits=np.array(bits).astype(np.int64),
                importance=np.clip(area / 1.5, 0.0, 1.0),
                kept=(gain > 0.1) | (np.arange(count) == 0),
            )
        )
        chosen = subset_selections(count, width)[:, :count]
        row = np.full((2, 1 << width), np.nan, dtype=np.float32)
        row[:, : 1 << count] = 0.18 + 0.3 * np.exp(-(chosen @ gain)) + rng.normal(0.0, 0.004, (2, 1 << count))
        values.append(row)
    pictures = rng.integers(0, 256, (images, 8, 8, 3)).astype(np.uint8)
    return RecoveryTable(tuple(features), pictures, np.stack(values), LABELS, {"made_by": "synthetic", "seed": seed})


@pytest.fixture(scope="session")
def table_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Training, validation and test tables of 6 features an image."""
    folder = tmp_path_factory.mktemp("tables")
    paths = {}
    for seed, split in enumerate(("policy", "validation", "test"), start=1):
        paths[split] = folder / f"{split}.npz"
        synthetic_table(6, 6, seed).save(paths[split])
    return paths


@pytest.fixture
def leave_run(table_paths: dict[str, Path]) -> Callable[..., dict[str, Any]]:
    """Leaves the folder of a run as a training does, its policy untrained; without ``ended`` it was cut off."""
    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.modules import settings_of
    from noma_semcom_agents.networks import make_actor
    from noma_semcom_agents.training import CHECKPOINT, CURVE, POLICY, PROGRESS, CurvePoint, knobs_of

    def leave(folder: Path, ended: int | None = None, reached: int = 64, **asked: Any) -> dict[str, Any]:
        knobs = {"images": str(table_paths["policy"]), "num_users": 2, **asked.pop("knobs", {})}
        asked = {"steps": 128, "settings": {"model.width": 8}, "validation": str(table_paths["validation"]), **asked}
        request = Request(knobs=knobs, **asked)
        config = request.configure()
        record = make_record(request, config, {**knobs_of(str(config.env)), **knobs})
        record |= {"validation": {"images": request.validation, "episodes": 4}}
        record |= {"ended": None if ended is None else {"steps": ended, "seconds": 1.0, "validation_regret": None}}
        (folder / CHECKPOINT).mkdir(parents=True)
        write_json(record, folder / "run.json")
        write_json({"steps": reached, "seconds": 1.0}, folder / CHECKPOINT / PROGRESS)
        points = [CurvePoint(s, 1.0, -0.5, -0.5 + s / 1e3, 0.5 - s / 1e3, 0.2, 1e-4, 0.5) for s in (0, 32, reached)]
        write_rows([asdict(point) for point in points], folder / CURVE)
        env = gym.make(str(config.env), **knobs)
        settings = settings_of(env.observation_space, env.action_space, config.model_config)
        env.close()
        LearnedPolicy(SimpleNamespace(actor=make_actor(settings), settings=settings)).save(folder / POLICY)
        return record

    return leave
