"""Where neither extreme is a good answer: fixed selections against the oracle over a sweep of ``latency_ref_s``.

    python -m noma_semcom_benchmarks.latency_reference --csv latency_reference.csv

Reads the validation images alone. The default of the street preset is chosen from this table: sending everything and
sending nothing shall each be at least 15 % worse than the oracle, which shall send between 30 % and 80 % of the
features.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from noma_semcom_agents.evaluation import Contender, evaluate
from noma_semcom_agents.policies import Info, Observation
from noma_semcom_agents.report import write_rows
from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection

REFERENCES_S: Final = (0.1e-3, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1.5e-3, 2e-3, 4e-3)
UNPRUNED: Final = {"prune": False}


class OneModality:
    """Sends every available feature of one modality.

    Args:
        name: How the table calls it.
        visual: True for masks, False for words.
    """

    def __init__(self, name: str, visual: bool) -> None:
        self.name = name
        self.visual = visual

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8; the modality entry is 1 for masks and -1 for words."""
        wanted = observation["modality"] == (1.0 if self.visual else -1.0)
        chosen: np.ndarray = (wanted & (observation["action_mask"] != 0)).astype(np.int8)
        return chosen


def sweep(references_s: tuple[float, ...], episodes: int, images: str, seed: int = 0) -> list[dict[str, float]]:
    """One row a reference latency: how far each fixed selection stays behind the oracle, and what the oracle sends.

    Args:
        references_s: Values of ``latency_ref_s``.
        episodes: Episodes of the default length, the same for every value.
        images: Image set.
        seed: Episode i is drawn from seed + i.
    """
    contenders = [
        Contender(AllSelection(), UNPRUNED, "all"),
        Contender(NoSelection(), UNPRUNED, "none"),
        Contender(RandomSelection(), UNPRUNED, "random"),
        Contender(OneModality("words", visual=False), UNPRUNED),
        Contender(OneModality("masks", visual=True), UNPRUNED),
    ]
    rows = []
    for reference in track(references_s, "latency_ref_s"):
        result = evaluate(contenders, {"images": images, "latency_ref_s": reference}, episodes, seed)
        row = {"latency_ref_ms": 1e3 * reference}
        row |= {one.name: result.summary(one.name)["regret"].value for one in contenders}
        row |= {"pruned oracle": result.summary("Oracle (pruned)")["regret"].value}
        best = result.summary("Oracle")
        row |= {"oracle's share": best["share"].value, "oracle's LPIPS": best["lpips"].value}
        row |= {"oracle's latency_ms": 1e3 * best["latency_s"].value}
        rows.append(row)
    return rows


def main() -> None:
    """Print the table and write it as CSV if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--images", default="street-validation")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    rows = sweep(REFERENCES_S, arguments.episodes, arguments.images)
    table = Table(title="Mean objective above the oracle's, by latency_ref_s")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{v:.2f}" if "ms" in k or k.startswith("oracle") else f"{v:+.0%}" for k, v in row.items()))
    Console(width=140).print(table)
    if arguments.csv:
        write_rows(rows, arguments.csv)


if __name__ == "__main__":
    main()
