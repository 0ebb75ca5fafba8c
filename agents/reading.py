"""Between an environment's observations and actions and what the networks take and give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

BEAM_LOG_STD: Final = -2.0
PRIORITY_LOG_STD: Final = -1.0
"""Where exploration of beams (entries near 1/2) and of priorities (in [-1, 1]) starts."""


def read(observation: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The entries of an observation by name, the mask as ``action_mask``.

    One of several agents sees them one after the other in one array, which is taken apart here: to the networks it is
    an uplink of one user.

    Args:
        observation: Name to (B, ...) tensor.
        settings: ``slices`` and ``mask``, see :func:`~noma_semcom_agents.modules.settings_of`.
    """
    mask = observation[settings["mask"]]
    if settings["slices"] is None:
        entries = {name: value for name, value in observation.items() if name != settings["mask"]}
    else:
        whole = observation["observation"]
        entries = {name: whole[..., start:stop] for name, (start, stop) in settings["slices"].items()}
    return {**entries, "action_mask": mask}


def greedy_action(outputs: Tensor, mask: Tensor, settings: Mapping[str, Any]) -> Tensor | dict[str, Tensor]:
    """The likeliest action of an actor's outputs.

    Args:
        outputs: (B, ...), see :func:`split`.
        mask: (B, K * F), 1 where a bit may be set.
        settings: ``bits``, ``beams`` and ``priorities``.

    Returns:
        (B, K * F) int8, or in the model-free form a dict of ``selection``, ``beams`` and ``priorities``.
    """
    logits, *others = split(outputs, settings)
    selection = ((logits > 0) & (mask > 0)).to(torch.int8)
    if not others:
        return selection
    return {"selection": selection, "beams": others[0], "priorities": others[2]}


def joined(logits: Tensor, beams: Tensor, priorities: Tensor, log_std: Tensor) -> Tensor:
    """One row of numbers a step: logits, then mean and log deviation of beams, then of priorities."""
    spread = [one.expand_as(mean) for one, mean in zip(log_std.clamp(-5.0, 0.0), (beams, priorities), strict=True)]
    return torch.cat([logits, beams, spread[0], priorities, spread[1]], -1)


def split(outputs: Tensor, settings: Mapping[str, Any]) -> list[Tensor]:
    """The parts of an actor's outputs: logits and, in the model-free form, four more, laid out as by :func:`joined`."""
    beams, priorities = settings["beams"], settings["priorities"]
    parts = [settings["bits"], beams, beams, priorities, priorities]
    return list(outputs.split([part for part in parts if part], -1))
