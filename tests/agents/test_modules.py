"""The masked Bernoulli distribution against torch's own, and what the shared network must not depend on."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.modules import MaskedBernoulli, SelectionModule, SharedNet, alignment_of

USERS, WIDTH, ANTENNAS, LABELS = 3, 6, 2, 16


@pytest.fixture(scope="module")
def envs(table_paths: dict[str, Path]) -> gym.vector.VectorEnv:
    return gym.make_vec(
        "NomaSemCom-v0",
        num_envs=5,
        vectorization_mode="vector_entry_point",
        num_users=USERS,
        num_antennas=ANTENNAS,
        images=str(table_paths["policy"]),
    )


@pytest.fixture
def observation(envs: gym.vector.VectorEnv) -> dict[str, torch.Tensor]:
    """The second observation of five episodes, so that a decoding order is there to see."""
    first, _ = envs.reset(seed=4)
    return {name: torch.as_tensor(value) for name, value in envs.step(first["action_mask"])[0].items()}


def draw(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(7, 9, generator=generator)
    return logits, logits + torch.randn(7, 9, generator=generator), (torch.rand(7, 9, generator=generator) < 0.6).int()


def test_distribution_agrees_with_torch_on_allowed_bits() -> None:
    logits, others, mask = draw(0)
    ours, second = (MaskedBernoulli.from_logits(torch.cat([one, mask], -1)) for one in (logits, others))
    bits = ours.sample()
    for row in range(len(logits)):
        on = mask[row].bool()
        theirs, theirs_second = (torch.distributions.Bernoulli(logits=one[row, on]) for one in (logits, others))
        torch.testing.assert_close(ours.logp(bits)[row], theirs.log_prob(bits[row, on].float()).sum())
        torch.testing.assert_close(ours.entropy()[row], theirs.entropy().sum())
        divergence = torch.distributions.kl_divergence(theirs, theirs_second).sum()
        torch.testing.assert_close(ours.kl(second)[row], divergence)
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
    assert (bits.float().mean(0) - torch.sigmoid(logits) * mask).abs().max() < 5 * 0.5 / 20


def test_deterministic_bits_are_the_likeliest() -> None:
    logits, _, mask = draw(2)
    ours = MaskedBernoulli(logits, mask)
    best = ours.logp(ours.to_deterministic().sample())
    assert (best >= ours.logp(ours.sample(sample_shape=(30,))) - 1e-6).all()


def permuted(
    observation: dict[str, torch.Tensor], users: torch.Tensor, features: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The same situations with users and features numbered otherwise."""
    batch, moved = len(observation["snr"]), {}
    for name, value in observation.items():
        if name == "bandwidth":
            moved[name] = value
        elif value.shape[1] == USERS * WIDTH:
            moved[name] = value.view(batch, USERS, WIDTH)[:, users][:, :, features].reshape(batch, -1)
        else:
            moved[name] = value.view(batch, USERS, -1)[:, users].reshape(batch, -1)
    return moved


def test_shared_network_does_not_depend_on_numbering(observation: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    users, features = torch.tensor([2, 0, 1]), torch.tensor([3, 5, 0, 1, 4, 2])
    actor = SharedNet(LABELS, width=16, label_width=4, pooled=False)
    critic = SharedNet(LABELS, width=16, label_width=4, pooled=True)
    other = permuted(observation, users, features)
    logits = actor(observation).view(-1, USERS, WIDTH)
    assert logits.std() > 1e-3
    torch.testing.assert_close(actor(other).view(-1, USERS, WIDTH), logits[:, users][:, :, features])
    torch.testing.assert_close(critic(other), critic(observation))


def test_alignment_is_the_squared_inner_product() -> None:
    rng = np.random.default_rng(0)
    channel = rng.standard_normal((4, USERS, ANTENNAS, 2)).view(complex)[..., 0]
    unit = channel / np.linalg.norm(channel, axis=-1, keepdims=True)
    expected = np.abs(np.einsum("bkn,bjn->bkj", unit.conj(), unit)) ** 2
    parts = torch.as_tensor(np.concatenate([unit.real, unit.imag], axis=-1))
    np.testing.assert_allclose(alignment_of(parts).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("network", ["shared", "mlp"])
def test_module_masks_in_every_phase(
    network: str, envs: gym.vector.VectorEnv, observation: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    config = {"network": network, "width": 16, "label_width": 4, "labels": LABELS}
    spaces = {"observation_space": envs.single_observation_space, "action_space": envs.single_action_space}
    module = SelectionModule(**spaces, model_config=config)
    batch, mask = {Columns.OBS: observation}, observation["action_mask"]
    actions = module.forward_inference(batch)[Columns.ACTIONS]
    assert actions.shape == mask.shape
    assert not (actions * (1 - mask)).any()
    for inputs in (module.forward_exploration(batch), module.forward_train(batch)):
        sampled = MaskedBernoulli.from_logits(inputs[Columns.ACTION_DIST_INPUTS]).sample(sample_shape=(50,))
        assert not (sampled * (1 - mask)).any()
        assert sampled.float().mean() > 0.2
    assert module.compute_values(batch).shape == (5,)


def test_unknown_network_and_foreign_spaces_are_refused(envs: gym.vector.VectorEnv) -> None:
    spaces = {"observation_space": envs.single_observation_space, "action_space": envs.single_action_space}
    with pytest.raises(Exception, match="network='transformer'|deprecated"):
        SelectionModule(**spaces, model_config={"network": "transformer", "width": 4})
    foreign = spaces | {"observation_space": gym.spaces.Dict({"snr": gym.spaces.Box(-1, 1, (3,))})}
    with pytest.raises(ValueError, match="network='shared' reads .*'action_mask'"):
        SelectionModule(**foreign, model_config={"network": "shared", "width": 4})


def test_shared_network_carries_over_to_other_numbers_of_users_and_antennas(table_paths: dict[str, Path]) -> None:
    torch.manual_seed(0)
    actor = SharedNet(LABELS, width=16, label_width=4, pooled=False)
    for users, antennas in ((1, 1), (2, 3), (5, 2)):
        envs = gym.make_vec("NomaSemCom-v0", 4, images=str(table_paths["test"]), num_users=users, num_antennas=antennas)
        observation = {name: torch.as_tensor(value) for name, value in envs.reset(seed=1)[0].items()}
        envs.close()
        assert actor(observation).shape == (4, users * WIDTH)
