"""What beams, orders and orthogonal access cost: every transmission against the joint optimum, for K users, N antennas.

    python -m noma_semcom_benchmarks.solvers --csv solvers.csv --figure solvers.png

Each drop is the default scenario's: users uniform over an annulus of 50-200 m, Rayleigh fading, 23 dBm, 1 MHz of
thermal noise. Demands are uniform between 100 and 800 bits, every user sends. The statistic is the ratio of a drop's
latency to that of the joint optimum over beams and order of the same drop: 1 is as good; below 1 is only orthogonal
access, which is not bound to decode in an order. What takes long, all orders and the paper's program, is given the
first few drops of the smaller sizes.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_env.link.beamforming import worst_case_beams
from noma_semcom_env.link.channel import RayleighChannel, drop_distances
from noma_semcom_env.link.decoding_order import minimize_latency_order
from noma_semcom_env.link.sic import Transmission
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.transmission import TransmissionSolver, make_solver

DEMAND_BITS: Final = (100.0, 800.0)
EXACT: Final = 1e-6
"""Relative difference up to which two latencies count as the same."""


def fixed_beams(
    channel: np.ndarray,
    power_w: np.ndarray,
    noise_power_w: float,
    bandwidth_hz: float,
    demand_bits: np.ndarray,
    distances_m: np.ndarray,
) -> Transmission:
    """The paper's worst-case beams in their best order."""
    beams = worst_case_beams(channel, power_w, noise_power_w, demand_bits > 0)
    return minimize_latency_order(channel, power_w, noise_power_w, bandwidth_hz, demand_bits, beams)


BEAMS: Final = "worst-case beams, exact order"

TRANSMISSIONS: Final[dict[str, TransmissionSolver]] = {
    "joint optimum": make_solver(Scenario()),
    "all orders": make_solver(Scenario(transmission="exhaustive")),
    BEAMS: fixed_beams,
    "MMSE, near first": make_solver(Scenario(transmission="distance")),
    "MMSE, strong first": make_solver(Scenario(transmission="strength")),
    "paper": make_solver(Scenario(transmission="paper")),
    "TDMA": make_solver(Scenario(access="tdma")),
    "FDMA": make_solver(Scenario(access="fdma")),
}
REFERENCE: Final = "joint optimum"
SLOW: Final = ("all orders", "paper")
STATISTICS: Final[dict[str, Callable[[np.ndarray], Any]]] = {"mean": np.mean, "median": np.median}
GRIDS: Final = {BEAMS: "mean", "TDMA": "median", "FDMA": "median"}
"""What the figure shows over users and antennas, and of what statistic."""


@dataclass(frozen=True, eq=False)
class Record:
    """One transmission at one size.

    Attributes:
        users: K.
        antennas: N.
        name: Key of :data:`TRANSMISSIONS`.
        ratio: (drops,) latency over that of the joint optimum.
        fallback: (drops,) bool, True where a convex program failed.
        step_s: Least processor time of a step among all drops at once, in s.
        single_s: Least processor time of a step by itself, in s.
    """

    users: int
    antennas: int
    name: str
    ratio: np.ndarray
    fallback: np.ndarray
    step_s: float
    single_s: float


def draw_drops(rng: np.random.Generator, count: int, users: int, antennas: int) -> dict[str, Any]:
    """Drops of the default scenario, as the arguments of a solver."""
    one = Scenario(num_users=users, num_antennas=antennas)
    distances = drop_distances(rng.random((count, users)), one.min_distance_m, one.max_distance_m)
    fading = RayleighChannel().sample(rng, distances.ravel(), antennas, 1)
    return {
        "channel": fading.reshape(count, users, antennas),
        "power_w": one.power_w,
        "noise_power_w": one.noise_power_w,
        "bandwidth_hz": one.bandwidth_hz,
        "demand_bits": rng.uniform(*DEMAND_BITS, (count, users)),
        "distances_m": distances,
    }


