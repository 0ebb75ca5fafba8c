"""Any scenario and any action: a clear refusal, or a valid step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from gymnasium.error import Error as GymnasiumError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noma_semcom_env import NomaSemComEnv, NomaSemComVectorEnv, Scenario
from noma_semcom_env import scenario as rules
from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.wrappers import FlatAction

FIELDS = {field.name: field for field in fields(Scenario)}
FUZZ = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
LARGEST = {"num_users": 6, "num_antennas": 6, "episode_length": 5, "backlog_deadline_steps": 4}
"""Sizes beyond these are as valid and take long."""

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(st.one_of(st.floats(), st.text(max_size=2), st.none()), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just(object()),
    st.just(np.array([1.0, np.nan])),
    st.just(1j),
)


@pytest.fixture(scope="module")
def table(table: RecoveryTable) -> RecoveryTable:
    """Its features matched, as pruning anew needs."""
    rng = np.random.default_rng(0)
    shapes = [(len(one.mask_labels), len(one.phrases)) for one in table.features]
    matched = [replace(one, matches=rng.random(shape)) for one, shape in zip(table.features, shapes, strict=True)]
    return replace(table, features=tuple(matched))


def real(name: str) -> st.SearchStrategy[float]:
    """The whole allowed range, its ends among the likely values."""
    low, high, _ = rules._REAL[name]
    return st.floats(low, high)


def allowed(name: str, users: int, ids: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Values of a field that are allowed when taken alone."""
    if name in LARGEST:
        return st.integers(1, LARGEST[name])
    if name == "transmit_power_dbm":
        return st.one_of(real(name), st.lists(real(name), min_size=users, max_size=users))
    if name == "distances_m":
        return st.lists(real(name), min_size=users, max_size=users)
    if name == "image_ids":
        return st.lists(st.sampled_from(ids), min_size=users, max_size=users)
    if name in rules._REAL:
        return real(name)
    if name in rules._SWITCHES:
        return st.booleans()
    if name in rules._NAMES and name not in ("recovery", "transmission", "lpips_net"):
        return st.sampled_from(rules._NAMES[name][0])
    if name == "transmission":  # the convex program takes long, and has tests of its own
        return st.sampled_from([one for one in rules.TRANSMISSIONS if one != "paper"])
    return st.just(FIELDS[name].default)


@st.composite
def knobs(draw: st.DrawFn, ids: tuple[str, ...]) -> dict[str, Any]:
    """A few fields, of which at most one may be junk."""
    users = draw(st.integers(1, LARGEST["num_users"]))
    names = draw(st.lists(st.sampled_from(sorted(FIELDS.keys() - {"recovery", "num_users"})), max_size=7, unique=True))
    chosen = {"num_users": users, "episode_length": draw(st.integers(1, 5))}
    chosen |= {name: draw(allowed(name, users, ids)) for name in names}
    if draw(st.integers(0, 3)) == 0:
        chosen[draw(st.sampled_from(sorted(FIELDS.keys() - {"recovery"})))] = draw(JUNK)
    return chosen


