"""What the figures share: schemes on common episodes, with intervals over runs and episodes.

A scheme is one agent's runs, or one reference. Everything that is measured becomes a :class:`Sample`, a number for each
run and episode; samples are subtracted pair by pair, by training seed and episode, at one point of a sweep or between
two, since draws do not depend on bandwidth, power or policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np

from noma_semcom_agents.evaluation import (
    ENVIRONMENT,
    Contender,
    Evaluation,
    Interval,
    Knobs,
    Record,
    evaluate,
    full_table,
    rollout,
)
from noma_semcom_agents.lineup import EVALUATION_SEED, REFERENCES, Run
from noma_semcom_agents.schemes import NoSelection
from noma_semcom_agents.statistics import crossed_interval, interquartile_mean, regret_interval
from noma_semcom_benchmarks.campaign import FINISHED, Training, state_of, train_here
from noma_semcom_benchmarks.trainings import QUICK_STEPS, MissingRuns, Point, finished_runs
from noma_semcom_env import Scenario
from noma_semcom_env.recovery.subsets import subset_numbers
from noma_semcom_env.zoo.presets import settle

JTSC: Final = "JTSC"
LOCATION: Final = "Location-Decoding"
ALL: Final = "ALL-Selection"
RANDOM: Final = "Random-Selection"
ORACLE: Final = "Oracle"
COLOURS: Final = {JTSC: "C0", ALL: "C1", RANDOM: "C2", LOCATION: "C3", ORACLE: "0.5"}


@dataclass(frozen=True, eq=False)
class Sample:
    """A number for each of R runs and E episodes.

    Attributes:
        values: (R, E).
        seeds: R training seeds; empty for what has no runs, one row that goes with every run.
    """

    values: np.ndarray
    seeds: tuple[int, ...] = ()

    def mean(self) -> Interval:
        """Interquartile mean over runs of the mean over episodes; its interval draws both anew.

        It is an :class:`~noma_semcom_agents.statistics.Estimate` with a number for each run, if there are any.
        """

        def statistic(run: np.ndarray, episode: np.ndarray) -> np.ndarray:
            return interquartile_mean(self.values[run[..., :, None], episode[..., None, :]].mean(axis=-1))

        runs, episodes = self.values.shape
        found = crossed_interval(statistic, runs, episodes, seed=0)
        return found if self.seeds else replace(found, by_run=())

    def __sub__(self, other: Sample) -> Sample:
        """Difference by training seed and episode, over the seeds that both have.

        Raises:
            ValueError: If they have no seed in common, or other numbers of episodes.
        """
        if not (self.seeds and other.seeds):
            return Sample(self.values - other.values, self.seeds or other.seeds)
        common = tuple(sorted(set(self.seeds) & set(other.seeds)))
        if not common:
            raise ValueError(f"no training seed is in both {self.seeds} and {other.seeds}; train with the same seeds")
        first, second = (one.values[[one.seeds.index(seed) for seed in common]] for one in (self, other))
        return Sample(first - second, common)

    def __mul__(self, factor: float) -> Sample:
        return replace(self, values=factor * self.values)


@dataclass(frozen=True)
class Scheme:
    """Who is compared.

    Attributes:
        name: In figures and tables.
        contenders: Training seed to contender; one with seed -1 for a reference without runs.
        runs: Training seed to run; empty for a reference.
    """

    name: str
    contenders: Mapping[int, Contender]
    runs: Mapping[int, Run]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds, empty for a reference."""
        return tuple(seed for seed in self.contenders if seed >= 0)


def reference(name: str, title: str, knobs: Knobs | None = None) -> Scheme:
    """A reference of :data:`~noma_semcom_agents.lineup.REFERENCES`, fitted in an environment with ``knobs``."""
    return single(title, REFERENCES[name](knobs or {}))


def single(title: str, contender: Contender) -> Scheme:
    """A scheme without runs."""
    return Scheme(title, {-1: replace(contender, label=title)}, {})


