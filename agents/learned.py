"""Trained policies as plain policies: NumPy in, NumPy out, greedy. Loading one starts no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from noma_semcom_agents.policies import Info, Observation

if TYPE_CHECKING:
    from ray.rllib.core.rl_module.rl_module import RLModule

MODULE_IN_CHECKPOINT: Final = Path("learner_group", "learner", "rl_module", "default_policy")


class LearnedPolicy:
    """The most likely selection of a trained module.

    Args:
        module: Its actions are the selections.
        name: How tables call it.
    """

    def __init__(self, module: RLModule, name: str = "IM-PPO") -> None:
        self.name = name
        self.module = module

    @classmethod
    def from_checkpoint(cls, folder: str | Path, name: str = "IM-PPO") -> LearnedPolicy:
        """Load the policy that a training left.

        Args:
            folder: A checkpoint of RLlib's Algorithm, as ``Algorithm.save_to_path`` and Tune write them.
            name: How tables call it.

        Raises:
            FileNotFoundError: If the folder is no such checkpoint.
        """
        from ray.rllib.core.rl_module.rl_module import RLModule

        path = Path(folder).resolve() / MODULE_IN_CHECKPOINT
        if not path.is_dir():
            raise FileNotFoundError(
                f"{folder} is no checkpoint of a trained policy: it has no folder {MODULE_IN_CHECKPOINT}"
            )
        return cls(RLModule.from_checkpoint(path), name)

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8; draws nothing."""
        batch = {Columns.OBS: {name: torch.as_tensor(value) for name, value in observation.items()}}
        actions: np.ndarray = self.module.forward_inference(batch)[Columns.ACTIONS].numpy()
        return actions
