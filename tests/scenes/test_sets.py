"""Image sets from anywhere: ids are stable, nothing is read in vain, and what is wrong is named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noma_semcom_env.scenes.files import read_square
from noma_semcom_env.scenes.sets import ImageSet, load_images
from noma_semcom_env.scenes.street import CLASSES, SPLITS, render

SIDE = 48


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures among other things."""
    home = tmp_path / "holiday"
    (home / "more.png").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("b.PNG", "a.jpg", "c.webp", "d.gif"):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(home / name)
    (home / "notes.txt").write_text("a note")
    (home / "._a.jpg").write_text("what some systems leave behind")
    return home


def test_a_folder_is_read_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_images(folder, SIDE)
    assert loaded.image_ids == ("holiday/a.jpg", "holiday/b.PNG", "holiday/c.webp", "holiday/d.gif")
    assert loaded.truth is None
    assert loaded.source == str(folder)
    assert np.array_equal(loaded.images[1], read_square(folder / "b.PNG", SIDE))
    monkeypatch.chdir(folder)
    part = load_images(".", SIDE, count=2, offset=1)
    assert part.image_ids == loaded.image_ids[1:3]
    assert np.array_equal(part.images, loaded.images[1:3])


def test_pictures_beyond_the_count_are_not_read(folder: Path) -> None:
    (folder / "c.webp").write_text("no picture")
    assert len(load_images(folder, SIDE, count=2)) == 2
    with pytest.raises(ValueError, match=r"c\.webp cannot be read as a picture"):
        load_images(folder, SIDE)


def test_pictures_in_memory_of_every_kind(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "file.png")
    expected = read_square(tmp_path / "file.png", SIDE)
    clear = np.dstack([pixels, np.zeros((50, 70), dtype=np.uint8)])
    grey = pixels[..., 0]
    palette = Image.fromarray(pixels).convert("P")
    loaded = load_images([Image.fromarray(pixels), pixels, clear, grey, palette], SIDE)
    assert loaded.image_ids == tuple(f"image:{i:04d}" for i in range(5))
    assert loaded.source == "memory"
    assert np.array_equal(loaded.images[0], expected)
    assert np.array_equal(loaded.images[1], expected)
    assert (loaded.images[2] == 255).all()
    assert (loaded.images[3] == loaded.images[3][..., :1]).all()
    assert np.array_equal(loaded.images[4], load_images((palette.convert("RGB"),), SIDE).images[0])
    stacked = load_images(np.stack([grey, grey, grey], axis=-1)[None], SIDE)
    assert np.array_equal(stacked.images[0], loaded.images[3])
    later = load_images([pixels, pixels, grey], SIDE, offset=2)
    assert later.image_ids == ("image:0002",)


