"""Verdicts, tables, and where they are put."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from noma_semcom_agents.evaluation import Interval
from noma_semcom_agents.statistics import Estimate
from noma_semcom_benchmarks.pages import (
    AGREES,
    DIFFERS,
    UNDECIDED,
    Claim,
    either,
    judge,
    judge_small,
    make_parser,
    markdown,
    paste,
    publish,
    read_arguments,
)
from noma_semcom_benchmarks.sweeps import Sample
from noma_semcom_benchmarks.trainings import LEAST_SEEDS, ROOT

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


def test_few_runs_need_students_interval_as_well() -> None:
    near, apart = Estimate(2.0, 1.0, 3.0, (1.9, 2.0, 2.1)), Estimate(2.0, 1.0, 3.0, (1.0, 2.0, 3.0))
    assert judge("x", {"a": near}).verdict == AGREES
    told = judge("x", {"a": near, "b": apart})
    assert told.verdict == UNDECIDED
    assert told.numbers == "a: 2 (1 to 3; Student's t 1.75 to 2.25); b: 2 (1 to 3; Student's t -0.484 to 4.48)"
    assert judge("x", {"a": Estimate(-2.0, -3.0, -1.0, (-1.0, -2.0, -3.0))}).verdict == UNDECIDED
    assert judge("x", {"a": Estimate(2.0, 1.0, 3.0, (1.0, 2.0, 3.0, 2.0, 2.0))}).numbers == "a: 2 (1 to 3)"
    assert judge("x", {"a": Estimate(2.0, 1.0, 3.0, (2.0,))}).verdict == UNDECIDED
    assert judge_small("x", {"a": apart}, 3.5).verdict == UNDECIDED
    assert judge_small("x", {"a": near}, 3.5).verdict == AGREES
    assert judge_small("x", {"a": apart}, 0.5).verdict == UNDECIDED
    assert judge("x", {"a": Estimate(np.nan, np.nan, np.nan, (1.0, np.nan))}).verdict == UNDECIDED


def test_nothing_is_seldom_taken_for_something_with_three_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noma_semcom_agents.statistics.RESAMPLES", 300)
    rng = np.random.default_rng(0)
    gaps = [Sample(rng.normal(size=(3, 1)), (0, 1, 2)).mean() for _ in range(300)]
    # 0.05 by Student's t; the bootstrap alone leaves out 0 in 0.27 of them.
    assert np.mean([judge("x", {"a": one}).verdict != UNDECIDED for one in gaps]) < 0.1
    assert np.mean([one.excludes_zero for one in gaps]) > 0.2


def test_what_has_no_runs_is_judged_by_episodes_alone() -> None:
    values = 1.0 + 0.1 * np.random.default_rng(0).normal(size=(1, 50))
    assert judge("x", {"a": Sample(values).mean()}).verdict == AGREES
    assert judge("x", {"a": Sample(values, (0,)).mean()}).verdict == UNDECIDED


def test_one_of_several_ways_is_enough() -> None:
    yes, no, unsure = (Claim(verdict, verdict, "1") for verdict in (AGREES, DIFFERS, UNDECIDED))
    assert either("x", [(yes, no), (yes, yes)]).verdict == AGREES
    assert either("x", [(yes, no), (no, unsure)]).verdict == DIFFERS
    assert either("x", [(yes, no), (yes, unsure)]).verdict == UNDECIDED
    assert either("x", [(yes, no), (no, yes)]).numbers == "agrees: agrees, 1; does not agree: does not agree, 1"


def test_few_runs_and_notes_stand_below_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = Namespace(output=tmp_path, quick=False, page=None)
    publish("x", given, [{"a": 1}], runs=3, notes=["Something else."])
    assert (
        "3 runs at some point: intervals over so few runs are too short; verdicts also need Student's t over runs."
        in (capsys.readouterr().out)
    )
    publish("x", given, [{"a": 1}], runs=LEAST_SEEDS, notes=["Something else."])
    printed = capsys.readouterr().out
    assert "Student" not in printed
    assert "Something else." in printed


def test_a_quick_run_does_not_train_among_the_real_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["x", "--quick", "--root", str(ROOT.absolute())])
    with pytest.raises(SystemExit):
        read_arguments(make_parser(None))
    assert "name another" in capsys.readouterr().err


DOCS = Path(__file__).parents[2] / "docs"
PROGRAMS = sorted(Path(__file__).parents[2].glob("benchmarks/*.py"))


@pytest.mark.parametrize(
    "program", [one for one in PROGRAMS if re.search(r"^ +publish\(", one.read_text(), re.M)], ids=lambda one: one.stem
)
def test_the_documentation_has_a_place_for_every_table_of_a_program(program: Path) -> None:
    source = program.read_text()
    names = re.findall(r'^ +publish\(\s*"([\w-]+)"', source, re.M)
    assert len(names) == len(re.findall(r"^ +publish\(", source, re.M))
    pages = set(re.findall(r"--page docs/([\w-]+\.md)", source))
    assert len(pages) == 1, f"{program.name} names {pages or 'no page'} in what it says of itself"
    text = (DOCS / pages.pop()).read_text()
    for name in names:
        assert text.count(f"<!-- begin {name} -->") == text.count(f"<!-- end {name} -->") == 1
