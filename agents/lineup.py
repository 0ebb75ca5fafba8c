"""Who is compared with whom: trained runs, each in the environment that it is meant for, and references beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from noma_semcom_agents.evaluation import FAIR_KNOBS, Contender, Knobs, full_table
from noma_semcom_agents.quality import QualityModel, TabulatedImages
from noma_semcom_agents.references import EPISODES, NEAR_FIRST, UNPRUNED, GreedySelection
from noma_semcom_agents.roster import find_agent, unknown
from noma_semcom_agents.runs import load_policy, read_whole_record, steps_of_policy
from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection
from noma_semcom_agents.searching import SearchingPolicy
from noma_semcom_env import load_table

EVALUATION_SEED: Final = 2_000_000
"""Evaluation episode i is drawn from this plus i."""

_OF_THE_EVALUATION: Final = ("images", "image_ids", "episode_length")
"""Scenario fields that a training and an evaluation may differ in."""

LOCATION: Final = "location"


GREEDY: Final = "Greedy by importance per bit"
LINUCB: Final = "LinUCB"
PREDICTOR: Final = "Fitted predictor"
SET_NETWORK: Final = "Set network"


def make_greedy(training: Knobs, own: Knobs = UNPRUNED, name: str = GREEDY, episodes: int = EPISODES) -> Contender:
    """Greedy by importance per bit, fitted where it acts.

    Args:
        training: Keywords of the training environment; what they say of pruning or importance goes before ``own``.
        own: Knobs of the contender.
        name: How tables call it.
        episodes: That each latency is tried on.
    """
    return Contender(GreedySelection.fit({**own, **training}, episodes=episodes, name=name), own)


def make_searching(model: QualityModel, knobs: Knobs, name: str) -> Contender:
    """A model of LPIPS, believed by a search over all features.

    Args:
        model: Knows the labels of the images that it will meet.
        knobs: Keywords of an environment with the objective that is searched.
        name: How tables call it.
    """
    return Contender(SearchingPolicy(model, full_table(knobs)[0], name), UNPRUNED)


def _predictor(training: Knobs) -> Contender:
    from noma_semcom_agents.boosting import fit_boosted

    return make_searching(fit_boosted({**UNPRUNED, **training})[0], training, PREDICTOR)


def _bandit(training: Knobs) -> Contender:
    from noma_semcom_agents.bandit import learn_linucb

    return make_searching(learn_linucb({**UNPRUNED, **training})[0], training, LINUCB)


def _set_network(training: Knobs) -> Contender:
    try:
        from noma_semcom_agents.predictor import SetQuality
    except ModuleNotFoundError as error:
        raise ImportError(f"the set network needs {error.name}: pip install 'noma-semcom-env[references]'") from error

    model = SetQuality.bundled()
    model.check(TabulatedImages.of(training))
    return make_searching(model, training, SET_NETWORK)


REFERENCES: Final[Mapping[str, Callable[[Knobs], Contender]]] = {
    "all": lambda _: Contender(AllSelection(), UNPRUNED),
    "random": lambda _: Contender(RandomSelection(), UNPRUNED),
    "none": lambda _: Contender(NoSelection(), UNPRUNED),
    "greedy": make_greedy,
    "linucb": _bandit,
    "predictor": _predictor,
    "set-network": _set_network,
}
"""Name to what makes the reference from the keywords of the training environment.

