"""A training as a folder: checkpoint, learning curve, TensorBoard's events, and ``run.json``: what made them."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from noma_semcom_agents.provenance import git_state, jsonable, versions, write_json
from noma_semcom_agents.roster import find_agent
from noma_semcom_env import Scenario, load_table
from noma_semcom_env.zoo.presets import settle

if TYPE_CHECKING:
    from noma_semcom_agents.imppo import AgentConfig
    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.training import Training, Validation

RECORD: Final = "run.json"
ENTRIES: Final = ("agent", "request", "seed", "scenario", "labels", "training", "validation", "ended")
"""What a record must hold to be evaluated, compared or resumed."""
_PATIENCE_S: Final = 10.0
_ABSENT: Final = "nothing of that name"


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
    """Train, and keep ``run.json`` with the full configuration beside the checkpoint from the first step.

    What is refused leaves no record.

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
        ValueError: If the run was asked for something else, or has ended, or what is asked for cannot be trained.
        TypeError: If a knob is an object rather than a name, which no record can hold.
    """
    from noma_semcom_agents.training import find_checkpoint, train

    if resume:
        check_same(folder, request)
    else:
        refuse_other_run(folder)
    config, knobs, validation = prepare(request)
    record = make_record(request, config, knobs)
    begun = resume and find_checkpoint(folder) is not None
    if resume:
        record["begun_with"] = {name: read_record(folder).get(name) for name in ("versions", "git")}
    record["validation"] = {"images": request.validation, "episodes": validation.episodes}

    def write_first() -> None:
        if resume and not begun:
            clear_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
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
        on_start=write_first,
    )
    last = training.curve[-1]
    record["ended"] = {"steps": last.steps, "seconds": last.seconds, "validation_regret": last.regret}
    write_json(record, folder / RECORD)
    return training


def prepare(request: Request) -> tuple[AgentConfig, dict[str, Any], Validation]:
    """What a training needs; refuses without Ray what it would otherwise fail of after its start.

    An untrained policy of the agent acts in one validation step.

    Returns:
        The configuration, the scenario fields that differ from the default scenario, and what the curve is measured on.

    Raises:
        ValueError: If the agent, a setting, the scenario or the network is refused, or the validation images have
            other labels than those of the training.
        TypeError: If a scenario's field is unknown or has the wrong type.
    """
    import gymnasium as gym
    import torch

    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.modules import settings_of
    from noma_semcom_agents.networks import make_actor
    from noma_semcom_agents.training import Validation, knobs_of

    config = request.configure()
    knobs = {**knobs_of(str(config.env)), **request.knobs}
    scenario = Scenario.of(None, knobs)
    if load_table(request.validation).labels != load_table(scenario.images).labels:
        raise ValueError(
            f"validation images {request.validation!r} have other labels than the training images {scenario.images!r}; "
            "name a validation set that was made with the same models"
        )
    env = gym.make(str(config.env), **config.env_config)
    spaces = env.observation_space, env.action_space
    env.close()
    with torch.random.fork_rng(devices=[]):
        settings = settings_of(*spaces, config.model_config)
        policy = LearnedPolicy(SimpleNamespace(actor=make_actor(settings), settings=settings))
    Validation(knobs, request.validation, episodes=1, length=1).reward(policy)
    return config, knobs, Validation(knobs, request.validation)


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


def read_whole_record(run: Path) -> dict[str, Any]:
    """The ``run.json`` of a training's folder, if this version can read it.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If another version wrote it, with other entries or scenario fields.
    """
    record = read_record(run)
    if missing := [name for name in ENTRIES if name not in record]:
        raise ValueError(f"{run / RECORD} lacks {', '.join(map(repr, missing))}: another version wrote it; train anew")
    try:
        Scenario.of(None, record["scenario"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{run / RECORD} holds a scenario that this version does not know ({error}); train anew"
        ) from error
    return record


def read_request(run: Path) -> Request:
    """What the run in a folder was asked to be.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If another version wrote its record.
    """
    try:
        return Request(**read_record(run)["request"])
    except KeyError as error:
        raise ValueError(f"{run / RECORD} lacks 'request': another version wrote it; train anew") from error
    except TypeError as error:
        raise ValueError(f"{run / RECORD} was asked for what this version does not know ({error})") from error


def load_policy(run: Path) -> LearnedPolicy:
    """The policy that a training left, from ``policy.npz``; its checkpoint, which holds pickles, is not read.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file holds no policy that this version knows.
    """
    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.training import POLICY

    if not (run / POLICY).is_file():
        raise FileNotFoundError(
            f"{run} holds no {POLICY}, which is written with every checkpoint; go on with the training by --resume"
        )
    return LearnedPolicy.load(run / POLICY)


def steps_of_policy(run: Path, record: Mapping[str, Any]) -> int:
    """Environment steps that the policy in a run's folder was trained for.

    Args:
        run: The folder.
        record: Its ``run.json``.
    """
    from noma_semcom_agents.training import CHECKPOINT, PROGRESS

    if record["ended"]:
        return int(record["ended"]["steps"])
    # The training may be about to replace one by the other.
    for name in (CHECKPOINT, f"{CHECKPOINT}.old"):
        try:
            return int(json.loads((run / name / PROGRESS).read_text())["steps"])
        except FileNotFoundError:
            continue
    return 0


def check_same(folder: Path, request: Request) -> None:
    """Refuse to resume a run as something else than what it was asked to be, or under other defaults.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If a field but ``seconds`` differs, the run has ended, or a setting or scenario field would now be
            another one than when it was begun.
    """
    from noma_semcom_agents.training import knobs_of

    recorded = read_request(folder)
    for one in fields(Request):
        then, now = getattr(recorded, one.name), getattr(request, one.name)
        if one.name != "seconds" and then != now:
            raise ValueError(f"{folder} was begun with {one.name}={then!r}, not {now!r}; resume it as it was begun")
    record = read_whole_record(folder)
    if ended := record["ended"]:
        raise ValueError(f"{folder} ended after {ended['steps']} steps; there is nothing left to resume")
    config = request.configure()
    now = jsonable(make_record(request, config, {**knobs_of(str(config.env)), **request.knobs}))
    # A scenario's field that is newer than the record was at its default, which changes nothing.
    names = {"scenario": record["scenario"], "training": {**record["training"], **now["training"]}}
    for part, known in names.items():
        for name in sorted(known.keys() - {"seconds"}):
            was, is_now = (one[part].get(name, _ABSENT) for one in (record, now))
            if was != is_now:
                raise ValueError(
                    f"{folder} was begun with {name}={was!r}, and this version would go on with {is_now!r}; resume it "
                    "with the version that began it (versions and git in its record), or train anew"
                )


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
