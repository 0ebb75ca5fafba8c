"""The Pareto front of LPIPS against latency over a sweep of lambda, the weight of LPIPS.

    python -m noma_semcom_benchmarks.pareto --page docs/leaderboard.md

At each lambda the oracle, the fitted predictor and IM-PPO (retrained, where trainings of the campaign "pareto" exist)
aim at that lambda's objective; ALL-Selection knows no lambda and is one point. Each lambda sees the same test episodes.
Minimizing weighted sums finds the points of the front's convex hull alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.lineup import PREDICTOR, make_searching
from noma_semcom_benchmarks.campaign import ends
from noma_semcom_benchmarks.pages import columns, make_parser, new_figure, publish, run_figure
from noma_semcom_benchmarks.references import References
from noma_semcom_benchmarks.sweeps import ALL, ORACLE, Measured, learned_if_any, measure, reference, single
from noma_semcom_benchmarks.trainings import LPIPS_WEIGHTS, swept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IM_PPO: Final = "IM-PPO"


def undominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether no other point is at least as low in both coordinates and lower in one."""
    values = np.array(points)
    worse = np.all(values[:, None] >= values[None], axis=2) & np.any(values[:, None] > values[None], axis=2)
    dominated: np.ndarray = np.any(worse, axis=1)
    return [not one for one in dominated]


def sweep(arguments: argparse.Namespace) -> dict[float, Measured]:
    """Everyone at every lambda."""
    model, _ = References(arguments.quick).boosted
    points = {}
    for weight in ends(LPIPS_WEIGHTS) if arguments.quick else LPIPS_WEIGHTS:
        knobs = {"lpips_weight": weight}
        schemes = [single(PREDICTOR, make_searching(model, knobs, PREDICTOR)), reference("all", ALL)]
        schemes += learned_if_any(IM_PPO, swept("im-ppo", knobs), arguments.root, "pareto")
        points[weight] = measure(schemes, {**knobs, "images": arguments.images}, arguments.episodes)
    return points


def rows_of(points: Mapping[float, Measured]) -> list[dict[str, Any]]:
    """A row for each lambda and scheme; whether nothing else of the same scheme is better in both."""
    rows: list[dict[str, Any]] = []
    for name in (ORACLE, "Oracle (pruned)", PREDICTOR, IM_PPO, ALL):
        own: list[dict[str, Any]] = []
        for weight, measured in points.items():
            if name not in measured.schemes and name not in measured.evaluation.records:
                continue
            runs = len(measured.schemes[name].runs) if name in measured.schemes else 0
            row = {"lambda": weight, "who": name, "runs": runs or None}
            row |= columns("lpips", measured.sample(name, "lpips").mean())
            row |= columns("latency_ms", (measured.sample(name, "latency_s") * 1e3).mean())
            own.append(row | columns("regret", measured.regret(name)))
        front = undominated([(row["latency_ms"], row["lpips"]) for row in own]) if own else []
        rows += [{**row, "on_its_front": "yes" if is_on else "no"} for row, is_on in zip(own, front, strict=True)]
    return rows


def make(arguments: argparse.Namespace) -> None:
    """Sweep, draw and publish."""
    rows = rows_of(sweep(arguments))
    least = min((row["runs"] for row in rows if row["runs"]), default=None)
    publish("pareto", arguments, rows, figure=draw(rows), runs=least)


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """LPIPS over latency, a line for each scheme."""
    figure = new_figure(7.0, 4.8)
    axes = figure.subplots()
    for number, name in enumerate(dict.fromkeys(row["who"] for row in rows)):
        own = [row for row in rows if row["who"] == name]
        x, y = ([row[key] for row in own] for key in ("latency_ms", "lpips"))
        axes.plot(x, y, marker="." if len(set(x)) > 1 else "x", color=f"C{number}", label=name)
        if name == ORACLE:
            for row in own:
                axes.annotate(f"{row['lambda']:g}", (row["latency_ms"], row["lpips"]), fontsize=7)
    axes.set(xlabel="mean latency, ms", ylabel="mean LPIPS", xlim=(0.0, None))
    axes.set_title("One point for each lambda; numbers at the oracle's", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def main() -> None:
    """Draw the front."""
    run_figure(make, make_parser(__doc__))


if __name__ == "__main__":
    main()