def learned(title: str, point: Point, root: Path, campaign: str, quick: bool = False) -> Scheme:
    """The finished runs of a training.

    Args:
        title: In figures and tables.
        point: What was trained.
        root: Folder of the campaigns.
        campaign: The one that trains it, for the message.
        quick: Train one seed over few steps here if there is none.

    Raises:
        MissingRuns: If there is none.
    """
    if quick:
        train_quickly(point, root)
    runs = finished_runs(point, root, campaign, title)
    return Scheme(title, {seed: run.contender() for seed, run in runs.items()}, runs)


def learned_if_any(title: str, point: Point, root: Path, campaign: str) -> list[Scheme]:
    """The finished runs of a training as the one scheme, or none where nothing was trained."""
    try:
        return [learned(title, point, root, campaign)]
    except MissingRuns:
        return []


def train_quickly(point: Point, root: Path) -> None:
    """One seed over few steps, in this process, unless it is finished; a cut-off one is resumed.

    Raises:
        ValueError: If its folder holds another training.
    """
    one = Training(point, point.folder(root, 0), point.request(0, QUICK_STEPS))
    if state_of(one.folder, one.request) != FINISHED:
        train_here(one)


@dataclass(frozen=True, eq=False)
class Measured:
    """Schemes on the same episodes of one environment.

    Attributes:
        evaluation: Of every contender and of the oracle.
        schemes: By name.
        scenario: Of the environment.
    """

    evaluation: Evaluation
    schemes: Mapping[str, Scheme]
    scenario: Scenario

    def sample(self, name: str, measure: str) -> Sample:
        """One measure of a scheme or of an oracle.

        Args:
            name: Of a scheme, or of a record of the evaluation.
            measure: ``weighted_ll``, ``objective`` or an array of :class:`~noma_semcom_agents.evaluation.Record`.
        """
        if name not in self.schemes:
            return Sample(self._of(self.evaluation.records[name], measure)[None])
        scheme = self.schemes[name]
        rows = [self._of(self.evaluation.records[one.name], measure) for one in scheme.contenders.values()]
        return Sample(np.stack(rows), scheme.seeds)

    def regret(self, name: str) -> Interval:
        """Regret to the oracle over unpruned features, as a share of its objective."""
        best = self.evaluation.objective.mean(axis=1)
        return regret_interval(self.sample(name, "objective").values - best, best)

    def _of(self, record: Record, measure: str) -> np.ndarray:
        one = self.scenario
        if measure == "objective":
            values = -record.reward
        elif measure == "weighted_ll":
            latency = np.minimum(record.latency_s, one.latency_cap_s) / one.reference_s
            values = one.lpips_weight * record.lpips + (1.0 - one.lpips_weight) * latency
        else:
            values = getattr(record, measure)
        result: np.ndarray = values.mean(axis=1)
        return result


def measure(schemes: Sequence[Scheme], knobs: Knobs, episodes: int, seed: int = EVALUATION_SEED) -> Measured:
    """Let schemes act in the same episodes.

    Args:
        schemes: With names of their own.
        knobs: Of the environment, the image set among them.
        episodes: Number of episodes.
        seed: Episode i is drawn from seed + i.
    """
    contenders = [one for scheme in schemes for one in scheme.contenders.values()]
    evaluation = evaluate(contenders, knobs, episodes, seed)
    return Measured(evaluation, {one.name: one for one in schemes}, settle(Scenario.of(None, knobs)))


def luck_of_the_draw(knobs: Knobs, episodes: int, seed: int = EVALUATION_SEED) -> Sample:
    """How much harder than the image set the images are that episodes drew, in LPIPS.

    An image counts by its mean LPIPS over all subsets of its features, which the table knows exactly, so that the
    expectation of what is returned is 0. Numbers of users are compared over other draws of images; less this, their
    LPIPS has the same mean and a fraction of the variance (a control variate with coefficient 1).

    Args:
        knobs: Of the environment, the image set among them.
        episodes: E.
        seed: Episode i is drawn from seed + i.

    Returns:
        Of one row, averaged over users and steps as LPIPS is.
    """
    by_image = np.nanmean(full_table(knobs)[1], axis=1)
    _, faced = rollout(Contender(NoSelection()), knobs, episodes, seed)
    return Sample((by_image[faced["image_index"]].mean(axis=(1, 2)) - by_image.mean())[None])


