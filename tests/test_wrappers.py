from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_env.wrappers import (
    STATISTICS,
    FlatAction,
    FlatObservation,
    MaskableBits,
    PaperState,
    RecordTransmissionStatistics,
    VectorFlatAction,
    VectorFlatObservation,
    VectorPaperState,
    VectorRecordTransmissionStatistics,
)

IDS = ("NomaSemCom-v0", "NomaSemComModelFree-v0")
NUM = 3
PAIRS = [
    (FlatObservation, VectorFlatObservation),
    (FlatAction, VectorFlatAction),
    (PaperState, VectorPaperState),
    (RecordTransmissionStatistics, VectorRecordTransmissionStatistics),
]


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return bool(np.allclose(one, other, rtol=1e-6, atol=1e-7))


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize(("single", "vector"), PAIRS)
def test_vector_wrappers_do_to_rows_what_single_ones_do(table_path: str, name: str, single: Any, vector: Any) -> None:
    knobs: dict[str, Any] = {"images": table_path, "episode_length": 4, "csi_error": 0.1}
    ours = vector(gym.make_vec(name, NUM, "vector_entry_point", **knobs))
    theirs = SyncVectorEnv([lambda: single(gym.make(name, **knobs))] * NUM)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.single_observation_space == theirs.single_observation_space
    assert equal(ours.reset(seed=5)[0], theirs.reset(seed=5)[0])
    ours.action_space.seed(0)
    for _ in range(11):
        action = ours.action_space.sample()
        here, there = ours.step(action), theirs.step(action)
        assert ours.observation_space.contains(here[0])
        assert equal(here[0], there[0])
        assert equal(here[1], there[1])
        assert ("transmission" in here[4]) is ("transmission" in there[4])
        if "transmission" in here[4]:
            means = there[4]["transmission"]
            assert equal(here[4]["transmission"], {name: means[name] for name in here[4]["transmission"]})


# The checker advises against checking wrappers, which is the point here.
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("wrapper", [one for one, _ in PAIRS])
def test_wrapped_environments_stay_environments(table_path: str, name: str, wrapper: Any) -> None:
    env = wrapper(gym.make(name, images=table_path))
    check_env(env)
    twin = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(twin, wrapper)
    assert equal(twin.reset(seed=1)[0], env.reset(seed=1)[0])
    copy = pickle.loads(pickle.dumps(env))  # noqa: S301 (its own)
    env.action_space.seed(0)
    action = env.action_space.sample()
    assert equal(env.step(action)[0], copy.step(action)[0])


def test_flat_observations_hold_every_entry(table_path: str) -> None:
    env = gym.make("NomaSemCom-v0", images=table_path)
    flat = FlatObservation(gym.make("NomaSemCom-v0", images=table_path))
    whole, _ = env.reset(seed=2)
    seen, _ = flat.reset(seed=2)
    assert seen.dtype == np.float32
    assert list(flat.slices) == list(env.observation_space)
    for name, value in whole.items():
        np.testing.assert_array_equal(seen[flat.slices[name]], value)
    assert seen.size == sum(value.size for value in whole.values())
    some = FlatObservation(gym.make("NomaSemCom-v0", images=table_path), keys=["action_mask", "snr"])
    np.testing.assert_array_equal(some.reset(seed=2)[0], np.r_[whole["action_mask"], whole["snr"]])


def test_flat_observations_refuse_what_they_cannot_lay_out(table_path: str) -> None:
    env = gym.make("NomaSemCom-v0", images=table_path)
    with pytest.raises(ValueError, match=r"keys=\['snr', 'phase'\] must be one or more of"):
        FlatObservation(env, ["snr", "phase"])
    with pytest.raises(ValueError, match=r"keys=\[\]"):
        FlatObservation(env, [])
    with pytest.raises(TypeError, match=r"is Box.*; a Dict of 1-D spaces is needed"):
        FlatObservation(FlatObservation(env))


def test_flat_actions_are_bits_above_zero_and_controls_as_they_are(table_path: str) -> None:
    wrapped = FlatAction(gym.make("NomaSemComModelFree-v0", images=table_path))
    plain = gym.make("NomaSemComModelFree-v0", images=table_path)
    rng = np.random.default_rng(0)
    assert wrapped.action_space.shape == (18 + 12 + 3,)
    wrapped.reset(seed=1)
    plain.reset(seed=1)
    for _ in range(5):
        flat = rng.uniform(-1, 1, 33).astype(np.float32)
        parts = {"selection": (flat[:18] > 0).astype(np.int8), "beams": flat[18:30], "priorities": flat[30:]}
        assert wrapped.step(flat)[1] == plain.step(parts)[1]
    assert FlatAction(gym.make("NomaSemCom-v0", images=table_path)).action_space.shape == (18,)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (np.zeros(17), ValueError, r"action has shape \(17,\); \(18,\) is needed, every entry finite"),
        (np.r_[np.zeros(17), np.nan], ValueError, r"every entry finite"),
        (["a"] * 18, TypeError, r"numbers in \[-1, 1\] are needed"),
    ],
)
def test_bad_flat_actions_are_refused(table_path: str, action: Any, error: type[Exception], message: str) -> None:
    env = FlatAction(gym.make("NomaSemCom-v0", images=table_path))
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        env.step(action)