All of them act on all features, as the protocol has it. ``greedy``, ``linucb`` and ``predictor`` learn from the images
of that environment; the set network is the bundled one.
"""

PLAIN: Final = ("all", "random", LOCATION)
"""References that need no training of their own."""


@dataclass(frozen=True)
class Run:
    """A training that was left in a folder.

    Attributes:
        folder: Where.
        record: Its ``run.json``.
        label: How tables call it.
    """

    folder: Path
    record: Mapping[str, Any]
    label: str

    @property
    def title(self) -> str:
        """Of the agent."""
        return find_agent(self.record["agent"]).title

    @property
    def knobs(self) -> dict[str, Any]:
        """Every scenario field but those that contenders may differ in; images as in training."""
        return {name: value for name, value in self.record["scenario"].items() if name not in FAIR_KNOBS}

    @property
    def own_knobs(self) -> dict[str, Any]:
        """The fields that contenders may differ in, as they were in training."""
        return {name: value for name, value in self.record["scenario"].items() if name in FAIR_KNOBS}

    def contender(self) -> Contender:
        """The policy that the run ended with, or had last written, in its environment.

        Raises:
            FileNotFoundError: If the run has written none yet.
            ValueError: If it is one of another version.
        """
        return Contender(load_policy(self.folder), self.own_knobs, self.label)

    @property
    def remark(self) -> str:
        """How far the run got, if that is not as far as it was asked to; else empty."""
        asked, there = self.record["request"]["steps"], steps_of_policy(self.folder, self.record)
        if self.record["ended"] and there >= asked:
            return ""
        return f"{'ended' if self.record['ended'] else 'unfinished'} at {there} of {asked} steps"


def read_runs(folders: Sequence[Path], images: str) -> list[Run]:
    """The runs of some folders, each with a label of its own: the agent, with seed or folder where it takes that.

    The label of a run that did not get as far as it was asked to says so.

    Args:
        folders: Of trainings, each once.
        images: Image set that they will be compared on.

    Raises:
        FileNotFoundError: If a folder holds no run.
        ValueError: If one folder is named twice, another version wrote a record, or the images have other labels than
            a run's.
    """
    places = [folder.resolve() for folder in folders]
    records = [read_whole_record(folder) for folder in folders]
    for place, times in Counter(places).items():
        if times > 1:
            raise ValueError(f"{place} is named {times} times; name each run once")
    labels = [find_agent(record["agent"]).title for record in records]
    with_seed = [f"{label}, seed {record['seed']}" for label, record in zip(labels, records, strict=True)]
    with_place = [f"{label}, {folder}" for label, folder in zip(labels, folders, strict=True)]
    for candidates in (with_seed, with_place):
        often = {label for label, times in Counter(labels).items() if times > 1}
        labels = [new if old in often else old for old, new in zip(labels, candidates, strict=True)]
    runs = [Run(*one) for one in zip(folders, records, labels, strict=True)]
    runs = [replace(run, label=f"{run.label} ({run.remark})") if run.remark else run for run in runs]
    known = load_table(images).labels
    for run in runs:
        if tuple(run.record["labels"]) != known:
            raise ValueError(f"images {images!r} have other labels than those that {run.folder} was trained on")
    return runs


def common_knobs(runs: Sequence[Run], images: str, knobs: Knobs) -> dict[str, Any]:
    """The environment that runs are compared in.

    Args:
        runs: At least one.
        images: Image set.
        knobs: Fields that replace those of the trainings.

    Raises:
        ValueError: If two runs were trained on different tasks, in fields that ``knobs`` does not replace.
    """
    first = runs[0]
    for run in runs[1:]:
        for name, value in run.knobs.items():
            if name not in {*_OF_THE_EVALUATION, *knobs} and value != first.knobs[name]:
                raise ValueError(
                    f"{run.folder} was trained with {name}={value!r}, {first.folder} with {first.knobs[name]!r}; "
                    f"compare runs of one task, or set {name} for all of them"
                )
    return {**first.knobs, "image_ids": None, **knobs, "images": images}


def contenders_of(runs: Sequence[Run], knobs: Knobs, references: Sequence[str] = PLAIN) -> list[Contender]:
    """The runs, and references beside them.

    Args:
        runs: At least one; their policies are loaded.
        knobs: What :func:`common_knobs` gave; fields set here hold for everyone.
        references: Names of :data:`REFERENCES`, or ``location``: each run of IM-PPO once more, under the near-first
            order; of none where access is orthogonal, without any order. Those that learn do so on the first run's
            training images.

    Raises:
        ValueError: If a reference is unknown.
    """
    for name in references:
        if name not in {*REFERENCES, LOCATION}:
            raise ValueError(unknown("reference", name, [*REFERENCES, LOCATION]))
    found = [_under(knobs, run.contender()) for run in runs]
    training = {**knobs, "images": runs[0].record["scenario"]["images"]}
    location = [
        Contender(one.policy, {**one.knobs, **NEAR_FIRST}, one.label.replace(run.title, "Location-Decoding", 1))
        for run, one in zip(runs, found, strict=True)
        if run.record["agent"] == "im-ppo"
        and knobs.get("access", "noma") == "noma"
        and one.knobs.get("transmission") != NEAR_FIRST["transmission"]
    ]
    for name in references:
        found += location if name == LOCATION else [_under(knobs, REFERENCES[name](training))]
    return found


def _under(knobs: Knobs, one: Contender) -> Contender:
    """The contender without those of its own knobs that are set for everyone."""
    return Contender(one.policy, {name: value for name, value in one.knobs.items() if name not in knobs}, one.label)
