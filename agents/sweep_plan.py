"""A sweep as a file: which agent, what is fixed, what is searched, how trials are chosen and when they end.

A YAML file, or a Python file that defines the same mapping under the name ``sweep``; :func:`read_plan` refuses whatever
it does not know by its name. ``docs/training.md`` describes every key.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from noma_semcom_agents.evaluation import check_oracle
from noma_semcom_agents.roster import MODEL, Agent, find_agent, unknown
from noma_semcom_agents.search import NotSearchable
from noma_semcom_env import Scenario, load_table

FIELD: Final = "scenario."
"""What names of searched scenario fields begin with; other names are settings of the algorithm, or ``seed``."""

METRICS: Final = {
    "regret": "min",
    "validation_reward": "max",
    "reward": "max",
    "lpips": "min",
    "latency_s": "min",
}
"""What a trial reports, and which way is better; the first two on validation episodes, the rest while sampling."""

DRAWS: Final = {"grid": None, "choice": None, "uniform": 2, "loguniform": 2, "randint": 2}
"""Kind of a searched value to the length of its list; None is any."""

SCHEDULERS: Final[Mapping[str, Mapping[str, type]]] = {
    "none": {},
    "asha": {"grace_steps": int, "reduction_factor": int, "brackets": int},
    "pbt": {"perturb_steps": int, "quantile": float, "resample_probability": float},
}
"""Scheduler to its options."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


@dataclass(frozen=True)
class Plan:
    """A sweep, checked.

    Attributes:
        agent: Name of an agent.
        search: Name of a setting, of ``scenario.FIELD`` or ``seed`` to one of :data:`DRAWS` and its list, or to a
            search space of Tune (from a Python file).
        scenario: Fields that are the same in every trial.
        settings: Settings of the algorithm that are the same in every trial.
        scheduler: One of :data:`SCHEDULERS`.
        scheduler_options: Its options.
        samples: Number of trials; a grid is gone through so many times.
        steps: Environment steps of a trial.
        report_steps: Environment steps between two reports of a trial, each with a look at the validation episodes.
        seconds: Ends the whole sweep; None sets no limit.
        metric: One of :data:`METRICS`.
        mode: ``min`` or ``max``.
        seed: Of the draws, and of each trial's training unless ``seed`` is searched.
        validation: Image set of the validation episodes.
        concurrent: Most trials at once; None lets the processors decide.
        num_env_runners: Processes that sample in each trial.
    """

    agent: str
    search: Mapping[str, Any]
    scenario: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str = "none"
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 1
    steps: int = 300_000
    report_steps: int = 16_384
    seconds: float | None = None
    metric: str = "regret"
    mode: str = "min"
    seed: int = 0
    validation: str = "street-validation"
    concurrent: int | None = None
    num_env_runners: int = 0

    @property
    def trials(self) -> int:
        """Number of trials that there will be."""
        count = self.samples
        for one in self.search.values():
            if isinstance(one, Mapping) and "grid" in one:
                count *= len(one["grid"])
        return count


_WHOLE: Final = {"samples": 1, "steps": 1, "report_steps": 1, "seed": 0, "concurrent": 1, "num_env_runners": 0}
"""Keys of whole numbers to the least one."""

KEYS: Final = (
    "agent", "search", "scenario", "settings", "scheduler", *_WHOLE, "seconds", "metric", "mode", "validation"
)  # fmt: skip
"""What a file may hold."""


