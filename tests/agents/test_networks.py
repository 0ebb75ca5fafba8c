"""What the networks must not depend on, and what they compute besides their weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.equivariant import EquivariantActor, alignment_of, inner_products, link_rates
from noma_semcom_agents.networks import make_actor, make_critic
from noma_semcom_agents.reading import split
from noma_semcom_env.link.decoding_order import set_sinr
from noma_semcom_env.observation import SNR_RANGE_DB

USERS, WIDTH, ANTENNAS, LABELS = 3, 6, 2, 16
BITS = USERS * WIDTH


def settings(network: str = "equivariant", transmits: bool = False, **others: Any) -> dict[str, Any]:
    lengths = {"snr": USERS, "direction": USERS * 2 * ANTENNAS, "last_order": USERS, "bandwidth": 1}
    lengths |= dict.fromkeys(("size", "importance", "modality", "label"), BITS)
    controls = {"beams": USERS * 2 * ANTENNAS, "priorities": USERS} if transmits else {"beams": 0, "priorities": 0}
    fixed = {"network": network, "width": 16, "label_width": 4, "labels": LABELS, "inputs": lengths, "bits": BITS}
    return {**fixed, **controls, **others}


@pytest.fixture(scope="module")
def observation(table_paths: dict[str, Path]) -> dict[str, Tensor]:
    """The second observation of five episodes, so that a decoding order is there to see."""
    knobs = {"num_users": USERS, "num_antennas": ANTENNAS, "images": str(table_paths["policy"])}
    envs = gym.make_vec("NomaSemCom-v0", num_envs=5, vectorization_mode="vector_entry_point", **knobs)
    first, _ = envs.reset(seed=4)
    seen = envs.step(first["action_mask"])[0]
    envs.close()
    return {name: torch.as_tensor(value) for name, value in seen.items()}


def permuted(observation: Mapping[str, Tensor], users: Tensor, features: Tensor) -> dict[str, Tensor]:
    """The same situations with users and features numbered otherwise."""
    batch, moved = len(observation["snr"]), {}
    for name, value in observation.items():
        if name == "bandwidth":
            moved[name] = value
        elif value.shape[1] == BITS:
            moved[name] = by_feature(value, users, features)
        else:
            moved[name] = value.view(batch, USERS, -1)[:, users].reshape(batch, -1)
    return moved


def by_feature(value: Tensor, users: Tensor, features: Tensor) -> Tensor:
    return value.view(len(value), USERS, WIDTH)[:, users][:, :, features].reshape(len(value), -1)


def awake(actor: torch.nn.Module) -> torch.nn.Module:
    """With weights large enough for outputs to depend on inputs visibly."""
    with torch.no_grad():
        for name, one in actor.named_parameters():
            if "head.weight" in name:
                one.normal_(std=0.5)
    return actor


def test_actor_and_critics_do_not_depend_on_numbering(observation: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    users, features = torch.tensor([2, 0, 1]), torch.tensor([3, 5, 0, 1, 4, 2])
    other = permuted(observation, users, features)
    actor = awake(make_actor(settings(transmits=True)))
    logits, beams, _, priorities, _ = split(actor(observation), actor_settings := settings(transmits=True))
    moved_logits, moved_beams, _, moved_priorities, _ = split(actor(other), actor_settings)
    assert logits.std() > 1e-3
    assert priorities.std() > 1e-4
    # Forbidden bits mean nothing, whatever their logits.
    mask = other["action_mask"]
    torch.testing.assert_close(moved_logits * mask, by_feature(logits, users, features) * mask)
    torch.testing.assert_close(moved_beams.view(5, USERS, -1), beams.view(5, USERS, -1)[:, users])
    torch.testing.assert_close(moved_priorities, priorities[:, users])

    situations, selections = (make_critic(settings(), of_selection) for of_selection in (False, True))
    torch.testing.assert_close(situations(other), situations(observation))
    chosen = observation["action_mask"] * (torch.rand(5, BITS) < 0.5)
    value = selections(observation, chosen)
    assert value.std() > 1e-3
    torch.testing.assert_close(selections(other, by_feature(chosen, users, features)), value)


def test_a_common_rotation_of_the_channels_rotates_the_beams(observation: dict[str, Tensor]) -> None:
    torch.manual_seed(1)
    actor, rng = awake(make_actor(settings(transmits=True))), np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((2, 2)) + 1j * rng.standard_normal((2, 2)))[0]

    def rotated(parts: Tensor) -> Tensor:
        real, imaginary = np.moveaxis(parts.view(5, USERS, 2, ANTENNAS).numpy(force=True), 2, 0)
        turned = (real + 1j * imaginary) @ turn.T
        return torch.as_tensor(np.concatenate([turned.real, turned.imag], -1).reshape(5, -1), dtype=torch.float32)

    before = split(actor(observation), settings(transmits=True))
    after = split(actor({**observation, "direction": rotated(observation["direction"])}), settings(transmits=True))
    torch.testing.assert_close(after[0], before[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after[1], rotated(before[1]), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(before[1].view(5, USERS, -1).norm(dim=-1), torch.ones(5, USERS))


def test_a_weight_of_minus_one_nulls_one_interferer(observation: dict[str, Tensor]) -> None:
    direction = observation["direction"].view(5, USERS, -1)[:, :2]
    beams = EquivariantActor._beams(direction, -torch.ones(5, 2, 2))
    both = torch.cat([beams[:, :1], direction[:, 1:]], 1)
    assert alignment_of(both)[:, 0, 1].max() < 1e-10
    assert alignment_of(torch.cat([beams[:, :1], direction[:, :1]], 1))[:, 0, 1].min() > 1e-4


def test_inner_products_and_alignment_are_those_of_complex_vectors() -> None:
    rng = np.random.default_rng(0)
    channel = rng.standard_normal((4, USERS, ANTENNAS, 2)).view(complex)[..., 0]
    unit = channel / np.linalg.norm(channel, axis=-1, keepdims=True)
    expected = np.einsum("bjn,bkn->bkj", unit.conj(), unit)
    parts = torch.as_tensor(np.concatenate([unit.real, unit.imag], axis=-1))
    real, imaginary = inner_products(parts)
    np.testing.assert_allclose(real.numpy() + 1j * imaginary.numpy(), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(alignment_of(parts).numpy(), np.abs(expected) ** 2, rtol=1e-12)


@pytest.mark.parametrize(("users", "antennas"), [(3, 2), (4, 2), (2, 4), (1, 1)])
def test_link_rates_are_those_of_mmse_beams(users: int, antennas: int) -> None:
    rng = np.random.default_rng(users)
    channel = rng.standard_normal((6, users, antennas, 2)).view(complex)[..., 0]
    unit = channel / np.linalg.norm(channel, axis=-1, keepdims=True)
    snr_db = rng.uniform(0.0, 60.0, (6, users))
    low, high = SNR_RANGE_DB
    seen = torch.as_tensor((2 * snr_db - low - high) / (high - low), dtype=torch.float32)
    parts = torch.as_tensor(np.concatenate([unit.real, unit.imag], -1).reshape(6, -1), dtype=torch.float32)
    scaled = unit * 10 ** (snr_db / 20)[..., None]
    exact = np.log2(1 + set_sinr(scaled, np.ones((6, users)), np.ones(6)))  # (B, sets, K)
    alone, first, pair, rest = (8 * (one + 1) for one in link_rates(seen, parts))
    everyone = (1 << users) - 1
    for k in range(users):
        expected = {"alone": exact[:, 0, k], "first": exact[:, everyone ^ (1 << k), k]}
        np.testing.assert_allclose(alone[:, k], expected["alone"], atol=0.01)
        np.testing.assert_allclose(first[:, k], expected["first"], atol=0.05)
        for j in set(range(users)) - {k}:
            np.testing.assert_allclose(pair[:, k, j], exact[:, 1 << j, k], atol=0.05)
            np.testing.assert_allclose(rest[:, k, j], exact[:, everyone ^ (1 << k) ^ (1 << j), k], atol=0.05)


@pytest.mark.parametrize("network", ["equivariant", "mlp"])
def test_values_with_and_without_a_bit_are_those_of_the_changed_selections(
    network: str, observation: dict[str, Tensor]
) -> None:
    torch.manual_seed(2)
    critic = awake(make_critic(settings(network), of_selection=True))
    chosen = (observation["action_mask"] * (torch.rand(5, BITS) < 0.5)).to(torch.int8)
    with torch.no_grad():
        without, within = critic.without_and_with(observation, chosen)
        for bit in range(BITS):
            for value, stands in ((0, without), (1, within)):
                changed = chosen.clone()
                changed[:, bit] = value
                torch.testing.assert_close(stands[:, bit], critic(observation, changed), rtol=1e-4, atol=1e-5)
    gap = (within - without).abs()
    assert gap.max() > 1e-3
    if network == "equivariant":
        assert gap[observation["action_mask"] == 0].max() == 0.0


def test_forbidden_features_are_not_looked_at(observation: dict[str, Tensor]) -> None:
    torch.manual_seed(3)
    actor, critic = awake(make_actor(settings())), make_critic(settings(), of_selection=False)
    mask = observation["action_mask"]
    other = dict(observation)
    for name in ("size", "importance", "modality", "label"):
        other[name] = torch.where(mask > 0, observation[name], torch.tensor(0.3))
    torch.testing.assert_close(actor(other) * mask, actor(observation) * mask)
    torch.testing.assert_close(critic(other), critic(observation))


def test_weights_fit_other_numbers_of_users_features_and_antennas(table_paths: dict[str, Path]) -> None:
    torch.manual_seed(0)
    weights = make_actor(settings(transmits=True)).state_dict()
    for users, antennas in ((1, 1), (2, 3), (5, 2)):
        knobs = {"images": str(table_paths["test"]), "num_users": users, "num_antennas": antennas}
        envs = gym.make_vec("NomaSemComModelFree-v0", 4, vectorization_mode="vector_entry_point", **knobs)
        seen = {name: torch.as_tensor(value) for name, value in envs.reset(seed=1)[0].items()}
        envs.close()
        sizes = {"bits": users * WIDTH, "beams": users * 2 * antennas, "priorities": users}
        actor = make_actor(settings(**sizes))
        actor.load_state_dict(weights)
        parts = split(actor(seen), settings(**sizes))
        assert [part.shape[1] for part in parts] == [sizes[n] for n in "bits beams beams priorities priorities".split()]
        assert all(torch.isfinite(part).all() for part in parts)


def test_unknown_networks_and_foreign_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="network='transformer' is unknown; choose one of 'equivariant', 'mlp'"):
        make_actor(settings("transformer"))
    with pytest.raises(ValueError, match=r"network='equivariant' reads .*'size'.*use network='mlp'"):
        make_critic(settings(inputs={"snr": 3}), of_selection=True)
    assert make_actor(settings("mlp", inputs={"snr": 3}))({"snr": torch.zeros(2, 3)}).shape == (2, BITS)
