"""Every reference of the protocol, fitted once for all tables: what is fitted, on what, and what it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noma_semcom_agents.evaluation import Contender, Knobs, full_table
from noma_semcom_agents.references import GreedySelection
from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection
from noma_semcom_agents.searching import SearchingPolicy

if TYPE_CHECKING:
    from noma_semcom_agents.quality import QualityModel

UNPRUNED: Final = {"prune": False}
FITTED: Final = {"prune": False, "importance": "fitted"}
LINUCB: Final = {"steps": 20_000, "optimism": 0.2, "ridge": 1.0}
SET_NETWORK: Final = Path("runs/set-network")


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard before it is evaluated.

    Attributes:
        name: Of the row.
        contenders: One a run, by training seed; -1 where there are no runs.
        steps: Environment steps of a training; 0 where nothing acted.
        seconds: What a training or a fit took.
        command: Reproduces the row.
        note: What else must be known of it.
    """

    name: str
    contenders: dict[int, Contender]
    steps: int = 0
    seconds: float = 0.0
    command: str = ""
    note: str = ""


@dataclass
class References:
    """Makes references; models of LPIPS are fitted once, on the default task's training images, and serve every task.

    Attributes:
        quick: Few trees, few steps and one small network: shows that it runs.
        folder: Where the set network is, or is left.
        seeds: Seeds of LinUCB.
    """

    quick: bool = False
    folder: Path = SET_NETWORK
    seeds: int = 5
    _fitted: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def of(self, knobs: Knobs) -> list[Entry]:
        """The references of a task.

        Args:
            knobs: Its scenario fields; images are those of training.
        """
        plain = [
            Entry("ALL-Selection", {-1: Contender(AllSelection(), UNPRUNED)}),
            Entry("Random-Selection", {-1: Contender(RandomSelection(), UNPRUNED)}),
            Entry("No-Selection", {-1: Contender(NoSelection(), UNPRUNED)}),
        ]
        return [
            *plain,
            self._greedy(knobs, "Greedy by importance per bit", UNPRUNED),
            self._greedy(knobs, "Greedy by importance per bit, fitted importance", FITTED),
            self._linucb(knobs),
            self._searching("Fitted predictor", self.boosted, knobs),
            self._searching("Set network", self.set_network, knobs),
        ]

    @property
    def boosted(self) -> tuple[QualityModel, float]:
        """Gradient boosting, its size chosen by cross-validation; and the time that it took."""
        from noma_semcom_agents.boosting import BoostedQuality, fit_boosted
        from noma_semcom_agents.quality import TabulatedImages

        if self.quick:
            return self._once("boosted", lambda: BoostedQuality.fit(TabulatedImages.of({}), 8, 10, 16))
        return self._once("boosted", lambda: fit_boosted({})[0])

    @property
    def set_network(self) -> tuple[QualityModel, float]:
        """Set networks: those in the folder, else trained there; and the time that it took, 0 if they were there."""
        from noma_semcom_agents.predictor import FILE, SetNetworkSettings, SetQuality, train_set_quality
        from noma_semcom_agents.quality import TabulatedImages

        def make() -> SetQuality:
            if self.quick:
                return train_set_quality(TabulatedImages.of({}), SetNetworkSettings(members=1, epochs=1))
            file = self.folder / FILE
            if not file.is_file():
                train_set_quality(TabulatedImages.of({}), None, self.folder, progress=True).save(file)
            return SetQuality.load(file)

        return self._once("set network", make)

    def _once(self, name: str, make: Callable[[], Any]) -> tuple[Any, float]:
        if name not in self._fitted:
            started = time.perf_counter()
            self._fitted[name] = make(), time.perf_counter() - started
        return self._fitted[name]

    def _greedy(self, knobs: Knobs, name: str, own: Knobs) -> Entry:
        started = time.perf_counter()
        policy = GreedySelection.fit({**knobs, **own}, episodes=20 if self.quick else 200, name=name)
        took = time.perf_counter() - started
        return Entry(name, {-1: Contender(policy, own)}, 31 * (20 if self.quick else 200), took)

    def _linucb(self, knobs: Knobs) -> Entry:
        from noma_semcom_agents.bandit import learn_linucb
        from noma_semcom_agents.roster import spread

        settings: dict[str, Any] = LINUCB | ({"steps": 64} if self.quick else {})
        scenario = full_table(knobs)[0]
        contenders, seconds = {}, 0.0
        for seed in range(1 if self.quick else self.seeds):
            learn = partial(learn_linucb, UNPRUNED, seed=spread(seed), **settings)
            (model, _), took = self._once(f"LinUCB {seed}", learn)
            contenders[seed] = Contender(SearchingPolicy(model, scenario, "LinUCB"), UNPRUNED)
            seconds += took / (1 if self.quick else self.seeds)
        return Entry("LinUCB", contenders, int(settings["steps"]), seconds, note="learned on the default task")

    def _searching(self, name: str, model: tuple[QualityModel, float], knobs: Knobs) -> Entry:
        policy = SearchingPolicy(model[0], full_table(knobs)[0], name)
        return Entry(name, {-1: Contender(policy, UNPRUNED)}, 0, model[1], note="fitted to tabulated training images")
