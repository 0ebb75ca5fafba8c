"""The trainings that figures and tables need, as a list: which agent, with which fields and settings, over what budget.

A training is one :class:`Point` and one seed. Its folder follows from what differs from the defaults, so that figures
that need the same training share it: the point at 1 MHz of a sweep over bandwidth is the default IM-PPO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_agents.lineup import Run
from noma_semcom_agents.references import NEAR_FIRST
from noma_semcom_agents.runs import RECORD, Request, read_record
from noma_semcom_env import Scenario

ROOT: Final = Path("runs/campaign")
QUICK_ROOT: Final = Path("runs/campaign-quick")
STEPS: Final = 150_000
"""One budget, in environment steps."""
SWEPT: Final = 0.3
"""Length of a training at a point of a sweep, in budgets."""
TUNED: Final = 0.2
"""Length of a training that tries settings, in budgets."""
QUICK_STEPS: Final = 4096
SEEDS: Final = 5
SWEEP_SEEDS: Final = 3
TUNING_SEED: Final = 1000
LEAST_SEEDS: Final = 5
"""Runs from which on an interval that draws runs is trusted by itself."""

AGENTS: Final = ("im-ppo", "m-ppo", "plain-ppo")
BANDWIDTHS_HZ: Final = (0.25e6, 0.5e6, 1e6, 2e6, 4e6)
USERS: Final = (2, 3, 4, 5, 6)
LPIPS_WEIGHTS: Final = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
FAMILIES: Final[Mapping[str, Mapping[str, int]]] = {
    "K3N2": {},
    "K2N1": {"num_users": 2, "num_antennas": 1},
    "K5N2": {"num_users": 5, "num_antennas": 2},
}
"""Users and antennas of the ids that the leaderboard covers; the first is the default scenario."""

SHARED: Final = {"lr": 3e-3, "critic_lr": 3e-3, "entropy_coeff": 0.1, "num_epochs": 6}
"""Settings that the three agents shared before they were tuned, and with which M-PPO won."""

MLP: Final = {"model.network": "mlp"}


@dataclass(frozen=True)
class Point:
    """What is trained once for each seed.

    Attributes:
        agent: Name of the agent.
        knobs: Scenario fields that differ from those of its environment; those at their defaults are dropped.
        settings: Settings of the algorithm that differ from the agent's.
        budgets: Length of the training in budgets of the campaign.
    """

    agent: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    budgets: float = 1.0

    def __post_init__(self) -> None:
        default = Scenario()
        kept = {name: value for name, value in self.knobs.items() if value != getattr(default, name)}
        object.__setattr__(self, "knobs", kept)

    @property
    def name(self) -> str:
        """Agent and whatever differs, as a folder is called."""
        differing = [f"{name}-{_text(value)}" for name, value in sorted({**self.knobs, **self.settings}.items())]
        length = [f"budgets-{_text(float(self.budgets))}"] if self.budgets != 1.0 else []
        return "-".join([self.agent, *differing, *length])

    def request(self, seed: int, steps: int) -> Request:
        """The training of one seed; ``steps`` is one budget."""
        return Request(
            agent=self.agent,
            seed=seed,
            steps=round(self.budgets * steps),
            knobs=dict(self.knobs),
            settings=dict(self.settings),
        )

    def folder(self, root: Path, seed: int) -> Path:
        """Where the training of one seed is left."""
        return root / self.name / f"seed-{seed}"


@dataclass(frozen=True)
class Campaign:
    """Trainings that belong together.

    Attributes:
        points: What is trained.
        seeds: Number of seeds, unless said otherwise; the protocol's.
        purpose: What they are for.
        first_seed: The first one of them.
    """

    points: Sequence[Point]
    seeds: int
    purpose: str
    first_seed: int = 0


def swept(agent: str, knobs: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None) -> Point:
    """A point of a sweep, at the shorter length that all of them have, the one at the defaults as well."""
    return Point(agent, knobs or {}, settings or {}, SWEPT)


def tried_settings(draws: int = 3, seed: int = 2) -> list[dict[str, Any]]:
    """What tuning tries, the same for every agent: the shared settings, and some draws of the protocol's space."""
    rng = np.random.default_rng(seed)
    tried: list[dict[str, Any]] = [dict(SHARED)]
    for _ in range(draws):
        rates = {name: _log_uniform(rng, 1e-3, 1e-2) for name in ("lr", "critic_lr")}
        rest = {"entropy_coeff": _log_uniform(rng, 0.02, 0.3), "num_epochs": int(rng.choice([4, 6]))}
        tried.append(rates | rest)
    return tried


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A draw with two digits, as a folder is called after it."""
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")


def _retrained(
    knobs: Sequence[Mapping[str, Any]], forms: Sequence[Mapping[str, Any]] = ({}, NEAR_FIRST)
) -> list[Point]:
    """IM-PPO at every point of a sweep, in several forms: under the joint optimum and as Location-Decoding's own."""
    return [swept("im-ppo", {**one, **form}) for one in knobs for form in forms]


