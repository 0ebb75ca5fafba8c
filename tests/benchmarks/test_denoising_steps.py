"""The curve over denoising steps, and the choice that is made from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noma_semcom_benchmarks.denoising_steps import RECEIVED, draw, fewest_steps, received, sweep
from noma_semcom_env import load_table
from noma_semcom_env.zoo.presets import load_preset


def test_more_features_are_received_in_order() -> None:
    features = load_table("street-validation").features[:6]
    chosen = {what: received(features, what) for what in RECEIVED}
    counts = [one.count for one in features]
    assert chosen["all"].sum(axis=1).tolist() == counts
    assert not chosen["none"].any()
    np.testing.assert_array_equal(chosen["masks"] | chosen["words"], chosen["all"])
    assert not (chosen["masks"] & chosen["words"]).any()
    assert not (chosen["half"] & ~chosen["all"]).any()
    assert 0.3 < chosen["half"].sum() / sum(counts) < 0.7


def test_the_fewest_steps_within_the_tolerance_are_chosen() -> None:
    rows = [{"steps": t, **dict.fromkeys(RECEIVED, 0.2)} for t in (1, 2, 3, 20)]
    rows[0]["words"], rows[1]["none"], rows[2]["all"] = 0.25, 0.2045, 0.2035
    assert fewest_steps(rows) == 3
    assert fewest_steps(rows, tolerance=0.03) == 2


@pytest.mark.slow
def test_a_sweep_is_drawn(tmp_path: Path) -> None:
    table = load_table("street-validation")
    rows = sweep(table.images[:2], table.features[:2], (1, 3), (0,))
    assert rows[1]["all"] < rows[1]["none"]
    assert [row["steps"] for row in rows] == [1, 3]
    draw(rows, 3, tmp_path / "steps.png")
    with Image.open(tmp_path / "steps.png") as picture:
        assert picture.size[0] > 800


@pytest.mark.slow
def test_the_presets_steps_are_what_the_rule_gives_on_few_scenes() -> None:
    table = load_table("street-validation")
    rows = sweep(table.images, table.features, (1, 2, 3, 20), (0, 1))
    assert fewest_steps(rows) == load_preset("street").denoising_steps
