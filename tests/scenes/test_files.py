"""Pictures of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noma_semcom_env.scenes.files import read_square


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
