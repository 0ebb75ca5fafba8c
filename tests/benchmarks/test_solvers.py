"""The comparison of transmissions on a small grid."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from noma_semcom_benchmarks import solvers


def test_every_way_to_decode_is_at_best_as_fast_as_the_joint_optimum() -> None:
    for users, antennas in ((2, 1), (3, 2), (3, 4)):
        records = solvers.compare(users, antennas, drops=100, slow_drops=3)
        assert [one.name for one in records] == list(solvers.TRANSMISSIONS)
        for one in records:
            assert len(one.ratio) == (3 if one.name in solvers.SLOW else 100)
            assert one.name in ("TDMA", "FDMA") or (one.ratio >= 1 - 1e-9).all()
        assert (records[0].ratio == 1.0).all()
        np.testing.assert_allclose(records[1].ratio, 1.0, rtol=1e-9)  # all orders
        stats = solvers.summarize(records[:1])
        assert stats["exact"] == stats["mean"] == stats["worst"] == 1.0
        assert stats["faster"] == stats["failures"] == 0.0


def test_orthogonal_access_loses_where_antennas_tell_users_apart_and_wins_with_one() -> None:
    def median(users: int, antennas: int) -> float:
        (record,) = solvers.compare(users, antennas, drops=200, slow_drops=0, names=["FDMA"])
        return float(np.median(record.ratio))

    assert median(4, 8) > 2.0
    assert median(4, 1) < 1.0


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table, picture = tmp_path / "solvers.csv", tmp_path / "solvers.png"
    words = "solvers --users 2 3 --antennas 1 2 --drops 20 --slow-drops 0".split()
    monkeypatch.setattr(sys, "argv", [*words, "--csv", str(table), "--figure", str(picture)])
    solvers.main()
    printed = capsys.readouterr().out
    assert "at least as many antennas as users" in printed
    assert "FDMA: median latency" in printed
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * (len(solvers.TRANSMISSIONS) - len(solvers.SLOW))
    assert {"users", "antennas", "transmission", "exact", "mean", "worst", "single_us"} <= rows[0].keys()
    assert picture.stat().st_size > 10_000
