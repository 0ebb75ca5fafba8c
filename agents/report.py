"""An evaluation as tables: on the terminal, as CSV, and as JSON with everything that made it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noma_semcom_agents.evaluation import Evaluation, Interval
from noma_semcom_agents.provenance import git_state, versions, write_json

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS: Final = {
    "reward": ("reward", 1.0, "{:.4f}"),
    "lpips": ("LPIPS", 1.0, "{:.4f}"),
    "latency_s": ("latency\nmean, ms", 1e3, "{:.3f}"),
    "latency_95_s": ("latency\n95th pct., ms", 1e3, "{:.3f}"),
    "share": ("features\nsent, %", 1e2, "{:.1f}"),
    "regret": ("regret to\noracle, %", 1e2, "{:.1f}"),
}
"""Statistic to heading, factor and format."""

_WIDTH: Final = 132
_LONG: Final = 24
"""Characters of a name above which it takes two lines of a table."""


def make_console() -> Console:
    """A terminal to print to, wide enough for the tables where it is no terminal but a file."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def print_tables(evaluation: Evaluation, subject: str, console: Console, title: str) -> None:
    """Print every record, and the paired differences of one against the others.

    Args:
        evaluation: What to print.
        subject: The record whose differences are printed.
        console: Where to.
        title: Above the first table.
    """
    from rich.table import Table

    caption = "below each mean its 95 % bootstrap interval over episodes"
    table = Table(title=title, caption=f"{caption}{why_no_regret(evaluation)}")
    columns = {key: one for key, one in COLUMNS.items() if key != "regret" or not evaluation.no_oracle}
    table.add_column("policy", no_wrap=True)
    for heading, _, _ in columns.values():
        table.add_column(heading, justify="right")
    for name in evaluation.records:
        summary = evaluation.summary(name)
        cells = [_cell(summary[key], factor, form) for key, (_, factor, form) in columns.items()]
        table.add_row(folded(name), *cells, style="bold" if name == subject else "")
    console.print(table)
    paired = Table(title=f"mean reward of {subject} minus that of ..., paired by episode")
    paired.add_column("policy")
    paired.add_column("difference", justify="right")
    paired.add_column("95 % interval", justify="right")
    paired.add_column("verdict")
    for name, gap in differences(evaluation, subject).items():
        paired.add_row(name, f"{gap.value:+.4f}", f"{gap.low:+.4f} to {gap.high:+.4f}", verdict(gap))
    console.print(paired)


def why_no_regret(evaluation: Evaluation) -> str:
    """The end of a caption that says why there is no regret; empty if there is one."""
    return f"; no regret: {evaluation.no_oracle}" if evaluation.no_oracle else ""


def folded(name: str) -> str:
    """A name with what it has in parentheses on a line of its own, if it is a long one."""
    return name.replace(" (", "\n(", 1) if len(name) > _LONG else name


def differences(evaluation: Evaluation, subject: str) -> dict[str, Interval]:
    """Paired difference of one record against each other one, by name."""
    return {name: evaluation.difference(subject, name) for name in evaluation.records if name != subject}


def verdict(gap: Interval) -> str:
    """What an interval of a paired difference says."""
    if not gap.excludes_zero:
        return "undecided"
    return "better" if gap.value > 0.0 else "worse"


def write_results(evaluation: Evaluation, subject: str, folder: Path, configuration: Mapping[str, Any]) -> list[Path]:
    """Write ``results.csv`` (a line a policy) and ``results.json`` (with differences and configuration).

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summaries = {name: evaluation.summary(name) for name in evaluation.records}
    rows: list[dict[str, Any]] = []
    for name, summary in summaries.items():
        rows.append({"policy": name})
        for key, one in summary.items():
            rows[-1] |= dict(zip((key, f"{key}_low", f"{key}_high"), _numbers(one), strict=True))
    write_rows(rows, folder / "results.csv")
    content = {
        "configuration": dict(configuration),
        "versions": versions(),
        "git": git_state(),
        "policies": {name: {key: _numbers(one) for key, one in s.items()} for name, s in summaries.items()},
        "reward_minus": {name: _numbers(gap) for name, gap in differences(evaluation, subject).items()},
        "columns": ["value", "low", "high"],
        "subject": subject,
    }
    write_json(content, folder / "results.json")
    return [folder / "results.csv", folder / "results.json"]


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of the same keys as CSV, the keys as its first line, by a temporary file that is renamed."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def _cell(one: Interval, factor: float, form: str) -> str:
    value, low, high = (form.format(number * factor) for number in _numbers(one))
    return f"{value}\n{low} to {high}"


def _numbers(one: Interval) -> tuple[float, float, float]:
    return one.value, one.low, one.high
