"""Semantic communication over uplink NOMA as reinforcement learning environments.

Importing the package registers its ids with Gymnasium; it loads NumPy and Gymnasium, nothing heavier.
"""

from noma_semcom_env.envs import (
    MixtureOfSemanticsEnv,
    MixtureOfSemanticsNomaEnv,
    MixtureOfSemanticsNomaVectorEnv,
    MixtureOfSemanticsVectorEnv,
    NomaSemComEnv,
    NomaSemComVectorEnv,
)
from noma_semcom_env.features import FeatureBank, SemanticFeatures
from noma_semcom_env.mixture.table import MixtureTable, load_mixture_table
from noma_semcom_env.mixture_scenario import MixtureNomaScenario, MixtureScenario
from noma_semcom_env.recovery.table import RecoveryTable, load_table
from noma_semcom_env.registration import ENVIRONMENTS, register_environments
from noma_semcom_env.scenario import Scenario

__all__ = [
    "ENVIRONMENTS",
    "FeatureBank",
    "MixtureNomaScenario",
    "MixtureOfSemanticsEnv",
    "MixtureOfSemanticsNomaEnv",
    "MixtureOfSemanticsNomaVectorEnv",
    "MixtureOfSemanticsVectorEnv",
    "MixtureScenario",
    "MixtureTable",
    "NomaSemComEnv",
    "NomaSemComVectorEnv",
    "RecoveryTable",
    "Scenario",
    "SemanticFeatures",
    "load_mixture_table",
    "load_table",
]

register_environments()
