"""Samples pair by seed and episode; measures and users' shares are those of the environment."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from noma_semcom_agents.evaluation import ENVIRONMENT, Contender
from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection
from noma_semcom_benchmarks import sweeps
from noma_semcom_benchmarks.campaign import Training
from noma_semcom_benchmarks.sweeps import ALL, Sample, conditional_mean, measure, reference, single, uplinks

KNOBS = {"episode_length": 3}


def test_samples_pair_by_seed_and_episode() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 40))
    first = Sample(1.0 + noise, (0, 1, 2))
    second = Sample(noise[[2, 1]], (2, 1))
    gap = first - second
    assert gap.seeds == (1, 2)
    one = gap.mean()
    assert (one.value, one.low, one.high) == pytest.approx((1.0, 1.0, 1.0))
    against = first - Sample(noise[:1])
    assert against.values.shape == (3, 40)
    assert (against * 2.0).mean().value == pytest.approx(2.0 * against.mean().value)
    with pytest.raises(ValueError, match="no training seed is in both"):
        first - Sample(noise[:1], (7,))


def test_a_mean_where_something_holds_counts_steps_and_not_episodes() -> None:
    values = [np.array([[1.0, 5.0], [3.0, 9.0]])]
    assert conditional_mean(values, [np.array([[True, False], [True, True]])]).value == pytest.approx(13.0 / 3.0)
    assert np.isnan(conditional_mean(values, [np.zeros((2, 2), dtype=bool)]).value)


def test_weighted_ll_and_regret(table_path: str) -> None:
    found = measure([reference("all", ALL), reference("none", "nothing")], {"images": table_path, **KNOBS}, 6, seed=3)
    assert found.sample("nothing", "weighted_ll").values == pytest.approx(found.sample("nothing", "objective").values)
    assert found.sample("nothing", "latency_s").mean().value == 0.0
    assert found.regret("Oracle").value == 0.0
    everything = found.evaluation.summary(ALL)["regret"]
    assert found.regret(ALL).value == pytest.approx(everything.value)
    env = gym.make_vec(
        ENVIRONMENT, num_envs=6, vectorization_mode="vector_entry_point", images=table_path, prune=False, **KNOBS
    )
    observation, _ = env.reset(seed=3)
    _, _, _, _, info = env.step(AllSelection().act(observation, {}, np.random.default_rng(0)))
    env.close()
    one = found.scenario
    assert info["weighted_ll"] == pytest.approx(
        one.lpips_weight * info["lpips"].mean(axis=1) + (1 - one.lpips_weight) * info["latency_s"] / one.reference_s
    )


def test_uplinks_tell_who_is_decoded_when(table_path: str) -> None:
    knobs = {"images": table_path, **KNOBS}
    everyone = uplinks(Contender(AllSelection(), {"prune": False}), knobs, 5, seed=1)
    assert (everyone.share == 1.0).all()
    assert everyone.sends.all()
    assert np.take_along_axis(everyone.place, everyone.order, axis=2).tolist() == [[[0, 1, 2]] * 3] * 5
    silent = uplinks(Contender(NoSelection()), knobs, 5, seed=1)
    assert not silent.sends.any()
    assert (silent.share == 0.0).all()
    np.testing.assert_array_equal(silent.image_index, everyone.image_index)


def test_a_reference_has_one_row() -> None:
    scheme = single("x", Contender(RandomSelection()))
    assert scheme.seeds == ()
    assert next(iter(scheme.contenders.values())).name == "x"


def test_a_quick_training_that_was_cut_off_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Path] = []

    def train(one: Training) -> None:
        trained.append(one.folder)

    monkeypatch.setattr(sweeps, "train_here", train)
    point = sweeps.Point("im-ppo")
    folder, request = point.folder(tmp_path, 0), point.request(0, sweeps.QUICK_STEPS)
    (folder / "checkpoint").mkdir(parents=True)
    for ended, times in ((None, 1), ({"steps": 1}, 1)):
        (folder / "run.json").write_text(json.dumps({"request": asdict(request), "ended": ended}))
        sweeps.train_quickly(point, tmp_path)
        assert len(trained) == times
    (folder / "run.json").write_text(json.dumps({"request": {**asdict(request), "steps": 7}, "ended": {"steps": 7}}))
    with pytest.raises(ValueError, match="holds a training with steps=7"):
        sweeps.train_quickly(point, tmp_path)
