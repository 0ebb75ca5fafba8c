"""Agents, schemes and the command line of noma-semcom-env: what a user of the public package builds on it.

Importing the package loads nothing heavy; the names below are looked up when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noma_semcom_agents.evaluation import Contender, Evaluation, evaluate
    from noma_semcom_agents.imppo import IMPPO, MPPO, IMPPOConfig, MPPOConfig, PlainPPO, PlainPPOConfig
    from noma_semcom_agents.learned import LearnedPolicy
    from noma_semcom_agents.mixture_references import MixtureOracle, RulePolicy
    from noma_semcom_agents.oracle import Oracle
    from noma_semcom_agents.policies import Policy
    from noma_semcom_agents.references import GreedySelection
    from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection
    from noma_semcom_agents.searching import SearchingPolicy
    from noma_semcom_agents.training import train

_HOMES = {
    "AllSelection": "schemes",
    "Contender": "evaluation",
    "Evaluation": "evaluation",
    "GreedySelection": "references",
    "IMPPO": "imppo",
    "IMPPOConfig": "imppo",
    "LearnedPolicy": "learned",
    "MPPO": "imppo",
    "MPPOConfig": "imppo",
    "MixtureOracle": "mixture_references",
    "NoSelection": "schemes",
    "Oracle": "oracle",
    "PlainPPO": "imppo",
    "PlainPPOConfig": "imppo",
    "Policy": "policies",
    "RandomSelection": "schemes",
    "SearchingPolicy": "searching",
    "RulePolicy": "mixture_references",
    "evaluate": "evaluation",
    "train": "training",
}

__all__ = [
    "IMPPO",
    "MPPO",
    "AllSelection",
    "Contender",
    "Evaluation",
    "GreedySelection",
    "IMPPOConfig",
    "LearnedPolicy",
    "MPPOConfig",
    "MixtureOracle",
    "NoSelection",
    "Oracle",
    "PlainPPO",
    "PlainPPOConfig",
    "Policy",
    "RandomSelection",
    "RulePolicy",
    "SearchingPolicy",
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
