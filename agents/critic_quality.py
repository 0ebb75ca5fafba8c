"""What a trained critic knows of LPIPS, as a model that the oracle's search can believe.

With ``credit="model"`` a critic learns from rewards what pictures are worth, apart from what the link costs. An actor
has to turn that into selections in one pass; a search over the same critic does it exactly. What lies between the two
is what the policy loses, and what lies between the search and the oracle is what the agent does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from noma_semcom_agents.quality import relabelled
from noma_semcom_agents.worth import EquivariantWorth
from noma_semcom_env.features import FeatureBank
from noma_semcom_env.observation import describe_features
from noma_semcom_env.recovery.subsets import subset_selections

_IMAGES_AT_ONCE: Final = 8


class CriticQuality:
    """A critic as a model of LPIPS.

    Args:
        critic: A :class:`~noma_semcom_agents.modules.ScaledCritic` that was trained with ``credit="model"``.
        labels: The label vocabulary that it was trained with.
        lpips_weight: lambda of its training, above 0.

    Raises:
        ValueError: If the critic is another one, or nothing of LPIPS entered its rewards.
    """

    def __init__(self, critic: Any, labels: tuple[str, ...], lpips_weight: float) -> None:
        if not isinstance(critic.net, EquivariantWorth):
            raise ValueError(
                f"critic is a {type(critic.net).__name__}, which knows LPIPS and latency together; train with "
                "credit='model' and the equivariant networks"
            )
        if not lpips_weight > 0.0:
            raise ValueError(f"lpips_weight={lpips_weight!r} must be above 0; rewards tell nothing of LPIPS")
        self.labels = labels
        self._critic, self._weight = critic, lpips_weight

    @classmethod
    def from_checkpoint(cls, folder: str | Path, labels: tuple[str, ...], lpips_weight: float) -> CriticQuality:
        """The critic that a training left.

        Args:
            folder: A checkpoint of RLlib's Algorithm; it holds pickles, so only of one's own trainings.
            labels: See the class.
            lpips_weight: See the class.
        """
        from ray.rllib.core.rl_module.rl_module import RLModule

        from noma_semcom_agents.learned import MODULE_IN_CHECKPOINT

        module: Any = RLModule.from_checkpoint(Path(folder).resolve() / MODULE_IN_CHECKPOINT)
        return cls(module.critic, labels, lpips_weight)

    @torch.no_grad()
    def predict(self, bank: FeatureBank) -> np.ndarray:
        """(I, 2**F) LPIPS of every subset; of the features that may be sent alone, since others were never seen."""
        known = relabelled(bank, self.labels)
        columns = {name: torch.as_tensor(value) for name, value in describe_features(known, known.kept).items()}
        selections = subset_selections(known.width, known.width)
        subsets = torch.as_tensor(selections).float()
        found = np.empty((len(known), len(subsets)))
        for start in range(0, len(known), _IMAGES_AT_ONCE):
            images = {name: value[start : start + _IMAGES_AT_ONCE] for name, value in columns.items()}
            count = len(images["size"])
            images = {name: value.repeat_interleave(len(subsets), 0) for name, value in images.items()}
            images["snr"] = torch.zeros(count * len(subsets), 1)
            sent = subsets.repeat(count, 1) * images["action_mask"]
            value = self._critic(images, sent).view(count, -1)
            found[start : start + count] = -value.double().numpy() / self._weight
        cannot = (selections[None] & ~known.exists[:, None]).any(axis=-1)
        found[cannot] = np.nan
        return found