@dataclass(frozen=True, eq=False)
class Uplinks:
    """What each user of one contender did in E episodes of T steps.

    Attributes:
        share: (E, T, K) selected of the features that the user's image has.
        place: (E, T, K) int, position in the decoding order, 0 the first decoded; silent users are last.
        sends: (E, T, K) bool, whether the user sends anything.
        order: (E, T, K) int, users as decoded.
        image_index: (E, T, K) int.
        subset: (E, T, K) int, number of the selected subset.
    """

    share: np.ndarray
    place: np.ndarray
    sends: np.ndarray
    order: np.ndarray
    image_index: np.ndarray
    subset: np.ndarray


def uplinks(contender: Contender, knobs: Knobs, episodes: int, seed: int = EVALUATION_SEED) -> Uplinks:
    """Let a contender act, and keep what each user did.

    Args:
        contender: Who acts.
        knobs: Of the environment.
        episodes: E.
        seed: Episode i is drawn from seed + i.
    """
    env: Any = gym.make_vec(
        ENVIRONMENT, num_envs=episodes, vectorization_mode="vector_entry_point", **{**knobs, **contender.knobs}
    )
    steps: list[dict[str, np.ndarray]] = []
    try:
        dynamics, rng = env.unwrapped.dynamics, np.random.default_rng(seed)
        observation, info = env.reset(seed=seed)
        for _ in range(dynamics.scenario.episode_length):
            action = contender.policy.act(observation, info, rng)
            observation, _, _, _, info = env.step(action)
            images, selection = info["privileged"]["image_index"], info["selection"]
            order = np.array(info["decoding_order"])
            steps.append(
                {
                    "share": selection.sum(axis=2) / dynamics.bank.exists[images].sum(axis=2),
                    "place": np.argsort(order, axis=1),
                    "sends": selection.any(axis=2),
                    "order": order,
                    "image_index": np.array(images),
                    "subset": subset_numbers(selection),
                }
            )
    finally:
        env.close()
    return Uplinks(**{name: np.stack([step[name] for step in steps], axis=1) for name in steps[0]})


def uplinks_of(scheme: Scheme, knobs: Knobs, episodes: int) -> list[Uplinks]:
    """:func:`uplinks` of each run of a scheme."""
    return [uplinks(one, knobs, episodes) for one in scheme.contenders.values()]


def sample_of(scheme: Scheme, values: Sequence[np.ndarray]) -> Sample:
    """Sample of (E, ...) arrays, one a run, their means over all axes but the first."""
    return Sample(np.stack([one.reshape(len(one), -1).mean(axis=1) for one in values]), scheme.seeds)


def conditional_mean(values: Sequence[np.ndarray], where: Sequence[np.ndarray]) -> Interval:
    """Interquartile mean over runs of the mean over those steps where something holds.

    Args:
        values: (E, T) of each run.
        where: (E, T) bool of each run.

    Returns:
        With its interval over runs and episodes; NaN if it holds nowhere in some run.
    """
    total = np.stack([(one * mask).sum(axis=1) for one, mask in zip(values, where, strict=True)])
    count = np.stack([mask.sum(axis=1) for mask in where])

    def statistic(run: np.ndarray, episode: np.ndarray) -> np.ndarray:
        chosen = (run[..., :, None], episode[..., None, :])
        number = count[chosen].sum(axis=-1)
        means = total[chosen].sum(axis=-1) / np.maximum(number, 1)
        return interquartile_mean(np.where(number > 0, means, np.nan))

    runs, episodes = total.shape
    return crossed_interval(statistic, runs, episodes, seed=0)
