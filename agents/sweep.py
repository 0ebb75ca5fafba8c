"""A sweep with Ray Tune: many trials of one agent, the best of them left as a run; restored after it was cut off."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.provenance import git_state, versions, write_json
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_agents.roster import find_agent
from noma_semcom_agents.runs import RECORD, make_record
from noma_semcom_agents.sweep_plan import Plan
from noma_semcom_agents.trials import curve_rows, newest_checkpoint, request_of, trial_class

if TYPE_CHECKING:
    from ray.tune import ResultGrid
    from rich.console import Console

SWEEP: Final = "sweep.json"
RESULTS: Final = "results.csv"
TRIALS: Final = "trials"
BEST: Final = "best"
_REPORTED: Final = ("steps", "regret", "validation_reward", "reward", "lpips", "latency_s", "selection_share")
_LINE_EVERY_S: Final = 10.0
"""Time between two lines of progress."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep left.

    Attributes:
        folder: With ``results.csv``, ``sweep.json``, ``best/`` (a run, as ``noma-semcom train`` leaves one) and
            ``trials/`` (Tune's own folder).
        rows: A row a trial: what was searched, and what it reported last.
        best: The best trial's row; None if no trial reported anything.
    """

    folder: Path
    rows: Sequence[Mapping[str, Any]]
    best: Mapping[str, Any] | None


def run_sweep(plan: Plan, source: str, output: str | Path, resume: bool = False, progress: bool = True) -> Sweep:
    """Run a sweep, or take up one that was cut off. Ray must be running.

    Args:
        plan: What :func:`~noma_semcom_agents.sweep_plan.read_plan` read.
        source: The text of the file that it was read from, which a resumed sweep must share.
        output: Folder for the results.
        resume: Whether to go on: trials that ended stay, the others go on from their last checkpoints.
        progress: Whether to print lines of progress.

    Raises:
        FileExistsError: If the folder holds a sweep and ``resume`` is False.
        FileNotFoundError: If there is no sweep to resume.
        ValueError: If the sweep was begun with another file.
    """
    # Tune's own report repeats at length what ours says; Ray reads this when Tune is imported.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    from ray import tune

    folder = Path(output).resolve()
    check_folder(folder, source, resume)
    trial, space = trial_class(plan), param_space(plan)
    name = find_agent(plan.agent).title
    tune.register_trainable(name, trial)
    if not resume:
        folder.mkdir(parents=True, exist_ok=True)
        made = {"plan": asdict(plan), "digest": _digest(source), "versions": versions(), "git": git_state()}
        write_json({**made, "source": source}, folder / SWEEP)
    place = folder / TRIALS
    if resume and tune.Tuner.can_restore(str(place)):
        tuner = tune.Tuner.restore(str(place), name, param_space=space, resume_unfinished=True, restart_errored=True)
    else:
        tuner = tune.Tuner(
            name, param_space=space, tune_config=_tune_config(plan), run_config=_run_config(plan, folder, progress)
        )
    with warnings.catch_warnings():
        # A trial that PBT changes is started anew, since a configuration of RLlib is fixed once it is built.
        warnings.filterwarnings("ignore", message="Consider boosting PBT performance")
        grid = tuner.fit()
    rows = result_rows(plan, grid)
    write_rows(rows, folder / RESULTS)
    return Sweep(folder, rows, _keep_best(plan, grid, rows, folder))


def check_folder(folder: Path, source: str, resume: bool) -> None:
    """Refuse a folder that holds a sweep, or to resume where there is none or a different one.

    Raises:
        FileExistsError: If the folder holds a sweep and ``resume`` is False.
        FileNotFoundError: If there is no sweep to resume.
        ValueError: If the sweep was begun with another file.
    """
    record = folder / SWEEP
    if not resume:
        if record.exists():
            raise FileExistsError(f"{folder} holds a sweep already; go on with it by --resume, or name another folder")
        return
    if not record.is_file():
        raise FileNotFoundError(f"{folder} holds no {SWEEP}; there is no sweep to resume")
    if json.loads(record.read_text())["digest"] != _digest(source):
        raise ValueError(f"{folder} was begun with another file than this one; {SWEEP} there holds it as it was")


def param_space(plan: Plan) -> dict[str, Any]:
    """What Tune draws a trial's values from."""
    from ray import tune

    kinds = {
        "grid": tune.grid_search,
        "choice": tune.choice,
        "uniform": lambda ends: tune.uniform(*ends),
        "loguniform": lambda ends: tune.loguniform(*ends),
        "randint": lambda ends: tune.randint(*ends),
    }
    space = {}
    for name, one in plan.search.items():
        if isinstance(one, Mapping):
            ((kind, values),) = one.items()
            space[name] = kinds[kind](values)
        else:
            space[name] = one
    return space


def result_rows(plan: Plan, grid: ResultGrid) -> list[dict[str, Any]]:
    """A row a trial: number, what was searched, what it reported last, seconds, and how it ended."""
    rows = []
    for number, result in enumerate(grid):
        seen, values = result.metrics or {}, searched_values(result)
        rows.append({"trial": number, **{name: values.get(name) for name in plan.search}})
        rows[-1] |= {name: seen.get(name, np.nan) for name in _REPORTED}
        rows[-1] |= {"seconds": seen.get("time_total_s", np.nan), "failed": result.error is not None}
        rows[-1] |= {"folder": Path(result.path).name}
    return rows


def searched_values(result: Any) -> dict[str, Any]:
    """What was drawn for a trial: as it reported last or, of one that never did, as Tune wrote down at its start."""
    if result.metrics and "searched" in result.metrics:
        values: dict[str, Any] = result.metrics["searched"]
        return values
    written = Path(result.path, "params.json")
    return json.loads(written.read_text()) if written.is_file() else {}


def _tune_config(plan: Plan) -> Any:
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    return tune.TuneConfig(
        metric=plan.metric,
        mode=plan.mode,
        num_samples=plan.samples,
        scheduler=_make_scheduler(plan),
        search_alg=BasicVariantGenerator(random_state=plan.seed, max_concurrent=plan.concurrent or 0),
        time_budget_s=plan.seconds,
    )


def _make_scheduler(plan: Plan) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining

    options = plan.scheduler_options
    if plan.scheduler == "asha":
        return ASHAScheduler(
            time_attr="steps",
            max_t=plan.steps,
            grace_period=options.get("grace_steps", max(1, plan.steps // 9)),
            reduction_factor=options.get("reduction_factor", 3),
            brackets=options.get("brackets", 1),
        )
    if plan.scheduler == "pbt":
        return PopulationBasedTraining(
            time_attr="steps",
            perturbation_interval=options.get("perturb_steps", max(1, plan.steps // 10)),
            quantile_fraction=options.get("quantile", 0.25),
            resample_probability=options.get("resample_probability", 0.25),
            hyperparam_mutations=param_space(plan),
        )
    return FIFOScheduler()


def _run_config(plan: Plan, folder: Path, progress: bool) -> Any:
    from ray import tune

    # Others may still have to read a checkpoint of a trial that they take over.
    kept = 4 if plan.scheduler == "pbt" else 2
    return tune.RunConfig(
        name=TRIALS,
        storage_path=str(folder),
        stop={"steps": plan.steps},
        checkpoint_config=tune.CheckpointConfig(num_to_keep=kept, checkpoint_frequency=1, checkpoint_at_end=True),
        failure_config=tune.FailureConfig(max_failures=0),
        callbacks=[_progress_callback(plan)] if progress else [],
        verbose=0,
    )


def _progress_callback(plan: Plan) -> Any:
    """Prints every ten seconds how far the trials are, the best value so far, and the time left."""
    from ray import tune

    title, total = find_agent(plan.agent).title, plan.trials
    sign = 1.0 if plan.mode == "min" else -1.0

    class Progress(tune.Callback):
        def __init__(self) -> None:
            self.process, self.start, self.printed, self.begun = 0, 0.0, 0.0, 0.0

        def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
            now = time.monotonic()
            # Times of a process that was killed mean nothing to the one that restores this.
            if self.process != os.getpid():
                self.process, self.start, self.printed, self.begun = os.getpid(), now, now, _share_done(trials, plan)
            if now - self.printed >= _LINE_EVERY_S:
                self.printed = now
                self.say(trials, now)

        def say(self, trials: Any, now: float) -> None:
            over = sum(trial.is_finished() for trial in trials)
            running = sum(trial.status == "RUNNING" for trial in trials)
            seen = [
                (sign * trial.last_result[plan.metric], i)
                for i, trial in enumerate(trials)
                if np.isfinite((trial.last_result or {}).get(plan.metric, np.nan))
            ]
            line = f"{title}  {over} of {total} trials ended, {running} running"
            if seen:
                value, place = min(seen)
                line += f"  best {plan.metric} {sign * value:.4g} ({describe(plan, trials[place].config)})"
            share = _share_done(trials, plan)
            if share > self.begun:
                left = round((now - self.start) * (1.0 - share) / (share - self.begun))
                line += f"  {left // 60}:{left % 60:02d} left"
            make_console().print(line, soft_wrap=True, highlight=False)

    return Progress()


def _share_done(trials: Any, plan: Plan) -> float:
    done = sum(
        1.0 if trial.is_finished() else min(1.0, (trial.last_result or {}).get("steps", 0) / plan.steps)
        for trial in trials
    )
    return done / max(plan.trials, len(trials))


def describe(plan: Plan, values: Mapping[str, Any]) -> str:
    """Searched values of a trial in a few words."""
    words = []
    for name in plan.search:
        value = values.get(name)
        words.append(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}")
    return ", ".join(words)


def _keep_best(
    plan: Plan, grid: ResultGrid, rows: Sequence[Mapping[str, Any]], folder: Path
) -> Mapping[str, Any] | None:
    """Leave the best trial as a run, so that ``evaluate``, ``compare`` and ``transmit`` take it."""
    sign = 1.0 if plan.mode == "min" else -1.0
    known = [number for number, row in enumerate(rows) if np.isfinite(row[plan.metric])]
    if not known:
        return None
    number = min(known, key=lambda one: sign * rows[one][plan.metric])
    checkpoint = newest_checkpoint(grid[number])
    if checkpoint is not None:
        write_run(plan, rows[number], checkpoint, grid[number].metrics_dataframe, folder / BEST)
    return rows[number]


def write_run(plan: Plan, row: Mapping[str, Any], checkpoint: Path, progress: Any, folder: Path) -> None:
    """Leave one trial as a run of its own: checkpoint, learning curve and record.

    Args:
        plan: The sweep.
        row: Of the trial, see :func:`result_rows`.
        checkpoint: The trial's.
        progress: Data frame of the trial's reports.
        folder: Where to; what is there is replaced.
    """
    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.training import CHECKPOINT, CURVE, POLICY, Validation, knobs_of

    request = request_of(plan, row)
    config = request.configure()
    knobs = {**knobs_of(str(config.env)), **request.knobs}
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shutil.copytree(checkpoint, part / CHECKPOINT)
    LearnedPolicy.from_checkpoint(part / CHECKPOINT, find_agent(plan.agent).title).save(part / POLICY)
    write_rows(curve_rows(progress), part / CURVE)
    validation = {"images": plan.validation, "episodes": Validation(knobs, plan.validation).episodes}
    ended = {"steps": row["steps"], "seconds": row["seconds"], "validation_regret": row["regret"]}
    record = {**make_record(request, config, knobs), "validation": validation, "ended": ended, "sweep": dict(row)}
    write_json(record, part / RECORD)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def print_rows(plan: Plan, sweep: Sweep, console: Console) -> None:
    """Print the trials, the best first; those that reported nothing at the end."""
    from rich.table import Table

    sign = 1.0 if plan.mode == "min" else -1.0
    shown = ["trial", *plan.search, *dict.fromkeys((plan.metric, "regret", "validation_reward", "steps", "seconds"))]
    table = Table(title=f"trials by {plan.metric}")
    for name in [*shown, ""]:
        table.add_column(name, justify="right", overflow="fold")
    for row in sorted(sweep.rows, key=lambda one: (np.isnan(one[plan.metric]), sign * one[plan.metric])):
        cells = [f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in shown]
        table.add_row(*cells, "failed" if row["failed"] else "", style="bold" if row is sweep.best else "")
    console.print(table)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
