"""Training with a progress line: reward, regret to the oracle on fixed validation episodes, time left."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Contender, Knobs, make_oracle, rollout
from noma_semcom_agents.learned import LearnedPolicy
from noma_semcom_agents.policies import Policy
from noma_semcom_agents.report import make_console, write_rows

if TYPE_CHECKING:
    from noma_semcom_agents.imppo import IMPPO, IMPPOConfig

CHECKPOINT: Final = "checkpoint"
CURVE: Final = "learning_curve.csv"
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
        regret: The greedy policy's mean objective above the oracle's there, as a share of the oracle's.
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
        checkpoint: Folder to load the policy from, or to go on training.
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
        """The oracle's mean reward."""
        if self._best is None:
            from noma_semcom_agents.schemes import NoSelection

            _, faced = rollout(Contender(NoSelection()), self.knobs, self.episodes, self.seed)
            steps = {key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()}
            self._best = -float(make_oracle(self.knobs).solve(steps).objective.mean())
        return self._best

    def regret(self, reward: float) -> float:
        """How far a mean reward stays behind the oracle's, as a share of the oracle's objective; NaN if that is 0."""
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
    config: IMPPOConfig,
    output: str | Path,
    steps: int,
    seconds: float | None = None,
    validation: Validation | None = None,
    progress: bool = True,
    look_every_s: float = 2.0,
) -> Training:
    """Train, look at the greedy policy now and then, and leave a checkpoint and the learning curve.

    Learning rates that are plain numbers fall to a tenth of themselves over ``steps``. Interrupted by Ctrl-C, a
    training ends there as if it had come to its end.

    Args:
        config: The algorithm's settings; equal seeds give equal results as long as ``steps`` ends the training.
        output: Folder for ``checkpoint/`` and ``learning_curve.csv``.
        steps: Environment steps, at least 1.
        seconds: Ends the training earlier; None sets no limit.
        validation: What to measure on; None is the default one of the training's scenario, its id's knobs included.
        progress: Whether to draw a progress line on the terminal.
        look_every_s: Least time between two looks; they cost a few per cent of the time.

    Raises:
        ValueError: If ``steps`` or ``seconds`` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps={steps!r} must be at least 1")
    if seconds is not None and seconds <= 0.0:
        raise ValueError(f"seconds={seconds!r} must be positive, or None for no limit")
    folder = Path(output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    validation = validation or Validation({**knobs_of(config.env), **config.env_config})
    start_ray()
    algorithm = anneal(config, steps).build_algo()
    try:
        curve = _learn(algorithm, steps, seconds, validation, progress, look_every_s)
        checkpoint = folder / CHECKPOINT
        algorithm.save_to_path(str(checkpoint))
    finally:
        algorithm.stop()
    write_rows([asdict(point) for point in curve], folder / CURVE)
    return Training(LearnedPolicy.from_checkpoint(checkpoint), curve, checkpoint, validation)


def anneal(config: IMPPOConfig, steps: int) -> IMPPOConfig:
    """A copy whose constant learning rates fall linearly to a tenth over ``steps``; schedules are left as they are."""
    copy: Any = config.copy(copy_frozen=False)
    for name in ("lr", "critic_lr"):
        rate = getattr(copy, name)
        if isinstance(rate, int | float):
            setattr(copy, name, [[0, float(rate)], [steps, 0.1 * float(rate)]])
    result: IMPPOConfig = copy
    return result


def knobs_of(environment: str) -> dict[str, Any]:
    """The scenario fields in which a registered id differs from the default scenario."""
    from noma_semcom_env import ENVIRONMENTS

    name = environment.rpartition(":")[2]
    return next((dict(row.knobs) for row in ENVIRONMENTS if row.id == name), {})


def _learn(
    algorithm: IMPPO,
    steps: int,
    seconds: float | None,
    validation: Validation,
    progress: bool,
    look_every_s: float,
) -> tuple[CurvePoint, ...]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console, policy = make_console(), LearnedPolicy(algorithm.get_module())
    columns = (TextColumn("IM-PPO"), BarColumn(), TextColumn("{task.fields[line]}"), TimeElapsedColumn())
    done, last_look, last_line, sampled = 0, 0.0, 0.0, dict[str, Any]()
    with Progress(*columns, console=console, disable=not (progress and console.is_terminal)) as bar:
        start = time.perf_counter()
        curve = [_look(policy, validation, 0, 0.0, {})]
        task = bar.add_task("", total=1.0, line="")
        try:
            while True:
                sampled = algorithm.train()["env_runners"]
                done = int(sampled["num_env_steps_sampled_lifetime"])
                spent = time.perf_counter() - start
                share = max(done / steps, spent / seconds if seconds else 0.0)
                finished = share >= 1.0
                if finished or spent - last_look >= look_every_s:
                    curve.append(_look(policy, validation, done, spent, sampled))
                    last_look = spent
                now, left = curve[-1], round(max(0.0, spent / share - spent))
                line = f"{done} steps  reward {now.validation_reward:.4f}  regret {now.regret:.1%}"
                line += f"  {left // 60}:{left % 60:02d} left"
                bar.update(task, completed=min(share, 1.0), line=line)
                if progress and not console.is_terminal and (finished or spent - last_line >= _LINE_EVERY_S):
                    console.print(f"IM-PPO  {line}")
                    last_line = spent
                if finished:
                    return tuple(curve)
        except KeyboardInterrupt:
            console.print("Interrupted; what was learned so far is kept.")
            if curve[-1].steps < done:
                curve.append(_look(policy, validation, done, time.perf_counter() - start, sampled))
            return tuple(curve)


def _look(
    policy: LearnedPolicy, validation: Validation, steps: int, seconds: float, sampled: Mapping[str, Any]
) -> CurvePoint:
    reward = validation.reward(policy)
    return CurvePoint(
        steps=steps,
        seconds=seconds,
        reward=float(sampled.get("step_reward", np.nan)),
        validation_reward=reward,
        regret=validation.regret(reward),
        lpips=float(sampled.get("lpips", np.nan)),
        latency_s=float(sampled.get("latency_s", np.nan)),
        selection_share=float(sampled.get("selection_share", np.nan)),
    )
