"""Shells around the dynamics, one a form of the API."""

from noma_semcom_env.envs.mixture import (
    MixtureOfSemanticsEnv,
    MixtureOfSemanticsNomaEnv,
    MixtureOfSemanticsNomaVectorEnv,
    MixtureOfSemanticsVectorEnv,
)
from noma_semcom_env.envs.single import NomaSemComEnv
from noma_semcom_env.envs.vector import NomaSemComVectorEnv

__all__ = [
    "MixtureOfSemanticsEnv",
    "MixtureOfSemanticsNomaEnv",
    "MixtureOfSemanticsNomaVectorEnv",
    "MixtureOfSemanticsVectorEnv",
    "NomaSemComEnv",
    "NomaSemComVectorEnv",
]