def small(scenario: Scenario) -> bool:
    return all(getattr(scenario, name) <= largest for name, largest in LARGEST.items())


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call gives, or the words of its refusal."""
    try:
        return call(), ""
    except (TypeError, ValueError, GymnasiumError) as error:
        return None, str(error)


def check_step(env: Any, action: Any) -> None:
    observation, reward, terminated, truncated, info = env.step(action)
    assert env.observation_space.contains(observation)
    assert math.isfinite(reward)
    assert (terminated, type(truncated)) == (False, bool)
    for name in ("lpips", "rate_bps", "latency_s", "weighted_ll"):
        assert np.isfinite(info[name]).all(), name
        assert (np.asarray(info[name]) >= 0).all(), name
    assert sorted(info["decoding_order"]) == list(range(env.unwrapped.scenario.num_users))


@given(data=st.data())
@FUZZ
def test_every_scenario_is_refused_or_steps(table: RecoveryTable, data: st.DataObject) -> None:
    chosen = data.draw(knobs(table.bank.image_ids))
    scenario, refusal = attempt(lambda: Scenario(recovery=table, **chosen))
    if not refusal and not small(scenario):
        return
    env, refusal = (None, refusal) if refusal else attempt(lambda: NomaSemComEnv(scenario))
    if refusal:
        assert any(name in refusal for name in chosen)
        return
    observation, _ = env.reset(seed=data.draw(st.integers(0, 5)))
    assert env.observation_space.contains(observation)
    env.action_space.seed(0)
    for _ in range(min(env.scenario.episode_length, 2)):
        check_step(env, env.action_space.sample())


def numbers(length: int) -> st.SearchStrategy[Any]:
    entry = st.one_of(st.sampled_from([0, 1]), st.floats(-2, 2), st.floats(), st.integers(-(2**70), 2**70))
    return st.one_of(
        st.lists(st.sampled_from([0, 1]), min_size=length, max_size=length),
        st.lists(entry, min_size=length, max_size=length),
        st.lists(st.floats(-1, 1), min_size=length, max_size=length).map(lambda one: np.array(one, np.float16)),
        st.sampled_from([0.0, 1e-320, -0.0, 1e308]).map(lambda one: np.full(length, one)),
        st.just(np.ones((length, 1))),
        JUNK,
    )


ACTIONS = {
    "optimal": numbers(18),
    "model_free": st.one_of(
        st.fixed_dictionaries(
            {"selection": numbers(18), "beams": numbers(12), "priorities": numbers(3)}, optional={"power": JUNK}
        ),
        st.fixed_dictionaries({"selection": st.just(np.ones(18)), "beams": numbers(12), "priorities": numbers(3)}),
        JUNK,
    ),
}


@pytest.mark.parametrize("transmission", ACTIONS)
@given(data=st.data())
@FUZZ
def test_every_action_is_refused_or_steps(table: RecoveryTable, transmission: str, data: st.DataObject) -> None:
    env = NomaSemComEnv(recovery=table, transmission=transmission)
    env.reset(seed=0)
    action = data.draw(ACTIONS[transmission])
    _, refusal = attempt(lambda: check_step(env, action))
    if refusal:
        assert refusal.startswith("action")
        check_step(env, env.action_space.sample())  # and nothing has moved that would hinder it


@pytest.mark.parametrize("transmission", ACTIONS)
@given(data=st.data())
@FUZZ
def test_every_batch_of_actions_is_refused_or_steps(
    table: RecoveryTable, transmission: str, data: st.DataObject
) -> None:
    env = NomaSemComVectorEnv(2, recovery=table, transmission=transmission)
    env.reset(seed=0)
    one, other = (data.draw(ACTIONS[transmission]) for _ in range(2))
    if isinstance(one, dict) and isinstance(other, dict):
        actions: Any = {name: [one[name], other[name]] for name in one if name in other}
    else:
        actions = [one, other]
    stepped, refusal = attempt(lambda: env.step(actions))
    if refusal:
        assert refusal.startswith("action")
    else:
        assert np.isfinite(stepped[1]).all()
        assert env.observation_space.contains(stepped[0])


@pytest.mark.parametrize(("transmission", "length"), [("optimal", 18), ("model_free", 33)])
@given(data=st.data())
@FUZZ
def test_every_flat_action_is_refused_or_steps(
    table: RecoveryTable, transmission: str, length: int, data: st.DataObject
) -> None:
    env = FlatAction(NomaSemComEnv(recovery=table, transmission=transmission))
    env.reset(seed=0)
    action = data.draw(numbers(length))
    _, refusal = attempt(lambda: check_step(env, action))
    if refusal:
        assert refusal.startswith("action")
        check_step(env, env.action_space.sample())


@pytest.mark.parametrize("transmission", ACTIONS)
@given(data=st.data())
@FUZZ
def test_every_agents_action_is_refused_or_steps(table: RecoveryTable, transmission: str, data: st.DataObject) -> None:
    parallel = pytest.importorskip("noma_semcom_env.envs.parallel")
    env = parallel.parallel_env(recovery=table, transmission=transmission)
    env.reset(seed=0)
    own: Any = numbers(6)
    if transmission == "model_free":
        own = st.fixed_dictionaries({"selection": numbers(6), "beams": numbers(4), "priorities": numbers(1)})
    actions = {agent: env.action_space(agent).sample() for agent in env.agents}
    actions[data.draw(st.sampled_from([*env.agents, "su_9"]))] = data.draw(st.one_of(own, JUNK))
    stepped, refusal = attempt(lambda: env.step(actions))
    if refusal:
        assert refusal.startswith("action")
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        stepped = env.step(actions)
    assert all(math.isfinite(reward) for reward in stepped[1].values())
    assert all(env.observation_space(agent).contains(seen) for agent, seen in stepped[0].items())


@given(seed=JUNK, options=st.one_of(JUNK, st.fixed_dictionaries({"image_ids": JUNK})))
@FUZZ
def test_reset_takes_what_gymnasium_takes_or_refuses(table: RecoveryTable, seed: Any, options: Any) -> None:
    env = NomaSemComEnv(recovery=table)
    begun, refusal = attempt(lambda: env.reset(seed=seed, options=options))
    if refusal:
        assert any(name in refusal.lower() for name in ("seed", "options", "image_ids"))
    else:
        assert env.observation_space.contains(begun[0])
