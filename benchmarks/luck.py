"""How noisy a table's entries are, and how much of the oracle's gain is luck.

    python -m noma_semcom_benchmarks.luck --images street-test

An entry is a mean over a few diffusion seeds. Its standard error follows from their spread. An oracle that picks the
best of 1 024 noisy entries picks lucky ones as well: so it is let optimize on half of the diffusion seeds and scored on
the other half, for every way to halve them. What it promises itself on the seeds it saw, less what the others say, is
its luck. Each step's optimum over all seeds is the reference.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from noma_semcom_agents.evaluation import Contender, rollout
from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_agents.schemes import AllSelection
from noma_semcom_agents.search import Optimum
from noma_semcom_env import RecoveryTable, Scenario, load_table
from noma_semcom_env.recovery.subsets import subset_numbers


def standard_error(table: RecoveryTable) -> np.ndarray:
    """Standard error of each entry that can be, (n,), estimated from the spread over its diffusion seeds."""
    values = table.lpips_by_seed.astype(np.float64)
    errors = values.std(axis=1, ddof=1) / values.shape[1] ** 0.5
    return errors[np.isfinite(errors)]


def halves(table: RecoveryTable, episodes: int, seed: int = 0) -> dict[str, float]:
    """The oracle on half of the seeds, scored on that half, on the other half, and on all.

    Args:
        table: At least two diffusion seeds, full.
        episodes: Steps that are solved.
        seed: Episode i is drawn from seed + i.

    Returns:
        Mean objectives: ``all_seeds`` of the oracle that sees every seed, ``promised`` and ``kept`` of the one that
        sees half, on its own half and on the other, ``sending_all`` of ALL-Selection on all seeds, and ``luck``, the
        share of the promised gain over ALL-Selection that the other half does not confirm.

    Raises:
        ValueError: If the table has fewer than two seeds.
    """
    seeds = table.lpips_by_seed.shape[1]
    if seeds < 2:
        raise ValueError(f"the table has {seeds} diffusion seed; at least two are needed")
    images = str(table.path)
    record, faced = rollout(
        Contender(AllSelection(), {"prune": False}), {"images": images, "episode_length": 1}, episodes, seed
    )
    steps = {key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()}
    scenario = Scenario(images=images)
    everyone = Oracle(scenario, table.mean, table.bank).solve(steps).objective.mean()
    promised, kept = [], []
    for half in combinations(range(seeds), seeds // 2):
        other = [one for one in range(seeds) if one not in half]
        seen, unseen = (table.lpips_by_seed[:, list(part)].astype(np.float64).mean(axis=1) for part in (half, other))
        solved = Oracle(scenario, seen, table.bank).solve(steps)
        promised.append(solved.objective.mean())
        kept.append((solved.objective + _difference(scenario, unseen - seen, solved, steps)).mean())
    sending_all = float(-record.reward.mean())
    gain = sending_all - np.mean(promised)
    return {
        "all_seeds": float(everyone),
        "promised": float(np.mean(promised)),
        "kept": float(np.mean(kept)),
        "sending_all": sending_all,
        "luck": float((np.mean(kept) - np.mean(promised)) / gain),
    }


def _difference(scenario: Scenario, change: np.ndarray, solved: Optimum, steps: dict[str, Any]) -> np.ndarray:
    """(B,) change of the objective when the LPIPS of what was selected changes by ``change`` (I, 2**F)."""
    chosen = change[steps["image_index"], subset_numbers(solved.selection)]
    difference: np.ndarray = scenario.lpips_weight * chosen.mean(axis=1)
    return difference


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", default=["street-policy", "street-validation", "street-test"])
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    shown = Table(title=f"Noise of the tables, and the oracle's luck over {arguments.episodes} steps")
    headings = ("images", "seeds", "standard error", "oracle, all seeds", "promised", "kept", "ALL-Selection", "luck")
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "images" else "right", no_wrap=heading == "images")
    rows = []
    for images in arguments.images:
        table = load_table(images)
        errors, found = standard_error(table), halves(table, arguments.episodes)
        row = {"images": images, "seeds": table.lpips_by_seed.shape[1], "standard_error": float(errors.mean()), **found}
        rows.append(row)
        numbers = [f"{row[key]:.4f}" for key in ("standard_error", "all_seeds", "promised", "kept", "sending_all")]
        shown.add_row(images, str(row["seeds"]), *numbers, f"{found['luck']:.1%}")
    make_console().print(shown)
    if arguments.csv:
        write_rows(rows, arguments.csv)


if __name__ == "__main__":
    main()
