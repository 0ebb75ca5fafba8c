"""The oracle against an independent brute force, and against the environment's own reward."""

from __future__ import annotations

import itertools
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from noma_semcom_agents.evaluation import make_oracle
from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.staircases import Staircases
from noma_semcom_env import FeatureBank, Scenario
from noma_semcom_env.link.decoding_order import exhaustive_latency_order
from noma_semcom_env.link.orthogonal import time_division
from noma_semcom_env.transmission import near_first

WIDTH = {1: 4, 2: 3, 3: 3}


def random_bank(images: int, width: int, rng: np.random.Generator) -> tuple[FeatureBank, np.ndarray]:
    exists = np.arange(width) < rng.integers(width - 1, width + 1, images)[:, None]
    kept = exists & (rng.random(exists.shape) < 0.7)
    bits = np.where(exists, rng.integers(5, 400, exists.shape), 0)
    ids = tuple(f"image {i}" for i in range(images))
    label = exists.astype(np.int64)
    bank = FeatureBank(ids, exists, kept, bits, rng.random(exists.shape), label.astype(np.int8), label, ("", "thing"))
    members = (np.arange(1 << width)[:, None] >> np.arange(width)) & 1
    lpips = 0.6 - rng.uniform(0.0, 0.1, exists.shape) @ members.T + rng.normal(0.0, 0.02, (images, 1 << width))
    return bank, np.where(~exists @ members.T == 0, lpips, np.nan)


def least_latency(
    channel: np.ndarray, power_w: np.ndarray, noise_power_w: float, bandwidth_hz: float, demand: tuple
) -> float:
    """The latency of the best order with MMSE beams, every order tried, matrices formed as the formula has them."""
    active = [k for k, bits in enumerate(demand) if bits > 0]
    best = np.inf if active else 0.0
    for order in itertools.permutations(active):
        worst = 0.0
        for place, k in enumerate(order):
            interference = noise_power_w * np.eye(channel.shape[1], dtype=complex)
            for j in order[place + 1 :]:
                interference += power_w[j] * np.outer(channel[j], channel[j].conj())
            sinr = power_w[k] * (channel[k].conj() @ np.linalg.solve(interference, channel[k])).real
            worst = max(worst, demand[k] / (bandwidth_hz * np.log2(1 + sinr)) if sinr > 0 else np.inf)
        best = min(best, worst)
    return best


def brute_force(
    scenario: Scenario,
    bank: FeatureBank,
    lpips: np.ndarray,
    allowed: np.ndarray,
    channel: np.ndarray,
    images: np.ndarray,
) -> float:
    members = (np.arange(lpips.shape[1])[:, None] >> np.arange(bank.width)) & 1 == 1
    choices = [np.flatnonzero(np.isfinite(lpips[i]) & ~(members & ~allowed[i]).any(axis=1)) for i in images]
    known: dict[tuple, float] = {}
    best = np.inf
    for chosen in itertools.product(*choices):
        demand = tuple(int(bank.size_bits[i] @ members[c]) for i, c in zip(images, chosen, strict=True))
        if demand not in known:
            noise, band = scenario.noise_power_w, scenario.bandwidth_hz
            known[demand] = least_latency(channel, scenario.power_w, noise, band, demand)
        quality = np.mean([lpips[i, c] for i, c in zip(images, chosen, strict=True)])
        late = known[demand] > scenario.latency_cap_s
        cost = min(known[demand], scenario.latency_cap_s) / scenario.latency_ref_s
        value = scenario.lpips_weight * quality + (1 - scenario.lpips_weight) * cost + scenario.violation_penalty * late
        best = min(best, value)
    return best


