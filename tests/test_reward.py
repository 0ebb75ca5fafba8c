"""The reward (24) by hand."""

from __future__ import annotations

import numpy as np

from noma_semcom_env import NomaSemComEnv
from noma_semcom_env.reward import REWARDS, weighted_sum, worst_user
from noma_semcom_env.scenario import REWARDS as NAMES
from noma_semcom_env.scenario import Scenario


def test_reward_by_hand() -> None:
    scenario = Scenario(lpips_weight=0.25, latency_ref_s=2e-3, max_latency_s=10e-3, violation_penalty=3.0)
    lpips = np.array([[0.2, 0.4, 0.6], [0.0, 0.0, 0.3], [0.1, 0.1, 0.1]])
    terms = weighted_sum(lpips, np.array([4e-3, 0.0, 50e-3]), scenario)
    np.testing.assert_allclose(terms.weighted_ll, [0.25 * 0.4 + 0.75 * 2, 0.25 * 0.1, 0.25 * 0.1 + 0.75 * 5])
    np.testing.assert_allclose(terms.reward, -terms.weighted_ll - [0.0, 0.0, 3.0])
    np.testing.assert_array_equal(terms.violations, [0, 0, 1])
    np.testing.assert_array_equal(terms.latency_s, [4e-3, 0.0, 50e-3])


def test_the_worst_user_counts_alone() -> None:
    scenario = Scenario(lpips_weight=0.25, latency_ref_s=2e-3, max_latency_s=10e-3, violation_penalty=3.0)
    terms = worst_user(np.array([[0.2, 0.4, 0.6], [0.0, 0.3, 0.0]]), np.array([4e-3, 50e-3]), scenario)
    np.testing.assert_allclose(terms.reward, [-(0.25 * 0.6 + 0.75 * 2), -(0.25 * 0.3 + 0.75 * 5) - 3.0])
    np.testing.assert_array_equal(terms.violations, [0, 1])


def test_every_name_is_known(table_path: str) -> None:
    assert tuple(REWARDS) == NAMES
    rewards = {}
    for name in NAMES:
        env = NomaSemComEnv(images=table_path, reward=name)
        env.reset(seed=0)
        rewards[name] = env.step(np.zeros(18))[1]
    assert rewards["worst_user"] < rewards["weighted_sum"]


def test_undeliverable_counts_as_the_latest_and_violated() -> None:
    scenario = Scenario(latency_ref_s=1e-3)
    terms = weighted_sum(np.full((2, 3), 0.5), np.array([np.inf, 20e-3]), scenario)
    np.testing.assert_allclose(terms.weighted_ll, [0.25 + 10, 0.25 + 10])
    np.testing.assert_array_equal(terms.violations, [1, 0])
    np.testing.assert_allclose(terms.latency_s, [20e-3, 20e-3])
    np.testing.assert_allclose(terms.reward, [-11.25, -10.25])


def test_a_latency_that_is_no_number_is_not_hidden() -> None:
    terms = weighted_sum(np.full((1, 3), 0.5), np.array([np.nan]), Scenario(latency_ref_s=1e-3))
    assert np.isnan(terms.reward).all()
    assert np.isnan(terms.latency_s).all()
