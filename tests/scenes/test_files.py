"""Pictures of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from noma_semcom_env.scenes.files import read_square, square_boxes, square_labels, square_picture


def test_the_middle_square_is_taken(tmp_path: Path) -> None:
    wide = np.zeros((30, 90, 3), dtype=np.uint8)
    wide[:, 30:60] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    square = read_square(tmp_path / "wide.png", 64)
    assert square.shape == (64, 64, 3)
    assert (square[:, 8:-8] == 200).all()
    assert (square > 150).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_every_colour_mode_is_read(mode: str, tmp_path: Path) -> None:
    Image.new("RGB", (50, 70), (255, 255, 255)).convert(mode).save(tmp_path / "picture.png")
    assert (read_square(tmp_path / "picture.png", 32) == 255).all()


def test_transparency_is_white_and_deep_grey_is_scaled(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_square(tmp_path / "clear.png", 32) == 255).all()
    Image.fromarray(np.full((40, 40), 257 * 100, dtype=np.uint16)).save(tmp_path / "deep.png")
    deep = read_square(tmp_path / "deep.png", 32)
    assert (deep == 100).all()
    assert deep.flags.writeable


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png cannot be read as a picture"):
        read_square(tmp_path / "text.png", 64)
    with pytest.raises(ValueError, match=r"absent\.png cannot be read"):
        read_square(tmp_path / "absent.png", 64)


@pytest.mark.parametrize("size", [(64, 64), (90, 30), (31, 50), (47, 32), (200, 133)])
def test_the_square_is_the_one_that_pillow_fits(size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    fitted = ImageOps.fit(picture, (40, 40), Image.Resampling.LANCZOS)
    assert np.array_equal(square_picture(picture, 40), np.array(fitted))


def test_labels_and_boxes_follow_the_picture() -> None:
    """Blocks at random places: the boxes cut are those of the labels cut."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        height, width = rng.integers(20, 120, 2)
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        right, bottom = int(rng.integers(left + 1, width + 1)), int(rng.integers(top + 1, height + 1))
        labels = np.full((height, width), -1)
        labels[top:bottom, left:right] = 300
        side = int(rng.integers(31, 80))
        cut = square_labels(labels, side)
        ((x0, y0, x1, y1),) = square_boxes(np.array([[left, top, right, bottom]]), (width, height), side)
        expected = np.full((side, side), -1)
        expected[y0:y1, x0:x1] = 300
        assert np.array_equal(cut, expected)
        assert cut.dtype == np.int32


def test_a_picture_that_exif_turns_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((60, 60, 3), dtype=np.uint8)
    stored[:30] = 255
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    square = read_square(tmp_path / "turned.png", 60)
    assert (square[:, 40:] > 250).all()
    assert (square[:, :20] < 5).all()
