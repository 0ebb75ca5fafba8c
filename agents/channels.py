"""What the observed channels allow: rates with MMSE beams, and how long bits take at them, as tensors.

Networks of the agents' size cannot work these out by themselves, and everything that they decide depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from noma_semcom_env.observation import BANDWIDTH_RANGE_HZ, LARGEST_FEATURE_BITS, SNR_RANGE_DB

AIRTIME_UNIT_S: Final = 1e-4
_LEAST_EFFICIENCY: Final = 0.05
_LONGEST: Final = 50.0
_SHORTEST: Final = 0.01


class Airtimes:
    """How long features and users take over the observed links, in units of :data:`AIRTIME_UNIT_S`.

    A user's time depends on who interferes; told are its times alone, with all others, with one other, and with all but
    one other, which for three users is every case that an order of decoding can bring.

    Args:
        observation: Of the environment, see :data:`~noma_semcom_agents.equivariant.READS`.
        mask: (B, K, F), 1 where a feature may be sent.
    """

    def __init__(self, observation: Mapping[str, Tensor], mask: Tensor) -> None:
        low, high = (math.log10(one) for one in BANDWIDTH_RANGE_HZ)
        bandwidth_hz = 10.0 ** (low + (observation["bandwidth"].float() + 1.0) * (0.5 * (high - low)))
        unit = 1.0 / (bandwidth_hz * AIRTIME_UNIT_S)
        self.rates = link_rates(observation["snr"], observation["direction"])
        alone, first, pair, rest = (1.0 / (8.0 * (one + 1.0)).clamp_min(_LEAST_EFFICIENCY) for one in self.rates)
        self._alone, self._first = alone * unit, first * unit
        self._pair, self._rest = pair * unit[..., None], rest * unit[..., None]
        self.bits = bits_of(observation["size"]).view(mask.shape) * mask

    def of_features(self) -> Tensor:
        """(B, K, F, 4): each feature's time alone and with all others interfering, both as such and as logarithms."""
        both = torch.stack([self.bits * self._alone[..., None], self.bits * self._first[..., None]], -1)
        both = both.clamp_max(0.4 * _LONGEST)
        return torch.cat([both, torch.log(both + _SHORTEST)], -1)

    def of_users(self, demand_bits: Tensor) -> tuple[Tensor, Tensor]:
        """Times of users that send ``demand_bits`` (B, K).

        Returns:
            (B, K, 4) times alone and with all others, both as such and as logarithms; (B, K, K, 6) user k's and user
            j's times at [k, j]: with each other alone, with all but each other, as logarithms, then the difference of
            the first two, and the first as such.
        """
        both = torch.stack([demand_bits * self._alone, demand_bits * self._first], -1).clamp_max(_LONGEST)
        own = torch.cat([both / 3.0, torch.log(both + _SHORTEST)], -1)
        pair, rest = demand_bits[..., None] * self._pair, demand_bits[..., None] * self._rest
        times = torch.stack([pair, pair.transpose(1, 2), rest, rest.transpose(1, 2)], -1).clamp_max(_LONGEST)
        logs = torch.log(times + _SHORTEST)
        return own, torch.cat([logs, logs[..., :1] - logs[..., 1:2], times[..., :1] / 3.0], -1)


def bits_of(size: Tensor) -> Tensor:
    """Bits from sizes as observed, on a logarithmic scale in [-1, 1]."""
    return torch.expm1((size.float() + 1.0) * (0.5 * math.log1p(LARGEST_FEATURE_BITS)))


def alignment_of(direction: Tensor) -> Tensor:
    """|<d_k, d_j>|^2 of every pair of users.

    Args:
        direction: (B, K, 2N), the real parts of each user's unit direction, then the imaginary parts.

    Returns:
        (B, K, K) in [0, 1].
    """
    real, imaginary = inner_products(direction)
    return (real**2 + imaginary**2).clamp(0.0, 1.0)


def inner_products(direction: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of <d_j, d_k> = d_j^H d_k at [k, j], both (B, K, K); ``direction`` is (B, K, 2N)."""
    transposed = direction.transpose(1, 2)
    return direction @ transposed, direction @ turned(direction).transpose(1, 2)


def turned(direction: Tensor) -> Tensor:
    """The imaginary unit times d, in the layout of d."""
    antennas = direction.shape[-1] // 2
    return torch.cat([-direction[..., antennas:], direction[..., :antennas]], -1)


@torch.no_grad()
def link_rates(snr: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spectral efficiencies that the observed channels allow with MMSE beams, log2(1 + SINR) / 8 - 1.

    Args:
        snr: (B, K) as observed, :data:`~noma_semcom_env.observation.SNR_RANGE_DB` scaled to [-1, 1].
        direction: (B, K * 2N) as observed.

    Returns:
        User k alone (B, K); k with all others interfering (B, K); k with j alone interfering (B, K, K); k with all but
        j interfering (B, K, K).
    """
    low, high = SNR_RANGE_DB
    strength = 10.0 ** ((snr.double() + 1.0) * (0.05 * (high - low)) + 0.1 * low)
    parts = direction.double().view(*snr.shape, 2, -1)
    channel = torch.complex(parts[:, :, 0], parts[:, :, 1]) * strength.sqrt()[..., None]
    noise = torch.eye(channel.shape[-1], dtype=channel.dtype, device=channel.device)
    covariance = noise + torch.einsum("bkn,bkm->bnm", channel, channel.conj())
    whitened = torch.einsum("bnm,bkm->bkn", torch.linalg.inv(covariance), channel)
    gram = torch.einsum("bkn,bjn->bkj", channel.conj(), whitened)
    # What all users' covariance, k's own included, leaves of k is g / (1 + g) of its SINR g. Leaving j out as well is
    # a downdate, too coarse for the link itself but not for an input of a network.
    own = gram.diagonal(dim1=1, dim2=2).real.clamp(0.0, 1.0 - 1e-9)
    without = (own[:, :, None] + gram.abs() ** 2 / (1.0 - own)[:, None]).clamp(0.0, 1.0 - 1e-9)
    pair = strength[:, :, None] * (1.0 - _alignment_in(channel, strength) * (strength / (1.0 + strength))[:, None])
    sinr = (strength, own / (1.0 - own), pair, without / (1.0 - without))
    alone, first, only, rest = (torch.log2(1.0 + one.clamp_min(0.0)).float() / 8.0 - 1.0 for one in sinr)
    return alone, first, only, rest


def _alignment_in(channel: Tensor, strength: Tensor) -> Tensor:
    """(B, K, K) alignments in double precision, where 1 minus one of them is what counts."""
    product = torch.einsum("bkn,bjn->bkj", channel.conj(), channel).abs() ** 2
    return (product / (strength[:, :, None] * strength[:, None]).clamp_min(1e-30)).clamp(0.0, 1.0)
