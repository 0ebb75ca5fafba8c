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
from noma_semcom_benchmarks.trainings import LEAST_SEEDS, QUICK_ROOT, ROOT, MissingRuns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AGREES, DIFFERS, UNDECIDED = "agrees", "does not agree", "cannot tell"
FOLDER: Final = Path("docs/figures")
QUICK_FOLDER: Final = Path("runs/figures-quick")
QUICK_EPISODES: Final = 8
EPISODES: Final = 256


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

    It agrees if all of them do, does not agree if any lies below 0, and cannot be told otherwise.

    Args:
        text: The claim.
        gaps: Where to interval.
        unit: Of the numbers shown.
        factor: That the numbers shown are multiplied by.
    """
    if all(one.low > 0.0 for one in gaps.values()):
        verdict = AGREES
    elif any(one.high < 0.0 for one in gaps.values()):
        verdict = DIFFERS
    else:
        verdict = UNDECIDED
    return Claim(text, verdict, "; ".join(f"{where}: {show(one, unit, factor)}" for where, one in gaps.items()))


def judge_small(text: str, gaps: Mapping[str, Interval], margin: float, unit: str = "", factor: float = 1.0) -> Claim:
    """Judge a claim that something is small: it agrees if every interval lies within the margin around 0."""
    if all(-margin < one.low and one.high < margin for one in gaps.values()):
        verdict = AGREES
    elif any(one.low > margin or one.high < -margin for one in gaps.values()):
        verdict = DIFFERS
    else:
        verdict = UNDECIDED
    numbers = "; ".join(f"{where}: {show(one, unit, factor)}" for where, one in gaps.items())
    return Claim(text, verdict, f"{numbers} (margin {factor * margin:.3g}{unit})")


def show(one: Interval, unit: str = "", factor: float = 1.0) -> str:
    """An estimate with its interval."""
    value, low, high = (factor * number for number in (one.value, one.low, one.high))
    return f"{value:.3g}{unit} ({min(low, high):.3g} to {max(low, high):.3g})"


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
        text += (
            f"\n\n{runs} run{'s' if runs > 1 else ''} at some point: fewer than {LEAST_SEEDS}, no published numbers."
        )
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
        return f"{value:.4g}"
    return "" if value is None else str(value)
