"""Verdicts, tables, and where they are put."""

from __future__ import annotations

from pathlib import Path

import pytest

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks.pages import AGREES, DIFFERS, UNDECIDED, judge, judge_small, markdown, paste

ABOVE, BELOW, AROUND = Interval(2.0, 1.0, 3.0), Interval(-2.0, -3.0, -1.0), Interval(0.5, -1.0, 2.0)


def test_a_claim_agrees_only_if_it_does_everywhere() -> None:
    assert judge("x", {"a": ABOVE, "b": ABOVE}).verdict == AGREES
    assert judge("x", {"a": ABOVE, "b": AROUND}).verdict == UNDECIDED
    assert judge("x", {"a": ABOVE, "b": BELOW, "c": AROUND}).verdict == DIFFERS
    assert judge("x", {"a": BELOW}, " ms", 10.0).numbers == "a: -20 ms (-30 to -10)"


def test_small_means_within_the_margin_interval_included() -> None:
    assert judge_small("x", {"a": AROUND}, 2.5).verdict == AGREES
    assert judge_small("x", {"a": AROUND, "b": ABOVE}, 2.5).verdict == UNDECIDED
    assert judge_small("x", {"a": BELOW}, 0.5).verdict == DIFFERS


def test_intervals_stand_in_brackets_behind_their_value() -> None:
    text = markdown([{"who": "a", "runs": None, "regret": 0.12345, "regret_low": 0.1, "regret_high": 0.2}])
    assert text.splitlines() == ["| who | runs | regret |", "|---|---|---|", "| a |  | 0.1235 (0.1 to 0.2) |"]


def test_a_page_takes_a_table_over_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- begin a -->\n<!-- end a -->\nbelow\n")
    paste(page, "a", "first")
    paste(page, "a", "second")
    assert page.read_text() == "above\n<!-- begin a -->\n\nsecond\n\n<!-- end a -->\nbelow\n"
    with pytest.raises(ValueError, match="has no place between"):
        paste(page, "b", "x")


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("figures.md", "fig04a fig04b fig04c fig05a fig05b fig05c fig06 beyond transfer"),
        ("leaderboard.md", "leaderboard leaderboard-together knowledge-noise knowledge pareto"),
        ("training-elsewhere.md", "elsewhere"),
    ],
)
def test_the_documentation_has_a_place_for_every_table(page: str, names: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    for name in names.split():
        assert text.count(f"<!-- begin {name} -->") == text.count(f"<!-- end {name} -->") == 1
