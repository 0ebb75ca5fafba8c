"""The table of environment ids: one row an id, read by tests, docs and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import gymnasium


@dataclass(frozen=True)
class Row:
    """One registered environment.

    Attributes:
        id: Gymnasium id.
        controls: What the agent controls, in a few words.
        entry_point: Single form, ``module:Class``.
        vector_entry_point: Vectorized form, ``module:Class``.
        knobs: Scenario fields in which the id differs from the default scenario.
        scenario: Class whose fields are the id's keywords, ``module:Class``.
    """

    id: str
    controls: str
    entry_point: str
    vector_entry_point: str
    knobs: Mapping[str, Any] = field(default_factory=dict)
    scenario: str = "noma_semcom_env.scenario:Scenario"


_SINGLE: Final = "noma_semcom_env.envs.single:NomaSemComEnv"
_VECTOR: Final = "noma_semcom_env.envs.vector:NomaSemComVectorEnv"
_MIXTURE: Final = "noma_semcom_env.envs.mixture"

_TASKS: Final[tuple[tuple[str, str, Mapping[str, Any]], ...]] = (
    ("NomaSemCom", "selection from the pruned features", {}),
    ("NomaSemComUnpruned", "selection from all features", {"prune": False}),
    (
        "NomaSemComModelFree",
        "selection from all features, receive beams, decoding priorities",
        {"prune": False, "transmission": "model_free"},
    ),
)
_SIZES: Final = ((2, 1), (5, 2), (8, 4), (10, 4))
"""Users and antennas of the families; fewer antennas than users, where the decoding order matters."""

ENVIRONMENTS: Final = (
    *(Row(f"{name}-v0", controls, _SINGLE, _VECTOR, knobs) for name, controls, knobs in _TASKS),
    *(
        Row(
            f"{name}-K{users}N{antennas}-v0",
            controls,
            _SINGLE,
            _VECTOR,
            {**knobs, "num_users": users, "num_antennas": antennas},
        )
        for name, controls, knobs in _TASKS
        for users, antennas in _SIZES
    ),
    Row(
        "MixtureOfSemantics-v0",
        "share of the symbols for the text",
        f"{_MIXTURE}:MixtureOfSemanticsEnv",
        f"{_MIXTURE}:MixtureOfSemanticsVectorEnv",
        scenario="noma_semcom_env.mixture_scenario:MixtureScenario",
    ),
    Row(
        "MixtureOfSemanticsNoma-v0",
        "each user's bandwidth ratio and its text's share of the symbols",
        f"{_MIXTURE}:MixtureOfSemanticsNomaEnv",
        f"{_MIXTURE}:MixtureOfSemanticsNomaVectorEnv",
        scenario="noma_semcom_env.mixture_scenario:MixtureNomaScenario",
    ),
)


def register_environments() -> None:
    """Register every row.

    No row sets ``max_episode_steps``: the length of an episode is the scenario's ``episode_length``, a keyword of
    ``gym.make``, and a second figure in the spec would contradict it.
    """
    for row in ENVIRONMENTS:
        if row.id not in gymnasium.registry:
            gymnasium.register(
                row.id, row.entry_point, vector_entry_point=row.vector_entry_point, kwargs=dict(row.knobs)
            )
