"""Agents against one another: runs grouped by agent and settings, their seeds as replicates, on the same test episodes.

Statistics are those of the protocol (:mod:`noma_semcom_agents.statistics`): interquartile means over runs with 95 %
intervals that draw runs and episodes anew, differences paired by training seed and episode.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Evaluation, Interval, Knobs, evaluate
from noma_semcom_agents.lineup import Run, common_knobs, contenders_of
from noma_semcom_agents.provenance import git_state, versions, write_json
from noma_semcom_agents.report import folded, verdict, why_no_regret, write_rows
from noma_semcom_agents.statistics import (
    area_under_curve,
    common_threshold,
    convergence_step,
    crossed_interval,
    interquartile_mean,
    paired_difference,
    regret_interval,
)

if TYPE_CHECKING:
    from rich.console import Console

MEASURES: Final = {
    "regret": ("regret to\noracle, %", 1e2, "{:.1f}"),
    "reward": ("reward", 1.0, "{:.4f}"),
    "lpips": ("LPIPS", 1.0, "{:.4f}"),
    "latency_s": ("latency, ms", 1e3, "{:.3f}"),
    "share": ("features\nsent, %", 1e2, "{:.1f}"),
}
"""Measure to heading, factor and format."""

LEVELS: Final = ("all", "random")
"""References that stand beside the agents."""


@dataclass(frozen=True)
class Curve:
    """The greedy policy on the validation episodes over a training.

    Attributes:
        steps: (n,) environment steps.
        regret: (n,) regret there; NaN where no oracle exists.
        validation_reward: (n,) mean reward there.
    """

    steps: np.ndarray
    regret: np.ndarray
    validation_reward: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What became of each agent's runs.

    Attributes:
        groups: Title of an agent, with the settings in which its runs differ, to the runs that share them.
        evaluation: Of every run and of the references on the test episodes.
        curves: Label of a run to its learning curve.
        random_regret: Random-Selection's regret on the validation episodes of the curves; NaN if the runs were
            validated on different ones.
    """

    groups: Mapping[str, Sequence[Run]]
    evaluation: Evaluation
    curves: Mapping[str, Curve]
    random_regret: float

    def values(self, title: str, measure: str) -> np.ndarray:
        """(R, E) a measure's mean over the steps of each episode of an agent's runs."""
        return np.stack(
            [getattr(self.evaluation.records[run.label], measure).mean(axis=1) for run in self.groups[title]]
        )

    @property
    def beside(self) -> list[str]:
        """Names of the references and oracles."""
        labels = {run.label for group in self.groups.values() for run in group}
        return [name for name in self.evaluation.records if name not in labels]

    @property
    def measures(self) -> dict[str, tuple[str, float, str]]:
        """:data:`MEASURES` without the regret where no oracle exists."""
        return {name: one for name, one in MEASURES.items() if name != "regret" or not self.evaluation.no_oracle}

    def interval(self, title: str, measure: str) -> Interval:
        """Interquartile mean over runs of a measure of :data:`MEASURES`; NaN if it is unknown."""
        if measure == "regret":
            if self.evaluation.no_oracle:
                return Interval(np.nan, np.nan, np.nan)
            best = self.evaluation.objective.mean(axis=1)
            return regret_interval(-self.values(title, "reward") - best, best)
        values = self.values(title, measure)
        runs, episodes = values.shape

        def statistic(run: np.ndarray, episode: np.ndarray) -> np.ndarray:
            return interquartile_mean(values[run[..., :, None], episode[..., None, :]].mean(axis=-1))

        return crossed_interval(statistic, runs, episodes, seed=0)

    def differences(self) -> list[tuple[str, str, int, Interval]]:
        """Mean reward of one agent minus another's, over the seeds that both have, with the number of those seeds."""
        found = []
        for first, second in combinations(self.groups, 2):
            seeds = [{run.record["seed"]: row for row, run in enumerate(self.groups[one])} for one in (first, second)]
            common = sorted(seeds[0].keys() & seeds[1].keys())
            if common:
                ours, theirs = (
                    self.values(one, "reward")[[rows[seed] for seed in common]]
                    for one, rows in zip((first, second), seeds, strict=True)
                )
                found.append((first, second, len(common), paired_difference(ours, theirs)))
        return found

    def convergence(self) -> tuple[float, dict[str, float]]:
        """The common threshold of regret, NaN if there is none, and by label the step from which a run stays below."""
        finals = {title: np.array([self.curves[run.label].regret[-1] for run in g]) for title, g in self.groups.items()}
        try:
            threshold = common_threshold(self.random_regret, finals)
        except ValueError:  # no agent got below Random-Selection, so none converged
            threshold = np.nan
        steps = {label: convergence_step(one.steps, one.regret, threshold) for label, one in self.curves.items()}
        return threshold, steps


