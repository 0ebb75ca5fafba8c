from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from noma_semcom_env import NomaSemComEnv, Scenario
from noma_semcom_env.recovery.table import RecoveryTable

INFO = {
    "lpips": (3,),
    "latency_s": float,
    "rate_bps": (3,),
    "demand_bits": (3,),
    "decoding_order": (3,),
    "selection": (3, 6),
    "weighted_ll": float,
    "violations": int,
    "unavailable_bits": int,
    "solver_fallbacks": int,
    "privileged": dict,
}
PRIVILEGED = {
    "channel": (3, 2),
    "power_w": (3,),
    "noise_power_w": float,
    "image_ids": (3,),
    "image_index": (3,),
    "distances_m": (3,),
}


def check_form(info: dict[str, Any], form: dict[str, Any]) -> None:
    assert info.keys() == form.keys()
    for name, expected in form.items():
        assert info[name].shape == expected if isinstance(expected, tuple) else type(info[name]) is expected, name


@pytest.fixture
def env(table_path: str) -> NomaSemComEnv:
    return NomaSemComEnv(images=table_path, episode_length=4)


def test_an_episode(env: NomaSemComEnv, table: RecoveryTable) -> None:
    observation, info = env.reset(seed=3)
    check_form(info, {"privileged": dict})
    check_form(info["privileged"], PRIVILEGED)
    assert info["privileged"]["image_ids"].tolist() == [
        table.bank.image_ids[i] for i in info["privileged"]["image_index"]
    ]
    first = info["privileged"]["channel"]
    for step in range(4):
        assert env.observation_space.contains(observation)
        observation, reward, terminated, truncated, info = env.step(observation["action_mask"])
        check_form(info, INFO)
        check_form(info["privileged"], PRIVILEGED)
        if step == 0:
            np.testing.assert_array_equal(info["privileged"]["channel"], first)
        assert type(reward) is float
        assert reward == -info["weighted_ll"]
        assert terminated is False
        assert truncated is (step == 3)
    assert env.observation_space.contains(observation)
    assert not np.array_equal(observation["snr"], np.zeros(3))


def test_steps_outside_an_episode_are_refused(env: NomaSemComEnv) -> None:
    action = np.zeros(18, np.int8)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(action)
    env.reset(seed=0)
    for _ in range(4):
        env.step(action)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(action)


def test_a_refused_action_moves_nothing(env: NomaSemComEnv) -> None:
    env.reset(seed=0)
    for bad in (np.zeros(17), np.full(18, np.nan), np.full(18, 2)):
        with pytest.raises(ValueError, match="action"):
            env.step(bad)
    _, reward, *_ = env.step(np.ones(18))
    env.reset(seed=0)
    assert env.step(np.ones(18))[1] == reward


def test_unavailable_bits_count_as_zero_and_are_reported(env: NomaSemComEnv) -> None:
    observation, _ = env.reset(seed=0)
    *_, masked = env.step(observation["action_mask"])
    env.reset(seed=0)
    *_, everything = env.step(np.ones(18, np.int8))
    assert masked["unavailable_bits"] == 0
    assert everything["unavailable_bits"] == 18 - observation["action_mask"].sum()
    np.testing.assert_array_equal(masked["selection"], everything["selection"])
    np.testing.assert_array_equal(masked["lpips"], everything["lpips"])


def test_image_ids_can_be_given_at_reset(env: NomaSemComEnv, table: RecoveryTable) -> None:
    ids = [table.bank.image_ids[i] for i in (2, 2, 0)]
    _, drawn = env.reset(seed=5)
    _, given = env.reset(seed=5, options={"image_ids": ids})
    assert given["privileged"]["image_ids"].tolist() == ids
    np.testing.assert_array_equal(given["privileged"]["channel"], drawn["privileged"]["channel"])
    np.testing.assert_array_equal(given["privileged"]["distances_m"], drawn["privileged"]["distances_m"])
    with pytest.raises(ValueError, match="image_ids holds 'nobody'"):
        env.reset(options={"image_ids": ["nobody"] * 3})
    with pytest.raises(ValueError, match="options holds 'images', which .* knows image_ids"):
        env.reset(options={"images": ids})


def test_scenario_and_keywords(table_path: str) -> None:
    base = Scenario(images=table_path, num_antennas=3)
    env = NomaSemComEnv(base, num_users=2)
    assert env.scenario == Scenario(images=table_path, num_antennas=3, num_users=2, latency_ref_s=1e-3)
    assert env.action_space.n == 12
    assert env.observation_space["direction"].shape == (12,)
    with pytest.raises(TypeError, match="did you mean 'num_users'"):
        NomaSemComEnv(base, num_user=2)
    with pytest.raises(ValueError, match="render_mode='svg' is not offered"):
        NomaSemComEnv(base, render_mode="svg")


def test_pickled_in_mid_episode_it_goes_on_alike(env: NomaSemComEnv) -> None:
    env.reset(seed=9)
    env.step(np.ones(18))
    twin = pickle.loads(pickle.dumps(env))  # noqa: S301 (its own)
    for _ in range(3):
        here, there = env.step(np.ones(18)), twin.step(np.ones(18))
        assert here[1] == there[1]
        for name, value in here[0].items():
            np.testing.assert_array_equal(value, there[0][name])
    np.testing.assert_array_equal(env.reset()[0]["snr"], twin.reset()[0]["snr"])


def test_the_docstring_has_its_headings_and_lists_every_term() -> None:
    text = NomaSemComEnv.__doc__ or ""
    headings = ["Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End"]
    headings += ["Arguments", "Vectorized environment", "Version History"]
    places = [text.index(f"    ## {heading}\n") for heading in headings]
    assert places == sorted(places)
    for name in (*INFO, *PRIVILEGED):
        assert f"`{name}`" in text or f'info["{name}"]' in text, name


def test_the_docstring_lists_the_observation(env: NomaSemComEnv) -> None:
    lengths = {"K": 3, "K * 2N": 12, "1": 1, "K * F": 18}
    text = (NomaSemComEnv.__doc__ or "").partition("## Observation Space")[2].partition("\n    ## ")[0]
    rows = {line.split("|")[1].strip(" `"): line.split("|") for line in text.splitlines() if line.startswith("    | `")}
    for name, space in env.observation_space.items():
        assert space.shape == (lengths[rows[name][2].strip()],)
