"""A small image set with known features and LPIPS, written as a recovery table, and what counts as the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.subsets import subset_selections
from noma_semcom_env.recovery.table import RecoveryTable

WIDTH = 6
LABELS = ("", "sky", "road", "car", "tree", "person", "rain", "night")


def synthetic_table(images: int = 5, width: int = WIDTH, seed: int = 0) -> RecoveryTable:
    """Images of 2 to ``width`` features; the first mask and the first phrase of each are kept, and some others."""
    rng = np.random.default_rng(seed)
    features = [_features(f"synthetic:{seed}:{i}", 2 + i % (width - 1), rng) for i in range(images)]
    lpips = np.full((images, 2, 1 << width), np.nan, dtype=np.float32)
    for row, one in enumerate(features):
        gain = rng.uniform(0.02, 0.1, one.count)
        chosen = subset_selections(one.count, width)[:, : one.count]
        lpips[row, :, : 1 << one.count] = 0.6 - chosen @ gain + rng.normal(0.0, 0.003, (2, 1 << one.count))
    pictures = rng.integers(0, 256, (images, 8, 8, 3)).astype(np.uint8)
    provenance = {"diffusion_seeds": [0, 1], "denoising_steps": 4, "lpips_net": "alex"}
    return RecoveryTable(tuple(features), pictures, lpips, LABELS, provenance)


def _features(image_id: str, count: int, rng: np.random.Generator) -> SemanticFeatures:
    visual = count // 2
    masks = np.zeros((visual, 8, 8), dtype=bool)
    masks[np.arange(visual), np.arange(visual)] = True
    kept = rng.random(count) < 0.5
    kept[[0, visual]] = True
    bits = np.where(np.arange(count) < visual, rng.integers(130, 450, count), rng.integers(9, 27, count))
    return SemanticFeatures(
        image_id=image_id,
        caption="a caption",
        masks=masks,
        mask_labels=tuple(rng.choice(LABELS[1:6], visual, replace=False).tolist()),
        phrases=tuple(f"phrase {i}" for i in range(count - visual)),
        phrase_labels=tuple(rng.choice(LABELS[5:], count - visual).tolist()),
        size_bits=bits.astype(np.int64),
        importance=rng.random(count),
        kept=kept,
    )


def _assert_same(one: Any, other: Any, where: str = "") -> None:
    """Whole numbers and texts bit for bit, floats to 1e-9 relative (float32 to its own precision)."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_same(one[key], other[key], f"{where}/{key}")
        return
    one, other = np.asarray(one), np.asarray(other)
    assert (one.shape, one.dtype) == (other.shape, other.dtype), where
    if one.dtype.kind in "fc":
        relative, absolute = (1e-6, 1e-6) if one.dtype == np.float32 else (1e-9, 0.0)
        np.testing.assert_allclose(one, other, rtol=relative, atol=absolute, err_msg=where)
    else:
        np.testing.assert_array_equal(one, other, err_msg=where)


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Two observations, infos or the like are the same: ``assert_same(one, other)``."""
    return _assert_same


@pytest.fixture(scope="session")
def make_table() -> Callable[..., RecoveryTable]:
    """``synthetic_table``."""
    return synthetic_table


@pytest.fixture(scope="session")
def table() -> RecoveryTable:
    """Five images of up to six features."""
    return synthetic_table()


@pytest.fixture(scope="session")
def table_path(table: RecoveryTable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of ``table``."""
    path = tmp_path_factory.mktemp("table") / "synthetic.npz"
    table.save(Path(path))
    return str(path)
