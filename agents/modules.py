"""The agents' RLModule: an actor and a critic with networks of their own over the environment's Dict observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from noma_semcom_agents.distributions import MaskedBernoulli, ModelFreeDistribution
from noma_semcom_agents.networks import make_actor, make_critic
from noma_semcom_agents.reading import greedy_action, read, split


class TransmissionModule(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """Selects features; in the model-free form chooses beams and decoding priorities as well.

    ``model_config`` entries, filled in by :class:`~noma_semcom_agents.algorithms.AgentConfig`: ``network``
    (``"equivariant"`` or ``"mlp"``), ``width``, ``label_width``, ``labels`` (size of the label vocabulary), ``credit``
    (``"feature"`` gives a critic of selections, ``"step"`` one of situations), and ``slices``, where each entry stands
    in the observation of one of several agents (None with one agent).
    """

    def setup(self) -> None:
        """Build the networks."""
        self.settings = settings_of(self.observation_space, self.action_space, self.model_config)
        sizes = [self.settings[name] for name in ("bits", "beams", "priorities")]
        self.action_dist_cls = ModelFreeDistribution.sized(*sizes) if sizes[1] else MaskedBernoulli
        self.actor = make_actor(self.settings)
        self.critic = ScaledCritic(self.settings, self.model_config["credit"])

    def get_non_inference_attributes(self) -> list[str]:
        """What a runner or a loaded policy can do without."""
        return ["critic"]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observation = read(batch[Columns.OBS], self.settings)
        logits, *others = split(self.actor(observation), self.settings)
        return {Columns.ACTION_DIST_INPUTS: torch.cat([logits, observation["action_mask"].float(), *others], -1)}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The likeliest actions themselves: RLlib would ask for their log-probability, which is none."""
        with torch.no_grad():
            observation = read(batch[Columns.OBS], self.settings)
            return {Columns.ACTIONS: greedy_action(self.actor(observation), observation["action_mask"], self.settings)}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """(B,) the critic's estimate of the reward, of the batch's actions if the critic is one of selections."""
        observation = read(batch[Columns.OBS], self.settings)
        selection = selection_of(batch[Columns.ACTIONS]) if self.critic.net.of_selection else None
        return self.critic(observation, selection)


class ScaledCritic(nn.Module):
    """A critic whose network works on rewards near 0 and 1, whatever the scale of the scenario's.

    Args:
        settings: Of the networks.
        credit: Of :data:`~noma_semcom_agents.learner.CREDITS`: ``"step"`` values situations, ``"feature"`` selections,
            ``"model"`` what they are worth beside the known cost of their latency.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, settings: Mapping[str, Any], credit: str) -> None:
        super().__init__()
        self.net = make_critic(settings, of_selection=credit != "step", latency_known=credit == "model")
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("scale", torch.zeros(()))

    @torch.no_grad()
    def fit_scale(self, returns: Tensor) -> None:
        """Take offset and scale from the first returns that are seen; later ones change nothing."""
        if not self.scale:
            self.offset.copy_(returns.mean())
            self.scale.copy_(returns.std().clamp_min(1e-6))

    def forward(self, observation: Mapping[str, Tensor], selection: Tensor | None = None) -> Tensor:
        """(B,) values."""
        value: Tensor = self.offset + self.scale * self.net(observation, selection)
        return value

    def without_and_with(self, observation: Mapping[str, Tensor], selection: Tensor) -> tuple[Tensor, Tensor]:
        """Values with each bit 0, and with each bit 1; both (B, K * F)."""
        without, within = self.net.without_and_with(observation, selection)
        return self.offset + self.scale * without, self.offset + self.scale * within


def selection_of(actions: Any) -> Tensor:
    """(B, K * F) bits of a batch of actions of either form."""
    bits: Tensor = actions["selection"] if isinstance(actions, Mapping) else actions
    return bits


def settings_of(
    observation_space: gym.Space[Any], action_space: gym.Space[Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """What the networks need to know of the spaces, beside the module's own settings; plain numbers and texts.

    Args:
        observation_space: A Dict of 1-D spaces with a mask, or that of one of several agents.
        action_space: MultiBinary, or a Dict with ``beams`` and ``priorities`` as well.
        config: The module's ``model_config``.

    Raises:
        ValueError: If there is no mask.
    """
    entries = dict(getattr(observation_space, "spaces", {}))
    masks = [name for name in ("action_mask", "selection_mask") if name in entries]
    if not masks:
        raise ValueError(f"observations hold {sorted(entries)}, but no action_mask; the policy needs one")
    lengths = {name: _length(space) for name, space in entries.items() if name != masks[0]}
    slices = config.get("slices")
    if slices is not None:
        lengths = {name: stop - start for name, (start, stop) in slices.items()}
    parts = action_space.spaces if isinstance(action_space, gym.spaces.Dict) else {"selection": action_space}
    return {
        **{name: config[name] for name in ("network", "width", "label_width", "labels")},
        "inputs": lengths,
        "slices": slices,
        "mask": masks[0],
        "bits": _length(parts["selection"]),
        "beams": _length(parts["beams"]) if "beams" in parts else 0,
        "priorities": _length(parts["priorities"]) if "priorities" in parts else 0,
    }


def _length(space: gym.Space[Any]) -> int:
    return int(np.prod(space.shape or ()))
