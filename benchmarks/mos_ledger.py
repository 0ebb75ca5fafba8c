"""Measurements of Mixture of Semantics, kept on disk: what one figure has measured, none measures again.

A file holds one condition; its name is a hash of all that its numbers depend on. An interrupted figure goes on where it
was.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from noma_semcom_benchmarks.mos_scenes import Asked
from noma_semcom_benchmarks.mos_schemes import MEASURED, Condition, measure, origin

FOLDER: Final = Path("runs/mos")
VERSION: Final = 2
"""Of what a measurement is; to be raised where the code changes what it gives under the same conditions."""


def key_of_facts(facts: Any) -> str:
    """A hash of facts that go into JSON, and of :data:`VERSION`."""
    return hashlib.sha256(json.dumps([VERSION, facts], sort_keys=True).encode()).hexdigest()[:24]


def write_json(path: Path, value: Any) -> None:
    """Write a file by a temporary one that is renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(value))
    os.replace(part, path)


class Ledger:
    """Measures scenes under conditions once.

    Args:
        folder: Where measurements are kept.
        measure: One scene under a condition.
        origin: What a scheme's results depend on besides.
    """

    def __init__(
        self,
        folder: Path = FOLDER,
        measure: Callable[[Condition, Asked], dict[str, float]] = measure,
        origin: Callable[[str], Any] = origin,
    ) -> None:
        self.folder, self._measure, self._origin = folder, measure, origin

    def gather(
        self, conditions: Sequence[Condition], scenes: Sequence[Asked]
    ) -> dict[Condition, dict[str, np.ndarray]]:
        """Of each condition, every entry of :data:`~noma_semcom_benchmarks.mos_schemes.MEASURED` as (n,) float64."""
        found = {}
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        ) as bar:
            task = bar.add_task("measuring", total=len(conditions) * len(scenes))
            for condition in conditions:
                bar.update(task, description=f"{condition.scheme}, {condition.channel}, {condition.snr_db:g} dB")
                rows = self._rows(condition, scenes, lambda: bar.advance(task))
                found[condition] = {name: np.array([row[name] for row in rows]) for name in MEASURED}
                if not bar.console.is_terminal:  # there a bar shows at its end alone
                    bar.console.print(f"{len(found)} of {len(conditions)}: {condition}", soft_wrap=True)
        return found

    def _rows(self, condition: Condition, scenes: Sequence[Asked], step: Callable[[], None]) -> list[dict[str, float]]:
        path = self.folder / f"{self._key(condition)}.json"
        known: dict[str, dict[str, float]] = json.loads(path.read_text())["scenes"] if path.is_file() else {}
        for asked in scenes:
            if asked.name not in known:
                known[asked.name] = self._measure(condition, asked)
                write_json(path, {"condition": asdict(condition), "scenes": known})
            step()
        return [known[asked.name] for asked in scenes]

    def _key(self, condition: Condition) -> str:
        return key_of_facts([asdict(condition), dict(self._origin(condition.scheme))])
