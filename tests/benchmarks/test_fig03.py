"""Fig. 3: what is drawn is what importance was computed from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from noma_semcom_benchmarks.fig03 import draw, explain
from noma_semcom_env.scenes.street import render


def test_the_figure_shows_the_numbers_of_the_features(tmp_path: Path) -> None:
    matching = explain(render(11_000_005).image)
    features, text = matching.features, matching.text
    visual = len(features.masks)
    np.testing.assert_allclose(features.importance[visual:], text.importance)
    kept = features.kept[visual:]
    expected = matching.match[:, kept] @ text.importance[kept] / text.importance[kept].sum()
    np.testing.assert_allclose(features.importance[:visual], expected)
    path = tmp_path / "fig03.png"
    draw(matching, path)
    assert len(np.unique(np.asarray(Image.open(path).convert("RGB")).astype(int) @ [1, 256, 65536])) > 500