def find_file(path: Path) -> Path:
    """The file of a sweep.

    Args:
        path: A ``.yaml``, ``.yml`` or ``.py`` file, or the name of a bundled one: ``grid``, ``asha`` or ``pbt``.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    bundled = Path(__file__).parent / "sweeps"
    for place in (path, bundled / f"{path}.yaml"):
        if place.is_file():
            return place
    names = ", ".join(sorted(file.stem for file in bundled.glob("*.yaml")))
    raise FileNotFoundError(f"{path} is no file, and none of the bundled sweeps {names}")


def read_plan(path: Path) -> Plan:
    """Read and check a sweep's file.

    Args:
        path: What :func:`find_file` found.

    Raises:
        ValueError: If it is no mapping, or a key or value is refused.
    """
    if path.suffix == ".py":
        content = runpy.run_path(str(path)).get("sweep")
        if content is None:
            raise ValueError(f"{path} must define a mapping 'sweep'")
    elif path.suffix in (".yaml", ".yml"):
        content = _read_yaml(path)
    else:
        raise ValueError(f"{path} must end in .yaml, .yml or .py")
    try:
        return make_plan(content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def make_plan(content: Any) -> Plan:
    """Check what a sweep's file holds.

    Raises:
        ValueError: If it is no mapping, or a key or value is refused.
        TypeError: If a scenario's field is unknown or has the wrong type.
    """
    content = _mapping("the file", content)
    for key in content:
        if key not in KEYS:
            raise ValueError(unknown("key of a sweep", key, KEYS))
    if "agent" not in content or not content.get("search"):
        raise ValueError("the keys agent and search are needed")
    agent = find_agent(content["agent"])
    scheduler, options = _scheduler(content.get("scheduler", "none"))
    metric = content.get("metric", "regret")
    if metric not in METRICS:
        raise ValueError(unknown("metric", metric, METRICS))
    mode = content.get("mode", METRICS[metric])
    if mode not in ("min", "max"):
        raise ValueError(f"mode={mode!r} must be min or max")
    for key, least in _WHOLE.items():
        value = content.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{key}={value!r} must be a whole number of at least {least}")
    seconds = content.get("seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise ValueError(f"seconds={seconds!r} must be a positive number")
    plan = Plan(
        agent=agent.name,
        search=_mapping("search", content["search"]),
        scenario=_with_full_path(_mapping("scenario", content.get("scenario") or {})),
        settings=_mapping("settings", content.get("settings") or {}),
        scheduler=scheduler,
        scheduler_options=options,
        metric=metric,
        mode=mode,
        **{key: content[key] for key in (*_WHOLE, "seconds", "validation") if content.get(key) is not None},
    )
    _check_search(plan, agent)
    load_table(plan.validation)
    if plan.metric == "regret":
        _check_regret(plan, agent)
    return plan


def split(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], int | None]:
    """Searched values of one trial as scenario fields, settings of the algorithm, and the seed if it is searched."""
    knobs = {name.removeprefix(FIELD): value for name, value in values.items() if name.startswith(FIELD)}
    settings = {name: value for name, value in values.items() if not name.startswith(FIELD) and name != "seed"}
    return knobs, settings, values.get("seed")


def corners(search: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """For each searched name the values that decide whether it can be searched: all of a list, both ends of a range."""
    for name, one in search.items():
        if isinstance(one, Mapping):
            ((kind, values),) = one.items()
            ends = [values[0], values[1] - 1] if kind == "randint" else values
        else:
            ends = getattr(one, "categories", ())  # of tune.choice
        yield from ({name: value} for value in ends)


def _check_regret(plan: Plan, agent: Agent) -> None:
    """Refuse to go by the regret where no oracle exists: no trial would be better than another."""
    from noma_semcom_agents.training import knobs_of

    fixed = {**knobs_of(str(agent.make_config().env)), **plan.scenario}
    searched = [knobs for knobs, _, _ in map(split, corners(plan.search)) if knobs]
    for knobs in searched or [{}]:
        try:
            check_oracle({**fixed, **knobs, "images": plan.validation, "image_ids": None})
        except NotSearchable as error:
            raise ValueError(f"metric='regret' needs an oracle: {error}; use metric: validation_reward") from error


def _check_search(plan: Plan, agent: Agent) -> None:
    known = [*agent.settings_of(agent.make_config())]
    allowed = [*known, "seed"]
    for name, one in plan.search.items():
        if name.startswith(FIELD):
            if name.removeprefix(FIELD) in plan.scenario:
                raise ValueError(f"{name} is searched, and fixed under scenario; leave out one of the two")
        elif name not in allowed:
            raise ValueError(unknown("setting", name, [*allowed, f"{FIELD}FIELD"], " that can be searched"))
        elif name in plan.settings:
            raise ValueError(f"{name} is searched, and fixed under settings; leave out one of the two")
        if not _is_space(one):
            _check_draw(name, one)
        if plan.scheduler == "pbt":
            _check_mutable(name, one)
    agent.configure(plan.scenario, plan.settings, plan.seed)
    for values in corners(plan.search):
        knobs, settings, seed = split(values)
        Scenario.of(None, {**plan.scenario, **knobs})
        agent.configure(plan.scenario, {**plan.settings, **settings}, plan.seed if seed is None else seed)


def _check_draw(name: str, one: Any) -> None:
    if not isinstance(one, Mapping) or len(one) != 1:
        raise ValueError(f"search of {name}: {one!r} must be one of {', '.join(DRAWS)} with its values in a list")
    ((kind, values),) = one.items()
    if kind not in DRAWS:
        raise ValueError(unknown("way to search", kind, DRAWS, f" {name}"))
    if not isinstance(values, list) or not values or len(values) != (DRAWS[kind] or len(values)):
        wanted = "a list of two ends, the lower first" if DRAWS[kind] else "a list of values"
        raise ValueError(f"search of {name}: {kind} takes {wanted}, not {values!r}")
    if DRAWS[kind]:
        kinds = int if kind == "randint" else int | float
        if not all(isinstance(end, kinds) and not isinstance(end, bool) for end in values) or not values[0] < values[1]:
            raise ValueError(f"search of {name}: {kind} takes a list of two numbers, the lower first, not {values!r}")
        if kind == "loguniform" and values[0] <= 0:
            raise ValueError(f"search of {name}: loguniform needs positive ends, not {values!r}")
    if name == "seed" and (kind not in ("grid", "choice") or not all(type(v) is int and v >= 0 for v in values)):
        raise ValueError(f"search of seed: {one!r} must be a grid or choice of whole numbers of at least 0")


def _check_mutable(name: str, one: Any) -> None:
    if name == "seed" or name.startswith((MODEL, FIELD)):
        raise ValueError(f"search of {name}: pbt changes trials while they train, which {name} does not allow")
    if isinstance(one, Mapping) and "grid" in one:
        raise ValueError(f"search of {name}: pbt takes no grid; use choice, uniform, loguniform or randint")


def _scheduler(given: Any) -> tuple[str, dict[str, Any]]:
    options: dict[str, Any] = {"name": given} if isinstance(given, str) else _mapping("scheduler", given)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise ValueError(unknown("scheduler", name, SCHEDULERS))
    known = SCHEDULERS[name]
    for key, value in options.items():
        if key not in known:
            raise ValueError(unknown("option", key, known, f" of the scheduler {name}"))
        whole = known[key] is int
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value <= 0:
            raise ValueError(f"scheduler {name}: {key}={value!r} must be a positive {'whole ' if whole else ''}number")
    return name, options


def _is_space(value: Any) -> bool:
    """Whether a value is a search space of Tune, as a Python file may hold."""
    return not isinstance(value, Mapping) and type(value).__module__.startswith("ray.tune.search")


def _mapping(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be a mapping of names to values, not {value!r}")
    return {str(key): one for key, one in value.items()}


def _with_full_path(scenario: dict[str, Any]) -> dict[str, Any]:
    """Trials run in folders of their own, where a relative path would lead nowhere."""
    images = scenario.get("images")
    if isinstance(images, str) and images.endswith(".npz"):
        return {**scenario, "images": str(Path(images).resolve())}
    return scenario


def _read_yaml(path: Path) -> Any:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("sweeps need Ray and what it brings: pip install 'noma-semcom-env[rllib]'") from error

    try:
        return _with_numbers(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error


def _with_numbers(value: Any) -> Any:
    """The value with texts such as 1e-3 as numbers, which YAML 1.1 takes for texts since they have no point."""
    if isinstance(value, dict):
        return {key: _with_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_numbers(one) for one in value]
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
