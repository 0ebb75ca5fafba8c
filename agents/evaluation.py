"""Evaluation with common random numbers: every policy meets the same images, positions and channels, step by step.

An episode's draws do not depend on what a policy does, so policies are compared episode by episode. Intervals are
95 % bootstrap intervals over episodes; a paired difference whose interval leaves out 0 is a win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import gymnasium as gym
import numpy as np

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.policies import Policy
from noma_semcom_agents.search import NotSearchable, Optimum, check_searchable

if TYPE_CHECKING:
    from noma_semcom_env.features import FeatureBank
    from noma_semcom_env.scenario import Scenario

ENVIRONMENT: Final = "NomaSemCom-v0"
RESAMPLES: Final = 2000
CONFIDENCE: Final = 0.95
ORACLES: Final = ("Oracle", "Oracle (pruned)")
FAIR_KNOBS: Final = frozenset(
    {"importance", "observation", "prune", "text_threshold", "transmission", "visual_threshold"}
)
"""What contenders may differ in: neither what is drawn nor what it is worth."""

_EPISODES_AT_ONCE: Final = 256

Knobs = Mapping[str, Any]
"""Keywords of the environment, fields of Scenario."""


@dataclass(frozen=True)
class Contender:
    """A policy and the conditions that it is meant for.

    Attributes:
        policy: What acts.
        knobs: Scenario fields in which its environment differs, of :data:`FAIR_KNOBS` alone.
        label: How tables call it; empty is the policy's own name.
    """

    policy: Policy
    knobs: Knobs = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """The label, or the policy's name."""
        return self.label or self.policy.name


