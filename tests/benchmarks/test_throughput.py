"""Throughput is measured against CartPole in the same run, and drawn."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from noma_semcom_benchmarks.throughput import YARDSTICK, draw, measure


def test_rates_and_ratios_are_measured_and_drawn(tmp_path: Path) -> None:
    rows = measure(["NomaSemCom-v0"], [2, 8], seconds=0.02)
    assert [(row["id"], row["envs"]) for row in rows] == [
        (i, n) for i in (YARDSTICK, "NomaSemCom-v0") for n in (0, 2, 8)
    ]
    assert all(row["steps_per_s"] > 0 for row in rows)
    assert all(row["to_same_form"] == 1.0 for row in rows[:3])
    draw(rows, tmp_path / "throughput.png")
    with Image.open(tmp_path / "throughput.png") as picture:
        assert picture.size[0] > 800
