"""Campaigns: what is passed over, resumed, tried again and stopped. Processes are stand-ins but in the last test."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from noma_semcom_benchmarks import campaign
from noma_semcom_benchmarks.campaign import FAILED, FINISHED, WAITING, Training, plan, run, state_of
from noma_semcom_benchmarks.trainings import CAMPAIGNS


def leave_run(one: Training, ended: bool) -> None:
    one.folder.mkdir(parents=True, exist_ok=True)
    content = {"request": asdict(one.request), "ended": {"steps": 1} if ended else None}
    (one.folder / "run.json").write_text(json.dumps(content))


def test_shared_trainings_are_planned_once_and_finished_ones_passed_over(tmp_path: Path) -> None:
    first = plan(["bandwidth", "users"], 2, 100, tmp_path)
    assert len({one.folder for one in first}) == len(first) == 2 * 2 * (5 + 4)
    assert {one.state for one in first} == {WAITING}
    leave_run(first[0], ended=True)
    leave_run(first[1], ended=False)
    states = [one.state for one in plan(["bandwidth", "users"], 2, 100, tmp_path)]
    assert states.count(FINISHED) == 1
    assert states[0] == FINISHED


def test_quick_takes_the_ends_of_a_sweep(tmp_path: Path) -> None:
    quick = plan(["bandwidth"], 1, 100, tmp_path, quick=True)
    assert {one.request.knobs["bandwidth_hz"] for one in quick} == {0.25e6, 4e6}


def test_another_training_in_the_folder_is_not_taken_for_the_one_that_is_wanted(tmp_path: Path) -> None:
    (one, *_) = plan(["main"], 1, 100, tmp_path)
    leave_run(one, ended=True)
    with pytest.raises(ValueError, match="with steps=100, not 200"):
        plan(["main"], 1, 200, tmp_path)
    with pytest.raises(ValueError, match="'nothing' is no campaign"):
        plan(["nothing"], 1, 100, tmp_path)


def test_what_fails_is_tried_once_more_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = plan(["main"], 1, 100, tmp_path)
    # The first one fails once, the second always.
    code = (
        "import pathlib, sys; folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]; print('began', name);"
        "mark = folder / 'tried'; again = mark.exists(); mark.touch();"
        "sys.exit(name == 'm-ppo' or (name == 'im-ppo' and not again))"
    )
    monkeypatch.setattr(
        campaign, "command_of", lambda one: [sys.executable, "-c", code, str(one.folder), one.point.name]
    )
    monkeypatch.setattr(campaign, "_LOOK_EVERY_S", 0.02)
    failed = run(trainings, jobs=2, quiet=True)
    assert [one.point.name for one in failed] == ["m-ppo"]
    assert [(one.state, one.tries) for one in trainings] == [(FINISHED, 2), (FAILED, 2), (FINISHED, 1)]
    assert trainings[0].last_line == "began im-ppo"
    table = campaign.progress_table(trainings)
    assert str(table.title).startswith("2 finished, 0 running, 0 waiting, 1 failed")
    with pytest.raises(ValueError, match="jobs=0"):
        run(trainings, jobs=0)


def test_an_interrupt_stops_the_processes_and_leaves_them_to_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = plan(["main"], 1, 100, tmp_path)[:1]
    code = "import time; print('here', flush=True); time.sleep(60)"
    monkeypatch.setattr(campaign, "command_of", lambda one: [sys.executable, "-c", code])
    seen = []

    def interrupt(seconds: float) -> None:
        time.sleep = real
        assert trainings[0].process is not None
        seen.append(trainings[0].process)
        raise KeyboardInterrupt

    real = time.sleep
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(trainings, jobs=1, quiet=True)
    assert seen[0].returncode == -signal.SIGTERM
    assert trainings[0].state == WAITING


@pytest.mark.slow
def test_a_training_of_its_own_process_is_found_finished(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "noma_semcom_benchmarks.campaign", "mlp", "--quick", "--root", str(tmp_path)]
    done = subprocess.run([*words, "--jobs", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 finished" in done.stdout
    (point,) = CAMPAIGNS["mlp"].points
    assert state_of(point.folder(tmp_path, 0), point.request(0, campaign.QUICK_STEPS)) == FINISHED
    listed = subprocess.run([*words, "--list"], capture_output=True, text=True, check=True)
    assert listed.stdout.startswith("finished")
