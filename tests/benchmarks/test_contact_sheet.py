"""The page of the street world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noma_semcom_benchmarks.contact_sheet import INK, SEEDS, VARIED, close_up, draw, every_weather, main
from noma_semcom_env.scenes.street import CLASSES, LAYOUTS, PALETTE, SPLITS, TIMES, WEATHERS, compose, render


def test_the_scenes_show_every_class_layout_weather_and_time() -> None:
    scripts = [compose(np.random.default_rng(seed)) for seed in SEEDS]
    assert {script.layout for script in scripts} == set(LAYOUTS)
    assert {script.weather for script in scripts} == set(WEATHERS)
    assert {script.time for script in scripts} == set(TIMES)
    shown = set(np.concatenate([np.unique(render(seed).labels) for seed in SEEDS]).tolist())
    assert shown == set(range(len(CLASSES)))
    assert all(seed in SPLITS["policy"] for seed in (*SEEDS, VARIED))
    assert max(len(script.items) for script in scripts) == len(INK)


def test_every_weather_shows_one_scene() -> None:
    images = every_weather(VARIED, 64)
    assert set(images) == {(time, weather) for time in TIMES for weather in WEATHERS}
    # In its own weather the scene is what its seed renders.
    np.testing.assert_array_equal(images["day", "clear"], render(VARIED).image)
    assert len({image.tobytes() for image in images.values()}) == len(images)
    brightness = {time: images[time, "clear"].mean() for time in TIMES}
    assert brightness["day"] > brightness["sunset"] > brightness["night"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_close_up_holds_the_middle_of_the_first_item_at_any_side(seed: int) -> None:
    scene = render(seed)
    windows = np.lib.stride_tricks.sliding_window_view(scene.image, (32, 32, 3))[:, :, 0]
    ((top, left),) = np.argwhere((windows == close_up(scene)).all(axis=(2, 3, 4))).tolist()
    x, y = (scene.boxes[0, :2] + scene.boxes[0, 2:]) / 2
    assert left <= x <= left + 32
    assert top <= y <= top + 32
    assert close_up(render(seed, 256)).shape == (128, 128, 3)


@pytest.mark.slow
def test_the_page_holds_the_palette_and_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "world.png"
    monkeypatch.setattr("sys.argv", ["contact_sheet", "--output", str(path)])
    main()
    assert path.stat().st_size <= 500_000
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert min(pixels.shape[:2]) > 1000
    found = {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}
    assert {tuple(colour) for colour in PALETTE.tolist()} <= found
    assert (255, 255, 255) in found


@pytest.mark.slow
def test_other_scenes_can_be_drawn(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", [11_000_000], 11_000_004)
    draw(tmp_path / "b.png", [11_000_000, 11_000_001], 11_000_004)
    one, two = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert one.shape[1] == two.shape[1]
    assert one.shape[0] < two.shape[0]