def first_drops(drops: dict[str, Any], count: int) -> dict[str, Any]:
    """The first few drops."""
    batched = ("channel", "demand_bits", "distances_m")
    return {name: value[:count] if name in batched else value for name, value in drops.items()}


def compare(
    users: int, antennas: int, drops: int, slow_drops: int, seed: int = 0, names: Iterable[str] = TRANSMISSIONS
) -> list[Record]:
    """Every transmission on the same drops of one size.

    Args:
        users: K.
        antennas: N.
        drops: Number of drops.
        slow_drops: Of them for those of :data:`SLOW`, the first ones; 0 leaves these out.
        seed: Of the drops; each size has its own.
        names: Keys of :data:`TRANSMISSIONS`.
    """
    every = draw_drops(np.random.default_rng([seed, users, antennas]), drops, users, antennas)
    best = TRANSMISSIONS[REFERENCE](**every).latency_s
    records = []
    for name in names:
        solve, count = TRANSMISSIONS[name], slow_drops if name in SLOW else drops
        if count == 0:
            continue
        some, one = first_drops(every, count), first_drops(every, 1)
        sent = solve(**some)  # whatever is compiled or cached at the first call is no part of a step
        took, single = (
            min(timeit.repeat(partial(solve, **link), timer=process_time, number=1, repeat=rounds))
            for link, rounds in ((some, 1 if name in SLOW else 3), (one, 3 if name in SLOW else 25))
        )
        ratio = sent.latency_s / best[:count]
        records.append(Record(users, antennas, name, ratio, sent.fallback, took / count, single))
    return records


def summarize(records: Sequence[Record]) -> dict[str, float]:
    """Statistics of the ratio over the pooled drops of some records, and mean times."""
    ratio = np.concatenate([record.ratio for record in records])
    return {
        "drops": float(len(ratio)),
        "exact": float((np.abs(ratio - 1.0) <= EXACT).mean()),
        "faster": float((ratio < 1.0 - EXACT).mean()),
        "mean": float(ratio.mean()),
        "median": float(np.median(ratio)),
        "percentile_95": float(np.percentile(ratio, 95)),
        "worst": float(ratio.max()),
        "failures": float(sum(record.fallback.sum() for record in records)),
        "step_us": 1e6 * float(np.mean([record.step_s for record in records])),
        "single_us": 1e6 * float(np.mean([record.single_s for record in records])),
    }


