"""The networks of the agents by name. They need PyTorch alone: a trained policy runs where Ray is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from noma_semcom_agents.equivariant import READS, EquivariantActor, EquivariantCritic
from noma_semcom_agents.flat import FlatActor, FlatCritic
from noma_semcom_agents.worth import EquivariantWorth

NETWORKS: Final = ("equivariant", "mlp")

Actor = EquivariantActor | FlatActor
Critic = EquivariantCritic | EquivariantWorth | FlatCritic


def make_actor(settings: Mapping[str, Any]) -> Actor:
    """The actor that ``settings["network"]`` names, see :data:`NETWORKS`.

    Raises:
        ValueError: If the name is unknown, or the observation lacks what the network reads.
    """
    _check(settings)
    return EquivariantActor(settings) if settings["network"] == "equivariant" else FlatActor(settings)


def make_critic(settings: Mapping[str, Any], of_selection: bool, latency_known: bool = False) -> Critic:
    """The critic that ``settings["network"]`` names.

    Args:
        settings: As of :func:`make_actor`.
        of_selection: True values selections in a situation, False situations alone.
        latency_known: Whether what is valued is the reward without the cost of latency.
    """
    _check(settings)
    if settings["network"] == "equivariant":
        return EquivariantWorth(settings) if latency_known else EquivariantCritic(settings, of_selection)
    return FlatCritic(settings, of_selection)


def _check(settings: Mapping[str, Any]) -> None:
    network = settings["network"]
    if network not in NETWORKS:
        raise ValueError(f"network={network!r} is unknown; choose one of {', '.join(map(repr, NETWORKS))}")
    missing = READS - {"action_mask"} - set(settings["inputs"])
    if network == "equivariant" and missing:
        raise ValueError(
            f"network='equivariant' reads {sorted(missing)}, which the observation does not hold; use network='mlp', "
            "or observation='features'"
        )
