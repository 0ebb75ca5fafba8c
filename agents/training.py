"""Training with a progress line: reward, regret to the oracle on fixed validation episodes, time left.

A training that was cut off, by SIGKILL as well, goes on from its last checkpoint. Checkpoints hold the learning curve
up to them and take their name when they are complete. With each the policy alone is renewed, a file without pickles.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Contender, Knobs, make_oracle, rollout
from noma_semcom_agents.learned import LearnedPolicy
from noma_semcom_agents.policies import Policy
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_agents.search import NotSearchable
from noma_semcom_env.actions import MODEL_FREE

if TYPE_CHECKING:
    from ray.rllib.algorithms.ppo import PPO
    from rich.console import Console

    from noma_semcom_agents.imppo import AgentConfig

CHECKPOINT: Final = "checkpoint"
CURVE: Final = "learning_curve.csv"
EVENTS: Final = "tensorboard"
POLICY: Final = "policy.npz"
LOOK_EVERY: Final = 8192
"""Environment steps between two looks at the greedy policy."""
PROGRESS: Final = "progress.json"
"""In a checkpoint: the steps and seconds that it was written after."""
ANNEALED: Final = {"lr": 0.05, "critic_lr": 0.05, "entropy_coeff": 0.0}
"""Settings that fall over a training, to the share of them that is left at its end."""
_SAMPLED: Final = {
    "reward": "step_reward",
    "lpips": "lpips",
    "latency_s": "latency_s",
    "selection_share": "selection_share",
}
"""Fields of a curve's point that tell of the sampling, and what the callback calls them."""
_LEARNED: Final = ("entropy", "policy_loss", "vf_loss", "vf_explained_var", "mean_kl_loss")
_LINE_EVERY_S: Final = 10.0
"""Time between two lines of progress where they go to a file, not a terminal."""


@dataclass(frozen=True)
class CurvePoint:
    """One look at a training.

    Attributes:
        steps: Environment steps so far.
        seconds: Time since the first step.
        reward: Mean reward of a step while sampling, actions drawn by chance; NaN before the first one.
        validation_reward: Mean reward of the greedy policy on the validation episodes.
        regret: The greedy policy's mean objective above the oracle's there, as a share of the oracle's; NaN where no
            oracle exists.
        lpips: Mean LPIPS while sampling; NaN before the first one.
        latency_s: Mean latency while sampling; NaN before the first one.
        selection_share: Share of the existing features that were sent while sampling; NaN before the first one.
    """

    steps: int
    seconds: float
    reward: float
    validation_reward: float
    regret: float
    lpips: float
    latency_s: float
    selection_share: float


@dataclass(frozen=True)
class Training:
    """What a training left.

    Attributes:
        policy: The trained policy, greedy.
        curve: From before the first update to the end.
        checkpoint: Folder to load the policy from, or to go on training; beside it lies the policy alone.
        validation: What the curve was measured on.
    """

    policy: LearnedPolicy
    curve: tuple[CurvePoint, ...]
    checkpoint: Path
    validation: Validation


class Validation:
    """A fixed set of validation episodes with the oracle's reward on them.

    Args:
        knobs: Scenario fields of the training; the image set is replaced, and images that it fixes are drawn.
        images: Image set to validate on.
        episodes: Number of episodes.
        length: Steps an episode; images and positions stay within one, so few steps of many episodes tell more.
        seed: Episode i is drawn from seed + i.
    """

    def __init__(
        self,
        knobs: Knobs,
        images: str = "street-validation",
        episodes: int = 128,
        length: int = 2,
        seed: int = 1_000_000,
    ) -> None:
        self.knobs = {**knobs, "images": images, "episode_length": length, "image_ids": None}
        self.episodes, self.seed = episodes, seed
        self._best: float | None = None

    def reward(self, policy: Policy, knobs: Knobs | None = None) -> float:
        """Mean reward of a policy, in an environment with ``knobs`` replaced."""
        return float(rollout(Contender(policy, knobs or {}), self.knobs, self.episodes, self.seed)[0].reward.mean())

    @property
    def best(self) -> float:
        """The oracle's mean reward; NaN where no oracle exists."""
        if self._best is None:
            from noma_semcom_agents.schemes import NoSelection

            try:
                oracle = make_oracle(self.knobs)
            except NotSearchable:
                self._best = np.nan
                return self._best
            # What is drawn does not depend on who solves the transmission; this policy gives neither beams nor order.
            solved = {"transmission": "optimal"} if self.knobs.get("transmission") == MODEL_FREE else {}
            _, faced = rollout(Contender(NoSelection(), solved), self.knobs, self.episodes, self.seed)
            steps = {key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()}
            self._best = -float(oracle.solve(steps).objective.mean())
        return self._best

    def regret(self, reward: float) -> float:
        """How far a mean reward stays behind the oracle's, as a share of its objective; NaN if that is 0 or unknown."""
        return (self.best - reward) / -self.best if self.best else np.nan


