"""How a figure is published: picture, data, verdicts on the paper's claims, and its place in the documentation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Interval
from noma_semcom_agents.provenance import git_state, versions, write_json
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_agents.statistics import Estimate, student_interval
from noma_semcom_benchmarks.trainings import LEAST_SEEDS, QUICK_ROOT, ROOT, MissingRuns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AGREES, DIFFERS, UNDECIDED = "agrees", "does not agree", "cannot tell"
FOLDER: Final = Path("docs/figures")
QUICK_FOLDER: Final = Path("runs/figures-quick")
QUICK_EPISODES: Final = 8
EPISODES: Final = 256
_NOTHING: Final = 1e-12
"""What is printed as 0: differences that rounding left."""


@dataclass(frozen=True)
class Claim:
    """What the paper claims, and what was found.

    Attributes:
        text: The claim.
        verdict: One of agrees, does not agree, cannot tell.
        numbers: What the verdict rests on.
    """

    text: str
    verdict: str
    numbers: str


def judge(text: str, gaps: Mapping[str, Interval], unit: str = "", factor: float = 1.0) -> Claim:
    """Judge a claim by intervals that lie above 0 where it holds.

    It agrees if all of them do, does not agree if any lies below 0, and cannot be told otherwise. Where an interval
    draws fewer than :data:`~noma_semcom_benchmarks.trainings.LEAST_SEEDS` runs, Student's over these must lie on the
    same side.

    Args:
        text: The claim.
        gaps: Where to interval.
        unit: Of the numbers shown.
        factor: That the numbers shown are multiplied by.
    """
    bounds = [_bounds(one) for one in gaps.values()]
    if all(low > 0.0 for low, _ in bounds):
        verdict = AGREES
    elif any(high < 0.0 for _, high in bounds):
        verdict = DIFFERS
    else:
        verdict = UNDECIDED
    return Claim(text, verdict, _numbers(gaps, unit, factor))


def judge_small(text: str, gaps: Mapping[str, Interval], margin: float, unit: str = "", factor: float = 1.0) -> Claim:
    """Judge a claim that something is small: it agrees if every interval lies within the margin around 0.

    Few runs are treated as by :func:`judge`.
    """
    bounds = [_bounds(one) for one in gaps.values()]
    if all(-margin < low and high < margin for low, high in bounds):
        verdict = AGREES
    elif any(low > margin or high < -margin for low, high in bounds):
        verdict = DIFFERS
    else:
        verdict = UNDECIDED
    return Claim(text, verdict, f"{_numbers(gaps, unit, factor)} (margin {factor * margin:.3g}{unit})")


def either(text: str, ways: Sequence[Sequence[Claim]]) -> Claim:
    """Join claims into one that holds if all claims of some way do.

    It agrees if some way's claims all agree, does not agree if each way has one that does not, and cannot be told
    otherwise.

    Args:
        text: The joint claim.
        ways: The claims of each way.
    """
    if any(all(one.verdict == AGREES for one in way) for way in ways):
        verdict = AGREES
    elif all(any(one.verdict == DIFFERS for one in way) for way in ways):
        verdict = DIFFERS
    else:
        verdict = UNDECIDED
    parts = dict.fromkeys(f"{one.text}: {one.verdict}, {one.numbers}" for way in ways for one in way)
    return Claim(text, verdict, "; ".join(parts))


def _over_runs(one: Interval) -> Interval | None:
    """Student's interval over an estimate's runs, where they are too few for the estimate's own to be trusted."""
    by_run = one.by_run if isinstance(one, Estimate) else ()
    return student_interval(by_run) if 0 < len(by_run) < LEAST_SEEDS else None


def _bounds(one: Interval) -> tuple[float, float]:
    """What a verdict goes by: the interval, widened to Student's over the runs where they are few."""
    other = _over_runs(one) or one
    # Unlike min and max, these keep a NaN, which then decides nothing.
    return float(np.minimum(one.low, other.low)), float(np.maximum(one.high, other.high))


def _numbers(gaps: Mapping[str, Interval], unit: str, factor: float) -> str:
    parts = []
    for where, one in gaps.items():
        other = _over_runs(one)
        among = f"; Student's t {_ends(other, factor)}" if other and np.isfinite(other.low) else ""
        parts.append(f"{where}: {factor * one.value:.3g}{unit} ({_ends(one, factor)}{among})")
    return "; ".join(parts)


def _ends(one: Interval, factor: float) -> str:
    low, high = sorted((factor * one.low, factor * one.high))
    return f"{low:.3g} to {high:.3g}"


def columns(name: str, one: Interval) -> dict[str, float]:
    """An interval as three columns of a row."""
    return {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}


