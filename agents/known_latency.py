"""What the link costs, as the environment's own solver gives it: the part of the reward that need not be learned.

The reward of a step is minus the mean LPIPS, weighted, and minus a cost of the latency. The observation shows the
channels, up to a phase on which no rate depends, and the features' sizes; so the latency of every selection, chosen or
not, follows from the model that the environment solves in each step anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from noma_semcom_agents.channels import bits_of
from noma_semcom_agents.observed import read_links
from noma_semcom_env.transmission import make_solver
from noma_semcom_env.zoo.presets import settle

if TYPE_CHECKING:
    from noma_semcom_env.link.sic import Transmission
    from noma_semcom_env.scenario import Scenario

KNOWN: Final = ("optimal", "strength", "distance")
"""Transmissions that are fast enough to be solved for every selection, and follow from what is observed."""

_AT_ONCE: Final = 65_536


def why_unknown(scenario: Scenario) -> str:
    """Why latencies of a scenario do not follow from what is observed; empty if they do."""
    if scenario.transmission not in KNOWN:
        return f"transmission={scenario.transmission!r} is none of {', '.join(KNOWN)}"
    if scenario.observation != "features":
        return f"observation={scenario.observation!r} does not show the channels as they are"
    if scenario.reward != "weighted_sum":
        return f"reward={scenario.reward!r} is no sum over users"
    if scenario.backlog:
        return "with backlog=True the bits of earlier steps count too"
    return ""


class KnownLatency:
    """The cost of the latency of selections.

    Under ``transmission="distance"`` the order follows from distances, which are not observed; the last decoding order
    stands for them, and where there is none yet the SNR.

    Args:
        scenario: Of the environment.

    Raises:
        ValueError: If latencies do not follow from what is observed.
    """

    def __init__(self, scenario: Scenario) -> None:
        if reason := why_unknown(scenario):
            raise ValueError(f"credit='model' needs latencies that follow from observations: {reason}")
        self.scenario = settle(scenario)
        self._solve: Callable[..., Transmission] = make_solver(replace(self.scenario, csi_error=0.0))

    def costs(self, observation: Mapping[str, Tensor], selection: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Costs of selections (B, K * F), and of those that differ from them in one bit.

        Returns:
            (B,) cost of the selections, at least 0; (B, K * F) costs with each bit 0, and with each bit 1, the others
            staying. Bits that are forbidden change nothing.
        """
        allowed = (observation["action_mask"] > 0).view(*observation["snr"].shape, -1)
        sizes = np.rint(bits_of(observation["size"].double()).view(allowed.shape).numpy()) * allowed.numpy()
        chosen = selection.view(allowed.shape).numpy() > 0
        demand = (sizes * chosen).sum(-1)
        step, user, feature = np.nonzero(allowed.numpy())
        other = demand[step]
        other[np.arange(len(step)), user] += np.where(chosen, -sizes, sizes)[step, user, feature]
        cost = self._cost(observation, np.r_[np.arange(len(demand)), step], np.concatenate([demand, other]))
        here = cost[: len(demand)]
        flipped = here[:, None, None].repeat(1, *allowed.shape[1:])
        flipped[step, user, feature] = cost[len(demand) :]
        on, same, flipped = torch.from_numpy(chosen).flatten(1), here[:, None], flipped.flatten(1)
        return here, torch.where(on, flipped, same), torch.where(on, same, flipped)

    def _cost(self, observation: Mapping[str, Tensor], step: np.ndarray, demand_bits: np.ndarray) -> Tensor:
        """(n,) cost of demands (n, K) in the steps (n,) of a batch."""
        one = self.scenario
        links = read_links({name: value.numpy() for name, value in observation.items()})
        place = 2.0 + observation["last_order"].double() - 1e-3 * observation["snr"].double()
        latency = np.empty(len(step))
        for start in range(0, len(step), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            rows = links.rows_at(step[part])
            link = (rows.channel, rows.power_w, rows.noise_power_w, rows.bandwidth_hz, demand_bits[part])
            latency[part] = self._solve(*link, place.numpy()[step[part]]).latency_s
        capped = np.minimum(latency, one.latency_cap_s) / one.reference_s
        late = latency > one.latency_cap_s
        cost = (1.0 - one.lpips_weight) * capped + one.violation_penalty * late
        return torch.from_numpy(cost.astype(np.float32))