def start_ray(num_cpus: int | None = None) -> None:
    """Start Ray on this machine without its dashboard and its notices; does nothing if it runs already.

    Args:
        num_cpus: Processors that Ray may count on; None is all.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray

    if not ray.is_initialized():
        ray.init(
            address="local",
            num_cpus=num_cpus or os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        # RLlib repeats at each start that its new API stack is in use.
        logging.getLogger("ray.rllib").setLevel(logging.ERROR)


def train(
    config: AgentConfig,
    output: str | Path,
    steps: int,
    seconds: float | None = None,
    validation: Validation | None = None,
    progress: bool = True,
    look_every: int = LOOK_EVERY,
    resume: bool = False,
    save_every_s: float = 30.0,
    on_start: Callable[[], None] | None = None,
) -> Training:
    """Train, look at the greedy policy now and then, and leave checkpoint, policy, learning curve and event files.

    Rates and the entropy coefficient fall over ``steps``, see :func:`anneal`. Interrupted by Ctrl-C, a training ends
    there as if it had come to its end.

    Args:
        config: The algorithm's settings; equal seeds give equal results as long as ``steps`` ends the training and
            nothing interrupts it.
        output: Folder for ``checkpoint/``, ``policy.npz``, ``learning_curve.csv`` and ``tensorboard/``.
        steps: Environment steps, at least 1.
        seconds: Ends the training earlier; None sets no limit. A resumed training counts those before as well.
        validation: What to measure on; None is the default one of the training's scenario, its id's knobs included.
        progress: Whether to draw a progress line on the terminal.
        look_every: Environment steps between two looks, at least 1.
        resume: Goes on from the folder's last checkpoint, which a training with the same settings must have left.
        save_every_s: Least time between two checkpoints.
        on_start: Called before anything is written, once the algorithm is built and restored: what a configuration
            is refused for has been refused by then.

    Raises:
        FileNotFoundError: If there is no checkpoint to resume from.
        ValueError: If ``steps``, ``seconds``, ``look_every`` or ``save_every_s`` is out of range.
    """
    for name, value in (("steps", steps), ("look_every", look_every)):
        if value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    if seconds is not None and seconds <= 0.0:
        raise ValueError(f"seconds={seconds!r} must be positive, or None for no limit")
    if save_every_s < 0.0:
        raise ValueError(f"save_every_s={save_every_s!r} must be at least 0")
    folder = Path(output).resolve()
    checkpoint = find_checkpoint(folder) if resume else None
    if resume and checkpoint is None:
        raise FileNotFoundError(f"{folder} holds no {CHECKPOINT}; there is nothing to resume")
    validation = validation or Validation({**knobs_of(config.env), **config.env_config})
    start_ray()
    algorithm = anneal(config, steps).build_algo()
    try:
        if checkpoint is not None:
            algorithm.restore_from_path(str(checkpoint))
        if on_start is not None:
            on_start()
        folder.mkdir(parents=True, exist_ok=True)
        course = _Course(algorithm, folder, validation, steps, seconds, look_every, save_every_s, config.title)
        course.run(checkpoint, progress)
    finally:
        algorithm.stop()
    return Training(LearnedPolicy.load(folder / POLICY), tuple(course.curve), folder / CHECKPOINT, validation)


def anneal(config: AgentConfig, steps: int) -> AgentConfig:
    """A copy whose constant learning rates and entropy coefficient fall linearly over ``steps``.

    Rates fall to a twentieth, the coefficient to nothing; what is a schedule already is left as it is.
    """
    copy: Any = config.copy(copy_frozen=False)
    for name, left in ANNEALED.items():
        value = getattr(copy, name)
        if isinstance(value, int | float):
            setattr(copy, name, [[0, float(value)], [steps, left * float(value)]])
    result: AgentConfig = copy
    return result


def knobs_of(environment: str) -> dict[str, Any]:
    """The scenario fields in which a registered id differs from the default scenario."""
    from noma_semcom_env import ENVIRONMENTS

    name = environment.rpartition(":")[2]
    return next((dict(row.knobs) for row in ENVIRONMENTS if row.id == name), {})


def save_checkpoint(
    algorithm: PPO, policy: LearnedPolicy, folder: Path, curve: Sequence[CurvePoint], steps: int, seconds: float
) -> None:
    """Write ``checkpoint/`` beside the last one, and put it in that one's place when it is complete.

    Args:
        algorithm: What to save.
        policy: The same as it acts, for ``policy.npz``, which is there whenever a checkpoint is.
        folder: Of the training.
        curve: So far.
        steps: So far.
        seconds: So far.
    """
    part, last, old = (folder / f"{CHECKPOINT}{suffix}" for suffix in (".part", "", ".old"))
    shutil.rmtree(part, ignore_errors=True)
    algorithm.save_to_path(str(part))
    write_rows([asdict(point) for point in curve], part / CURVE)
    (part / PROGRESS).write_text(json.dumps({"steps": steps, "seconds": seconds}))
    policy.save(folder / POLICY)
    if last.exists():
        shutil.rmtree(old, ignore_errors=True)
        last.rename(old)
    part.rename(last)
    shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint of a training; one that was cut off while it was replaced is put back."""
    last, old = folder / CHECKPOINT, folder / f"{CHECKPOINT}.old"
    if not last.exists() and old.exists():
        old.rename(last)
    return last if (last / PROGRESS).is_file() else None


