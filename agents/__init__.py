"""Agents, schemes and the command line of noma-semcom-env: what a user of the public package builds on it.

Importing the package loads nothing heavy; the names below are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noma_semcom_agents.evaluation import Contender, Evaluation, evaluate
    from noma_semcom_agents.imppo import IMPPO, IMPPOConfig
    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.mixture_references import MixtureOracle, RulePolicy
    from noma_semcom_agents.oracle import Oracle
    from noma_semcom_agents.policies import Policy
    from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection
    from noma_semcom_agents.training import train

_HOMES = {
    "AllSelection": "schemes",
    "Contender": "evaluation",
    "Evaluation": "evaluation",
    "IMPPO": "imppo",
    "IMPPOConfig": "imppo",
    "LearnedPolicy": "learned",
    "MixtureOracle": "mixture_references",
    "NoSelection": "schemes",
    "Oracle": "oracle",
    "Policy": "policies",
    "RandomSelection": "schemes",
    "RulePolicy": "mixture_references",
    "evaluate": "evaluation",
    "train": "training",
}

__all__ = [
    "IMPPO",
    "AllSelection",
    "Contender",
    "Evaluation",
    "IMPPOConfig",
    "LearnedPolicy",
    "MixtureOracle",
    "NoSelection",
    "Oracle",
    "Policy",
    "RandomSelection",
    "RulePolicy",
    "evaluate",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}: pip install 'noma-semcom-env[rllib]'") from error
