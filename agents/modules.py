"""The masked Bernoulli policy on RLlib's new API stack: its distribution, its networks and its RLModule.

The default network is shared by all users and all features and does not depend on how they are numbered. A feature is
encoded from its size, importance, modality and label; a user from its SNR, its last place in the order, what it could
send, and its pairwise channel alignment |<d_k, d_j>|^2 with every other user, which is what interference between them
depends on. A feature's logit is read from its own code, its user's, and the mean over users. What is learned of
a label therefore carries over to every image, every user and other numbers of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.distribution import Distribution
from ray.rllib.core.distribution.torch.torch_distribution import TorchDeterministic
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn
from torch.nn import functional

from noma_semcom_env.observation import LARGEST_FEATURE_BITS

NETWORKS: Final = ("shared", "mlp")


class MaskedBernoulli(Distribution):
    """Independent bits, of which those without a mask are 0 for certain.

    Log-probability, entropy and divergence count allowed bits alone. The mask travels beside the logits in
    ``ACTION_DIST_INPUTS``, so that the environment runner and the learner see the same one.

    Args:
        logits: (..., n) log-odds of each bit.
        mask: (..., n) 1 where a bit may be set, else 0.
    """

    def __init__(self, logits: Tensor, mask: Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.mask = mask

    @classmethod
    def from_logits(cls, logits: Tensor, **kwargs: Any) -> MaskedBernoulli:
        """Split (..., 2n) distribution inputs into logits and mask."""
        count = logits.shape[-1] // 2
        return cls(logits[..., :count], logits[..., count:])

    @staticmethod
    def required_input_dim(space: gym.Space[Any], **kwargs: Any) -> int:
        """2n: a logit and a mask entry for each bit."""
        return 2 * int(np.prod(space.shape or ()))

    def sample(self, *, sample_shape: Sequence[int] = (), **kwargs: Any) -> Tensor:
        """(*sample_shape, ..., n) int8."""
        chance = torch.sigmoid(self.logits).expand(*sample_shape, *self.logits.shape)
        return (torch.bernoulli(chance) * self.mask).to(torch.int8)

    def rsample(self, **kwargs: Any) -> Tensor:
        """Bits have no reparametrized sample."""
        raise NotImplementedError("a Bernoulli distribution has no reparametrized sample")

    def logp(self, value: Tensor, **kwargs: Any) -> Tensor:
        """(...,) log-probability of bits (..., n)."""
        bits = value.to(self.logits.dtype)
        logits = self.logits.expand(bits.shape)
        return (-functional.binary_cross_entropy_with_logits(logits, bits, reduction="none") * self.mask).sum(-1)

    def entropy(self, **kwargs: Any) -> Tensor:
        """(...,) entropy in nats."""
        chance = torch.sigmoid(self.logits)
        return ((functional.softplus(self.logits) - chance * self.logits) * self.mask).sum(-1)

    def kl(self, other: MaskedBernoulli, **kwargs: Any) -> Tensor:
        """(...,) divergence from this distribution to ``other``, which has the same mask."""
        chance = torch.sigmoid(self.logits)
        gap = functional.softplus(other.logits) - functional.softplus(self.logits)
        return ((chance * (self.logits - other.logits) + gap) * self.mask).sum(-1)

    def to_deterministic(self) -> TorchDeterministic:
        """The most likely bits."""
        return TorchDeterministic(((self.logits > 0) & (self.mask > 0)).to(torch.int8))


class SharedNet(nn.Module):
    """One encoder for every feature of every user; see the module's text. Users, features and antennas may be any many.

    Args:
        labels: Size of the label vocabulary.
        width: Width of the hidden layers.
        label_width: Width of a label's embedding.
        pooled: True gives one number a step (a value), False one a feature (logits).
    """

    READS: Final = frozenset(
        ("snr", "direction", "last_order", "bandwidth", "size", "importance", "modality", "label", "action_mask")
    )
    """Entries of the ``"features"`` observation that :meth:`forward` needs."""

    def __init__(self, labels: int, width: int, label_width: int, pooled: bool) -> None:
        super().__init__()
        self.labels, self.pooled = labels, pooled
        self.embedding = nn.Embedding(labels, label_width)
        self.of_feature = nn.Sequential(nn.Linear(label_width + 5, width), nn.ReLU())
        self.of_link = nn.Linear(4, width)
        self.of_other = nn.Linear(width, width, bias=False)
        self.of_user = nn.Sequential(nn.Linear(3 + 2 * width, width), nn.ReLU())
        self.of_all = nn.Linear(width, width, bias=False)
        self.user_to_head = nn.Linear(width, width)
        self.feature_to_head = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 1)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """(B, K * F) logits, or (B,) values if pooled."""
        batch, users = observation["snr"].shape
        mask = observation["action_mask"].float().view(batch, users, -1, 1)
        code = self.of_feature(self._features(observation, mask))
        # A sum, not a mean: how much could be sent matters, not only what it is like. The scale keeps it near 1.
        sendable = (mask.transpose(2, 3) @ code).squeeze(2) / 4.0
        user = self._users(observation, sendable)
        place = self.user_to_head(user) + self.of_all(user.mean(1, keepdim=True))
        if self.pooled:
            values: Tensor = self.head(torch.relu(place + self.feature_to_head(sendable))).mean((1, 2))
            return values
        hidden = torch.relu(self.feature_to_head(code) + place[:, :, None])
        logits: Tensor = self.head(hidden).flatten(1)
        return logits

    def _features(self, observation: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """(B, K, F, width of an input) what is known of each feature."""
        grid = mask.shape[:3]
        number = (observation["label"].float() + 1.0) * (0.5 * (self.labels - 1))
        embedded = self.embedding(number.round().long().clamp(0, self.labels - 1).view(grid))
        plain = [observation[name].float().view(*grid, 1) for name in ("size", "importance", "modality")]
        # The size is shown on a logarithmic scale, but what adds up to a demand is the bits themselves.
        kilobits = torch.expm1((plain[0] + 1.0) * (0.5 * math.log1p(LARGEST_FEATURE_BITS))) / 1000.0
        return torch.cat([embedded, *plain, kilobits, mask], -1)

    def _users(self, observation: Mapping[str, Tensor], sendable: Tensor) -> Tensor:
        """(B, K, width) code of each user."""
        batch, users, _ = sendable.shape
        snr = observation["snr"].float()
        direction = observation["direction"].float().view(batch, users, -1)
        alignment = alignment_of(direction)
        # What a receiver keeps of a user while it nulls another one, in dB like the SNR, hence additive to it.
        left = torch.log10((1.0 - alignment).clamp_min(1e-3)) / 1.5 + 1.0
        both = [snr[:, :, None].expand_as(alignment), snr[:, None].expand_as(alignment)]
        link = self.of_link(torch.stack([*both, alignment, left], -1))
        apart = 1.0 - torch.eye(users, device=snr.device)
        from_others = torch.einsum("kj,bkjw->bkw", apart, torch.relu(link + self.of_other(sendable)[:, None]))
        own = torch.stack(
            [snr, observation["last_order"].float(), observation["bandwidth"].float().view(batch, 1).expand_as(snr)], -1
        )
        code: Tensor = self.of_user(torch.cat([own, sendable, from_others], -1))
        return code


class FlatNet(nn.Module):
    """A plain perceptron over the whole observation, for comparison.

    Args:
        space: The observation space; every entry but the action mask is an input as it is.
        width: Width of the two hidden layers.
        outputs: Number of outputs.
    """

    def __init__(self, space: gym.spaces.Dict, width: int, outputs: int) -> None:
        super().__init__()
        self.names = sorted(name for name in space if name != "action_mask")
        inputs = sum(int(np.prod(space[name].shape or ())) for name in self.names)
        self.hidden = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, outputs)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """(B, outputs), or (B,) for one output."""
        inputs = torch.cat([observation[name].float().flatten(1) for name in self.names], -1)
        result: Tensor = self.head(self.hidden(inputs))
        return result.squeeze(-1) if result.shape[-1] == 1 else result


def alignment_of(direction: Tensor) -> Tensor:
    """|<d_k, d_j>|^2 of every pair of users.

    Args:
        direction: (B, K, 2N), the real parts of each user's unit direction, then the imaginary parts.

    Returns:
        (B, K, K) in [0, 1].
    """
    antennas = direction.shape[-1] // 2
    turned = torch.cat([-direction[..., antennas:], direction[..., :antennas]], -1)
    transposed = direction.transpose(1, 2)
    return (direction @ transposed) ** 2 + (turned @ transposed) ** 2


class SelectionModule(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """Actor and critic with separate networks over the environment's Dict observation.

    ``model_config`` entries: ``network`` (``"shared"`` or ``"mlp"``), ``width``, ``label_width``, ``labels`` (size of
    the label vocabulary, filled in by :class:`~noma_semcom_agents.imppo.IMPPOConfig`).
    """

    def setup(self) -> None:
        """Build the networks."""
        self.action_dist_cls = MaskedBernoulli
        config = self.model_config
        network, width = config["network"], config["width"]
        if network == "shared":
            missing = SharedNet.READS - set(getattr(self.observation_space, "spaces", {}))
            if missing:
                raise ValueError(f"network='shared' reads {sorted(missing)}, which the observation does not hold")
            sizes = (config["labels"], width, config["label_width"])
            actor: SharedNet | FlatNet = SharedNet(*sizes, pooled=False)
            critic: SharedNet | FlatNet = SharedNet(*sizes, pooled=True)
        elif network == "mlp":
            bits = int(np.prod(self.action_space.shape))
            actor, critic = FlatNet(self.observation_space, width, bits), FlatNet(self.observation_space, width, 1)
        else:
            raise ValueError(f"network={network!r} is unknown; choose one of {NETWORKS}")
        # Starting near probability 1/2 for every bit keeps the first steps of training exploring.
        nn.init.normal_(actor.head.weight, std=0.01)
        nn.init.zeros_(actor.head.bias)
        self.actor, self.critic = actor, critic

    def get_non_inference_attributes(self) -> list[str]:
        """What a runner or a loaded policy can do without."""
        return ["critic"]

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observation = batch[Columns.OBS]
        mask = observation["action_mask"].float()
        return {Columns.ACTION_DIST_INPUTS: torch.cat([self.actor(observation), mask], -1)}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            out = self._forward(batch, **kwargs)
        out[Columns.ACTIONS] = MaskedBernoulli.from_logits(out[Columns.ACTION_DIST_INPUTS]).to_deterministic().sample()
        return out

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """(B,) the critic's estimate of the reward."""
        values: Tensor = self.critic(batch[Columns.OBS])
        return values
