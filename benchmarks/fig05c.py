"""Fig. 5(c): how much each user selects over one user's transmit power, at fixed distances, and who is decoded when.

    python -m noma_semcom_benchmarks.fig05c --page docs/figures.md

Reads IM-PPO's trainings of the campaign "main"; no policy is retrained. Training drew users over 50-200 m at 23 dBm,
and power enters what a policy sees by the SNR alone, so the powers here, of a user in the middle, stay within the SNRs
that training drew. Fading goes on; the order that is optimized follows it, so at each power the most frequent order is
named with its share of the steps.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks.campaign import ends
from noma_semcom_benchmarks.pages import (
    UNDECIDED,
    Claim,
    columns,
    either,
    judge,
    judge_small,
    make_parser,
    new_figure,
    plot_intervals,
    publish,
    run_figure,
)
from noma_semcom_benchmarks.sweeps import JTSC, Scheme, Uplinks, learned, sample_of, uplinks_of
from noma_semcom_benchmarks.trainings import Point

DISTANCES_M: Final = (80.0, 125.0, 100.0)
POWER_DBM: Final = 23.0
VARIED: Final = 2
"""The user whose power varies, the third one."""

POWERS_DBM: Final = tuple(float(one) for one in np.arange(13.0, 33.1, 2.5))
STEADY: Final = 0.02
"""Change of a share that still counts as none."""


def order_name(order: np.ndarray) -> str:
    """Users as decoded."""
    return " > ".join(f"SU-{user + 1}" for user in order)


def frequent_order(acts: list[Uplinks]) -> tuple[str, float]:
    """The most frequent order among steps in which every user sends, and its share of them."""
    active = np.concatenate([one.order[one.sends.all(axis=2)] for one in acts])
    if not len(active):
        return "", 0.0
    orders, counts = np.unique(active, axis=0, return_counts=True)
    return order_name(orders[counts.argmax()]), float(counts.max() / len(active))


def claims(scheme: Scheme, points: dict[float, list[Uplinks]]) -> list[Claim]:
    """The verdicts. The order changes at the first power at which the varied user is decoded first in most steps.

    Where there is no such power, or no lower one beside it, whatever is claimed of before and after cannot be told.
    """
    powers, acts = list(points), list(points.values())
    name, last = f"SU-{VARIED + 1}", len(powers) - 1
    places = [sample_of(scheme, [one.place[..., VARIED].astype(float) for one in some]) for some in acts]
    first = [float(np.mean([(one.place[..., VARIED] == 0).mean() for one in some])) for some in acts]
    switch = next((i for i, share in enumerate(first) if share > 0.5), None)

    def rise(user: int, start: int, stop: int, sign: float = 1.0) -> dict[str, Interval]:
        ends_of = [sample_of(scheme, [one.share[..., user] for one in acts[i]]) for i in (start, stop)]
        return {f"{powers[start]:g} to {powers[stop]:g} dBm": ((ends_of[1] - ends_of[0]) * sign).mean()}

    def judged(text: str, gaps: dict[str, Interval]) -> Claim:
        return judge(text, gaps, " points", 100.0)

    earlier = judge(
        f"{name} is decoded earlier as its power grows",
        {f"positions from {powers[0]:g} to {powers[last]:g} dBm": (places[0] - places[last]).mean()},
    )
    if not switch:
        often = f"{'never' if switch is None else 'always'} decoded first"
        seen = (
            f"{often}: in {first[0]:.0%} of the steps at {powers[0]:g} dBm, {first[last]:.0%} at {powers[last]:g} dBm"
        )
        text = f"{name} and the others select otherwise before, where and after the order changes"
        return [earlier, Claim(text, UNDECIDED, seen)]
    change = f"first in {first[switch]:.0%} of the steps at {powers[switch]:g} dBm"
    fall = judged(f"where the order changes, {name} selects less", rise(VARIED, switch - 1, switch, -1.0))
    after = f"after it, {name} selects more again with more power"
    found = [
        earlier,
        judged(f"before the order changes, {name} selects more with more power", rise(VARIED, 0, switch - 1)),
        Claim(fall.text, fall.verdict, f"{fall.numbers}; {change}"),
        judged(after, rise(VARIED, switch, last)) if switch < last else Claim(after, UNDECIDED, f"{change}, the last"),
    ]
    one, other = (user for user in range(len(DISTANCES_M)) if user != VARIED)
    start = switch if switch < last else 0
    ways = [
        (
            judged(f"SU-{more + 1} more", rise(more, start, last)),
            judge_small(f"SU-{same + 1} the same", rise(same, 0, last), STEADY, " points", 100.0),
        )
        for more, same in ((one, other), (other, one))
    ]
    found.append(either("one of the others selects more in the end, and one the same throughout", ways))
    return found


def make(arguments: argparse.Namespace) -> None:
    """Measure, draw and publish."""
    scheme = learned(JTSC, Point("im-ppo"), arguments.root, "main", arguments.quick)
    points: dict[float, list[Uplinks]] = {}
    for power in ends(POWERS_DBM) if arguments.quick else POWERS_DBM:
        dbm = [POWER_DBM] * len(DISTANCES_M)
        dbm[VARIED] = power
        knobs = {"images": arguments.images, "distances_m": DISTANCES_M, "transmit_power_dbm": tuple(dbm)}
        points[power] = uplinks_of(scheme, knobs, arguments.episodes)
    rows = []
    for power, acts in points.items():
        order, often = frequent_order(acts)
        row: dict[str, Any] = {"power_dbm": power}
        for user in range(len(DISTANCES_M)):
            row |= columns(f"share_SU-{user + 1}", sample_of(scheme, [one.share[..., user] for one in acts]).mean())
        row |= columns("position", sample_of(scheme, [one.place[..., VARIED] + 1.0 for one in acts]).mean())
        rows.append(row | {"most_frequent_order": order, "in_share_of_steps": often})
    figure = new_figure(7.2, 6.4)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for user, metres in enumerate(DISTANCES_M):
        shares = [sample_of(scheme, [one.share[..., user] for one in acts]).mean() for acts in points.values()]
        label = f"SU-{user + 1}, {metres:g} m" + (", power varied" if user == VARIED else f", {POWER_DBM:g} dBm")
        plot_intervals(axes, list(points), shares, color=f"C{user}", label=label)
        places = [sample_of(scheme, [one.place[..., user] + 1.0 for one in acts]).mean() for acts in points.values()]
        plot_intervals(below, list(points), places, color=f"C{user}")
    for row in rows:
        below.text(row["power_dbm"], 0.55, row["most_frequent_order"].replace("SU-", ""), fontsize=7, ha="center")
    axes.set(ylabel="selected share of the features", title=f"{len(scheme.runs)} runs; most frequent order below")
    axes.legend(fontsize=8)
    below.set(xlabel=f"transmit power of SU-{VARIED + 1}, dBm", ylabel="mean position", ylim=(3.2, 0.4))
    for panel in (axes, below):
        panel.grid(alpha=0.3)
    publish("fig05c", arguments, rows, claims(scheme, points), figure, len(scheme.runs))


def main() -> None:
    """Draw the figure."""
    run_figure(make, make_parser(__doc__))


if __name__ == "__main__":
    main()
