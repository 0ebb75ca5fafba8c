"""Small image sets with known qualities, written as tables, and what counts as the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.mixture.items import MixtureItems, grow
from noma_semcom_env.mixture.table import MixtureTable
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


def synthetic_mixture(items: int = 6, margins: tuple[int, ...] = (0,), seed: int = 0) -> MixtureTable:
    """Items of one disc each, on noise; qualities rise with symbols and SNR, and a text has a threshold."""
    rng = np.random.default_rng(seed)
    side, snr = 32, np.arange(-10.0, 31.0, 5.0)
    rois, tokens = np.zeros((items, side, side), dtype=bool), rng.integers(4, 16, items)
    rows, columns = np.mgrid[:side, :side]
    for roi in rois:
        x, y, radius = *rng.uniform(8, 24, 2), rng.uniform(3, 8)
        roi[:] = np.hypot(rows - y, columns - x) < radius
    share = np.array([[grow(roi, margin).mean() for margin in margins] for roi in rois])
    known = MixtureItems(
        item_ids=tuple(f"synthetic:{seed}:{i}" for i in range(items)),
        pictures=rng.integers(0, 256, ((items + 1) // 2, side, side, 3)).astype(np.uint8),
        picture=np.arange(items) // 2,
        prompts=tuple(f"the disc {i}" for i in range(items)),
        captions=tuple(" ".join(["word"] * (n - 1)) for n in tokens),
        tokens=tokens,
        rois=rois,
        targets=rois,
        margins=np.array(margins),
        mask_bits=rng.integers(10, 40, (items, len(margins))),
        roi_share=share,
        importance=rng.random(items),
        least_symbols=5,
        most_symbols=32,
        max_roi_symbols=1000,
    )
    symbols, texts = 2 ** np.arange(4, 10), np.array([0, 5, 8, 16, 32])
    grey = rng.uniform(10, 14, share.shape)
    rate = np.log2(1 + 10 ** (snr / 10)) * symbols[:, None]
    psnr = grey[..., None, None] + 6 * np.log10(1 + rate / 10 / share[..., None, None] ** 0.3)
    error = np.where(texts[:, None] > 0, 1 / (1 + np.exp(0.2 * texts[:, None] + snr / 2 - 1)), 1.0)
    error = np.broadcast_to(error, (items, *error.shape))
    clip = rng.uniform(0.25, 0.3, (items, 1, 1, 1)) - 0.08 * np.minimum(2 * error, 1.0)[:, None]
    clip = np.broadcast_to(clip, (items, len(margins), *error.shape[1:])).astype(np.float32)
    return MixtureTable(
        items=known,
        snr_db=snr,
        roi_symbols=symbols,
        token_symbols=texts,
        grey_psnr_db=grey.astype(np.float32),
        psnr_roi_db=psnr.astype(np.float32),
        clip_roni=clip,
        clip_lost=clip - np.float32(0.02),
        token_error=error.astype(np.float32),
        undecodable=(error > 0.25).astype(np.float32),
        provenance={"noise_seeds": [0], "diffusion_seeds": [0], "undecodable_above": 0.25},
    )


@pytest.fixture(scope="session")
def make_mixture() -> Callable[..., MixtureTable]:
    """``synthetic_mixture``."""
    return synthetic_mixture


@pytest.fixture(scope="session")
def mixture_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a mixture table of six items."""
    path = tmp_path_factory.mktemp("mixture") / "synthetic.npz"
    synthetic_mixture().save(Path(path))
    return str(path)


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
