"""Which of the settings that were tried suits each agent best, by regret on validation images.

    python -m noma_semcom_benchmarks.campaign tuning --jobs 2
    python -m noma_semcom_benchmarks.tuning --page docs/figures.md

The settings that win are the agents' defaults, so that no figure need name them: see the classes of configuration.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

import numpy as np

from noma_semcom_agents.roster import find_agent
from noma_semcom_agents.training import CURVE, read_points
from noma_semcom_benchmarks.pages import make_parser, publish, run_figure
from noma_semcom_benchmarks.sweeps import train_quickly
from noma_semcom_benchmarks.trainings import AGENTS, TUNED, Point, finished_runs, tried_settings

LAST_LOOKS: Final = 3
"""Looks at the end of a curve whose mean is compared, as single ones jump."""


def first_value(setting: Any) -> Any:
    """A setting, or what a schedule of it begins with."""
    return setting[0][1] if isinstance(setting, list) else setting


def make(arguments: argparse.Namespace) -> None:
    """Read the curves, and name the least regret."""
    rows = []
    for agent in AGENTS[:1] if arguments.quick else AGENTS:
        own: list[dict[str, Any]] = []
        for settings in tried_settings()[: 2 if arguments.quick else None]:
            point = Point(agent, settings=settings, budgets=TUNED)
            if arguments.quick:
                train_quickly(point, arguments.root)
            (run, *_) = finished_runs(point, arguments.root, "tuning").values()
            looks = [one.regret for one in read_points(run.folder / CURVE)]
            shown = {name: first_value(run.record["training"][name]) for name in tried_settings()[1]}
            own.append({"agent": find_agent(agent).title, **shown, "regret": float(np.mean(looks[-LAST_LOOKS:]))})
        best = min(own, key=lambda row: float(row["regret"]))
        rows += [row | {"wins": "yes" if row is best else ""} for row in own]
    publish("tuning", arguments, rows)


def main() -> None:
    """Compare the settings that were tried."""
    run_figure(make, make_parser(__doc__))


if __name__ == "__main__":
    main()
