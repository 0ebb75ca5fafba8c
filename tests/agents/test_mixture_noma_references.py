"""References of mixtures over NOMA: fixed choices are fixed, and the search is better than they and than chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from noma_semcom_agents.mixture_noma_references import FixedUplink, UplinkSearch
from noma_semcom_env import MixtureNomaScenario, MixtureTable
from noma_semcom_env.mixture_noma_dynamics import MixtureNomaDynamics

Make = Callable[..., MixtureTable]


@pytest.fixture(scope="session")
def mixture(make_mixture: Make) -> MixtureTable:
    return make_mixture(items=12)


def dynamics_of(mixture: MixtureTable, **knobs: Any) -> MixtureNomaDynamics:
    return MixtureNomaDynamics(MixtureNomaScenario(recovery=mixture, latency_ref_s=1e-3, **knobs))


def drawn(dynamics: MixtureNomaDynamics, count: int) -> Any:
    return dynamics.reset([np.random.default_rng(seed) for seed in range(count)])


def test_fixed_choices_are_fixed(mixture: MixtureTable) -> None:
    dynamics = dynamics_of(mixture, alpha_range=(0.1, 0.6))
    state = drawn(dynamics, 5)
    policy = FixedUplink(dynamics, 0.2, 0.05)
    info = dynamics.step(state, dynamics.decode(policy.act(dynamics.observe(state), {}), (5,))[0]).info
    np.testing.assert_allclose(info["alpha"], 0.2, atol=1e-6)
    np.testing.assert_allclose(info["cbr"], 0.05, atol=1e-6)
    assert policy.name == "alpha = 0.2, CBR = 0.05"
    for change, message in (((0.9, 0.05), "alpha=0.9"), ((0.2, 0.5), "cbr=0.5")):
        with pytest.raises(ValueError, match=message):
            FixedUplink(dynamics, *change)


def test_the_search_beats_fixed_choices_and_chance(mixture: MixtureTable) -> None:
    dynamics = dynamics_of(mixture)
    state = drawn(dynamics, 20)
    search = UplinkSearch(dynamics, (0, 5, 8, 16, 32), 7)
    known = {"privileged": dynamics.privileged(state)}
    action = search.act(dynamics.observe(state), known)
    assert action.shape == (20, 6)
    found = dynamics.step(state, dynamics.decode(action, (20,))[0]).reward
    np.testing.assert_allclose(found, search.best(state.item[:, 0], state.channels[:, 0])[1], rtol=1e-12)
    for alpha in (0.0, 0.3, 0.6):
        for cbr in (0.02, 0.07, 0.12):
            fixed = FixedUplink(dynamics, alpha, cbr).act(dynamics.observe(state), {})
            assert (dynamics.step(state, dynamics.decode(fixed, (20,))[0]).reward <= found + 0.01).all()
    rng = np.random.default_rng(0)
    for _ in range(100):
        chance = dynamics.step(state, rng.uniform(-1, 1, (20, 3, 2))).reward
        assert (chance <= found + 0.01).all()


def test_for_one_user_the_search_is_the_grids_best(mixture: MixtureTable) -> None:
    dynamics = dynamics_of(mixture, num_users=1, num_antennas=1)
    state = drawn(dynamics, 8)
    search = UplinkSearch(dynamics, (0, 5, 16), 5)
    _, reward = search.best(state.item[:, 0], state.channels[:, 0])
    best = np.full(8, -np.inf)
    for share in np.linspace(0, 1, 5):
        total = np.rint((0.02 + 0.1 * share) * 3072)
        for each in (0, 5, 16):
            alpha = np.minimum((each * mixture.items.tokens[state.item[:, 0, 0]] + 0.25 * (each > 0)) / total, 1.0)
            action = np.stack([2 * alpha - 1, np.full(8, 2 * share - 1)], axis=1)[:, None]
            best = np.maximum(best, dynamics.step(state, action).reward)
    np.testing.assert_allclose(reward, best, rtol=1e-6)
