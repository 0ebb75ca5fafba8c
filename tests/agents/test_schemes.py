"""The schemes that need no training."""

from __future__ import annotations

import numpy as np
import pytest

from noma_semcom_agents import AllSelection, LearnedPolicy, NoSelection, Policy, RandomSelection

MASK = (np.random.default_rng(0).random((400, 12)) < 0.6).astype(np.int8)
OBSERVATION = {"action_mask": MASK}


def test_all_sends_what_it_may_and_none_nothing() -> None:
    rng = np.random.default_rng(1)
    chosen = AllSelection().act(OBSERVATION, {}, rng)
    np.testing.assert_array_equal(chosen, MASK)
    assert chosen.dtype == np.int8
    assert not NoSelection().act(OBSERVATION, {}, rng).any()


def test_random_sends_half_of_what_it_may_and_follows_its_seed() -> None:
    chosen = RandomSelection().act(OBSERVATION, {}, np.random.default_rng(1))
    assert not (chosen & ~MASK & 1).any()
    # 2 880 fair coins: five standard deviations are 0.047.
    assert chosen.sum() / MASK.sum() == pytest.approx(0.5, abs=0.047)
    np.testing.assert_array_equal(chosen, RandomSelection().act(OBSERVATION, {}, np.random.default_rng(1)))
    assert (chosen != RandomSelection().act(OBSERVATION, {}, np.random.default_rng(2))).any()


def test_random_refuses_an_impossible_probability() -> None:
    with pytest.raises(ValueError, match=r"probability=1.5 .* \[0, 1\]"):
        RandomSelection(1.5)


def test_every_policy_has_the_one_interface() -> None:
    assert isinstance(AllSelection(), Policy)
    assert isinstance(RandomSelection(), Policy)
    assert isinstance(LearnedPolicy(module=None), Policy)
