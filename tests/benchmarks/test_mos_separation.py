"""The separate code: what is counted, that it fits, and that the best of it is chosen."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from noma_semcom_benchmarks.mos_separation import (
    COLOUR_BITS,
    best_coding,
    budget_bits,
    every_coding,
    payload_bytes,
)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A slope with a bright square, 64 x 64."""
    rows, columns = np.mgrid[0:64, 0:64]
    picture = np.stack([4 * rows, 4 * columns, 2 * (rows + columns)], axis=-1).astype(np.uint8)
    picture[20:30, 20:30] = 255
    return picture


def encoded(image: np.ndarray, form: str, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, quality=quality)
    return file.getvalue()


@pytest.mark.parametrize("form", ["WEBP", "JPEG"])
def test_headers_are_not_counted_but_all_else_is(image: np.ndarray, form: str) -> None:
    small, large = (encoded(image, form, quality) for quality in (5, 80))
    overhead = {len(file) - payload_bytes(file, form) for file in (small, large)}
    # Chunks of odd length are padded by a byte, which is no payload.
    assert max(overhead) - min(overhead) <= 1
    assert max(overhead) >= (27 if form == "WEBP" else 600)
    assert 0 < payload_bytes(small, form) < payload_bytes(large, form)


def test_foreign_files_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no lossy WebP"):
        payload_bytes(encoded(image, "JPEG", 50), "WEBP")
    with pytest.raises(ValueError, match="form='GIF' is unknown"):
        payload_bytes(b"", "GIF")


def test_the_best_coding_fits_and_gets_no_worse_with_more_bits(image: np.ndarray) -> None:
    codings = every_coding(image)
    psnr = []
    for bits in (0, COLOUR_BITS, 400, 1000, 3000, 10_000):
        best = best_coding(codings, bits)
        assert best.bits <= bits
        assert best.image.shape == image.shape
        psnr.append(best.psnr_db)
    assert psnr == sorted(psnr)
    assert psnr[-1] > psnr[0] + 10
    assert best_coding(codings, 0).form == "nothing"
    assert best_coding(codings, COLOUR_BITS).form == "mean colour"


def test_the_budget_is_that_of_capacity() -> None:
    assert budget_bits(0.064, 49152, 0.0) == 3146
    assert budget_bits(0.064, 49152, 20.0) == int(3146 * np.log2(101))
    assert budget_bits(0.0, 49152, 20.0) == 0
    assert budget_bits(0.064, 49152, -np.inf) == 0
