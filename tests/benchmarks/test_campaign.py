"""Campaigns: what is passed over, resumed, tried again and stopped. Processes are stand-ins but in the last test."""

from __future__ import annotations

import json
import os
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


def test_all_leaves_out_tuning(tmp_path: Path) -> None:
    tuning = {one.folder for one in plan(["tuning"], None, 100, tmp_path)}
    every = [one.folder for one in plan(["all"], None, 100, tmp_path)]
    assert tuning
    assert not tuning & set(every)
    assert len(every) == len({f for name in CAMPAIGNS if name != "tuning" for f in folders(name, tmp_path)})
    assert {one.folder for one in plan(["all", "tuning"], None, 100, tmp_path)} == tuning | set(every)


def folders(name: str, root: Path) -> list[Path]:
    return [one.folder for one in plan([name], None, 100, root)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_campaign_stops_its_trainings(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys; from noma_semcom_benchmarks import campaign;"
        # Whoever runs the tests under nohup hands the ignored signal down.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL);"
        "child = 'import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()));"
        " time.sleep(60)';"
        "campaign.command_of = lambda one: [sys.executable, '-c', child, str(one.folder / 'pid')];"
        "campaign.main()"
    )
    words = [sys.executable, "-c", code, "mlp", "--quick", "--root", str(tmp_path), "--jobs", "1"]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60.0
        while not (found := [one for one in tmp_path.glob("*/*/pid") if one.read_text()]):
            assert parent.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child = int(found[0].read_text())
        os.kill(child, 0)
        parent.send_signal(number)
        printed, _ = parent.communicate(timeout=40.0)
    finally:
        parent.kill()
    assert parent.returncode == 130
    assert "Interrupted; the same command goes on" in printed
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        campaign.interrupt_by_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # while trainings stop
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, *_) = plan(["main"], 1, 100, tmp_path)
    calls = []
    monkeypatch.setattr(campaign, "train_policy", lambda folder, *_, **__: calls.append(folder))
    code = (
        "import pathlib, sys; from noma_semcom_benchmarks.campaign import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('here', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(one.folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "here\n"
        with pytest.raises(BlockingIOError, match="another process is training in"):
            campaign.train_here(one)
        other.kill()  # what dies lets go
    campaign.train_here(one)
    assert calls == [one.folder]
    leave_run(one, ended=True)
    campaign.train_here(one)  # another process finished it meanwhile
    assert calls == [one.folder]


def test_quick_trainings_do_not_go_among_the_real_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["campaign", "mlp", "--quick", "--list", "--root", str(campaign.ROOT)])
    with pytest.raises(SystemExit):
        campaign.main()
    assert "name another --root" in capsys.readouterr().err


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
