"""Beyond the paper: what beams, order and NOMA are worth, in latency and in reward, by users, antennas and power.

    python -m noma_semcom_benchmarks.beyond --page docs/figures.md

Every drop is a step of the default scenario on test images. The selection is the joint optimum's, *common* to all
transmissions: then latencies compare alike with alike, but on the selection that suits the joint optimum. Where an
exact search is possible (joint optimum, near-first order, TDMA) the selection is *re-optimized* for the transmission.
For FDMA the better of the common one and TDMA's optimum is taken, a bound: its own optimum is at least as good.
The paper's convex program and the fixed beams stand with the common selection alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.progress import track

from noma_semcom_agents.evaluation import Contender, Interval, Knobs, full_table, rollout
from noma_semcom_agents.lineup import EVALUATION_SEED
from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.schemes import NoSelection
from noma_semcom_benchmarks.pages import columns, make_parser, new_figure, publish, run_figure
from noma_semcom_benchmarks.solvers import REFERENCE, SLOW, TRANSMISSIONS
from noma_semcom_benchmarks.sweeps import Sample
from noma_semcom_env import Scenario

SIZES: Final = ((2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (3, 4), (4, 2), (5, 2), (5, 4), (6, 2))
POWERS_DBM: Final = (-7.0, 3.0, 13.0, 23.0, 33.0)
DEFAULT: Final = (3, 2)
PAPER_DROPS: Final = 100
QUICK_SIZES: Final = ((2, 1), (3, 2))
EXACT, BOUND, COMMON = "exact", "bound", "common selection"


@dataclass(frozen=True, eq=False)
class Outcome:
    """One transmission on D drops.

    Attributes:
        latency_s: (D,) with the common selection.
        common: (D,) objective with the common selection.
        best: (D,) objective with the selection re-optimized, as ``search`` says.
        search: ``exact``, ``bound`` or ``common selection``.
        failures: Drops in which a convex program failed.
    """

    latency_s: np.ndarray
    common: np.ndarray
    best: np.ndarray
    search: str
    failures: int


def compare(knobs: Knobs, drops: int, paper_drops: int) -> dict[str, Outcome]:
    """Every transmission on the same drops.

    Args:
        knobs: Of the environment.
        drops: D; each is the first step of an episode.
        paper_drops: Of them for the paper's program, the first ones; 0 leaves it out.
    """
    scenario, lpips, bank = full_table(knobs)
    _, faced = rollout(Contender(NoSelection()), {**knobs, "episode_length": 1}, drops, EVALUATION_SEED)
    steps = {key: value[:, 0] for key, value in faced.items()}
    joint = Oracle(scenario, lpips, bank)
    optimum = joint.solve(steps)
    near = Oracle(scenario, lpips, bank, near_first=True).solve(steps)
    shared = Oracle(Scenario.of(scenario, {"access": "tdma"}), lpips, bank).solve(steps)
    searched = {REFERENCE: optimum, "MMSE, near first": near, "TDMA": shared}

    def demand(selection: np.ndarray) -> np.ndarray:
        bits: np.ndarray = (selection * bank.size_bits[steps["image_index"]]).sum(axis=-1).astype(np.float64)
        return bits

    found = {}
    for name, solve in TRANSMISSIONS.items():
        count = min(paper_drops, drops) if name in SLOW else drops
        if count == 0:
            continue
        link = (steps["channel"][:count], scenario.power_w, scenario.noise_power_w, scenario.bandwidth_hz)
        sent = solve(*link, demand(optimum.selection)[:count], steps["distances_m"][:count])
        latency = np.minimum(sent.latency_s, scenario.latency_cap_s)
        common = joint.value(optimum.lpips[:count], sent.latency_s)
        best, search = common, COMMON
        if name in searched:
            best, search = searched[name].objective, EXACT
        elif name == "FDMA":
            other = solve(*link, demand(shared.selection), steps["distances_m"]).latency_s
            best, search = np.minimum(common, joint.value(shared.lpips, other)), BOUND
        found[name] = Outcome(latency, common, best, search, int(np.sum(sent.fallback)))
    return found


def ratio(values: np.ndarray, others: np.ndarray) -> Interval:
    """Ratio of means over drops, with its bootstrap interval."""
    from noma_semcom_agents.statistics import crossed_interval

    return crossed_interval(
        lambda _, drop: values[drop].mean(axis=-1) / others[drop].mean(axis=-1), 1, len(values), seed=0
    )


def rows_of(found: Mapping[str, Outcome], users: int, antennas: int, power_dbm: float) -> list[dict[str, Any]]:
    """A row for each transmission."""
    best, rows = found[REFERENCE], []
    for name, one in found.items():
        count = len(one.latency_s)
        row: dict[str, Any] = {"K": users, "N": antennas, "power_dbm": power_dbm, "transmission": name, "drops": count}
        row |= columns("latency_over_joint", ratio(one.latency_s, best.latency_s[:count]))
        sends = best.latency_s[:count] > 0.0
        each = one.latency_s[sends] / best.latency_s[:count][sends]
        row["median_ratio"] = float(np.median(each)) if len(each) else np.nan
        row |= columns("latency_ms", Sample(1e3 * one.latency_s[None]).mean())
        row |= columns("objective_common_over_joint", ratio(one.common, best.best[:count]))
        row |= columns("objective_best_over_joint", ratio(one.best, best.best[:count]))
        row |= columns("reward_lost", Sample((one.best - best.best[:count])[None]).mean())
        rows.append(row | {"selection": one.search, "failures": one.failures})
    return rows


def draw(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Latency and reward by size at the default power, and by power at the default size."""
    figure = new_figure(12.5, 7.6)
    panels = figure.subplots(2, 2)
    names = [name for name in dict.fromkeys(row["transmission"] for row in rows) if name != REFERENCE]
    sizes = list(dict.fromkeys((row["K"], row["N"]) for row in rows))
    for number, name in enumerate(names):
        own = [row for row in rows if row["transmission"] == name]
        by_size = [row for row in own if row["power_dbm"] == Scenario().transmit_power_dbm]
        by_power = sorted((row for row in own if (row["K"], row["N"]) == DEFAULT), key=lambda row: row["power_dbm"])
        for line, key in enumerate(("latency_over_joint", "objective_best_over_joint")):
            x = [sizes.index((row["K"], row["N"])) for row in by_size]
            style = {"color": f"C{number}", "marker": ".", "label": f"{name} ({own[0]['selection']})"}
            panels[line, 0].plot(x, [row[key] for row in by_size], linestyle="none", **style)
            panels[line, 1].plot([row["power_dbm"] for row in by_power], [row[key] for row in by_power], **style)
    for line, label in enumerate(("mean latency over the joint optimum's", "mean objective over the joint optimum's")):
        panels[line, 0].set_xticks(range(len(sizes)), [f"K{k} N{n}" for k, n in sizes], fontsize=8)
        panels[line, 1].set_xlabel("transmit power, dBm")
        for axes in panels[line]:
            axes.axhline(1.0, color="0.4", linewidth=0.8)
            axes.set(ylabel=label, yscale="log" if line == 0 else "linear")
            axes.grid(alpha=0.3)
    panels[0, 0].set_title("common selection: the joint optimum's", fontsize=10)
    panels[1, 0].set_title("selection re-optimized where the legend says so", fontsize=10)
    panels[1, 1].legend(fontsize=8)
    return figure


