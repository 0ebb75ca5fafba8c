"""Semantic communication over uplink NOMA as reinforcement learning environments.

Importing the package registers its ids with Gymnasium; it loads NumPy and Gymnasium, nothing heavier.
"""

from noma_semcom_env.envs import NomaSemComEnv, NomaSemComVectorEnv
from noma_semcom_env.features import FeatureBank, SemanticFeatures
from noma_semcom_env.recovery.table import RecoveryTable, load_table
from noma_semcom_env.registration import ENVIRONMENTS, register_environments
from noma_semcom_env.scenario import Scenario

__all__ = [
    "ENVIRONMENTS",
    "FeatureBank",
    "NomaSemComEnv",
    "NomaSemComVectorEnv",
    "RecoveryTable",
    "Scenario",
    "SemanticFeatures",
    "load_table",
]

register_environments()
