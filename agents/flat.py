"""A plain perceptron over the whole observation, for comparison with the equivariant networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noma_semcom_agents.reading import BEAM_LOG_STD, PRIORITY_LOG_STD, joined


class FlatActor(nn.Module):
    """Two hidden layers; outputs as of :class:`~noma_semcom_agents.equivariant.EquivariantActor`.

    Args:
        settings: ``inputs`` (name to length of every entry of the observation but the mask), ``width``, ``bits``,
            ``beams`` and ``priorities``, 0 where not controlled.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.sizes = [settings[name] for name in ("bits", "beams", "priorities")]
        self.inputs = sorted(settings["inputs"])
        self.hidden = _hidden(sum(settings["inputs"].values()), settings["width"])
        self.head = nn.Linear(settings["width"], sum(self.sizes))
        # Starting near probability 1/2 for every bit keeps the first steps of training exploring.
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        if self.sizes[1]:
            self.log_std = nn.Parameter(torch.tensor([BEAM_LOG_STD, PRIORITY_LOG_STD]))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """(B, K * F) logits; in the model-free form followed by means and log deviations."""
        outputs: Tensor = self.head(self.hidden(_flat(observation, self.inputs)))
        if not self.sizes[1]:
            return outputs
        logits, beams, priorities = outputs.split(self.sizes, -1)
        return joined(logits, torch.tanh(beams), torch.tanh(priorities), self.log_std)


class FlatCritic(nn.Module):
    """Two hidden layers; interface as of :class:`~noma_semcom_agents.equivariant.EquivariantCritic`.

    Args:
        settings: ``inputs``, ``width`` and ``bits``.
        of_selection: Whether :meth:`forward` takes a selection.
    """

    def __init__(self, settings: Mapping[str, Any], of_selection: bool) -> None:
        super().__init__()
        self.of_selection = of_selection
        self.inputs = sorted(settings["inputs"])
        seen = sum(settings["inputs"].values()) + of_selection * settings["bits"]
        self.hidden = _hidden(seen, settings["width"])
        self.head = nn.Linear(settings["width"], 1)

    def forward(self, observation: Mapping[str, Tensor], selection: Tensor | None = None) -> Tensor:
        """(B,) values; ``selection`` is (B, K * F), given if and only if the critic is one of selections."""
        inputs = _flat(observation, self.inputs)
        if selection is not None:
            inputs = torch.cat([inputs, selection.float()], -1)
        value: Tensor = self.head(self.hidden(inputs)).squeeze(-1)
        return value

    def without_and_with(self, observation: Mapping[str, Tensor], selection: Tensor) -> tuple[Tensor, Tensor]:
        """Values if one bit of the selection were 0, and if it were 1, the others staying; both (B, K * F)."""
        bits = selection.float()
        value, flipped = self(observation, bits), torch.empty_like(bits)
        for bit in range(bits.shape[1]):
            other = bits.clone()
            other[:, bit] = 1.0 - other[:, bit]
            flipped[:, bit] = self(observation, other)
        on = bits > 0
        return torch.where(on, flipped, value[:, None]), torch.where(on, value[:, None], flipped)


def _hidden(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())


def _flat(observation: Mapping[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([observation[name].float().flatten(1) for name in names], -1)
