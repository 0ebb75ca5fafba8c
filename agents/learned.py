"""Trained policies as plain policies: NumPy in, NumPy out, greedy. None of it starts Ray, :meth:`load` needs none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from noma_semcom_agents.networks import Actor, make_actor
from noma_semcom_agents.policies import Info, Observation
from noma_semcom_agents.reading import greedy_action, read

if TYPE_CHECKING:
    from ray.rllib.core.rl_module.rl_module import RLModule

MODULE_IN_CHECKPOINT: Final = Path("learner_group", "learner", "rl_module", "default_policy")
_SETTINGS: Final = "settings"


class LearnedPolicy:
    """The most likely action of a trained actor.

    Args:
        module: A :class:`~noma_semcom_agents.modules.TransmissionModule`, or anything with its ``actor`` and
            ``settings``; it is not copied, so the policy changes as the module learns.
        name: How tables call it.
    """

    def __init__(self, module: Any, name: str = "IM-PPO") -> None:
        self.name = name
        self.module = module

    @classmethod
    def from_checkpoint(cls, folder: str | Path, name: str = "IM-PPO") -> LearnedPolicy:
        """Load the policy from a checkpoint of RLlib, which holds pickles: only from a folder that you trust.

        What a training left loads without them, by :meth:`load` from its ``policy.npz``.

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
        module: RLModule = RLModule.from_checkpoint(path)
        return cls(module, name)

    def save(self, path: str | Path) -> None:
        """Write the actor as one .npz, for :meth:`load`; what is there is replaced in one go.

        Args:
            path: Of the file.
        """
        arrays = {name: value.numpy(force=True) for name, value in self.module.actor.state_dict().items()}
        settings = json.dumps({"name": self.name, **self.module.settings})
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        with part.open("wb") as file:
            # The stub takes names for flags.
            np.savez(file, **arrays, **{_SETTINGS: np.array(settings)})  # type: ignore[arg-type]
        os.replace(part, target)

    @classmethod
    def load(cls, path: str | Path) -> LearnedPolicy:
        """The policy that :meth:`save` wrote; needs PyTorch, but not Ray.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no policy, or one of a network that this version does not know.
        """
        with np.load(path, allow_pickle=False) as held:
            arrays = dict(held)
        if _SETTINGS not in arrays:
            raise ValueError(f"{path} holds no policy; LearnedPolicy.save writes one")
        settings: dict[str, Any] = json.loads(str(arrays.pop(_SETTINGS)))
        try:
            actor = make_actor(settings)
            actor.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"{path} holds a policy of another version, whose network this one does not know ({error}); train anew"
            ) from error
        return cls(_Loaded(actor, settings), settings["name"])

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> Any:
        """(B, K * F) int8 or, in the model-free form, a dict of arrays; draws nothing.

        Raises:
            ValueError: If there are other numbers of users, antennas or features than in training, and the network is
                none that takes any.
        """
        settings = self.module.settings
        with torch.no_grad():
            seen = read({name: torch.as_tensor(value) for name, value in observation.items()}, settings)
            sizes = {"bits": seen["action_mask"].shape[-1]}
            if settings["beams"]:
                sizes |= {"beams": seen["direction"].shape[-1], "priorities": seen["snr"].shape[-1]}
            changed = {name: size for name, size in sizes.items() if size != settings[name]}
            if changed and settings["network"] != "equivariant":
                known = {name: settings[name] for name in changed}
                raise ValueError(
                    f"the policy was trained on {known} numbers and meets {changed}; only equivariant networks take "
                    "other numbers of users, antennas or features than it was trained on"
                )
            action = greedy_action(self.module.actor(seen), seen["action_mask"], {**settings, **sizes})
        if isinstance(action, Mapping):
            return {name: value.numpy() for name, value in action.items()}
        return action.numpy()


class _Loaded:
    """An actor outside of a module."""

    def __init__(self, actor: Actor, settings: Mapping[str, Any]) -> None:
        self.actor, self.settings = actor, settings