@dataclass(frozen=True)
class Record:
    """What happened in E episodes of T steps; every array is (E, T).

    Attributes:
        name: Who acted.
        reward: Reward of the step.
        lpips: Mean over the users.
        latency_s: Latency, at most the maximal latency where a demand cannot be delivered.
        share: Selected features of all features that the users' images have, pruned ones included.
        violations: 1 where the latency exceeded its maximum.
    """

    name: str
    reward: np.ndarray
    lpips: np.ndarray
    latency_s: np.ndarray
    share: np.ndarray
    violations: np.ndarray


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True)
class Evaluation:
    """Records of every contender and of the oracle over the same episodes.

    Attributes:
        records: By name, the contenders in their order, then ``Oracle`` and ``Oracle (pruned)`` if there is one.
        objective: (E, T) the oracle's objective over unpruned features, the reference of every regret; NaN without one.
        seed: Seed of the bootstrap.
        no_oracle: Why there is no oracle; empty if there is one.
    """

    records: dict[str, Record]
    objective: np.ndarray
    seed: int
    no_oracle: str = ""

    def summary(self, name: str) -> dict[str, Interval]:
        """Means, the latency's 95th percentile and the regret of one record.

        Returns:
            ``reward``, ``lpips``, ``latency_s``, ``latency_95_s``, ``share``, ``violations`` and ``regret``; the regret
            is the mean objective above the oracle's, as a share of the oracle's, and NaN if there is no oracle.
        """
        return self._summaries[name]

    @cached_property
    def _summaries(self) -> dict[str, dict[str, Interval]]:
        return {name: self._summarize(record) for name, record in self.records.items()}

    def _summarize(self, one: Record) -> dict[str, Interval]:
        statistics: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            key: _mean_of(getattr(one, key)) for key in ("reward", "lpips", "latency_s", "share", "violations")
        }
        statistics["latency_95_s"] = lambda rows: np.quantile(one.latency_s[rows], 0.95, axis=(-2, -1))
        missed = (-one.reward - self.objective).mean(axis=1)
        best = self.objective.mean(axis=1)
        with_value = best.any()  # an objective of 0, as lpips_weight=0 allows, has no shares
        statistics["regret"] = lambda rows: missed[rows].mean(-1) / (best[rows].mean(-1) if with_value else np.nan)
        return {key: self._interval(statistic) for key, statistic in statistics.items()}

    def difference(self, name: str, other: str) -> Interval:
        """Mean reward of ``name`` minus that of ``other``, paired by episode."""
        return self._interval(_mean_of(self.records[name].reward - self.records[other].reward))

    def _interval(self, statistic: Callable[[np.ndarray], np.ndarray]) -> Interval:
        """Bootstrap over episodes of a statistic that takes row numbers (..., E)."""
        try:
            from scipy.stats import bootstrap
        except ImportError as error:
            raise ImportError("intervals need scipy: pip install 'noma-semcom-env[cli]'") from error

        rows = np.arange(len(self.objective))
        value = float(statistic(rows))
        if np.isnan(value):
            return Interval(np.nan, np.nan, np.nan)
        if len(rows) == 1:
            return Interval(value, -np.inf, np.inf)
        result = bootstrap(
            (rows,),
            lambda index, axis=-1: statistic(np.moveaxis(index, axis, -1).astype(np.int64)),
            n_resamples=RESAMPLES,
            batch=100,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(self.seed),
        )
        return Interval(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def evaluate(contenders: Sequence[Contender], knobs: Knobs, episodes: int, seed: int) -> Evaluation:
    """Let every contender act in the same episodes, and solve each step exactly beside them where an oracle exists.

    Args:
        contenders: Who acts.
        knobs: Scenario fields common to all, the image set among them.
        episodes: E, at least 1.
        seed: Episode i is drawn from seed + i.

    Raises:
        ValueError: If there is no contender or no episode, two have one name, or one's knobs change the task.
    """
    if not contenders:
        raise ValueError("contenders is empty; at least one is needed")
    names = [one.name for one in contenders]
    if len({*names, *ORACLES}) < len(names) + len(ORACLES):
        raise ValueError(f"contenders have names {names}; each needs its own (give a label), none of {ORACLES}")
    for one in contenders:
        unfair = sorted(set(one.knobs) - FAIR_KNOBS)
        if unfair:
            raise ValueError(
                f"knobs {dict(one.knobs)} of {one.name!r} replace {', '.join(unfair)}, which would change the task or "
                f"its value; a contender may replace {', '.join(sorted(FAIR_KNOBS))} alone"
            )
    records: dict[str, Record] = {}
    faced: dict[str, np.ndarray] = {}
    for one in contenders:
        records[one.name], seen = rollout(one, knobs, episodes, seed)
        faced = faced or seen
        if any(not np.array_equal(faced[key], seen[key]) for key in faced):
            raise ValueError(f"{one.name!r} met other draws than {names[0]!r}; comparing would be unfair")
    shape = records[names[0]].reward.shape
    try:
        oracles = [make_oracle(knobs, pruned) for pruned in (False, True)]
    except NotSearchable as error:
        return Evaluation(records, np.full(shape, np.nan), seed, no_oracle=str(error))
    for oracle in oracles:
        solved = oracle.solve({key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()})
        records[oracle.name] = oracle_record(oracle, solved, faced["image_index"], shape)
    return Evaluation(records, -records["Oracle"].reward, seed)


def rollout(contender: Contender, knobs: Knobs, episodes: int, seed: int) -> tuple[Record, dict[str, np.ndarray]]:
    """E episodes of one contender.

    Returns:
        The record, and what the steps were faced with: (E, T, ...) arrays of ``info["privileged"]`` for the oracle.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes!r} must be at least 1")
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, episodes, _EPISODES_AT_ONCE):
        count = min(_EPISODES_AT_ONCE, episodes - start)
        parts.append(_rollout(contender, knobs, count, seed + start))
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    faced = {key: whole.pop(key) for key in Oracle.READS}
    return Record(contender.name, **whole), faced


def make_oracle(knobs: Knobs, pruned: bool = False, near_first: bool = False) -> Oracle:
    """The oracle of an environment with these keywords; the other arguments are those of :class:`Oracle`.

    Raises:
        NotSearchable: If the environment's recovery is no full table, or the search does not cover its scenario.
    """
    scenario, lpips, bank = full_table(knobs)
    return Oracle(scenario, lpips, bank, pruned, near_first)


def check_oracle(knobs: Knobs) -> None:
    """Refuse keywords of an environment that no oracle knows.

    Raises:
        NotSearchable: If there is none.
    """
    check_searchable(full_table(knobs)[0])


def full_table(knobs: Knobs) -> tuple[Scenario, np.ndarray, FeatureBank]:
    """Scenario, LPIPS (I, 2**F) of every subset, and features of the images of an environment with these keywords.

    Raises:
        NotSearchable: If the environment's recovery is no full table.
    """
    env = gym.make(ENVIRONMENT, **knobs)
    dynamics: Any = env.unwrapped.dynamics  # type: ignore[attr-defined]
    env.close()
    if not getattr(dynamics.recovery, "is_full", hasattr(dynamics.recovery, "mean")):
        raise NotSearchable("the LPIPS of every subset is needed; use recovery='table' and a full table")
    return dynamics.scenario, dynamics.recovery.mean, dynamics.bank


def _rollout(contender: Contender, knobs: Knobs, count: int, seed: int) -> dict[str, np.ndarray]:
    env: Any = gym.make_vec(
        ENVIRONMENT, num_envs=count, vectorization_mode="vector_entry_point", **{**knobs, **contender.knobs}
    )
    steps: list[dict[str, np.ndarray]] = []
    try:
        dynamics = env.unwrapped.dynamics
        rng = np.random.default_rng([seed, count])
        observation, info = env.reset(seed=seed)
        for _ in range(dynamics.scenario.episode_length):
            action = contender.policy.act(observation, info, rng)
            observation, reward, _, _, info = env.step(action)
            faced = info["privileged"]
            existing = dynamics.recovery.bank.exists[faced["image_index"]].sum(axis=(1, 2))
            steps.append(
                {
                    "reward": np.array(reward),
                    "lpips": info["lpips"].mean(axis=1),
                    "latency_s": np.array(info["latency_s"]),
                    "share": info["selection"].sum(axis=(1, 2)) / existing,
                    "violations": np.array(info["violations"]),
                    **{key: np.array(faced[key]) for key in Oracle.READS},
                }
            )
    finally:
        env.close()
    return {key: np.stack([step[key] for step in steps], axis=1) for key in steps[0]}


def oracle_record(oracle: Oracle, solved: Optimum, images: np.ndarray, shape: tuple[int, ...]) -> Record:
    """What an oracle's optima come to, as a policy's record.

    Args:
        oracle: Who solved.
        solved: Optima of the steps.
        images: Image index of each step and user, leading axes ``shape``.
        shape: (episodes, steps).
    """
    existing = oracle.exists[images].sum(axis=(-2, -1))
    late = solved.latency_s > oracle.scenario.latency_cap_s
    return Record(
        name=oracle.name,
        reward=-solved.objective.reshape(shape),
        lpips=solved.lpips.mean(axis=1).reshape(shape),
        latency_s=np.where(np.isfinite(solved.latency_s), solved.latency_s, oracle.scenario.latency_cap_s).reshape(
            shape
        ),
        share=solved.selection.sum(axis=(1, 2)).reshape(shape) / existing,
        violations=late.astype(np.int64).reshape(shape),
    )


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Mean over steps and over the episodes that row numbers (..., E) pick."""
    by_episode = values.mean(axis=1)
    return lambda rows: by_episode[rows].mean(axis=-1)
