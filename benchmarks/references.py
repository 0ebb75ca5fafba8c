"""Every reference of the protocol, fitted once for all tables: what is fitted, on what, and what it took.

They are those of :mod:`noma_semcom_agents.lineup`; here models of LPIPS are fitted once and serve every task.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noma_semcom_agents.evaluation import Contender, Knobs
from noma_semcom_agents.lineup import GREEDY, LINUCB, PREDICTOR, REFERENCES, SET_NETWORK, make_greedy, make_searching
from noma_semcom_agents.references import EPISODES, FITTED, LATENCIES_S, UNPRUNED

if TYPE_CHECKING:
    from noma_semcom_agents.quality import QualityModel

FOLDER: Final = Path("runs/set-network")
QUICK_EPISODES: Final = 20
QUICK_STEPS: Final = 64


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
        quick: Few trees, few steps and, where one is trained, one small network: shows that it runs.
        folder: Where the set network is, or is left; None takes the bundled one.
        seeds: Seeds of LinUCB.
        retrain: Train the set network, in the folder or else in :data:`FOLDER`; members that an earlier training with
            the same settings and images left there are taken over.
    """

    quick: bool = False
    folder: Path | None = None
    seeds: int = 5
    retrain: bool = False
    _fitted: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def of(self, knobs: Knobs) -> list[Entry]:
        """The references of a task.

        Args:
            knobs: Its scenario fields; images are those of training.
        """
        plain = [REFERENCES[name](knobs) for name in ("all", "random", "none")]
        return [
            *(Entry(one.name, {-1: one}) for one in plain),
            self._greedy(knobs, GREEDY, UNPRUNED),
            self._greedy(knobs, f"{GREEDY}, fitted importance", FITTED),
            self._linucb(knobs),
            self._searching(PREDICTOR, self.boosted, knobs),
            replace(
                self._searching(SET_NETWORK, self.set_network, knobs),
                command=f"python -m noma_semcom_agents.predictor --output {self.folder or FOLDER}",
            ),
        ]

    @property
    def boosted(self) -> tuple[QualityModel, float]:
        """Gradient boosting, its size chosen by cross-validation; and the time that it took."""
        from noma_semcom_agents.boosting import BoostedQuality, fit_boosted
        from noma_semcom_agents.quality import TabulatedImages

        if self.quick:
            return self._once("boosted", lambda: BoostedQuality.fit(TabulatedImages.of({}), 8, 10, 16))
        return self._once("boosted", lambda: fit_boosted(UNPRUNED)[0])

    @property
    def set_network(self) -> tuple[QualityModel, float]:
        """Set networks, trained on the default task's images; and the time that it took, 0 if the folder held them.

        Raises:
            ValueError: If those at hand were trained on other images, or on another table of them.
        """
        from noma_semcom_agents.predictor import BUNDLED, FILE, SetNetworkSettings, SetQuality, train_set_quality
        from noma_semcom_agents.quality import TabulatedImages

        images = TabulatedImages.of(UNPRUNED)
        folder = self.folder or FOLDER

        def make() -> SetQuality:
            if self.quick:
                return train_set_quality(images, SetNetworkSettings(members=1, epochs=1))
            model = train_set_quality(images, None, folder, progress=True)
            model.save(folder / FILE)
            return model

        if self.retrain or (self.folder is not None and not (folder / FILE).is_file()):
            return self._once("set network", make)
        model = SetQuality.bundled() if self.folder is None else SetQuality.load(folder / FILE)
        if not model.was_trained_on(images):
            raise ValueError(
                f"the set network {'of the package' if self.folder is None else f'in {folder}'} was trained on other "
                f"images than {images.scenario.images!r} as tabulated here; train it again with --retrain"
            )
        card = json.loads(BUNDLED.with_name("card.json").read_text())
        return model, float(card["seconds"]) if self.folder is None else 0.0

    def _once(self, name: str, make: Callable[[], Any]) -> tuple[Any, float]:
        if name not in self._fitted:
            started = time.perf_counter()
            self._fitted[name] = make(), time.perf_counter() - started
        return self._fitted[name]

    def _greedy(self, knobs: Knobs, name: str, own: Knobs) -> Entry:
        episodes = QUICK_EPISODES if self.quick else EPISODES
        started = time.perf_counter()
        contender = make_greedy(knobs, own, name, episodes)
        return Entry(name, {-1: contender}, len(LATENCIES_S) * episodes, time.perf_counter() - started)

    def _linucb(self, knobs: Knobs) -> Entry:
        from noma_semcom_agents.bandit import STEPS, learn_linucb
        from noma_semcom_agents.roster import spread

        steps, seeds = (QUICK_STEPS, 1) if self.quick else (STEPS, self.seeds)
        contenders, seconds = {}, 0.0
        for seed in range(seeds):
            learn = partial(learn_linucb, UNPRUNED, steps, seed=spread(seed))
            (model, _), took = self._once(f"{LINUCB} {seed}", learn)
            contenders[seed] = make_searching(model, knobs, LINUCB)
            seconds += took / seeds
        return Entry(LINUCB, contenders, steps, seconds, note="learned on the default task")

    def _searching(self, name: str, model: tuple[QualityModel, float], knobs: Knobs) -> Entry:
        contender = make_searching(model[0], knobs, name)
        return Entry(name, {-1: contender}, 0, model[1], note="fitted to tabulated training images")
