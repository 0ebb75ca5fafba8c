"""Fig. 5(a): Weighted-LL, LPIPS and latency over the bandwidth, of JTSC, ALL-, Random-Selection and Location-Decoding.

    python -m noma_semcom_benchmarks.fig05a --page docs/figures.md

Reads the trainings of the campaign "bandwidth": JTSC (IM-PPO) and Location-Decoding are retrained at each point.
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
from noma_semcom_benchmarks.pages import Claim, judge, make_parser, new_figure, publish, run_figure
from noma_semcom_benchmarks.sweeps import ALL, JTSC, LOCATION, Measured
from noma_semcom_benchmarks.trainings import BANDWIDTHS_HZ

_AT = "{} MHz"


def claims(points: Mapping[float, Measured]) -> list[Claim]:
    """The verdicts; keys are bandwidths in MHz, rising."""
    steps = list(zip(list(points)[:-1], list(points)[1:], strict=True))
    low, high = next(iter(points)), list(points)[-1]
    found = [
        judge(
            f"the Weighted-LL of {scheme} improves as the bandwidth grows",
            {f"{a} to {b} MHz": between(points, scheme, "weighted_ll", a, b).mean() for a, b in steps},
        )
        for scheme in SCHEMES
    ]
    for other in SCHEMES[1:]:
        ahead = gaps(points, other, JTSC, "weighted_ll", _AT)
        found.append(judge(f"JTSC has a lower Weighted-LL than {other}", ahead))
    for other in (ALL, LOCATION):
        closing = between(points, other, "weighted_ll", low, high) - between(points, JTSC, "weighted_ll", low, high)
        found.append(
            judge(f"the gap from JTSC to {other} shrinks", {f"gap at {low} less gap at {high} MHz": closing.mean()})
        )
    for name, words in (("lpips", "LPIPS"), ("latency_s", "latency")):
        unit, factor = (" ms", 1e3) if name == "latency_s" else ("", 1.0)
        falls = {f"{a} to {b} MHz": between(points, JTSC, name, a, b).mean() for a, b in steps}
        found.append(judge(f"JTSC's {words} falls as the bandwidth grows", falls, unit, factor))
    return found


def make(arguments: argparse.Namespace) -> None:
    """Measure, draw and publish."""
    found = sweep(BANDWIDTHS_HZ, lambda one: {"bandwidth_hz": one}, "bandwidth", arguments)
    points = {value / 1e6: measured for value, measured in found.items()}
    figure = new_figure(12.5, 4.0)
    for axes, name in zip(figure.subplots(1, 3), MEASURES, strict=True):
        plot_schemes(axes, points, list(points), name)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="bandwidth, MHz", yscale="log" if name == "latency_s" else "linear")
        axes.set_xticks(list(points), [f"{value:g}" for value in points])
    axes.legend(fontsize=8)
    publish("fig05a", arguments, rows_of(points, "bandwidth_mhz"), claims(points), figure, least_runs(points))


def main() -> None:
    """Draw the figure."""
    run_figure(make, make_parser(__doc__))


if __name__ == "__main__":
    main()