@pytest.mark.parametrize("seed", range(24))
def test_oracle_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, antennas = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    bank, lpips = random_bank(4, WIDTH[users], rng)
    scenario = Scenario(
        num_users=users,
        num_antennas=antennas,
        lpips_weight=float(rng.choice([0.0, 0.2, 0.5, 0.9, 1.0])),
        latency_ref_s=float(10 ** rng.uniform(-4, -2)),
        max_latency_s=float(10 ** rng.uniform(-4.5, -2)) if seed % 2 else None,
        violation_penalty=float(rng.choice([0.0, 0.01, 1.0])),
    )
    shape = (users, antennas)
    channel = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * 10 ** rng.uniform(-6, -5, (users, 1))
    channel[0] *= seed % 7 != 0  # a user that nobody hears
    images = rng.integers(0, len(bank), users)
    pruned = seed % 3 == 0
    oracle = Oracle(scenario, lpips, bank, pruned)
    steps = {
        "channel": channel,
        "power_w": scenario.power_w,
        "noise_power_w": scenario.noise_power_w,
        "image_index": images,
    }
    found = oracle.solve(steps)
    allowed = bank.kept if pruned else bank.exists
    expected = brute_force(scenario, bank, lpips, allowed, channel, images)
    assert found.objective[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert not (found.selection[0] & ~allowed[images]).any()


LINKS = {"noma": exhaustive_latency_order, "short": exhaustive_latency_order, "tdma": time_division, "near": near_first}


@pytest.mark.parametrize(
    ("kind", "users", "width"), [*((kind, users, 3) for kind in LINKS for users in (1, 2, 3)), ("noma", 6, 2)]
)
@pytest.mark.parametrize("seed", range(6))
def test_oracle_equals_the_best_of_all_selections(kind: str, users: int, width: int, seed: int) -> None:
    rng = np.random.default_rng([seed, users])
    antennas = int(rng.integers(1, 4))
    bank, lpips = random_bank(4, width, rng)
    scenario = Scenario(
        num_users=users,
        num_antennas=antennas,
        lpips_weight=float(rng.choice([0.2, 0.5, 0.9])),
        latency_ref_s=float(10 ** rng.uniform(-4, -2)),
        max_latency_s=float(10 ** rng.uniform(-4.5, -2)) if seed % 2 else None,
        violation_penalty=float(rng.choice([0.0, 0.01, 1.0])),
        access="tdma" if kind == "tdma" else "noma",
        blocklength="normal" if kind == "short" or (kind == "tdma" and seed % 2) else None,
        error_probability=1e-2,
    )
    shape = (users, antennas)
    channel = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * 10 ** rng.uniform(-6, -5, (users, 1))
    images = rng.integers(0, len(bank), users)
    distances = rng.uniform(50, 200, users)
    link = (channel, scenario.power_w, scenario.noise_power_w, scenario.bandwidth_hz)
    oracle = Oracle(scenario, lpips, bank, near_first=kind == "near")
    steps = dict(zip(("channel", "power_w", "noise_power_w"), link[:3], strict=True))
    found = oracle.solve(steps | {"image_index": images, "distances_m": distances})

    members = (np.arange(1 << width)[:, None] >> np.arange(width)) & 1
    chosen = np.array(list(itertools.product(*(np.flatnonzero(np.isfinite(lpips[i])) for i in images))))
    demand = np.take_along_axis((members @ bank.size_bits.T).T[images].T, chosen, axis=0).astype(float)
    options = {} if scenario.blocklength is None else {"error_probability": scenario.error_probability}
    place = (distances,) if kind == "near" else ()
    every = [np.broadcast_to(one, (len(chosen), *np.shape(one))) for one in link]
    latency = LINKS[kind](*every, demand, *place, **options).latency_s
    value = oracle.value(lpips[images, chosen], latency)
    assert found.objective[0] == pytest.approx(value.min(), rel=1e-9, abs=1e-12)


def test_orders_other_than_the_best_cost(table_paths: dict[str, Path]) -> None:
    knobs = {"images": str(table_paths["test"]), "num_users": 3, "latency_ref_s": 1e-4}
    envs = gym.make_vec("NomaSemCom-v0", num_envs=40, vectorization_mode="vector_entry_point", **knobs)
    _, info = envs.reset(seed=7)
    envs.close()
    best, near = make_oracle(knobs), make_oracle(knobs, near_first=True)
    assert (best.name, near.name) == ("Oracle", "Oracle (near first)")
    gap = near.solve(info["privileged"]).objective - best.solve(info["privileged"]).objective
    assert (gap >= -1e-12).all()
    assert (gap > 1e-6).any()


@pytest.mark.parametrize("users", [1, 3, 4, 6])
def test_environment_pays_what_the_oracle_claims(users: int, table_paths: dict[str, Path]) -> None:
    knobs = {"images": str(table_paths["test"]), "num_users": users, "latency_ref_s": 1e-4}
    envs = gym.make_vec(
        "NomaSemComUnpruned-v0", num_envs=8, vectorization_mode="vector_entry_point", episode_length=1, **knobs
    )
    _, info = envs.reset(seed=11)
    found = make_oracle(knobs).solve(info["privileged"])
    _, reward, _, _, outcome = envs.step(found.selection.reshape(8, -1).astype(np.int8))
    np.testing.assert_allclose(-found.objective, reward, rtol=1e-12)
    np.testing.assert_allclose(found.latency_s, outcome["latency_s"], rtol=1e-12)
    np.testing.assert_allclose(found.lpips, outcome["lpips"], rtol=1e-12)
    best = reward
    rng = np.random.default_rng(0)
    for _ in range(50):
        envs.reset(seed=11)
        action = rng.random((8, found.selection[0].size)) < rng.random((8, 1))
        reward = envs.step((action & (info_mask(envs) == 1)).astype(np.int8))[1]
        assert (reward <= best + 1e-12).all()
    envs.close()


def info_mask(envs: gym.vector.VectorEnv) -> np.ndarray:
    dynamics = envs.unwrapped.dynamics
    images = envs.unwrapped._state.image_index
    return dynamics.available[images].reshape(len(images), -1)


def test_more_steps_at_once_give_the_same(table_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = {"images": str(table_paths["test"]), "latency_ref_s": 1e-4}
    envs = gym.make_vec("NomaSemCom-v0", num_envs=7, vectorization_mode="vector_entry_point", **knobs)
    _, info = envs.reset(seed=3)
    envs.close()
    oracle = make_oracle(knobs)
    together = oracle.solve(info["privileged"])
    monkeypatch.setattr("noma_semcom_agents.search._NUMBERS_AT_ONCE", 1)
    alone = oracle.solve(info["privileged"])
    np.testing.assert_array_equal(together.selection, alone.selection)
    np.testing.assert_array_equal(together.objective, alone.objective)


def test_staircase_keeps_the_best_subset_of_every_budget() -> None:
    rng = np.random.default_rng(5)
    bank, lpips = random_bank(3, 5, rng)
    stairs = Staircases.build(lpips, bank.size_bits, bank.exists)
    members = (np.arange(32)[:, None] >> np.arange(5)) & 1
    for image in range(3):
        bits = members @ bank.size_bits[image]
        for budget in range(0, int(bits.max()) + 2, 7):
            fits = np.isfinite(lpips[image]) & (bits <= budget)
            step = np.searchsorted(stairs.bits[image], budget, side="right") - 1
            assert stairs.lpips[image, step] == lpips[image, fits].min()
            assert bits[stairs.subset[image, step]] == stairs.bits[image, step]
        last = stairs.count[image] - 1
        assert np.isfinite(stairs.bits[image]).sum() == last + 1
        assert (np.diff(stairs.lpips[image, : last + 1]) < 0).all()


def test_oracle_refuses_what_it_cannot_solve(table_paths: dict[str, Path]) -> None:
    bank, lpips = random_bank(3, 4, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"lpips has shape \(3, 8\); \(3, 2\*\*4\) is needed"):
        Oracle(Scenario(), lpips[:, :8], bank)
    with pytest.raises(ValueError, match="weighted_sum"):
        Oracle(Scenario(reward=lambda lpips, latency_s, scenario: None), lpips, bank)
    with pytest.raises(ValueError, match=r"sic_residual=0.0 alone, not 0.1: rates then depend"):
        Oracle(Scenario(sic_residual=0.1), lpips, bank)
    with pytest.raises(ValueError, match="backlog=False alone"):
        Oracle(Scenario(backlog=True), lpips, bank)
    with pytest.raises(ValueError, match="not 'fdma'"):
        Oracle(Scenario(access="fdma"), lpips, bank)
    with pytest.raises(ValueError, match="near_first=True contradicts access='tdma'"):
        Oracle(Scenario(access="tdma"), lpips, bank, near_first=True)