def read_points(path: Path) -> list[CurvePoint]:
    """A learning curve as :func:`train` wrote it."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {one.name: int if one.name == "steps" else float for one in fields(CurvePoint)}
    values: list[dict[str, Any]] = [{name: kind(row[name]) for name, kind in kinds.items()} for row in rows]
    return [CurvePoint(**one) for one in values]


@dataclass
class _Course:
    """The course of one training: iterations, looks, checkpoints, and what is said of them."""

    algorithm: PPO
    folder: Path
    validation: Validation
    steps: int
    seconds: float | None
    look_every: int
    save_every_s: float
    title: str

    def run(self, checkpoint: Path | None, progress: bool) -> None:
        """Train to the end, from the beginning or from a checkpoint that the algorithm has been restored to."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from tensorboardX import SummaryWriter

        console, self.policy = make_console(), LearnedPolicy(self.algorithm.get_module(), self.title)
        self.curve, self.done, before = list[CurvePoint](), 0, 0.0
        if checkpoint is not None:
            reached = json.loads((checkpoint / PROGRESS).read_text())
            self.curve, self.done, before = read_points(checkpoint / CURVE), reached["steps"], reached["seconds"]
        columns = (TextColumn(self.title), BarColumn(), TextColumn("{task.fields[line]}"), TimeElapsedColumn())
        bar = Progress(*columns, console=console, disable=not (progress and console.is_terminal))
        # Events of steps that were taken after the last checkpoint, and are now taken again, are dropped.
        purge = self.done + 1 if checkpoint is not None else None
        self.events = SummaryWriter(str(self.folder / EVENTS), purge_step=purge)
        self.start = time.perf_counter() - before
        with self.events, bar:
            if not self.curve:
                self._look({})
            task = bar.add_task("", total=1.0, line="")
            try:
                self._iterate(lambda share, line: bar.update(task, completed=share, line=line), progress, console)
            except KeyboardInterrupt:
                console.print("Interrupted; what was learned so far is kept.")
                if self.curve[-1].steps < self.done:
                    self._look({})
            self._save()

    def _iterate(self, show: Callable[[float, str], None], progress: bool, console: Console) -> None:
        saved, said = time.perf_counter(), 0.0
        while (share := self._share) < 1.0:
            results = self.algorithm.train()
            self.done = int(results["env_runners"]["num_env_steps_sampled_lifetime"])
            share = self._share
            if share >= 1.0 or self.done // self.look_every > self.curve[-1].steps // self.look_every:
                self._look(results)
            now, left = self.curve[-1], round(max(0.0, self._spent / share - self._spent))
            line = f"{self.done} steps  reward {now.validation_reward:.4f}"
            line += "" if np.isnan(now.regret) else f"  regret {now.regret:.1%}"
            line += f"  {left // 60}:{left % 60:02d} left"
            show(min(share, 1.0), line)
            clock = time.perf_counter()
            if progress and not console.is_terminal and (share >= 1.0 or clock - said >= _LINE_EVERY_S):
                console.print(f"{self.title}  {line}")
                said = clock
            if share < 1.0 and clock - saved >= self.save_every_s:
                self._save()
                saved = time.perf_counter()

    def _save(self) -> None:
        save_checkpoint(self.algorithm, self.policy, self.folder, self.curve, self.done, self._spent)

    @property
    def _spent(self) -> float:
        return time.perf_counter() - self.start

    @property
    def _share(self) -> float:
        """Of the training that is done; 1 or more is its end."""
        return max(self.done / self.steps, self._spent / self.seconds if self.seconds else 0.0)

    def _look(self, results: Mapping[str, Any]) -> None:
        """Add a point to the curve, and write it."""
        reward, sampled = self.validation.reward(self.policy), results.get("env_runners", {})
        told = {name: float(sampled.get(key, np.nan)) for name, key in _SAMPLED.items()}
        point = CurvePoint(
            steps=self.done,
            seconds=self._spent,
            validation_reward=reward,
            regret=self.validation.regret(reward),
            **told,
        )
        self.curve.append(point)
        write_rows([asdict(one) for one in self.curve], self.folder / CURVE)
        learned = results.get("learners", {}).get("default_policy", {})
        scalars = {f"validation/{name}": getattr(point, name) for name in ("validation_reward", "regret")}
        scalars |= {f"sampled/{name}": value for name, value in told.items()}
        scalars |= {"sampled/oracle_regret": sampled.get("oracle_regret", np.nan)}
        scalars |= {f"learner/{name}": learned.get(name, np.nan) for name in _LEARNED}
        for name, value in scalars.items():
            if np.isfinite(float(value)):
                self.events.add_scalar(name, float(value), self.done)
        self.events.flush()
