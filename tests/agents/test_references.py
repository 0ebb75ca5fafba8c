"""Greedy by importance per bit, and Location-Decoding's two forms."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.evaluation import Contender, evaluate, rollout
from noma_semcom_agents.policies import Policy
from noma_semcom_agents.references import GreedySelection, location_decoding
from noma_semcom_agents.schemes import AllSelection, NoSelection

USERS = 3


@pytest.fixture(scope="module")
def knobs(table_paths: dict[str, Path]) -> dict:
    return {"images": str(table_paths["policy"]), "latency_ref_s": 2e-4, "num_users": USERS}


def greedily(latency_s: float, channel: np.ndarray, snr_scale: float, bank: object, image: int) -> np.ndarray:
    """One user's choice, feature by feature, from the exact quantities."""
    room = latency_s * 1e6 * np.log2(1 + np.linalg.norm(channel) ** 2 * snr_scale) / USERS
    bits, importance = bank.size_bits[image], bank.importance[image]
    chosen = np.zeros(bank.width, dtype=np.int8)
    ranked = sorted(np.flatnonzero(bank.exists[image]), key=lambda f: (-importance[f] / bits[f], bits[f]))
    for feature in ranked:
        if bits[feature] <= room:
            chosen[feature] = 1
            room -= bits[feature]
    return chosen


@pytest.mark.parametrize("latency_s", [2e-6, 2e-5, 1e-4])
def test_each_user_fills_its_share_with_what_is_best_a_bit(knobs: dict, latency_s: float) -> None:
    envs = gym.make_vec("NomaSemComUnpruned-v0", num_envs=20, vectorization_mode="vector_entry_point", **knobs)
    observation, info = envs.reset(seed=1)
    dynamics, known = envs.unwrapped.dynamics, info["privileged"]
    envs.close()
    policy = GreedySelection(latency_s)
    assert isinstance(policy, Policy)
    chosen = policy.act(observation, info, np.random.default_rng(0)).reshape(20, USERS, -1)
    scale = known["power_w"][0, 0] / known["noise_power_w"][0]
    for step in range(20):
        for user in range(USERS):
            image = known["image_index"][step, user]
            expected = greedily(latency_s, known["channel"][step, user], scale, dynamics.bank, image)
            np.testing.assert_array_equal(chosen[step, user], expected)
    assert 0 < chosen.sum() < dynamics.bank.exists[known["image_index"]].sum()


def test_no_room_sends_nothing_and_endless_room_everything_that_may_be_sent(knobs: dict) -> None:
    envs = gym.make_vec("NomaSemCom-v0", num_envs=5, vectorization_mode="vector_entry_point", **knobs)
    observation, info = envs.reset(seed=1)
    envs.close()
    rng = np.random.default_rng(0)
    assert not GreedySelection(1e-12).act(observation, info, rng).any()
    np.testing.assert_array_equal(GreedySelection(1e9).act(observation, info, rng), observation["action_mask"])
    with pytest.raises(ValueError, match=r"latency_s=0.0 must be positive"):
        GreedySelection(0.0)


def test_the_fitted_latency_is_the_best_of_those_tried(knobs: dict) -> None:
    latencies = (1e-7, 3e-5, 1.0)
    best = GreedySelection.fit(knobs, latencies, episodes=30)
    single = {**knobs, "episode_length": 1}
    rewards = [rollout(Contender(GreedySelection(one)), single, 30, 0)[0].reward.mean() for one in latencies]
    assert best.latency_s == latencies[int(np.argmax(rewards))]
    result = evaluate([Contender(best), Contender(NoSelection()), Contender(AllSelection())], single, 30, 0)
    others = max(result.records[name].reward.mean() for name in ("No-Selection", "ALL-Selection"))
    assert result.records["Greedy"].reward.mean() >= others - 1e-12


def test_location_decoding_is_a_policy_under_the_near_first_order(knobs: dict) -> None:
    both = location_decoding(NoSelection(), AllSelection())
    assert [one.name for one in both] == ["Location-Decoding", "Location-Decoding (policy of IM-PPO)"]
    assert len(location_decoding(AllSelection())) == 1
    result = evaluate([Contender(AllSelection(), label="optimal"), *both], knobs, 6, 0)
    optimal, near = (result.records[name] for name in ("optimal", "Location-Decoding (policy of IM-PPO)"))
    np.testing.assert_array_equal(optimal.lpips, near.lpips)
    assert (near.latency_s >= optimal.latency_s * (1 - 1e-12)).all()
    assert near.latency_s.mean() > optimal.latency_s.mean()