CAMPAIGNS: Final[Mapping[str, Campaign]] = {
    "tuning": Campaign(
        [Point(agent, settings=tried, budgets=TUNED) for tried in tried_settings() for agent in AGENTS],
        1,
        "settings of the three agents",
        TUNING_SEED,
    ),
    "main": Campaign([Point(agent) for agent in AGENTS], SEEDS, "fig. 4(a), 4(b), 5(c), 6; leaderboard"),
    "alike": Campaign([Point("im-ppo", settings=SHARED)], SEEDS, "IM-PPO with M-PPO's settings"),
    "location": Campaign([Point("im-ppo", NEAR_FIRST)], SEEDS, "leaderboard: Location-Decoding's own policy"),
    "same-image": Campaign([swept("im-ppo", {"same_image": True})], SWEEP_SEEDS, "fig. 4(c)"),
    "bandwidth": Campaign(_retrained([{"bandwidth_hz": one} for one in BANDWIDTHS_HZ]), SWEEP_SEEDS, "fig. 5(a)"),
    "users": Campaign(_retrained([{"num_users": one} for one in USERS]), SWEEP_SEEDS, "fig. 5(b); transfer"),
    "families": Campaign(
        [swept(agent, knobs) for knobs in FAMILIES.values() if knobs for agent in AGENTS]
        + _retrained([knobs for knobs in FAMILIES.values() if knobs], [NEAR_FIRST]),
        SWEEP_SEEDS,
        "leaderboard, other numbers of users",
    ),
    "mlp": Campaign([swept("im-ppo", settings=MLP)], SWEEP_SEEDS, "transfer: the plain perceptron"),
    "long": Campaign([Point("plain-ppo", budgets=3)], 1, "Plain-PPO over three budgets"),
    "pareto": Campaign([swept("im-ppo", {"lpips_weight": one}) for one in LPIPS_WEIGHTS], SWEEP_SEEDS, "Pareto front"),
    "discount": Campaign(
        [swept("im-ppo", settings={"credit": "step", "gamma": gamma}) for gamma in (0.0, 0.99)],
        SWEEP_SEEDS,
        "ablation of gamma, with one advantage a step for both",
    ),
}


class MissingRuns(Exception):
    """Trainings that a figure needs are not there; the message names the command that trains them."""


def finished_runs(point: Point, root: Path, campaign: str, title: str = "") -> dict[int, Run]:
    """The finished trainings of a point by seed, each with a label of its own.

    Args:
        point: What was trained.
        root: Folder of the campaigns.
        campaign: The one that trains it, for the message.
        title: How tables call it; empty is the agent's name.

    Raises:
        MissingRuns: If there is none.
    """
    found: dict[int, Run] = {}
    for record in sorted(root.glob(f"{point.name}/seed-*/{RECORD}")):
        run = read_record(record.parent)
        if run["ended"] is not None:
            found[run["seed"]] = Run(record.parent, run, f"{title or point.agent}, seed {run['seed']}")
    if not found:
        raise MissingRuns(
            f"there is no finished training of {point.name} in {root}; train it with\n"
            f"  python -m noma_semcom_benchmarks.campaign {campaign}"
            + (f" --root {root}" if root != ROOT else "")
            + "\nor see with --quick that the program runs"
        )
    return dict(sorted(found.items()))


def _text(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
