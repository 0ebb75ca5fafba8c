"""What the agents draw their actions from, on RLlib's new API stack: masked bits, and bits with beams and priorities.

A distribution is a product of factors: one a bit and, in the model-free form, one a user's beam and one a user's
priority. Each can be given its own credit, see :mod:`~noma_semcom_agents.learner`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.distribution.distribution import Distribution
from ray.rllib.core.distribution.torch.torch_distribution import TorchDeterministic
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional


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

    @property
    def bits(self) -> MaskedBernoulli:
        """Itself, which is all that there is."""
        return self

    @property
    def chance(self) -> Tensor:
        """(..., n) probability that a bit is 1."""
        return torch.sigmoid(self.logits) * self.mask

    def sample(self, *, sample_shape: Sequence[int] = (), **kwargs: Any) -> Tensor:
        """(*sample_shape, ..., n) int8."""
        return torch.bernoulli(self.chance.expand(*sample_shape, *self.logits.shape)).to(torch.int8)

    def rsample(self, **kwargs: Any) -> Tensor:
        """Bits have no reparametrized sample."""
        raise NotImplementedError("a Bernoulli distribution has no reparametrized sample")

    def factor_logp(self, value: Tensor) -> Tensor:
        """(..., n) log-probability of each bit of (..., n)."""
        bits = value.to(self.logits.dtype)
        logits = self.logits.expand(bits.shape)
        return -functional.binary_cross_entropy_with_logits(logits, bits, reduction="none") * self.mask

    def logp(self, value: Tensor, **kwargs: Any) -> Tensor:
        """(...,) log-probability of bits (..., n)."""
        return self.factor_logp(value).sum(-1)

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
        return TorchDeterministic(likeliest_bits(self.logits, self.mask))


class ModelFreeDistribution(Distribution):
    """The actions of ``NomaSemComModelFree-v0``: masked bits, beams and priorities, all independent.

    Use :meth:`sized`, which gives a subclass that knows how inputs are laid out: logits, mask, means and log deviations
    of the beams, then those of the priorities.

    Args:
        bits: Of the selection.
        beams: (..., K * 2N).
        priorities: (..., K).
    """

    lengths: ClassVar[tuple[int, ...]] = ()

    def __init__(self, bits: MaskedBernoulli, beams: Normal, priorities: Normal) -> None:
        super().__init__()
        self.bits, self.beams, self.priorities = bits, beams, priorities

    @classmethod
    def sized(cls, bits: int, beams: int, priorities: int) -> type[ModelFreeDistribution]:
        """The distribution of K * F bits, K * 2N numbers of beams and K priorities."""
        return type(cls.__name__, (cls,), {"lengths": (bits, bits, beams, beams, priorities, priorities)})

    @classmethod
    def from_logits(cls, logits: Tensor, **kwargs: Any) -> ModelFreeDistribution:
        """Take (..., 2 (bits + beams + priorities)) distribution inputs apart."""
        chance, mask, beams, beam_log_std, priorities, priority_log_std = logits.split(list(cls.lengths), -1)
        return cls(
            MaskedBernoulli(chance, mask),
            Normal(beams, beam_log_std.exp(), validate_args=False),
            Normal(priorities, priority_log_std.exp(), validate_args=False),
        )

    @staticmethod
    def required_input_dim(space: gym.spaces.Dict, **kwargs: Any) -> int:
        """Two numbers for each of the action's."""
        return 2 * sum(int(np.prod(part.shape or ())) for part in space.values())

    def sample(self, *, sample_shape: Sequence[int] = (), **kwargs: Any) -> dict[str, Tensor]:
        """Actions, each part with ``sample_shape`` in front."""
        shape = torch.Size(sample_shape)
        return {
            "selection": self.bits.sample(sample_shape=sample_shape),
            "beams": self.beams.sample(shape),
            "priorities": self.priorities.sample(shape),
        }

    def rsample(self, **kwargs: Any) -> Tensor:
        """Bits have no reparametrized sample."""
        raise NotImplementedError("a distribution of bits has no reparametrized sample")

    def factor_logp(self, value: Mapping[str, Tensor]) -> Tensor:
        """(..., K * F + 2K) log-probability of each bit, each user's beam and each user's priority."""
        users = self.priorities.mean.shape[-1]
        beams = self.beams.log_prob(value["beams"]).unflatten(-1, (users, -1)).sum(-1)
        return torch.cat(
            [self.bits.factor_logp(value["selection"]), beams, self.priorities.log_prob(value["priorities"])], -1
        )

    def logp(self, value: Mapping[str, Tensor], **kwargs: Any) -> Tensor:
        """(...,) log-probability."""
        return self.factor_logp(value).sum(-1)

    def entropy(self, **kwargs: Any) -> Tensor:
        """(...,) entropy in nats."""
        return self.bits.entropy() + self.beams.entropy().sum(-1) + self.priorities.entropy().sum(-1)

    def kl(self, other: ModelFreeDistribution, **kwargs: Any) -> Tensor:
        """(...,) divergence from this distribution to ``other``, which has the same mask."""
        beams = kl_divergence(self.beams, other.beams).sum(-1)
        return self.bits.kl(other.bits) + beams + kl_divergence(self.priorities, other.priorities).sum(-1)


def likeliest_bits(logits: Tensor, mask: Tensor) -> Tensor:
    """(..., n) int8, 1 where the log-odds are positive and the mask is not 0."""
    return ((logits > 0) & (mask > 0)).to(torch.int8)