@pytest.mark.parametrize("style", ["plain", "crayon"])
def test_street_scenes_come_with_their_truth(style: str) -> None:
    source = "street:test" if style == "plain" else f"street:test:{style}"
    loaded = load_images(source, 64, count=3, offset=2)
    assert loaded.image_ids == tuple(f"{source}:{i:04d}" for i in (2, 3, 4))
    assert loaded.truth is not None
    for index, image, truth in zip((2, 3, 4), loaded.images, loaded.truth, strict=True):
        expected = render(SPLITS["test"][index], 64, style)
        assert np.array_equal(image, expected.image)
        assert truth.labels is not None
        assert np.array_equal(truth.labels, expected.labels)
        assert truth.captions == (expected.caption,)
        assert truth.classes == CLASSES
        assert np.array_equal(truth.boxes, expected.boxes)
        assert truth.box_labels == tuple(item.kind for item in expected.items)
    assert load_images("street:test:plain", 64, count=1).image_ids == ("street:test:0000",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "street:test"}, "'street:test': count=None; say how many scenes, there are 1000000"),
        ({"source": "street:train", "count": 1}, "'street:train' is unknown; write street:SPLIT"),
        ({"source": "street:test:oil", "count": 1}, "'street:test:oil' is unknown; .* plain, crayon"),
        ({"source": "street:test", "count": 1, "side": 65}, "side=65 is out of range; .* even side from 64 to 256"),
        (
            {"source": "street:test", "count": 1, "side": 64, "offset": 10**6},
            "holds 1000000 pictures; count=1 from offset=1000000",
        ),
        ({"source": "ftp:example"}, "'ftp:example' is no folder and no known source; 'street:SPLIT'"),
        ({"source": "/absent/folder"}, "'/absent/folder' is no folder"),
        ({"source": ""}, "source='' is empty"),
        ({"source": "voc:val"}, "write voc:ROOT:SET, for example"),
        ({"source": []}, "'memory' holds no pictures"),
        ({"source": np.zeros((0, 40, 40, 3), dtype=np.uint8)}, "'memory' holds no pictures"),
        ({"source": np.zeros((40, 40, 3), dtype=np.uint8)}, r"shape \(40, 40, 3\); \(I, H, W, 3\) is needed"),
        ({"source": [np.zeros((4, 40, 40, 3), dtype=np.uint8)]}, r"image 0 has shape \(4, 40, 40, 3\)"),
        ({"source": [np.zeros((0, 40), dtype=np.uint8)]}, r"image 0 has shape \(0, 40\)"),
        ({"source": [np.zeros((40, 40), dtype=np.uint16)]}, "image 0 has dtype uint16; uint8 in 0..255 is needed"),
        ({"source": [np.zeros((40, 40, 3))]}, r"image 0 holds floats.*\[0,1\] must be converted to uint8 in 0\.\.255"),
        ({"source": np.zeros((2, 40, 40, 3), dtype=np.float32)}, "image 0 holds floats"),
        ({"source": [Image.new("F", (40, 40))]}, "image 0 holds floats"),
        ({"source": [np.zeros((40, 40), dtype=np.uint8)], "count": 2}, "holds 1 pictures; count=2 from offset=0"),
        ({"source": [np.zeros((40, 40), dtype=np.uint8)], "offset": 1}, "holds 1 pictures; count=None from offset=1"),
        ({"source": "x", "side": 30}, "'x': side=30 is out of range; a whole number from 31 to 2048"),
        ({"source": "x", "side": 2049}, "'x': side=2049 is out of range"),
        ({"source": "x", "count": 0}, "'x': count=0 is out of range"),
        ({"source": "x", "offset": -1}, "'x': offset=-1 is out of range"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_images(**{"side": SIDE, **arguments})


def test_wrong_types_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="source=3 is a int; 'street:SPLIT'"):
        load_images(3, SIDE)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="image 0 is a str; a PIL image or a uint8 array"):
        load_images(["a.png"], SIDE)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="side=64.0 is a float"):
        load_images("street:test", 64.0, count=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds no pictures; put files there that end in .png"):
        load_images(tmp_path, SIDE)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pass
    with pytest.raises(ValueError, match="image 0 cannot be read as a picture"):
        load_images([picture], SIDE)


def test_pillow_is_named_where_it_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    for source in (folder, [np.zeros((40, 40), dtype=np.uint8)], "street:validation"):
        with pytest.raises(ImportError, match=r"noma-semcom-env\[render\]"):
            load_images(source, 64, count=1)


def test_an_image_set_holds_together() -> None:
    images = np.zeros((2, 40, 40, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="'here': image_ids holds a more than once; make them unique"):
        ImageSet(images, ("a", "a"), "here", None)
    with pytest.raises(ValueError, match="image_ids has 1 entries for 2 images"):
        ImageSet(images, ("a",), "here", None)
    with pytest.raises(ValueError, match="truth has 0 entries for 2 images"):
        ImageSet(images, ("a", "b"), "here", ())
    for wrong in (images[:, :30], images.astype(np.float32)):
        with pytest.raises(ValueError, match=r"\(I, H, H, 3\) of uint8 in 0\.\.255 is needed"):
            ImageSet(wrong, ("a", "b"), "here", None)


def test_loading_is_deterministic(folder: Path) -> None:
    for source, side in ((folder, 37), ("street:policy", 64)):
        one, other = (load_images(source, side, count=4) for _ in range(2))
        assert one.image_ids == other.image_ids
        assert np.array_equal(one.images, other.images)