def plot_intervals(axes: Axes, x: Sequence[float], intervals: Sequence[Interval], **style: Any) -> None:
    """A line with its intervals as a band, the bars of one point as error bars."""
    value, low, high = (np.array([getattr(one, part) for one in intervals]) for part in ("value", "low", "high"))
    axes.plot(x, value, marker=".", **style)
    axes.fill_between(x, low, high, color=style.get("color"), alpha=0.15, linewidth=0.0)


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches that needs no display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'noma-semcom-env[render]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def make_parser(text: str | None, episodes: int = EPISODES) -> argparse.ArgumentParser:
    """The options that every figure has."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and episodes: shows that it runs, no more")
    parser.add_argument("--episodes", type=int, help=f"evaluation episodes, {episodes} by default")
    parser.add_argument("--images", default="street-test", help="image set to evaluate on")
    parser.add_argument("--root", type=Path, help=f"folder of the trainings, {ROOT} by default")
    parser.add_argument("--output", type=Path, help=f"folder for picture and data, {FOLDER} by default")
    parser.add_argument("--page", type=Path, help="documentation page whose section takes the tables over")
    return parser


def read_arguments(parser: argparse.ArgumentParser, episodes: int = EPISODES) -> argparse.Namespace:
    """Parse, and fill in what depends on ``--quick``."""
    arguments = parser.parse_args()
    arguments.episodes = arguments.episodes or (QUICK_EPISODES if arguments.quick else episodes)
    arguments.root = arguments.root or (QUICK_ROOT if arguments.quick else ROOT)
    arguments.output = arguments.output or (QUICK_FOLDER if arguments.quick else FOLDER)
    if arguments.quick and arguments.page:
        parser.error("--page takes over no numbers of a --quick run; leave out one of the two")
    if arguments.quick and arguments.root.resolve() == ROOT.resolve():
        parser.error(
            f"--quick trains in the --root that it is given, and {ROOT} is that of the real runs; name another"
        )
    return arguments


def run_figure(
    make: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, episodes: int = EPISODES
) -> None:
    """Run a figure's program; missing trainings end it with the command that trains them."""
    arguments = read_arguments(parser, episodes)
    try:
        make(arguments)
    except MissingRuns as missing:
        sys.exit(str(missing))


def publish(
    name: str,
    arguments: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    claims: Sequence[Claim] = (),
    figure: Figure | None = None,
    runs: int | None = None,
    table: Sequence[Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write NAME.csv, NAME.png, NAME-claims.csv and NAME.json, print the tables, and put them into a page if asked to.

    Args:
        name: Of the figure.
        arguments: Of :func:`read_arguments`.
        rows: The data.
        claims: Verdicts.
        figure: The picture.
        runs: Least number of runs behind any point; None if there are none.
        table: Rows that are printed and written as NAME-table.csv instead of the data, where that is long.
        notes: Paragraphs below the tables.
    """
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(rows, folder / f"{name}.csv")
    if table:
        write_rows(table, folder / f"{name}-table.csv")
    if claims:
        write_rows([vars(one) for one in claims], folder / f"{name}-claims.csv")
    if figure is not None:
        part = folder / f"{name}.png.part"
        figure.savefig(part, dpi=130, format="png")
        os.replace(part, folder / f"{name}.png")
    settings = {key: value for key, value in vars(arguments).items() if key != "page"}
    write_json({"settings": settings, "versions": versions(), "git": git_state()}, folder / f"{name}.json")
    text = markdown(table or rows)
    if claims:
        text += "\n\n" + markdown(
            [{"the paper's claim": c.text, "here": c.verdict, "numbers": c.numbers} for c in claims]
        )
    if runs is not None and runs < LEAST_SEEDS:
        count = f"{runs} run{'s' if runs > 1 else ''}"
        text += (
            f"\n\n{count} at some point: intervals over so few runs are too short; verdicts also need Student's t over "
            "runs."
        )
    text += "".join(f"\n\n{note}" for note in notes)
    if arguments.quick:
        text += "\n\nA quick run: its numbers mean nothing."
    console = make_console()
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if arguments.page:
        picture = Path(os.path.relpath(folder / f"{name}.png", arguments.page.parent)).as_posix()
        paste(arguments.page, name, text if figure is None else f"![{name}]({picture})\n\n{text}")
    console.print(str(folder / f"{name}.csv"), highlight=False, soft_wrap=True)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; a column with bounds shows them in brackets."""
    names = [key for key in rows[0] if not key.endswith(("_low", "_high"))]
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = []
        for key in names:
            text = _number(row[key])
            if f"{key}_low" in row:
                text += f" ({_number(row[f'{key}_low'])} to {_number(row[f'{key}_high'])})"
            cells.append(text)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paste(page: Path, name: str, text: str) -> None:
    """Replace what stands between a page's ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises:
        ValueError: If the page has no such place.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no place between {begin!r} and {end!r}; add these two lines")
    part = page.with_name(f"{page.name}.part")
    part.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    os.replace(part, page)


def _number(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if abs(float(value)) > _NOTHING else "0"
    return "" if value is None else str(value)
