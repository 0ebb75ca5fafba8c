"""Trainings from the command line: killed and resumed, evaluated, compared. Slow: each starts Ray."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from noma_semcom_agents.cli import app
from noma_semcom_agents.demo import run_demo
from noma_semcom_agents.learned import LearnedPolicy

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "noma_semcom_agents.cli"]
SMALL = {"train_batch_size_per_learner": 512, "minibatch_size": 256, "num_envs_per_env_runner": 16, "model.width": 8}


def options(paths: dict[str, Path], folder: Path, steps: int) -> list[str]:
    given = ["--output", str(folder), "--steps", str(steps), "--validation", str(paths["validation"])]
    given += ["--set", f"images={paths['policy']}", "--set", "num_users=2"]
    return given + [word for name, value in SMALL.items() for word in ("--setting", f"{name}={value}")]


def call(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def kill(running: subprocess.Popen[Any]) -> None:
    """End a process and all that it started, at once and without warning."""
    started = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGKILL)
    for process in started:
        with suppress(psutil.NoSuchProcess):  # some end by themselves with their parent
            process.send_signal(signal.SIGKILL)
    running.wait()


def curve_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "learning_curve.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_training_goes_on(table_paths: dict[str, Path], tmp_path: Path) -> None:
    folder, steps = tmp_path / "run", 12_000
    command = [*PROGRAM, "train", *options(table_paths, folder, steps), "--save-every", "1"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (folder / "checkpoint").exists() or len(curve_of(folder)) < 2:
            assert running.poll() is None, "the training ended before it could be killed"
            time.sleep(0.1)
    finally:
        kill(running)
    assert int(curve_of(folder)[-1]["steps"]) < steps
    place = folder / "checkpoint"
    before = curve_of(place if place.exists() else folder / "checkpoint.old")
    # The policy of the last checkpoint can be evaluated without reading that checkpoint.
    assert LearnedPolicy.load(folder / "policy.npz").name == "IM-PPO"
    record = json.loads((folder / "run.json").read_text())
    assert record["ended"] is None
    result = CliRunner().invoke(app, ["train", *options(table_paths, folder, steps)])
    assert result.exit_code == 2
    assert "--resume" in result.output
    done = subprocess.run(
        [*PROGRAM, "train", "--output", str(folder), "--resume"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = curve_of(folder)
    # What the last checkpoint knew is kept, point for point; the rest was trained on.
    assert after[: len(before)] == before
    seen = [int(point["steps"]) for point in after]
    assert seen == sorted(set(seen))
    assert seen[-1] >= steps
    ended = json.loads((folder / "run.json").read_text())
    assert ended["ended"]["steps"] == seen[-1]
    assert ended["request"] == record["request"]
    assert ended["begun_with"]["versions"] == record["versions"]
    assert list((folder / "tensorboard").iterdir())
    result = CliRunner().invoke(app, ["train", "--output", str(folder), "--resume"])
    assert result.exit_code == 2


def test_agents_are_trained_evaluated_and_compared(table_paths: dict[str, Path], tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("im-ppo-0", "im-ppo-1", "m-ppo-0", "plain-ppo-0")]
    for run in runs:
        agent, _, seed = run.name.rpartition("-")
        more = ["--num-env-runners", "1"] if agent == "m-ppo" else []
        call("train", "--agent", agent, "--seed", seed, *options(table_paths, run, 1024), *more)
        record = json.loads((run / "run.json").read_text())
        assert (record["agent"], record["seed"]) == (agent, int(seed))
        assert record["ended"]["steps"] >= 1024
    episodes = ["--images", str(table_paths["test"]), "--episodes", "4"]
    evaluated = call("evaluate", *map(str, runs), *episodes, "--output", str(tmp_path / "evaluation"))
    assert "IM-PPO, seed 1" in evaluated
    content = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert list(content["policies"]) == [
        "IM-PPO, seed 0", "IM-PPO, seed 1", "M-PPO", "Plain-PPO", "ALL-Selection", "Random-Selection",
        "Location-Decoding, seed 0", "Location-Decoding, seed 1", "Oracle", "Oracle (pruned)",
    ]  # fmt: skip
    assert content["configuration"]["evaluation"]["scenario"]["num_users"] == 2
    call("evaluate", str(runs[0]), *episodes, "--references", "none")
    assert (runs[0] / "evaluation" / "results.csv").is_file()
    compared = call("compare", *map(str, runs), *episodes, "--output", str(tmp_path / "comparison"))
    assert "Plain-PPO" in compared
    with (tmp_path / "comparison" / "agents.csv").open(newline="") as file:
        assert [(row["agent"], row["runs"]) for row in csv.DictReader(file)] == [
            ("IM-PPO", "2"), ("M-PPO", "1"), ("Plain-PPO", "1"),
        ]  # fmt: skip


def test_a_training_runs_on_a_cluster(table_paths: dict[str, Path], tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        given = [*options(table_paths, tmp_path / "run", 1024), "--address", cluster.address, "--num-env-runners"]
        done = subprocess.run([*PROGRAM, "train", *given, "1"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(curve_of(tmp_path / "run")[-1]["steps"]) >= 1024
        given[1] = str(tmp_path / "other")
        done = subprocess.run([*PROGRAM, "train", *given, "2"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "has 2 processors" in " ".join(done.stderr.replace("│", " ").split())
    finally:
        cluster.shutdown()


def test_demo_leaves_everything_that_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # a second time over the first
        evaluation = run_demo(tmp_path / "demo", steps=4096, seconds=None, episodes=8, progress=False)
    said = capsys.readouterr().out
    for name in ("results.csv", "results.json", "learning_curve.png", "transmission.png", "checkpoint"):
        assert (tmp_path / "demo" / name).exists()
        assert name in said
    assert list(evaluation.records) == [
        "IM-PPO", "ALL-Selection", "Random-Selection", "Location-Decoding", "Oracle", "Oracle (pruned)",
    ]  # fmt: skip
    record = json.loads((tmp_path / "demo" / "run.json").read_text())
    assert record["scenario"]["images"] == "street-policy"
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert results["configuration"]["evaluation"]["images"] == "street-test"
