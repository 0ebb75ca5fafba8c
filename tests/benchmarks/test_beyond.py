"""Transmissions against the joint optimum: what must hold whatever the numbers."""

from __future__ import annotations

import numpy as np

from noma_semcom_benchmarks.beyond import BOUND, COMMON, EXACT, compare, rows_of
from noma_semcom_benchmarks.solvers import REFERENCE, SLOW, TRANSMISSIONS


def test_what_must_hold(table_path: str) -> None:
    found = compare({"images": table_path}, drops=30, paper_drops=2)
    assert list(found) == list(TRANSMISSIONS)
    best = found[REFERENCE]
    np.testing.assert_allclose(best.common, best.best)
    for name, one in found.items():
        count = len(one.latency_s)
        assert count == (2 if name in SLOW else 30)
        assert (one.best <= one.common + 1e-12).all()
        if name not in ("TDMA", "FDMA"):
            assert (one.latency_s >= best.latency_s[:count] * (1 - 1e-9)).all()
            assert (one.best >= best.best[:count] - 1e-12).all()
    # A band shared by everyone at full power carries no less than time that is shared.
    assert (found["FDMA"].latency_s <= found["TDMA"].latency_s * (1 + 1e-9)).all()
    assert (found["FDMA"].best <= found["TDMA"].best + 1e-12).all()
    assert [found[name].search for name in ("TDMA", "FDMA", "paper")] == [EXACT, BOUND, COMMON]
    rows = rows_of(found, 3, 2, 23.0)
    assert rows[0]["latency_over_joint"] == rows[0]["median_ratio"] == 1.0
    assert rows[0]["reward_lost"] == 0.0


def test_left_out_where_no_drop_is_wanted(table_path: str) -> None:
    assert "paper" not in compare({"images": table_path, "num_users": 2}, drops=3, paper_drops=0)