def make(arguments: argparse.Namespace) -> None:
    """Compare, draw and publish."""
    default = float(np.asarray(Scenario().transmit_power_dbm))
    sizes, powers = (QUICK_SIZES, (3.0, default)) if arguments.quick else (SIZES, POWERS_DBM)
    cells = [(k, n, default) for k, n in sizes] + [(*DEFAULT, power) for power in powers if power != default]
    rows = []
    for users, antennas, power in track(cells, "cells", disable=arguments.quick):
        knobs = {"num_users": users, "num_antennas": antennas, "transmit_power_dbm": power, "images": arguments.images}
        paper_drops = 2 if arguments.quick else arguments.paper_drops
        rows += rows_of(compare(knobs, arguments.episodes, paper_drops), users, antennas, power)
    table = [
        {key: row[key] for key in row if not key.startswith(("latency_ms", "objective_common", "drops"))}
        for row in rows
    ]
    publish("beyond", arguments, rows, figure=draw(rows), table=table)


def main() -> None:
    """Make the comparison."""
    parser = make_parser(__doc__, 1000)
    parser.add_argument(
        "--paper-drops", type=int, default=PAPER_DROPS, help="drops for the paper's program and all orders; 0 for none"
    )
    run_figure(make, parser, 1000)


if __name__ == "__main__":
    main()
