"""A training as a folder: checkpoint, learning curve, TensorBoard's events, and ``run.json``: what made them."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from noma_semcom_agents.provenance import git_state, versions, write_json
from noma_semcom_agents.roster import find_agent
from noma_semcom_env import Scenario, load_table
from noma_semcom_env.zoo.presets import settle

if TYPE_CHECKING:
    from noma_semcom_agents.imppo import AgentConfig
    from noma_semcom_agents.training import Training

RECORD: Final = "run.json"
_PATIENCE_S: Final = 10.0


@dataclass(frozen=True)
class Request:
    """What a training was asked to be; with the versions it decides the result.

    Attributes:
        agent: Name of an agent, see :data:`~noma_semcom_agents.roster.AGENTS`.
        seed: Of the training.
        steps: Environment steps.
        seconds: Ends the training earlier; None sets no limit.
        knobs: Scenario fields that differ from those of the agent's environment.
        settings: Settings of the algorithm that differ from the agent's.
        validation: Image set of the regret that is shown.
        num_env_runners: Processes that sample, besides the one that learns; 0 lets one do both.
    """

    agent: str = "im-ppo"
    seed: int = 0
    steps: int = 300_000
    seconds: float | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    validation: str = "street-validation"
    num_env_runners: int = 0

    def configure(self) -> AgentConfig:
        """The configuration of RLlib.

        Raises:
            ValueError: If the agent or a setting is unknown or refused.
        """
        return find_agent(self.agent).configure(self.knobs, self.settings, self.seed, self.num_env_runners)


def train_policy(
    folder: Path, request: Request, progress: bool = True, resume: bool = False, save_every_s: float = 30.0
) -> Training:
    """Train, and keep ``run.json`` with the full configuration beside the checkpoint from the first moment.

    Args:
        folder: For the checkpoint, the learning curve and the record.
        request: What to train.
        progress: Whether to draw a progress line.
        resume: Whether to go on where the run in the folder was cut off; ``request`` must be the recorded one, but for
            ``seconds``.
        save_every_s: Time between two checkpoints.

    Raises:
        FileExistsError: If the folder holds a run and ``resume`` is False.
        FileNotFoundError: If there is no run to resume.
        ValueError: If the run was asked for something else, or has ended.
        TypeError: If a knob is an object rather than a name, which no record can hold.
    """
    from noma_semcom_agents.training import Validation, find_checkpoint, knobs_of, train

    if resume:
        check_same(folder, request)
    else:
        refuse_other_run(folder)
    config = request.configure()
    knobs = {**knobs_of(str(config.env)), **request.knobs}
    validation = Validation(knobs, request.validation)
    record = make_record(request, config, knobs)
    begun = resume and find_checkpoint(folder) is not None
    if resume:
        record["begun_with"] = {name: read_record(folder)[name] for name in ("versions", "git")}
        if not begun:
            clear_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record["validation"] = {"images": request.validation, "episodes": validation.episodes}
    write_json(record, folder / RECORD)
    training = train(
        config,
        folder,
        request.steps,
        request.seconds,
        validation,
        progress,
        resume=begun,
        save_every_s=save_every_s,
    )
    last = training.curve[-1]
    record["ended"] = {"steps": last.steps, "seconds": last.seconds, "validation_regret": last.regret}
    write_json(record, folder / RECORD)
    return training


def make_record(request: Request, config: AgentConfig, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that decides the result of a training, but for its validation.

    Args:
        request: What was asked for.
        config: What RLlib is given.
        knobs: Scenario fields that differ from the default scenario, those of the environment's id included.
    """
    from noma_semcom_agents.training import anneal

    agent = find_agent(request.agent)
    scenario = settle(Scenario.of(None, knobs))
    annealed: Any = anneal(config, request.steps)
    return {
        "agent": agent.name,
        "title": agent.title,
        "environment": config.env,
        "request": asdict(request),
        "seed": request.seed,
        "scenario": json.loads(scenario.to_json()),
        "labels": list(load_table(scenario.images).labels),
        "training": agent.settings_of(annealed) | {"steps": request.steps, "seconds": request.seconds},
        "algorithm": annealed.to_dict(),
        "versions": versions(),
        "git": git_state(),
        "ended": None,
    }


def read_record(run: Path) -> dict[str, Any]:
    """The ``run.json`` of a training's folder.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not (run / RECORD).is_file():
        raise FileNotFoundError(f"{run} holds no {RECORD}; name a folder that 'noma-semcom train' left")
    record: dict[str, Any] = json.loads((run / RECORD).read_text())
    return record


def read_request(run: Path) -> Request:
    """What the run in a folder was asked to be.

    Raises:
        FileNotFoundError: If there is no run.
    """
    return Request(**read_record(run)["request"])


def check_same(folder: Path, request: Request) -> None:
    """Refuse to resume a run as something else than what it was asked to be.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If a field but ``seconds`` differs, or the run has ended.
    """
    recorded = read_request(folder)
    for one in fields(Request):
        then, now = getattr(recorded, one.name), getattr(request, one.name)
        if one.name != "seconds" and then != now:
            raise ValueError(f"{folder} was begun with {one.name}={then!r}, not {now!r}; resume it as it was begun")
    if ended := read_record(folder)["ended"]:
        raise ValueError(f"{folder} ended after {ended['steps']} steps; there is nothing left to resume")


def refuse_other_run(folder: Path) -> None:
    """Refuse to train over a run.

    Raises:
        FileExistsError: If the folder holds one.
    """
    if (folder / RECORD).exists():
        raise FileExistsError(f"{folder} holds a run already; go on with it by --resume, or name another folder")


def clear_run(folder: Path) -> None:
    """Remove the run that a folder holds, for what begins anew in the same folder."""
    from noma_semcom_agents.training import CHECKPOINT, CURVE, EVENTS, POLICY

    for name in (CHECKPOINT, f"{CHECKPOINT}.old", f"{CHECKPOINT}.part", EVENTS):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (RECORD, CURVE, POLICY):
        (folder / name).unlink(missing_ok=True)


def connect(address: str | None, num_env_runners: int = 0) -> None:
    """Start Ray on this machine, or connect to a cluster; does nothing if it runs already.

    Args:
        address: Of the cluster: ``host:port``, or ``"auto"`` for the one on this machine; None starts Ray here.
        num_env_runners: Processes that will sample.

    Raises:
        ConnectionError: If no cluster is there.
        ValueError: If the cluster has fewer processors than are needed.
    """
    from noma_semcom_agents.training import start_ray

    needed = num_env_runners + 1
    if address is None:
        start_ray(max(os.cpu_count() or 1, needed))
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        host, _, port = address.rpartition("://")[2].rpartition(":")
        try:
            if host and port.isdigit():  # Ray itself waits for minutes where nobody listens
                socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            raise ConnectionError(
                f"there is no Ray cluster at {address!r} ({error}); start one with 'ray start --head'"
            ) from error
    there = int(ray.cluster_resources().get("CPU", 0))
    if there < needed:
        raise ValueError(
            f"the cluster at {address!r} has {there} processors; {needed} are needed, one of them to learn"
        )
