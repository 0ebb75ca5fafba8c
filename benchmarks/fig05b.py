"""Fig. 5(b): LPIPS and latency over the number of users, of JTSC, ALL-, Random-Selection and Location-Decoding.

    python -m noma_semcom_benchmarks.fig05b --page docs/figures.md

Reads the trainings of the campaign "users": JTSC (IM-PPO) and Location-Decoding are retrained at each point. The access
point has two antennas throughout, so that with two users their signals can be told apart and with more they cannot.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from noma_semcom_benchmarks.fig05 import (
    MEASURES,
    SCHEMES,
    between,
    gaps,
    least_runs,
    plot_schemes,
    rows_of,
    sweep,
)
from noma_semcom_benchmarks.pages import Claim, judge, judge_small, make_parser, new_figure, publish, run_figure
from noma_semcom_benchmarks.sweeps import ALL, JTSC, RANDOM, Measured
from noma_semcom_benchmarks.trainings import USERS

_AT = "K = {}"
TREND = 0.02
"""Share of the LPIPS that a change must exceed to be called a trend."""


def claims(points: Mapping[int, Measured]) -> list[Claim]:
    """The verdicts; keys are numbers of users, rising. Points differ in what is drawn, so they pair by run alone."""
    few, many = next(iter(points)), list(points)[-1]
    found = []
    for other in SCHEMES:
        if other != ALL:
            accurate = gaps(points, other, ALL, "lpips", _AT)
            found.append(judge(f"ALL-Selection recovers more accurately than {other} at every number", accurate))
    slow = gaps(points, ALL, JTSC, "latency_s", _AT)
    found.append(judge("ALL-Selection's latency is above JTSC's at every number", slow, " ms", 1e3))
    for name, words in (("lpips", "LPIPS"), ("latency_s", "latency")):
        unit, factor = (" ms", 1e3) if name == "latency_s" else ("", 1.0)
        rise = {f"K = {few} to {many}": between(points, JTSC, name, many, few).mean()}
        found.append(judge(f"JTSC's {words} degrades with more users", rise, unit, factor))
    moderate = between(points, ALL, "latency_s", many, few) - between(points, JTSC, "latency_s", many, few)
    found.append(
        judge(
            "JTSC's latency degrades moderately: less than ALL-Selection's",
            {f"ALL's rise less JTSC's, K = {few} to {many}": moderate.mean()},
            " ms",
            1e3,
        )
    )
    level = points[few].sample(RANDOM, "lpips").mean().value
    trend = between(points, RANDOM, "lpips", many, few) * (1.0 / level)
    found.append(
        judge_small(
            "Random-Selection's LPIPS shows no clear trend", {f"K = {few} to {many}": trend.mean()}, TREND, " %", 100.0
        )
    )
    return found


def make(arguments: argparse.Namespace) -> None:
    """Measure, draw and publish."""
    points = sweep(USERS, lambda one: {"num_users": one}, "users", arguments)
    figure = new_figure(12.5, 4.0)
    for axes, name in zip(figure.subplots(1, 3), MEASURES, strict=True):
        plot_schemes(axes, points, list(points), name)
        axes.set(xlabel="users K", xticks=list(points), yscale="log" if name == "latency_s" else "linear")
    axes.legend(fontsize=8)
    publish("fig05b", arguments, rows_of(points, "users"), claims(points), figure, least_runs(points))


def main() -> None:
    """Draw the figure."""
    run_figure(make, make_parser(__doc__))


if __name__ == "__main__":
    main()
