"""The agents' distributions against torch's own."""

from __future__ import annotations

import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from noma_semcom_agents.distributions import MaskedBernoulli, ModelFreeDistribution


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(7, 9, generator=generator)
    return logits, logits + torch.randn(7, 9, generator=generator), (torch.rand(7, 9, generator=generator) < 0.6).int()


def test_bits_agree_with_torch_where_they_are_allowed() -> None:
    logits, others, mask = draw(0)
    ours, second = (MaskedBernoulli.from_logits(torch.cat([one, mask], -1)) for one in (logits, others))
    bits = ours.sample()
    for row in range(len(logits)):
        on = mask[row].bool()
        theirs, theirs_second = (Bernoulli(logits=one[row, on]) for one in (logits, others))
        torch.testing.assert_close(ours.logp(bits)[row], theirs.log_prob(bits[row, on].float()).sum())
        torch.testing.assert_close(ours.entropy()[row], theirs.entropy().sum())
        torch.testing.assert_close(ours.kl(second)[row], kl_divergence(theirs, theirs_second).sum())
    torch.testing.assert_close(ours.kl(ours), torch.zeros(7))


def test_forbidden_bits_are_never_set_and_do_not_count() -> None:
    logits, _, mask = draw(1)
    ours = MaskedBernoulli(logits, mask)
    bits = ours.sample(sample_shape=(400,))
    assert bits.dtype == torch.int8
    assert bits.shape == (400, 7, 9)
    assert not (bits * (1 - mask)).any()
    assert not (ours.to_deterministic().sample() * (1 - mask)).any()
    torch.testing.assert_close(ours.logp(bits[0]), ours.logp(bits[0] | (1 - mask)))
    # Five standard deviations of a mean of 400 coins.
    assert (bits.float().mean(0) - ours.chance).abs().max() < 5 * 0.5 / 20


def test_deterministic_bits_are_the_likeliest() -> None:
    logits, _, mask = draw(2)
    ours = MaskedBernoulli(logits, mask)
    best = ours.logp(ours.to_deterministic().sample())
    assert (best >= ours.logp(ours.sample(sample_shape=(30,))) - 1e-6).all()


def test_model_free_actions_are_bits_and_two_normals() -> None:
    logits, others, mask = draw(3)
    rest = torch.randn(2, 7, 2 * (12 + 3), generator=torch.Generator().manual_seed(3)) * 0.3
    law = ModelFreeDistribution.sized(9, 12, 3)
    ours, second = (law.from_logits(torch.cat([a, mask, b], -1)) for a, b in zip((logits, others), rest, strict=True))
    action = ours.sample(sample_shape=(50,))
    assert {name: part.shape for name, part in action.items()} == {
        "selection": (50, 7, 9),
        "beams": (50, 7, 12),
        "priorities": (50, 7, 3),
    }
    bits = MaskedBernoulli(logits, mask)
    beams, priorities = (
        Normal(rest[0, :, :12], rest[0, :, 12:24].exp()),
        Normal(rest[0, :, 24:27], rest[0, :, 27:].exp()),
    )
    expected = bits.logp(action["selection"])
    expected = expected + beams.log_prob(action["beams"]).sum(-1) + priorities.log_prob(action["priorities"]).sum(-1)
    torch.testing.assert_close(ours.logp(action), expected)
    factors = ours.factor_logp(action)
    assert factors.shape == (50, 7, 9 + 3 + 3)
    torch.testing.assert_close(factors[..., 10], beams.log_prob(action["beams"])[..., 4:8].sum(-1))
    torch.testing.assert_close(ours.entropy(), bits.entropy() + beams.entropy().sum(-1) + priorities.entropy().sum(-1))
    torch.testing.assert_close(ours.kl(ours), torch.zeros(7))
    assert (ours.kl(second) > 0).all()