def rows_of(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row a record, for a CSV file."""
    return [
        {"users": one.users, "antennas": one.antennas, "transmission": one.name} | summarize([one]) for one in records
    ]


def show(records: Sequence[Record], console: Console) -> None:
    """Print every transmission where antennas are scarce and where they are not, and the medians of FDMA by size."""
    for title, scarce in (("fewer antennas than users", True), ("at least as many antennas as users", False)):
        table = Table(title=f"latency over the joint optimum's, {title}")
        headings = ("transmission", "drops", "exact", "faster", "mean", "median", "95th pct.", "worst", "failures")
        for heading in (*headings, "us a step,\nbatched", "us a step,\nalone"):
            table.add_column(heading, justify="left" if heading == "transmission" else "right")
        for name in TRANSMISSIONS:
            chosen = [one for one in records if one.name == name and (one.antennas < one.users) == scarce]
            if not chosen:
                continue
            s = summarize(chosen)
            shares = (f"{s['drops']:.0f}", f"{s['exact']:.1%}", f"{s['faster']:.1%}")
            ratios = (f"{s[key]:.3g}" for key in ("mean", "median", "percentile_95", "worst"))
            table.add_row(name, *shares, *ratios, *(f"{s[key]:.0f}" for key in ("failures", "step_us", "single_us")))
        console.print(table)
    for name in ("TDMA", "FDMA"):
        console.print(_by_size(records, name))


def _by_size(records: Sequence[Record], name: str) -> Table:
    users, antennas, median = _grid(records, name, np.median)
    table = Table(title=f"{name}: median latency over the joint optimum's; above 1 is NOMA's gain, below 1 its loss")
    table.add_column("K \\ N")
    for count in antennas:
        table.add_column(str(count), justify="right")
    for one, line in zip(users, median, strict=True):
        table.add_row(str(one), *(f"{value:.2f}" for value in line))
    return table


def _grid(
    records: Sequence[Record], name: str, statistic: Callable[[np.ndarray], Any]
) -> tuple[list[int], list[int], np.ndarray]:
    """Users, antennas, and the statistic of the ratio at each pair of them."""
    found = {(one.users, one.antennas): float(statistic(one.ratio)) for one in records if one.name == name}
    users, antennas = (sorted({size[axis] for size in found}) for axis in (0, 1))
    return users, antennas, np.array([[found[k, n] for n in antennas] for k in users])


def draw(records: Sequence[Record], path: Path) -> None:
    """Over K with few antennas: latency, share of exact hits, time. Over K and N: latency of three transmissions."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15.0, 8.0), layout="constrained")
    counts = sorted({one.antennas for one in records})
    few = 2 if 2 in counts else counts[0]
    for name in TRANSMISSIONS:
        chosen = [one for one in records if one.name == name and one.antennas == few]
        if not chosen:
            continue
        users, stats = [one.users for one in chosen], [summarize([one]) for one in chosen]
        (line,) = axes[0, 0].plot(users, [one["mean"] for one in stats], marker=".", label=name)
        axes[0, 0].plot(users, [one["percentile_95"] for one in stats], linestyle=":", color=line.get_color())
        axes[0, 1].plot(users, [100 * one["exact"] for one in stats], marker=".", color=line.get_color())
        axes[0, 2].plot(users, [one["single_us"] for one in stats], marker=".", color=line.get_color())
    figure.legend(loc="outside upper center", ncols=4, fontsize="small")
    axes[0, 0].set(xlabel="users K", ylabel="latency / joint optimum", yscale="log")
    axes[0, 0].set_title(f"N = {few}: mean (solid) and 95th percentile (dotted)")
    axes[0, 1].set(xlabel="users K", ylabel="% of drops", title=f"N = {few}: drops as fast as the joint optimum")
    axes[0, 2].set(xlabel="users K", ylabel="us", yscale="log", title=f"N = {few}: time of a step by itself")
    for plot, (name, statistic) in zip(axes[1], GRIDS.items(), strict=True):
        _draw_grid(plot, records, name, statistic)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_grid(axes: Any, records: Sequence[Record], name: str, statistic: str) -> None:
    from matplotlib.colors import TwoSlopeNorm

    rows, columns, ratio = _grid(records, name, STATISTICS[statistic])
    shown = np.log2(ratio)
    norm = TwoSlopeNorm(0.0, min(shown.min(), -1e-3), max(shown.max(), 1e-3))
    axes.imshow(shown, cmap="RdBu", norm=norm, aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(ratio):
        bright = abs(norm(shown[i, j]) - 0.5) > 0.3
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if bright else "black")
    axes.set(xlabel="antennas N", ylabel="users K")
    axes.set_title(f"{name}: {statistic} latency / joint optimum", fontsize="medium")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)


def main() -> None:
    """Print the tables, and write rows as CSV and the figure if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=list(range(2, 11)), help="K")
    parser.add_argument("--antennas", type=int, nargs="+", default=list(range(1, 9)), help="N")
    parser.add_argument("--drops", type=int, default=1000, help="drops of each size")
    parser.add_argument("--slow-drops", type=int, default=20, help=f"of them for {', '.join(SLOW)}; 0 leaves these out")
    parser.add_argument("--slow-users", type=int, default=6, help="most users for these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    records: list[Record] = []
    for users in track(sorted(set(arguments.users)), "users"):
        slow = min(arguments.slow_drops, arguments.drops) if users <= arguments.slow_users else 0
        for antennas in sorted(set(arguments.antennas)):
            records += compare(users, antennas, arguments.drops, slow, arguments.seed)
    show(records, make_console())
    if arguments.csv:
        write_rows(rows_of(records), arguments.csv)
    if arguments.figure:
        draw(records, arguments.figure)


if __name__ == "__main__":
    main()
