"""Thresholds cost what they cost: the sweep that the preset's are chosen from, and what pruned features are worth."""

from __future__ import annotations

import pytest

from noma_semcom_benchmarks import pruning
from noma_semcom_env import load_table


@pytest.mark.slow
@pytest.mark.parametrize("importance", ["paper", "fitted"])
def test_higher_thresholds_prune_more_and_never_help_the_oracle(
    importance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pruning.TEXT_THRESHOLDS, importance, (0.0, 0.5))
    monkeypatch.setitem(pruning.VISUAL_THRESHOLDS, importance, (0.0, 0.2))
    rows = pruning.sweep("street-validation", episodes=50, importance=importance)
    assert [(row["eps_t"], row["eps_v"]) for row in rows] == [(0.0, 0.0), (0.0, 0.2), (0.5, 0.0), (0.5, 0.2)]
    assert rows[0]["pruned"] == 0.0
    assert rows[0]["regret"] == pytest.approx(0.0, abs=1e-12)
    for less, more in ((0, 1), (0, 2), (2, 3)):
        assert rows[less]["pruned"] < rows[more]["pruned"]
        assert rows[less]["regret"] <= rows[more]["regret"] + 1e-12


def test_what_pruning_removes_is_missed_less_than_what_it_keeps() -> None:
    table = load_table("street-validation")
    saving, bank = pruning.savings(table, 1.0), pruning.bank_of(table)
    kept = [row[: one.count] for row, one in zip(bank.kept, table.features, strict=True)]
    assert pruning.mean_saving(saving, kept).low > pruning.mean_saving(saving, [~one for one in kept]).high


def test_the_fitted_importance_ranks_better_than_the_papers() -> None:
    table = load_table("street-validation")
    saving = pruning.savings(table, 0.8)
    ranks = {}
    for name in ("paper", "fitted"):
        bank = pruning.bank_of(table, name)
        worth = [row[: one.count] for row, one in zip(bank.importance, table.features, strict=True)]
        ranks[name] = pruning.rank_correlation(worth, saving)
    assert ranks["fitted"].low > ranks["paper"].high
