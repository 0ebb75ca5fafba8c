"""What pruning costs: the oracle over kept features against the oracle over all, by the thresholds eps_t and eps_v.

    python -m noma_semcom_benchmarks.pruning --csv pruning.csv
    python -m noma_semcom_benchmarks.pruning --importance fitted

Reads the validation images alone. The street preset's thresholds are chosen from this table. Besides, what a feature
saves of LPIPS when it arrives besides all, most or half of the others of its image, for features that pruning keeps and
for those that it removes, and the rank correlation of importance with that saving within an image.
Intervals are 95 % bootstrap intervals over images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track
from rich.table import Table

from noma_semcom_agents.evaluation import Contender, Interval, rollout
from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_agents.schemes import NoSelection
from noma_semcom_env import RecoveryTable, Scenario, load_table
from noma_semcom_env.features import FeatureBank
from noma_semcom_env.importance import pruned_bank

TEXT_THRESHOLDS: Final = {"paper": (0.0, 0.05, 0.2, 0.5), "fitted": (0.0, 0.02, 0.05, 0.1, 0.2)}
VISUAL_THRESHOLDS: Final = {
    "paper": (0.0, 0.01, 0.02, 0.05, 0.1, 0.2),
    "fitted": (0.0, 0.02, 0.04, 0.06, 0.08, 0.1),
}
RECEIVED: Final = {"all": 1.0, "each with 0.8": 0.8, "each with 0.5": 0.5}
_RESAMPLES: Final = 2000


def sweep(images: str, episodes: int, importance: str = "paper", seed: int = 0) -> list[dict[str, float]]:
    """One row a pair of thresholds: share of features pruned, regret of the oracle over what is kept.

    Args:
        images: Image set, a full table.
        episodes: Steps that the oracles solve.
        importance: ``"paper"`` or ``"fitted"``.
        seed: Episode i is drawn from seed + i.
    """
    table = load_table(images)
    _, faced = rollout(Contender(NoSelection()), {"images": images, "episode_length": 1}, episodes, seed)
    steps = {key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()}
    scenario = Scenario(images=images)
    best = Oracle(scenario, table.mean, table.bank).solve(steps).objective.mean()
    pairs = [(t, v) for t in TEXT_THRESHOLDS[importance] for v in VISUAL_THRESHOLDS[importance]]
    rows = []
    for text, visual in track(pairs, "thresholds"):
        bank = bank_of(table, importance, text, visual)
        objective = Oracle(scenario, table.mean, bank, pruned=True).solve(steps).objective.mean()
        share = 1.0 - bank.kept.sum() / bank.exists.sum()
        rows.append({"eps_t": text, "eps_v": visual, "pruned": float(share), "regret": float(objective / best - 1.0)})
    return rows


def bank_of(
    table: RecoveryTable, importance: str = "paper", text: float | None = None, visual: float | None = None
) -> FeatureBank:
    """The features of a table under an importance and thresholds; None are the importance's own."""
    return pruned_bank(table, Scenario(importance=importance, text_threshold=text, visual_threshold=visual))


def savings(table: RecoveryTable, received: float) -> list[np.ndarray]:
    """(n_i) an image: what each feature saves when each other one arrives with a probability."""
    return [table.savings(row, received) for row in range(len(table.features))]


def by_image(values: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float]) -> Interval:
    """A statistic of the entries of all images, with a bootstrap interval over images."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(values), size=(_RESAMPLES, len(values)))
    spread = [statistic(np.concatenate([values[i] for i in rows])) for rows in drawn]
    low, high = np.quantile(spread, [0.025, 0.975])
    return Interval(statistic(np.concatenate(list(values))), float(low), float(high))


def mean_saving(saving: Sequence[np.ndarray], chosen: Sequence[np.ndarray]) -> Interval:
    """Mean saving of the features that are ``chosen``, a bool array (n_i) an image."""
    return by_image([each[one] for each, one in zip(saving, chosen, strict=True)], _mean)


def rank_correlation(importance: Sequence[np.ndarray], saving: Sequence[np.ndarray]) -> Interval:
    """Mean over images of Spearman's rank correlation; images of one importance alone do not count."""
    from scipy.stats import spearmanr

    pairs = [(worth, each) for worth, each in zip(importance, saving, strict=True) if np.ptp(worth) > 0]
    return by_image([np.array([spearmanr(worth, each).statistic]) for worth, each in pairs], _mean)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def main() -> None:
    """Print all tables, and write the first as CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="street-validation")
    parser.add_argument("--importance", choices=sorted(TEXT_THRESHOLDS), default="paper")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    console, table = make_console(), load_table(arguments.images)
    rows = sweep(arguments.images, arguments.episodes, arguments.importance)
    shown = Table(title=f"Share of features pruned / regret of the oracle over the rest, {arguments.importance}")
    shown.add_column("eps_t")
    for visual in VISUAL_THRESHOLDS[arguments.importance]:
        shown.add_column(f"eps_v {visual:g}", justify="right")
    for text in TEXT_THRESHOLDS[arguments.importance]:
        cells = [f"{row['pruned']:.0%} / {row['regret']:+.1%}" for row in rows if row["eps_t"] == text]
        shown.add_row(f"{text:g}", *cells)
    console.print(shown)
    bank = bank_of(table, arguments.importance)
    counts = [one.count for one in table.features]
    kept = [row[:count] for row, count in zip(bank.kept, counts, strict=True)]
    importance = [row[:count] for row, count in zip(bank.importance, counts, strict=True)]
    evidence = Table(title="LPIPS that a feature saves, importance and thresholds as shipped")
    for heading in ("others that arrive", "kept", "pruned", "rank correlation with importance"):
        evidence.add_column(heading)
    for name, received in RECEIVED.items():
        saving = savings(table, received)
        pruned = mean_saving(saving, [~one for one in kept])
        found = [mean_saving(saving, kept), pruned, rank_correlation(importance, saving)]
        evidence.add_row(name, *(f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in found))
    console.print(evidence)
    if arguments.csv:
        write_rows(rows, arguments.csv)


if __name__ == "__main__":
    main()