def compare_runs(
    runs: Sequence[Run],
    images: str,
    episodes: int,
    seed: int,
    knobs: Knobs,
    references: Sequence[str] = LEVELS,
    allow_unfinished: bool = False,
) -> Comparison:
    """Evaluate runs on the same episodes, and read their learning curves.

    Args:
        runs: Of one task.
        images: Image set.
        episodes: Test episodes.
        seed: Episode i is drawn from seed + i.
        knobs: Fields that replace those of the trainings.
        references: Names that :func:`~noma_semcom_agents.lineup.contenders_of` knows.
        allow_unfinished: Takes runs as they are that were trained over different budgets, or not to their ends.

    Raises:
        FileNotFoundError: If a run left no policy or no learning curve.
        ValueError: If runs are of different tasks or budgets, one did not come to its end, two of one agent and the
            same settings have the same seed, or a reference is unknown.
    """
    if not allow_unfinished:
        _check_budgets(runs)
    groups = group_runs(runs)
    common = common_knobs(runs, images, knobs)
    curves = {run.label: read_curve(run.folder) for run in runs}
    evaluation = evaluate(contenders_of(runs, common, references), common, episodes, seed)
    return Comparison(groups, evaluation, curves, _random_regret(runs))


def group_runs(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by agent and by everything that was chosen for their training but the seed.

    Returns:
        By the agent's title, with those scenario fields and settings in which its runs differ.

    Raises:
        ValueError: If two runs of one group have the same seed.
    """
    of_agent: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for run in runs:
        of_agent.setdefault(run.title, []).append((run, _chosen(run)))
    groups: dict[str, list[Run]] = {}
    for title, members in of_agent.items():
        names = dict.fromkeys(name for _, chosen in members for name in chosen)
        differing = [
            name for name in names if len({json.dumps(chosen.get(name), sort_keys=True) for _, chosen in members}) > 1
        ]
        for run, chosen in members:
            words = ", ".join(f"{name}={chosen.get(name)}" for name in differing)
            group = groups.setdefault(f"{title} ({words})" if words else title, [])
            for other in group:
                if other.record["seed"] == run.record["seed"]:
                    raise ValueError(
                        f"{other.folder} and {run.folder} are both {title} with seed {run.record['seed']} and the same "
                        "settings; seeds are the replicates, so each may come once"
                    )
            group.append(run)
    return groups


def _chosen(run: Run) -> dict[str, Any]:
    """Scenario, settings and length of a training; what falls linearly to a training's end by where it begins."""
    from noma_semcom_agents.training import ANNEALED

    settings, steps = dict(run.record["training"]), run.record["request"]["steps"]
    for name, left in ANNEALED.items():
        start = settings[name][0][1] if isinstance(settings.get(name), list) else None
        if start is not None and settings[name] == [[0, start], [steps, left * start]]:
            settings[name] = start
    return {**run.record["scenario"], **settings, "steps": steps, "seconds": None}


def _check_budgets(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.remark:
            raise ValueError(
                f"{run.folder} {run.remark}; compare trainings that came to their ends, or take it as it is by "
                "--allow-unfinished"
            )
        first, steps = (one.record["request"]["steps"] for one in (runs[0], run))
        if steps != first:
            raise ValueError(
                f"{runs[0].folder} was trained over {first} steps, {run.folder} over {steps}; compare runs of one "
                "budget, or take them as they are by --allow-unfinished"
            )


def read_curve(folder: Path) -> Curve:
    """The learning curve that a training left.

    Raises:
        FileNotFoundError: If there is none.
    """
    from noma_semcom_agents.training import CURVE

    path = folder / CURVE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {CURVE}; its training did not come to an end")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Curve(*(np.array([float(row[name]) for row in rows]) for name in Curve.__dataclass_fields__))


def _random_regret(runs: Sequence[Run]) -> float:
    from noma_semcom_agents.schemes import RandomSelection
    from noma_semcom_agents.training import Validation

    sets = {run.record["validation"]["images"] for run in runs}
    if len(sets) > 1:
        return np.nan
    validation = Validation(runs[0].knobs, sets.pop())
    return validation.regret(validation.reward(RandomSelection(), {"prune": False}))


def print_comparison(comparison: Comparison, console: Console, title: str) -> None:
    """Print agents, and their differences."""
    from rich.table import Table

    threshold, reached = comparison.convergence()
    caption = "interquartile mean over runs, below it its 95 % interval over runs and episodes"
    if np.isfinite(threshold):
        caption += "; converged: median of the steps from which the validation regret stays below "
        caption += f"{threshold:.1%}, and how many runs got there"
    table = Table(title=title, caption=f"{caption}{why_no_regret(comparison.evaluation)}")
    table.add_column("agent")
    table.add_column("runs", justify="right")
    for heading, _, _ in comparison.measures.values():
        table.add_column(heading, justify="right")
    table.add_column("converged\nat step", justify="right")
    for name, group in comparison.groups.items():
        cells = []
        for measure, (_, factor, form) in comparison.measures.items():
            one = comparison.interval(name, measure)
            value, low, high = (form.format(number * factor) for number in (one.value, one.low, one.high))
            cells.append(f"{value}\n{low} to {high}")
        steps = np.array([reached[run.label] for run in group])
        there = int(np.isfinite(steps).sum())
        middle = float(np.median(steps))
        cells.append(
            f"{middle:.0f}\n{there} of {len(group)}" if np.isfinite(middle) else f"not\n{there} of {len(group)}"
        )
        early = sum(bool(run.remark) for run in group)
        table.add_row(folded(name), f"{len(group)}\n{early} unfinished" if early else str(len(group)), *cells)
    for name in comparison.beside:
        summary = comparison.evaluation.summary(name)
        cells = [form.format(summary[key].value * factor) for key, (_, factor, form) in comparison.measures.items()]
        table.add_row(name, "", *cells, "", style="dim")
    console.print(table)
    paired = Table(title="mean reward of the first minus that of the second, paired by seed and episode")
    for heading in ("first", "second", "seeds", "difference", "95 % interval", "the first is"):
        paired.add_column(heading, justify="left" if heading in ("first", "second", "the first is") else "right")
    for first, second, seeds, gap in comparison.differences():
        interval = f"{gap.low:+.4f} to {gap.high:+.4f}"
        paired.add_row(first, second, str(seeds), f"{gap.value:+.4f}", interval, verdict(gap))
    if paired.row_count:
        console.print(paired)


def write_comparison(comparison: Comparison, folder: Path, configuration: Mapping[str, Any]) -> list[Path]:
    """Write ``agents.csv``, ``differences.csv``, ``runs.csv``, ``comparison.json`` and ``comparison.png``.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    threshold, reached = comparison.convergence()
    agents: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for title, group in comparison.groups.items():
        agents.append({"agent": title, "runs": len(group)})
        for measure in MEASURES:
            one = comparison.interval(title, measure)
            agents[-1] |= {measure: one.value, f"{measure}_low": one.low, f"{measure}_high": one.high}
        for run in group:
            curve, summary = comparison.curves[run.label], comparison.evaluation.summary(run.label)
            runs.append({"agent": title, "seed": run.record["seed"], "folder": str(run.folder)})
            runs[-1] |= {measure: summary[measure].value for measure in MEASURES}
            budget = run.record["request"]["steps"]
            runs[-1] |= {"budget": budget, "remark": run.remark}
            # A sweep's trials are first looked at after their first iteration.
            whole = curve.steps[0] == 0.0
            area = area_under_curve(curve.steps, curve.regret, budget) if whole else np.nan
            runs[-1] |= {"steps": curve.steps[-1], "converged_at": reached[run.label], "area_under_regret": area}
    gaps = [
        {"first": a, "second": b, "seeds": n, "difference": gap.value, "low": gap.low, "high": gap.high}
        | {"verdict": verdict(gap)}
        for a, b, n, gap in comparison.differences()
    ]
    files = [folder / name for name in ("agents.csv", "runs.csv", "comparison.json", "comparison.png")]
    write_rows(agents, files[0])
    write_rows(runs, files[1])
    content = {"configuration": configuration, "versions": versions(), "git": git_state(), "threshold": threshold}
    beside = [
        {"reference": name} | {measure: comparison.evaluation.summary(name)[measure].value for measure in MEASURES}
        for name in comparison.beside
    ]
    write_json({**content, "agents": agents, "runs": runs, "differences": gaps, "references": beside}, files[2])
    draw_comparison(comparison, files[3])
    if gaps:
        write_rows(gaps, folder / "differences.csv")
        files.append(folder / "differences.csv")
    return files


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the learning curves, interquartile mean and range over the runs, and the regret on the test episodes.

    Where no oracle exists, rewards take the place of regrets.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'noma-semcom-env[render]'") from error
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=[1.6, 1.0])
    rewards = bool(comparison.evaluation.no_oracle)
    measure, seen, factor = ("reward", "validation_reward", 1.0) if rewards else ("regret", "regret", 100.0)
    for number, (title, group) in enumerate(comparison.groups.items()):
        own = [comparison.curves[run.label] for run in group]
        last = min(one.steps[-1] for one in own)
        steps = np.unique(np.concatenate([one.steps[one.steps <= last] for one in own]))
        height = factor * np.stack([np.interp(steps, one.steps, getattr(one, seen)) for one in own])
        runs = f"{len(group)} run{'s' if len(group) > 1 else ''}"
        curves.plot(steps, interquartile_mean(height, axis=0), color=f"C{number}", label=f"{title}, {runs}")
        curves.fill_between(steps, height.min(axis=0), height.max(axis=0), color=f"C{number}", alpha=0.2, linewidth=0.0)
        one = comparison.interval(title, measure)
        reach = [[factor * (one.value - one.low)], [factor * (one.high - one.value)]]
        bars.errorbar(
            [number], [factor * one.value], yerr=np.maximum(reach, 0.0), fmt="o", color=f"C{number}", capsize=5
        )
        each = [factor * comparison.evaluation.summary(run.label)[measure].value for run in group]
        bars.plot(np.full(len(each), number + 0.15), each, ".", color=f"C{number}", alpha=0.5)
    said = "mean reward of a step" if rewards else "regret to the oracle, %"
    curves.set(xlabel="environment steps", ylabel=said, title="Validation images, mean and range")
    curves.legend(fontsize=8)
    bars.set(ylabel=said, title="Test episodes, with 95 % intervals")
    bars.set_xticks(range(len(comparison.groups)), [folded(name) for name in comparison.groups])
    bars.set_xlim(-0.5, len(comparison.groups) - 0.5)
    for axes in (curves, bars):
        axes.grid(alpha=0.3)
        if not rewards:
            axes.set_ylim(bottom=0.0)
    figure.savefig(path, dpi=130)
