"""What pruning costs: the oracle over kept features against the oracle over all, by the thresholds eps_t and eps_v.

    python -m noma_semcom_benchmarks.pruning --csv pruning.csv

Reads the validation images alone. The street preset's thresholds are chosen from this table. Besides, the mean rise of
LPIPS when one feature is withheld from all others, for features that pruning removes and for those it keeps, and the
rank correlation of importance with that rise within an image.
"""

from __future__ import annotations

import argparse
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from noma_semcom_agents.evaluation import Contender, rollout
from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.report import write_rows
from noma_semcom_agents.schemes import NoSelection
from noma_semcom_env import RecoveryTable, Scenario, load_table
from noma_semcom_env.semantics.extraction import FeatureExtractor, load_extractor

TEXT_THRESHOLDS: Final = (0.0, 0.05, 0.2, 0.5)
VISUAL_THRESHOLDS: Final = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)


def sweep(images: str, episodes: int, seed: int = 0) -> list[dict[str, float]]:
    """One row a pair of thresholds: share of features pruned, regret of the oracle over what is kept.

    Args:
        images: Image set, a full table of the street preset.
        episodes: Steps that the oracles solve.
        seed: Episode i is drawn from seed + i.
    """
    table, scenario = load_table(images), Scenario(images=images)
    knobs = {"images": images, "episode_length": 1}
    _, faced = rollout(Contender(NoSelection()), knobs, episodes, seed)
    steps = {key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()}
    best = Oracle(scenario, table.mean, table.bank).solve(steps).objective.mean()
    rows = []
    for text, visual in track([(t, v) for t in TEXT_THRESHOLDS for v in VISUAL_THRESHOLDS], "thresholds"):
        kept = _kept(table, _extractor(text, visual))
        bank = replace(table.bank, kept=kept)
        objective = Oracle(scenario, table.mean, bank, pruned=True).solve(steps).objective.mean()
        share = 1.0 - kept.sum() / bank.exists.sum()
        rows.append({"eps_t": text, "eps_v": visual, "pruned": float(share), "regret": float(objective / best - 1.0)})
    return rows


def _extractor(text: float, visual: float) -> FeatureExtractor:
    """The street preset's extractor with thresholds of its own; the models are loaded once."""
    extractor = copy(load_extractor("street"))
    extractor.text_threshold, extractor.visual_threshold = text, visual
    return extractor


def _kept(table: RecoveryTable, extractor: FeatureExtractor) -> np.ndarray:
    """(I, F) bool, what survives pruning by an extractor; its features must be those of the table."""
    kept = np.zeros_like(table.bank.kept)
    for row, (old, new) in enumerate(
        zip(table.features, extractor.extract(table.images, table.bank.image_ids), strict=True)
    ):
        if (old.labels, old.phrases) != (new.labels, new.phrases):
            raise ValueError(f"features of {old.image_id!r} are not those of the table; tabulate it again")
        kept[row, : new.count] = new.kept
    return kept


@dataclass(frozen=True)
class Withheld:
    """Leave one out: each array has an entry a feature of every image.

    Attributes:
        rise: Rise of LPIPS when this feature alone is withheld.
        kept: Whether pruning keeps it.
        correlation: Mean over images of Spearman's rank correlation between importance and rise.
    """

    rise: np.ndarray
    kept: np.ndarray
    correlation: float


def withhold(table: RecoveryTable) -> Withheld:
    """What each feature adds to all others of its image, against its importance."""
    from scipy.stats import spearmanr

    rises, kept, correlations = [], [], []
    for row, one in enumerate(table.features):
        everything = (1 << one.count) - 1
        rise = table.mean[row, everything - (1 << np.arange(one.count))] - table.mean[row, everything]
        rises.append(rise)
        kept.append(one.kept)
        if np.ptp(one.importance) > 0:
            correlations.append(spearmanr(one.importance, rise).statistic)
    return Withheld(np.concatenate(rises), np.concatenate(kept), float(np.mean(correlations)))


def main() -> None:
    """Print both tables, and write the first as CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="street-validation")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    rows, console = sweep(arguments.images, arguments.episodes), Console()
    table = Table(title="Share of features pruned / regret of the oracle over the rest")
    table.add_column("eps_t")
    for visual in VISUAL_THRESHOLDS:
        table.add_column(f"eps_v {visual:g}", justify="right")
    for text in TEXT_THRESHOLDS:
        cells = [f"{row['pruned']:.0%} / {row['regret']:+.1%}" for row in rows if row["eps_t"] == text]
        table.add_row(f"{text:g}", *cells)
    console.print(table)
    withheld = withhold(load_table(arguments.images))
    for name, chosen in (("kept", withheld.kept), ("pruned", ~withheld.kept)):
        rise = withheld.rise[chosen]
        error = rise.std(ddof=1) / len(rise) ** 0.5
        console.print(f"LPIPS rises by {rise.mean():.4f} (standard error {error:.4f}) without a feature that is {name}")
    console.print(f"rank correlation of importance and rise within an image: {withheld.correlation:.2f}")
    if arguments.csv:
        write_rows(rows, arguments.csv)


if __name__ == "__main__":
    main()
