"""Sweeps: what their files may hold, and that Tune runs, ends and restores them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from typer.testing import CliRunner

from noma_semcom_agents import sweep, sweep_plan
from noma_semcom_agents.cli import app
from noma_semcom_agents.sweep_plan import Plan, make_plan, read_plan
from noma_semcom_agents.trials import curve_rows, request_of

GOOD: dict[str, Any] = {"agent": "im-ppo", "steps": 1000, "search": {"lr": {"grid": [1e-3, 3e-3]}}}
COMMAND = [sys.executable, "-m", "noma_semcom_agents.cli", "sweep"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"agent": "imppo"}, "'imppo' is no agent; did you mean 'im-ppo'"),
        ({"sample": 3}, "'sample' is no key of a sweep; did you mean 'samples'"),
        ({"samples": 0}, "samples=0 must be a whole number of at least 1"),
        ({"steps": 1e5}, "steps=100000.0 must be a whole number"),
        ({"seconds": -1}, "seconds=-1 must be a positive number"),
        ({"metric": "regrets"}, "'regrets' is no metric; did you mean 'regret'"),
        ({"mode": "least"}, "mode='least' must be min or max"),
        ({"scheduler": "bohb"}, "'bohb' is no scheduler; choose one of asha, none, pbt"),
        ({"scheduler": {"name": "asha", "grace": 3}}, "'grace' is no option of the scheduler asha; did you mean"),
        ({"scheduler": {"name": "asha", "grace_steps": 0.5}}, "grace_steps=0.5 must be a positive whole number"),
        ({"scenario": {"num_user": 3}}, "'num_user' is no field of Scenario; did you mean 'num_users'"),
        ({"settings": {"learning_rate": 1e-3}}, "'learning_rate' is no setting of IM-PPO"),
        ({"settings": {"critic_lr": "fast"}}, "critic_lr='fast' must be a number or a list of"),
        ({"settings": {"lr": 1e-3}}, "lr is searched, and fixed under settings"),
        ({"validation": "street-dawn"}, "street-dawn"),
        ({"search": {}}, "agent and search are needed"),
        ({"search": {"lrr": {"grid": [1]}}}, "'lrr' is no setting that can be searched; did you mean 'lr'"),
        ({"search": {"lr": {"lognormal": [1, 2]}}}, "'lognormal' is no way to search lr; did you mean 'loguniform'"),
        ({"search": {"lr": [1e-3]}}, "must be one of grid, choice, uniform, loguniform, randint"),
        ({"search": {"lr": {"uniform": [2, 1]}}}, "uniform takes a list of two numbers, the lower first"),
        ({"search": {"lr": {"loguniform": [0, 1]}}}, "loguniform needs positive ends"),
        ({"search": {"seed": {"grid": [0, 1.5]}}}, "grid or choice of whole numbers"),
        ({"search": {"scenario.lpips_weight": {"uniform": [0.5, 2.0]}}}, "lpips_weight=2.0 is out of range"),
        ({"search": {"scenario.images_id": {"grid": [1]}}}, "'images_id' is no field of Scenario"),
        ({"search": {"model.depth": {"grid": [1]}}}, "'model.depth' is no setting that can be searched"),
        ({"scheduler": "pbt"}, "pbt takes no grid"),
        ({"scheduler": "pbt", "search": {"model.width": {"choice": [16]}}}, "pbt changes trials while they train"),
    ],
)
def test_what_a_sweep_may_not_hold_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises((TypeError, ValueError)) as refusal:
        make_plan({**GOOD, **change})
    assert named in str(refusal.value)


def test_a_good_sweep_is_read() -> None:
    plan = make_plan({**GOOD, "samples": 2, "search": {**GOOD["search"], "seed": {"grid": [3, 4, 5]}}})
    assert plan.trials == 12
    assert (plan.metric, plan.mode, plan.scheduler) == ("regret", "min", "none")
    assert make_plan({**GOOD, "metric": "reward"}).mode == "max"


@pytest.mark.parametrize("name", ["grid", "asha", "pbt"])
def test_bundled_sweeps_are_good(name: str) -> None:
    plan = read_plan(sweep_plan.find_file(Path(name)))
    assert plan.trials >= 4
    for ends in plan.search.values():
        assert all(isinstance(value, int | float) for values in ends.values() for value in values)


def test_files_are_read(tmp_path: Path) -> None:
    written = tmp_path / "one.yaml"
    written.write_text("agent: im-ppo\nsearch:\n  lr: {grid: [1e-3, 3E-3, .5e-2]}\n  clip_param: {uniform: [0, 1]}\n")
    assert read_plan(written).search["lr"] == {"grid": [1e-3, 3e-3, 5e-3]}
    written.write_text("agent: im-ppo\nsearch: {lr: [\n")
    with pytest.raises(ValueError, match=r"one\.yaml is no YAML"):
        read_plan(written)
    written.write_text("agent: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="is no YAML"):
        read_plan(written)
    script = tmp_path / "two.py"
    space = "{'lr': tune.loguniform(1e-4, 1e-2)}"
    script.write_text(f"from ray import tune\nsweep = {{'agent': 'm-ppo', 'search': {space}}}\n")
    drawn = sweep.param_space(read_plan(script))["lr"].sample(size=20)
    assert all(1e-4 <= value <= 1e-2 for value in drawn)
    script.write_text("sweeps = {}\n")
    with pytest.raises(ValueError, match="must define a mapping 'sweep'"):
        read_plan(script)
    with pytest.raises(FileNotFoundError, match="none of the bundled sweeps asha, grid, pbt"):
        sweep_plan.find_file(Path("gird"))


def test_a_trial_is_what_train_would_be_asked_for() -> None:
    search = {"lr": {"grid": [1e-3]}, "scenario.num_users": {"grid": [2]}, "seed": {"grid": [7]}}
    plan = Plan("im-ppo", search, scenario={"num_antennas": 1}, settings={"clip_param": 0.1}, steps=99)
    request = request_of(plan, {"lr": 1e-3, "scenario.num_users": 2, "seed": 7, "other": None})
    assert request.knobs == {"num_antennas": 1, "num_users": 2}
    assert request.settings == {"clip_param": 0.1, "lr": 1e-3}
    assert (request.seed, request.steps) == (7, 99)
    config: Any = request.configure()
    assert (config.lr, config.clip_param, config.env_config["num_users"]) == (1e-3, 0.1, 2)


def test_a_restored_trials_curve_holds_each_step_once() -> None:
    names = ["steps", "time_total_s", "reward", "validation_reward", "regret", "lpips", "latency_s", "selection_share"]
    progress = pd.DataFrame({name: [1.0, 2.0, 3.0, 2.0, 3.0, 4.0] for name in names}).astype({"steps": int})
    progress["regret"] = [9.0, 9.0, 9.0, 2.0, 3.0, 4.0]
    rows = curve_rows(progress)
    assert [row["steps"] for row in rows] == [1, 2, 3, 4]
    assert [row["regret"] for row in rows] == [9.0, 2.0, 3.0, 4.0]


def test_folders_and_files_are_not_mixed_up(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no sweep to resume"):
        sweep.check_folder(tmp_path, "a", resume=True)
    (tmp_path / "sweep.json").write_text(json.dumps({"digest": sweep._digest("a")}))
    sweep.check_folder(tmp_path, "a", resume=True)
    with pytest.raises(ValueError, match="begun with another file"):
        sweep.check_folder(tmp_path, "b", resume=True)
    with pytest.raises(FileExistsError, match="holds a sweep already"):
        sweep.check_folder(tmp_path, "a", resume=False)


def test_a_typo_is_a_usage_error(tmp_path: Path) -> None:
    written = tmp_path / "one.yaml"
    written.write_text("agent: im-ppo\nserch: {}\n")
    result = CliRunner().invoke(app, ["sweep", str(written)])
    assert result.exit_code == 2
    assert "'serch'" in result.output
    assert "search" in result.output


def small_sweep(folder: Path, paths: dict[str, Path], **more: Any) -> Path:
    """A file of two short trials."""
    content = {
        "agent": "im-ppo",
        "steps": 2048,
        "report_steps": 512,
        "scenario": {"images": str(paths["policy"]), "num_users": 2},
        "settings": {"train_batch_size_per_learner": 512, "minibatch_size": 256, "num_envs_per_env_runner": 16},
        "search": {"lr": {"grid": [1e-3, 1e-2]}},
        "validation": str(paths["validation"]),
        "concurrent": 1,
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(json.dumps(content))  # every JSON is YAML
    return path


def steps_seen(folder: Path) -> list[list[int]]:
    """Steps that each trial reported, in the order of their names."""
    files = sorted((folder / "trials").glob("*/result.json"))
    return [[json.loads(line)["steps"] for line in file.read_text().splitlines()] for file in files]


def knows_a_checkpoint(trials: Path) -> bool:
    """Whether Tune has written its state down since the first checkpoint was complete."""
    saved = [path.stat().st_mtime for path in trials.glob("*/checkpoint_*")]
    states = [path.stat().st_mtime for path in trials.glob("experiment_state*.json")]
    return bool(saved and states) and max(states) > min(saved) + 2.0


@pytest.mark.slow
def test_a_killed_sweep_is_restored(table_paths: dict[str, Path], tmp_path: Path) -> None:
    file, folder = small_sweep(tmp_path, table_paths, steps=8192), tmp_path / "out"
    command = [*COMMAND, str(file), "--output", str(folder)]
    # Tune writes down every second, not every ten or more, what it knows of its trials.
    often = {**os.environ, "TUNE_GLOBAL_CHECKPOINT_S": "1"}
    running = subprocess.Popen(command, env=often, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not knows_a_checkpoint(folder / "trials"):
            assert running.poll() is None, "the sweep ended before it could be killed"
            time.sleep(0.1)
    finally:
        started = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGKILL)
        for process in started:
            with suppress(psutil.NoSuchProcess):  # some end by themselves with their parent
                process.send_signal(signal.SIGKILL)
        running.wait()
    assert not (folder / "results.csv").exists()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best: trial" in done.stdout
    after = steps_seen(folder)
    assert len(after) == 2
    for steps in after:
        assert steps[-1] == 8192
        assert steps[0] == 512
    # The trial that was killed goes on from a checkpoint: none of them begins twice.
    assert [steps.count(512) for steps in after] == [1, 1]
    with (folder / "results.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert {float(row["lr"]) for row in rows} == {1e-3, 1e-2}
    best = min(rows, key=lambda row: float(row["regret"]))
    record = json.loads((folder / "best" / "run.json").read_text())
    assert record["request"]["settings"]["lr"] == float(best["lr"])
    assert record["ended"]["validation_regret"] == float(best["regret"])
    assert (folder / "best" / "checkpoint").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "search"),
    [
        ({"name": "asha", "grace_steps": 512, "reduction_factor": 2}, {"model.width": {"choice": [8, 16]}}),
        (
            {"name": "pbt", "perturb_steps": 512, "quantile": 0.5, "resample_probability": 1.0},
            {"lr": {"loguniform": [1e-4, 1e-2]}},
        ),
    ],
)
def test_schedulers_run(
    scheduler: dict[str, Any], search: dict[str, Any], table_paths: dict[str, Path], tmp_path: Path
) -> None:
    from noma_semcom_agents.runs import connect

    connect(None)
    file = small_sweep(tmp_path, table_paths, scheduler=scheduler, search=search, samples=2, concurrent=2)
    plan = read_plan(file)
    left = sweep.run_sweep(plan, file.read_text(), tmp_path / "out", progress=False)
    assert not any(row["failed"] for row in left.rows)
    assert max(row["steps"] for row in left.rows) == 2048
    assert left.best is not None
    assert left.best["regret"] == min(row["regret"] for row in left.rows)
    if scheduler["name"] == "pbt":
        seen = set()
        for path in (tmp_path / "out" / "trials").glob("*/result.json"):
            seen |= {json.loads(line)["searched"]["lr"] for line in path.read_text().splitlines()}
        assert len(seen) > 2, "no trial's rate was changed"
