"""A critic for where the link's part of the reward is known.

What is left is what pictures are worth, and each one's worth depends on its own features alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noma_semcom_agents.equivariant import FEATURES_TOGETHER, FeatureCode, summed


class EquivariantWorth(nn.Module):
    """Value of a selection but for the cost of its latency: a mean over users.

    Interface as of :class:`~noma_semcom_agents.equivariant.EquivariantCritic`.

    Args:
        settings: ``labels``, ``width`` and ``label_width``.
    """

    of_selection = True

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        self.code = FeatureCode(settings["labels"], width, settings["label_width"])
        self.hidden = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 1)

    def forward(self, observation: Mapping[str, Tensor], selection: Tensor | None = None) -> Tensor:
        """(B,) values of selections (B, K * F)."""
        assert selection is not None
        *_, sent, everything = self._encode(observation, selection)
        return self._worth(sent, everything).view(len(selection), -1).mean(-1)

    def without_and_with(self, observation: Mapping[str, Tensor], selection: Tensor) -> tuple[Tensor, Tensor]:
        """Values if one bit of the selection were 0, and if it were 1, the others staying; both (B, K * F)."""
        code, place, owner, sent, everything = self._encode(observation, selection)
        on = selection > 0
        change = torch.where(on.flatten()[place, None], -code, code) / FEATURES_TOGETHER
        here = self._worth(sent, everything)
        gained = self._worth(sent[owner] + change, everything[owner]) - here[owner]
        users = observation["snr"].shape[1]
        value = here.view(-1, users).mean(-1)[:, None]
        gain = gained.new_zeros(selection.numel()).index_copy(0, place, gained / users)
        flipped = value + gain.view(selection.shape)
        return torch.where(on, flipped, value), torch.where(on, value, flipped)

    def _encode(self, observation: Mapping[str, Tensor], selection: Tensor) -> tuple[Tensor, ...]:
        """Codes, places and owners of the features that exist, then sums over those sent and over all, a user each."""
        mask = observation["action_mask"]
        code, place = self.code(observation, mask)
        users = observation["snr"].numel()
        owner = place.div(mask.numel() // users, rounding_mode="floor")
        sent = summed(code * selection.flatten()[place, None].float(), owner, users)
        return code, place, owner, sent, summed(code, owner, users)

    def _worth(self, sent: Tensor, everything: Tensor) -> Tensor:
        value: Tensor = self.head(self.hidden(torch.cat([sent, everything], -1))).squeeze(-1)
        return value
