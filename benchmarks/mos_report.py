"""What the figures of Mixture of Semantics share: intervals, verdicts on the paper's claims, options, files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_agents.evaluation import CONFIDENCE, RESAMPLES, Interval
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_agents.statistics import student_interval
from noma_semcom_benchmarks import pages
from noma_semcom_benchmarks.mos_ledger import FOLDER
from noma_semcom_benchmarks.mos_scenes import SETTING
from noma_semcom_benchmarks.pages import FOLDER as OUTPUT
from noma_semcom_benchmarks.pages import QUICK_FOLDER

AGREES: Final = pages.AGREES
DOES_NOT: Final = pages.DIFFERS
CANNOT_TELL: Final = pages.UNDECIDED
LEAST_SCENES: Final = 8
"""Below so many scenes a percentile bootstrap interval is too short, and Student's is taken."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and what was found.

    Attributes:
        text: What the paper says.
        found: Our numbers.
        verdict: :data:`AGREES`, :data:`DOES_NOT` or :data:`CANNOT_TELL`.
    """

    text: str
    found: str
    verdict: str


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean of (n,) values over scenes, with its 95 % interval; NaN stands for no value.

    The interval is a percentile bootstrap one, or Student's over fewer than :data:`LEAST_SCENES` scenes.
    """
    from scipy.stats import bootstrap

    kept = values[~np.isnan(values)]
    if not len(kept):
        return Interval(np.nan, np.nan, np.nan)
    value = float(kept.mean())
    if len(kept) > 1 and np.ptp(kept) == 0:
        return Interval(value, value, value)
    if len(kept) < LEAST_SCENES:
        return student_interval(kept.tolist())
    result = bootstrap(
        (kept,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def above(differences: Sequence[Interval]) -> str:
    """Verdict on the claim that every one of some differences is above 0; without any there is none."""
    if differences and all(one.low > 0 for one in differences):
        return AGREES
    return DOES_NOT if any(one.high < 0 for one in differences) else CANNOT_TELL


def written(one: Interval, digits: int = 2, sign: bool = True) -> str:
    """An interval such as "+3.10 [+2.80, +3.42]"."""
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{one.value:{form}} [{one.low:{form}}, {one.high:{form}}]"


def columns(name: str, one: Interval) -> dict[str, float]:
    """An interval as three columns of a CSV file."""
    return {name: round(one.value, 5), f"{name}_low": round(one.low, 5), f"{name}_high": round(one.high, 5)}


def make_parser(description: str | None, scenes: int, quick: int = 2) -> argparse.ArgumentParser:
    """Options that all figures share.

    Args:
        description: Of the program.
        scenes: Number of scenes by default.
        quick: Number of scenes with ``--quick``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, help=f"number of scenes; {scenes} by default, {quick} with --quick")
    parser.add_argument("--measurements", type=Path, default=FOLDER, help="where measurements are kept")
    add_output(parser)
    parser.set_defaults(usual=scenes, few=quick)
    return parser


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options of where to write, and of a run that only shows that it runs."""
    parser.add_argument("--quick", action="store_true", help="few scenes and points: whether it runs, not what is true")
    parser.add_argument(
        "--output", type=Path, help=f"folder of figure and numbers; {OUTPUT} by default, {QUICK_FOLDER} with --quick"
    )


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with the number of scenes and the folder filled in."""
    given = parse_output(parser, arguments)
    given.scenes = given.scenes or (given.few if given.quick else given.usual)
    return given


def parse_output(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with the folder filled in: a quick run does not overwrite numbers that mean something."""
    given = parser.parse_args(arguments)
    given.output = given.output or (QUICK_FOLDER if given.quick else OUTPUT)
    return given


def report(
    title: str, rows: Sequence[Mapping[str, Any]], claims: Sequence[Claim], given: argparse.Namespace, stem: str
) -> None:
    """Print claims and verdicts, and write the rows as STEM.csv and the claims as STEM-claims.csv.

    The latter has the columns of the first paper's figures, see :func:`~noma_semcom_benchmarks.pages.publish`.
    """
    from rich.table import Table

    given.output.mkdir(parents=True, exist_ok=True)
    write_rows(rows, given.output / f"{stem}.csv")
    judged = [{"text": one.text, "verdict": one.verdict, "numbers": one.found} for one in claims]
    claimed = given.output / f"{stem}-claims.csv"
    if judged:
        write_rows(judged, claimed)
    else:  # those of an earlier run would not belong to these numbers
        claimed.unlink(missing_ok=True)
    console = make_console()
    over = f"; in brackets 95 % intervals over {given.scenes} scenes, bootstrap ones, Student's over fewer than "
    over = f"{over}{LEAST_SCENES}" if given.scenes > 1 else ""
    table = Table(title=title, caption=SETTING + over)
    for heading in ("the paper", "here", "verdict"):
        table.add_column(heading)
    for one in claims:
        table.add_row(one.text, one.found, one.verdict, end_section=True)
    console.print(table)


def save(figure: Any, given: argparse.Namespace, stem: str) -> Path:
    """Write a figure beside its numbers, with what differs from the paper's setting in small print."""
    path: Path = given.output / f"{stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not at the foot, where legends are.
    figure.suptitle(f"{figure.get_suptitle()}\n{SETTING}".lstrip(), fontsize=8)
    figure.savefig(path, dpi=110)
    return path
