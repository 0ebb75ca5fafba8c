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
from noma_semcom_benchmarks.pages import (
    Claim,
    columns,
    judge,
    judge_small,
    make_parser,
    new_figure,
    publish,
    run_figure,
)
from noma_semcom_benchmarks.sweeps import ALL, JTSC, RANDOM, Measured, Sample, luck_of_the_draw
from noma_semcom_benchmarks.trainings import USERS

_AT = "K = {}"
TREND = 0.02
"""Share of the LPIPS that a change must exceed to be called a trend."""


def claims(points: Mapping[int, Measured], luck: Mapping[int, Sample]) -> list[Claim]:
    """The verdicts. Points differ in what is drawn, so they pair by run alone, and LPIPS is compared less that luck.

    Args:
        points: By number of users, rising.
        luck: :func:`~noma_semcom_benchmarks.sweeps.luck_of_the_draw` of each.
    """
    few, many = next(iter(points)), list(points)[-1]
    found = []
    for other in SCHEMES:
        if other != ALL:
            accurate = gaps(points, other, ALL, "lpips", _AT)
            found.append(judge(f"ALL-Selection recovers more accurately than {other} at every number", accurate))
    slow = gaps(points, ALL, JTSC, "latency_s", _AT)
    found.append(judge("ALL-Selection's latency is above JTSC's at every number", slow, " ms", 1e3))
    at = f"K = {few} to {many}"
    lpips = between(points, JTSC, "lpips", many, few) - (luck[many] - luck[few])
    found.append(judge("JTSC's LPIPS degrades with more users", {at: lpips.mean()}))
    slower = between(points, JTSC, "latency_s", many, few).mean()
    found.append(judge("JTSC's latency degrades with more users", {at: slower}, " ms", 1e3))
    moderate = between(points, ALL, "latency_s", many, few) - between(points, JTSC, "latency_s", many, few)
    found.append(
        judge(
            "JTSC's latency degrades moderately: less than ALL-Selection's",
            {f"ALL's rise less JTSC's, {at}": moderate.mean()},
            " ms",
            1e3,
        )
    )
    level = (points[few].sample(RANDOM, "lpips") - luck[few]).mean().value
    trend = (between(points, RANDOM, "lpips", many, few) - (luck[many] - luck[few])) * (1.0 / level)
    found.append(judge_small("Random-Selection's LPIPS shows no clear trend", {at: trend.mean()}, TREND, " %", 100.0))
    return found


def make(arguments: argparse.Namespace) -> None:
    """Measure, draw and publish."""
    points = sweep(USERS, lambda one: {"num_users": one}, "users", arguments)
    figure = new_figure(12.5, 4.0)
    for axes, name in zip(figure.subplots(1, 3), MEASURES, strict=True):
        plot_schemes(axes, points, list(points), name)
        axes.set(xlabel="users K", xticks=list(points), yscale="log" if name == "latency_s" else "linear")
    axes.legend(fontsize=8)
    luck = {
        users: luck_of_the_draw({"num_users": users, "images": arguments.images}, arguments.episodes)
        for users in points
    }
    rows = [
        {
            **row,
            **columns(
                "lpips_less_luck", (points[row["users"]].sample(row["scheme"], "lpips") - luck[row["users"]]).mean()
            ),
        }
        for row in rows_of(points, "users")
    ]
    publish("fig05b", arguments, rows, claims(points, luck), figure, least_runs(points))


def main() -> None:
    """Draw the figure."""
    run_figure(make, make_parser(__doc__))


if __name__ == "__main__":
    main()
