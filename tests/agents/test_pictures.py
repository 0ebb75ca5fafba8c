"""The two pictures of a training are drawn and hold what they must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from noma_semcom_agents.evaluation import Contender
from noma_semcom_agents.pictures import _mask_picture, capture_step, draw_learning_curve, draw_transmission
from noma_semcom_agents.schemes import AllSelection, NoSelection
from noma_semcom_agents.training import CurvePoint


def pixels(path: Path) -> np.ndarray:
    """(n, 3) int pixels of a picture."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)


def colours(rgb: np.ndarray) -> np.ndarray:
    """The different colours of (n, 3) pixels, one number each."""
    return np.unique(rgb.astype(int) @ [1, 256, 65536])


def near(path: Path, colour: str) -> int:
    """How many pixels have one of matplotlib's colours."""
    return int((np.abs(pixels(path) - 255 * np.array(to_rgb(colour))).max(axis=1) < 12).sum())


@pytest.mark.parametrize("policy", [AllSelection(), NoSelection()])
def test_a_transmission_is_drawn(
    policy: AllSelection | NoSelection, table_paths: dict[str, Path], tmp_path: Path
) -> None:
    step = capture_step(Contender(policy, {"prune": False}), {"images": str(table_paths["test"])}, seed=3)
    assert len(step.features) == len(step.images) == len(step.rate_bps) == 3
    sent = step.selection.sum(axis=1)
    expected = [one.count for one in step.features] if policy.name == "ALL-Selection" else [0, 0, 0]
    assert sent.tolist() == expected
    assert (step.demand_bits > 0).tolist() == (sent > 0).tolist()
    path = tmp_path / "folder" / "transmission.png"
    draw_transmission(step, step.images, path)
    shown = colours(step.images.reshape(-1, 3))
    assert len(np.intersect1d(shown, colours(pixels(path)))) > 0.95 * len(shown)


def test_masks_are_pale_where_they_are_not_sent(table_paths: dict[str, Path]) -> None:
    step = capture_step(Contender(NoSelection()), {"images": str(table_paths["test"])}, seed=3)
    one = step.features[0]
    sent = np.arange(step.selection.shape[1]) == 0
    picture, pale = _mask_picture(one, sent), _mask_picture(one, ~sent)
    inside = one.masks[0]
    assert picture[inside].mean() < pale[inside].mean()
    assert (picture[~one.masks.any(axis=0)] == 255).all()


def test_a_learning_curve_is_drawn_with_its_references(tmp_path: Path) -> None:
    curve = [
        CurvePoint(100 * i, float(i), np.nan if i == 0 else -0.6, -0.5 + 0.01 * i, 0.3, 0.2, 1e-3, 0.4)
        for i in range(5)
    ]
    path = tmp_path / "curve.png"
    draw_learning_curve(curve, {"Oracle": -0.3, "ALL-Selection": -0.7}, path)
    for colour in ("C0", "C1", "C2"):  # the agent, the oracle, ALL-Selection
        assert near(path, colour) > 300
    assert near(path, "C3") == 0
