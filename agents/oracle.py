"""The oracle: the exact optimum of a step, found from what no policy may read. See :mod:`noma_semcom_agents.search`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.overlap import Links
from noma_semcom_agents.search import Optimum, StepSearch

if TYPE_CHECKING:
    from noma_semcom_env.features import FeatureBank
    from noma_semcom_env.scenario import Scenario


class Oracle(StepSearch):
    """Finds the optimum of steps whose channel and images are known.

    It knows the channel, even where the environment errs about it (``csi_error``): there it is a bound that nobody
    reaches.

    Args:
        scenario: Gives bandwidth, weights, reference and maximal latency, and the penalty.
        lpips: (I, 2**F) LPIPS of each subset of each image; a full table, since exactness is claimed.
        bank: The images' features.
        pruned: True restricts the search to features that survive pruning.
        near_first: True restricts it to the near-first order with MMSE beams, what Location-Decoding reaches at best.

    Raises:
        ValueError: If ``lpips`` is no full table, or the scenario is one that the search does not cover.
    """

    READS: Final = ("channel", "power_w", "noise_power_w", "image_index", "distances_m")
    """The entries of ``info["privileged"]`` that :meth:`solve` reads."""

    def __init__(
        self,
        scenario: Scenario,
        lpips: np.ndarray,
        bank: FeatureBank,
        pruned: bool = False,
        near_first: bool = False,
    ) -> None:
        super().__init__(scenario, lpips, bank, bank.kept if pruned else bank.exists, near_first)
        limits = [word for word, on in (("pruned", pruned), ("near first", near_first)) if on]
        self.name = f"Oracle ({', '.join(limits)})" if limits else "Oracle"
        self.exists = bank.exists

    def solve(self, privileged: Mapping[str, Any]) -> Optimum:
        """Solve B steps.

        Args:
            privileged: ``info["privileged"]`` of a vector environment: ``channel`` (B, K, N), ``power_w`` (B, K),
                ``noise_power_w`` (B,), ``image_index`` (B, K) and, for the near-first order, ``distances_m`` (B, K). A
                single environment's, without B, is taken too.
        """
        known = {key: np.asarray(privileged[key]) for key in self.READS if key in privileged}
        if known["channel"].ndim == 2:
            known = {key: value[None] for key, value in known.items()}
        images = known.pop("image_index")
        return self.search(Links(**known, bandwidth_hz=np.full(len(images), self.scenario.bandwidth_hz)), images)