def test_the_papers_state_is_the_channel_and_the_order(table_path: str) -> None:
    env = PaperState(gym.make("NomaSemCom-v0", images=table_path))
    observation, info = env.reset(seed=4)
    for _ in range(3):
        assert observation.keys() == {"channel", "last_order", "action_mask"}
        h, power, noise = (info["privileged"][name] for name in ("channel", "power_w", "noise_power_w"))
        parts = observation["channel"].reshape(3, 2, 2)
        seen = (parts[:, 0] + 1j * parts[:, 1]) * np.sqrt(1e7)  # 1 stands for 70 dB
        used, (observation, *_, info) = seen, env.step(observation["action_mask"])
        h = info["privileged"]["channel"]
        np.testing.assert_allclose(used, np.sqrt(power / noise)[:, None] * h, rtol=1e-5)


def test_masks_of_bits_follow_the_episode(table_path: str) -> None:
    env = MaskableBits(FlatObservation(gym.make("NomaSemCom-v0", images=table_path)))
    seen = set()
    for _ in range(4):
        observation, _ = env.reset()
        may_be_0, may_be_1 = env.action_masks().reshape(-1, 2).T
        assert may_be_0.all()
        np.testing.assert_array_equal(may_be_1, observation[: may_be_1.size])  # the mask comes first in the flat form
        seen.add(may_be_1.tobytes())
    assert len(seen) > 1
    with pytest.raises(TypeError, match="the action space is Dict.*; MultiBinary is needed"):
        MaskableBits(gym.make("NomaSemComModelFree-v0", images=table_path))


def test_the_papers_state_needs_an_environment_of_the_suite(table_path: str) -> None:
    flat = PaperState(FlatObservation(gym.make("NomaSemCom-v0", images=table_path)))
    plain = PaperState(gym.make("NomaSemCom-v0", images=table_path))
    assert equal(flat.reset(seed=2)[0], plain.reset(seed=2)[0])
    with pytest.raises(TypeError, match="CartPole.*has no channels; an environment of this suite is needed"):
        PaperState(gym.make("CartPole-v1"))


def test_statistics_of_an_episode(table_path: str) -> None:
    env = RecordTransmissionStatistics(gym.make("NomaSemCom-v0", images=table_path, episode_length=5))
    env.reset(seed=0)
    env.step(env.action_space.sample())  # of an episode that is not finished
    env.reset(seed=0)
    env.action_space.seed(0)
    seen = []
    for step in range(5):
        *_, info = env.step(env.action_space.sample())
        seen.append(info)
        assert ("transmission" in info) is (step == 4)
    assert info["transmission"]["steps"] == 5
    assert info["transmission"].keys() == {*STATISTICS, "steps"}
    for name in STATISTICS:
        np.testing.assert_allclose(info["transmission"][name], np.mean([one[name] for one in seen], axis=0))


def test_vector_statistics_out_of_step(table_path: str) -> None:
    knobs: dict[str, Any] = {"images": table_path, "episode_length": 4}
    env = VectorRecordTransmissionStatistics(gym.make_vec("NomaSemCom-v0", 2, "vector_entry_point", **knobs))
    env.reset(seed=0)
    action = np.ones((2, 18))
    env.step(action)
    env.reset(options={"reset_mask": np.array([True, False])})
    lpips: list[np.ndarray] = [np.zeros(3)]
    for _ in range(4):
        *_, infos = env.step(action)
        if infos.get("_transmission", np.zeros(2, bool))[0]:
            break
        lpips.append(infos["lpips"][0])
    lpips = [*lpips[1:], infos["lpips"][0]]
    assert infos["transmission"]["steps"].tolist() == [4, 0]
    assert infos["_transmission"].tolist() == [True, False]
    np.testing.assert_allclose(infos["transmission"]["lpips"][0], np.mean(lpips, axis=0))
    listed = DictInfoToList(VectorRecordTransmissionStatistics(gym.make_vec("NomaSemCom-v0", 2, **knobs)))
    listed.reset(seed=0)
    for _ in range(4):
        *_, infos = listed.step(action)
    assert [one["transmission"]["steps"] for one in infos] == [4, 4]
