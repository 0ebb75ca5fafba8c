"""Trains what figures and tables need, several trainings side by side, and goes on where it was cut off.

    python -m noma_semcom_benchmarks.campaign main --jobs 2
    python -m noma_semcom_benchmarks.campaign bandwidth users same-image
    python -m noma_semcom_benchmarks.campaign all --list

Every training is a process of its own with one thread, in runs/campaign/NAME/seed-N, its output in training.log there.
Finished ones are passed over and cut-off ones resumed from their last checkpoint, so that the same command can be given
again at any time; Ctrl-C, SIGTERM or a closed terminal ends it with its trainings, and no more is lost than what was
learned since the last checkpoints. A training that fails is tried once more; one that another process is at work on is
refused. "all" leaves out "tuning", whose winners become defaults before anything else is trained.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from noma_semcom_agents.report import make_console
from noma_semcom_agents.runs import RECORD, Request, read_record, read_request, train_policy
from noma_semcom_benchmarks.trainings import CAMPAIGNS, QUICK_ROOT, QUICK_STEPS, ROOT, STEPS, Point

if TYPE_CHECKING:
    from types import FrameType

    from rich.table import Table

WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
TRIES: Final = 2
SAVE_EVERY_S: Final = 15.0
_LOOK_EVERY_S: Final = 1.0
_ONE: Final = "--one"
_ROWS: Final = 20
_LOCK: Final = "training.lock"


@dataclass
class Training:
    """One training of a campaign.

    Attributes:
        point: What is trained.
        folder: Where.
        request: What it is asked to be.
        state: One of waiting, running, finished, failed.
        tries: Processes that were started for it.
        seconds: Time that it has run here.
        process: Its process while it runs.
    """

    point: Point
    folder: Path
    request: Request
    state: str = WAITING
    tries: int = 0
    seconds: float = 0.0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """What the process prints."""
        return self.folder / "training.log"

    @property
    def last_line(self) -> str:
        """The last line that the process printed, empty if there is none."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def plan(names: Sequence[str], seeds: int | None, steps: int, root: Path, quick: bool = False) -> list[Training]:
    """The trainings of some campaigns, each once, with what is there already.

    Args:
        names: Keys of :data:`~noma_semcom_benchmarks.trainings.CAMPAIGNS`, or ``all``, which is each but tuning.
        seeds: How many; None is each campaign's own number.
        steps: One budget.
        root: Folder of the campaigns.
        quick: Sweeps are reduced to their ends.

    Raises:
        ValueError: If a name is unknown, or a folder holds another training than the one that is wanted there.
    """
    every = [one for one in CAMPAIGNS if one != "tuning"] if "all" in names else []
    wanted = list(dict.fromkeys([*(one for one in names if one != "all"), *every]))
    found: dict[Path, Training] = {}
    for name in wanted:
        if name not in CAMPAIGNS:
            raise ValueError(f"{name!r} is no campaign; choose of {', '.join([*CAMPAIGNS, 'all'])}")
        campaign = CAMPAIGNS[name]
        points = ends(campaign.points) if quick else campaign.points
        count = campaign.seeds if seeds is None else seeds
        for seed in range(campaign.first_seed, campaign.first_seed + count):
            for point in points:
                folder = point.folder(root, seed)
                found.setdefault(folder, Training(point, folder, point.request(seed, steps)))
    for one in found.values():
        one.state = state_of(one.folder, one.request)
    return list(found.values())


def ends(points: Sequence[Any]) -> list[Any]:
    """A sweep of more than four points reduced to its first two and its last two."""
    return list(points) if len(points) <= 4 else [*points[:2], *points[-2:]]


def state_of(folder: Path, request: Request) -> str:
    """Whether the training in a folder is finished, or still waits for being begun or resumed.

    Raises:
        ValueError: If the folder holds another training.
    """
    if not (folder / RECORD).is_file():
        return WAITING
    held = asdict(read_request(folder))
    for name, wanted in json.loads(json.dumps(asdict(request))).items():
        if name != "seconds" and held[name] != wanted:
            raise ValueError(
                f"{folder} holds a training with {name}={held[name]!r}, not {wanted!r}; move it away, or name another "
                "folder by --root"
            )
    return FINISHED if read_record(folder)["ended"] else WAITING


def train_here(training: Training, progress: bool = False) -> None:
    """Train in this process, resuming what is there.

    Raises:
        BlockingIOError: If another process is at work in the folder.
        ValueError: If the folder holds another training.
    """
    with locked(training.folder):
        # Another process may have come between since the campaign was planned.
        if state_of(training.folder, training.request) != FINISHED:
            resume = (training.folder / RECORD).is_file()
            train_policy(training.folder, training.request, progress=progress, resume=resume, save_every_s=SAVE_EVERY_S)
    training.state = FINISHED


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a training's folder from other processes; a process that dies lets go of it.

    Raises:
        BlockingIOError: If another process has it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(f"another process is training in {folder}; let it end, or stop it") from error
        yield


