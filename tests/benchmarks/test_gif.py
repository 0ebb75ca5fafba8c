"""The README's moving picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noma_semcom_benchmarks import gif


def test_an_episode_becomes_a_small_gif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "environment.gif"
    frames = gif.episode_frames({**gif.KNOBS, "episode_length": 4}, gif.SEED, recovered=False)
    assert len(frames) == 5
    monkeypatch.setattr(gif, "episode_frames", lambda knobs, seed: frames)
    monkeypatch.setattr("sys.argv", ["gif", "--output", str(path)])
    gif.main()
    assert path.stat().st_size < 500_000
    with Image.open(path) as opened:
        made: Any = opened
        assert made.n_frames == 5
        assert made.size == frames[0].shape[1::-1]
        assert made.info["loop"] == 0
        for place, expected in enumerate(frames):
            made.seek(place)
            off = np.abs(np.asarray(made.convert("RGB")).astype(int) - expected)
            assert off.mean() < 3.0


def test_the_gif_of_the_readme_is_kept_small() -> None:
    path = Path(__file__).parents[2] / "docs" / "environment.gif"
    assert path.stat().st_size < 2_000_000
    with Image.open(path) as opened:
        made: Any = opened
        assert made.n_frames == 21
