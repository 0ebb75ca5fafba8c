"""What the sweeps of Fig. 5 share: four schemes at every point, with the oracle beside them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from noma_semcom_agents.evaluation import Interval, Knobs
from noma_semcom_agents.references import NEAR_FIRST
from noma_semcom_benchmarks.campaign import ends
from noma_semcom_benchmarks.pages import columns, plot_intervals
from noma_semcom_benchmarks.sweeps import (
    ALL,
    COLOURS,
    JTSC,
    LOCATION,
    ORACLE,
    RANDOM,
    Measured,
    Sample,
    learned,
    measure,
    reference,
)
from noma_semcom_benchmarks.trainings import swept

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMES: Final = (JTSC, ALL, RANDOM, LOCATION)
MEASURES: Final = {"weighted_ll": ("Weighted-LL", 1.0), "lpips": ("LPIPS", 1.0), "latency_s": ("latency, ms", 1e3)}


def sweep(
    values: Sequence[Any], knobs_of: Callable[[Any], Knobs], campaign: str, arguments: argparse.Namespace
) -> dict[Any, Measured]:
    """JTSC and Location-Decoding, retrained at each point, ALL- and Random-Selection, and the oracle.

    Args:
        values: Points of the sweep; a quick run takes the ends alone.
        knobs_of: Scenario fields of a point.
        campaign: What trains the runs.
        arguments: Of the figure.
    """
    found = {}
    for value in [*ends(values)[:1], values[-1]] if arguments.quick else values:
        knobs = dict(knobs_of(value))
        schemes = [
            learned(JTSC, swept("im-ppo", knobs), arguments.root, campaign, arguments.quick),
            reference("all", ALL),
            reference("random", RANDOM),
            learned(LOCATION, swept("im-ppo", {**knobs, **NEAR_FIRST}), arguments.root, campaign, arguments.quick),
        ]
        found[value] = measure(schemes, {**knobs, "images": arguments.images}, arguments.episodes)
    return found


def rows_of(points: Mapping[Any, Measured], name: str) -> list[dict[str, Any]]:
    """A row for each point and scheme."""
    rows = []
    for value, measured in points.items():
        for scheme in (*SCHEMES, ORACLE):
            runs = len(measured.schemes[scheme].runs) if scheme in measured.schemes else 0
            row = {name: value, "scheme": scheme, "runs": runs or None}
            for one, (_, factor) in MEASURES.items():
                row |= columns(one.replace("_s", "_ms"), (measured.sample(scheme, one) * factor).mean())
            row |= columns("share", measured.sample(scheme, "share").mean())
            regret = measured.regret(scheme)
            rows.append(row | columns("regret", regret))
    return rows


def least_runs(points: Mapping[Any, Measured]) -> int:
    """Least number of runs behind any point."""
    return min(len(one.schemes[name].runs) for one in points.values() for name in (JTSC, LOCATION))


def gaps(points: Mapping[Any, Measured], first: str, second: str, name: str, text: str) -> dict[str, Interval]:
    """How much more the first scheme has of a measure than the second, at each point.

    Args:
        points: Of :func:`sweep`.
        first: Of the schemes.
        second: Of the schemes.
        name: Of the measure.
        text: Says what a point is, with ``{}`` for its value.
    """
    return {
        text.format(value): (one.sample(first, name) - one.sample(second, name)).mean() for value, one in points.items()
    }


def between(points: Mapping[Any, Measured], scheme: str, name: str, early: Any, late: Any) -> Sample:
    """How much a scheme's measure falls from one point to another, by training seed and episode."""
    return points[early].sample(scheme, name) - points[late].sample(scheme, name)


def plot_schemes(axes: Axes, points: Mapping[Any, Measured], x: Sequence[float], name: str) -> None:
    """A measure of every scheme over a sweep."""
    label, factor = MEASURES[name]
    for scheme in (*SCHEMES, ORACLE):
        intervals = [(one.sample(scheme, name) * factor).mean() for one in points.values()]
        style = "--" if scheme == ORACLE else "-"
        plot_intervals(axes, x, intervals, color=COLOURS[scheme], label=scheme, linestyle=style)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