def run(trainings: Sequence[Training], jobs: int, quiet: bool = False) -> list[Training]:
    """Run what waits, ``jobs`` processes at a time.

    Args:
        trainings: Of :func:`plan`.
        jobs: At least 1.
        quiet: Print nothing.

    Returns:
        Those that failed.

    Raises:
        ValueError: If ``jobs`` is below 1.
        KeyboardInterrupt: If interrupted; running trainings are stopped first, and can be resumed.
    """
    from rich.live import Live

    if jobs < 1:
        raise ValueError(f"jobs={jobs!r} must be at least 1")
    console = make_console()
    waiting = [one for one in trainings if one.state == WAITING]
    running: list[Training] = []
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_start(waiting.pop(0)))
                time.sleep(_LOOK_EVERY_S)
                for one in [one for one in running if _has_ended(one)]:
                    running.remove(one)
                    if one.state == WAITING:
                        waiting.append(one)
                    elif not quiet:
                        console.print(f"{one.point.name} seed {one.request.seed}: {one.state}  {one.last_line}")
                if console.is_terminal and not quiet:
                    live.update(progress_table(trainings), refresh=True)
        finally:
            for one in running:
                _terminate(one)
            for one in running:
                _stop(one)
    return [one for one in trainings if one.state == FAILED]


def progress_table(trainings: Sequence[Training]) -> Table:
    """Counts by state, and the trainings that run or come next."""
    from rich.table import Table

    counts = {state: sum(one.state == state for one in trainings) for state in (FINISHED, RUNNING, WAITING, FAILED)}
    table = Table(title=", ".join(f"{count} {state}" for state, count in counts.items()))
    for heading in ("training", "seed", "state", "min", "last line"):
        table.add_column(heading, no_wrap=True)
    shown = [one for state in (RUNNING, FAILED, WAITING) for one in trainings if one.state == state][:_ROWS]
    for one in shown:
        minutes = f"{one.seconds / 60:.1f}" if one.seconds else ""
        line = one.last_line if one.state != WAITING else ""
        table.add_row(one.point.name, str(one.request.seed), one.state, minutes, line)
    return table


def command_of(one: Training) -> list[str]:
    """What runs one training as a process."""
    place, request = str(one.folder.resolve()), json.dumps(asdict(one.request))
    return [sys.executable, "-m", "noma_semcom_benchmarks.campaign", _ONE, place, request]


def single_thread(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which libraries take one thread, so that trainings side by side do not slow one another."""
    return environment | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _start(one: Training) -> Training:
    one.folder.mkdir(parents=True, exist_ok=True)
    log: IO[bytes]
    with one.log.open("ab") as log:
        # In a session of its own, Ctrl-C reaches the campaign alone, which then stops each training in an orderly way.
        one.process = subprocess.Popen(
            command_of(one), stdout=log, stderr=log, env=single_thread(dict(os.environ)), start_new_session=True
        )
    one.state, one.tries = RUNNING, one.tries + 1
    return one


def _has_ended(one: Training) -> bool:
    assert one.process is not None
    one.seconds += _LOOK_EVERY_S
    code = one.process.poll()
    if code is None:
        return False
    one.process = None
    if code == 0:
        one.state = FINISHED
    else:
        one.state = WAITING if one.tries < TRIES else FAILED
    return True


def _terminate(one: Training) -> None:
    assert one.process is not None
    one.process.terminate()


def _stop(one: Training) -> None:
    assert one.process is not None
    try:
        one.process.wait(30.0)
    except subprocess.TimeoutExpired:
        one.process.kill()
        one.process.wait()
    one.process, one.state = None, WAITING


def interrupt_by_signals() -> None:
    """Let SIGTERM and SIGHUP end the campaign as Ctrl-C does, so that it stops its trainings.

    They are raised once, and later ones ignored while trainings stop. A signal that is ignored already stays so, as
    under nohup.
    """
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]

    def interrupt(number: int, _: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    for one in numbers:
        signal.signal(one, interrupt)


def main() -> None:
    """Train, or list."""
    if sys.argv[1:2] == [_ONE]:
        folder, request = Path(sys.argv[2]), Request(**json.loads(sys.argv[3]))
        train_here(Training(Point(request.agent), folder, request), progress=True)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    purposes = "; ".join(f"{name}: {one.purpose}" for name, one in CAMPAIGNS.items())
    parser.add_argument("campaigns", nargs="+", choices=[*CAMPAIGNS, "all"], metavar="CAMPAIGN", help=purposes)
    parser.add_argument("--seeds", type=int, help="how many; by default the protocol's number of each campaign")
    parser.add_argument("--steps", type=int, help=f"environment steps of one budget, {STEPS} by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time")
    parser.add_argument("--root", type=Path, help=f"folder, {ROOT} by default")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps, ends of sweeps: shows that it runs")
    parser.add_argument("--list", action="store_true", help="say what would be trained, and train nothing")
    arguments = parser.parse_args()
    quick = arguments.quick
    if quick and arguments.root and arguments.root.resolve() == ROOT.resolve():
        parser.error(f"--quick trains other lengths than {ROOT} holds; name another --root")
    try:
        trainings = plan(
            arguments.campaigns,
            1 if quick and arguments.seeds is None else arguments.seeds,
            arguments.steps or (QUICK_STEPS if quick else STEPS),
            arguments.root or (QUICK_ROOT if quick else ROOT),
            quick,
        )
    except ValueError as error:
        parser.error(str(error))
    console = make_console()
    if arguments.list:
        for one in trainings:
            console.print(f"{one.state:8}  {one.request.steps:>8}  {one.folder}", highlight=False, soft_wrap=True)
        return
    interrupt_by_signals()
    try:
        failed = run(trainings, arguments.jobs)
    except KeyboardInterrupt:
        console.print("Interrupted; the same command goes on from the last checkpoints.")
        sys.exit(130)
    console.print(progress_table(trainings))
    if failed:
        console.print("\n".join(f"failed {TRIES} times, see {one.log}" for one in failed), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
