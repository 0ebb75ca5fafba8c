"""The sweep that chooses the reference latency."""

from __future__ import annotations

from noma_semcom_benchmarks.latency_reference import sweep


def test_a_dearer_latency_makes_the_oracle_send_less(table_path: str) -> None:
    dear, cheap = sweep((5e-5, 5e-3), episodes=4, images=table_path)
    assert dear["oracle's share"] < cheap["oracle's share"]
    assert dear["all"] > cheap["all"] >= 0.0
    assert cheap["none"] > dear["none"] >= 0.0
    for row in (dear, cheap):
        assert min(row[name] for name in ("all", "none", "random", "words", "masks", "pruned oracle")) >= 0.0
