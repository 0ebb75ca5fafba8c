"""Policies that predict and search: with the truth for a prediction they are the oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from noma_semcom_agents.evaluation import Contender, evaluate
from noma_semcom_agents.policies import Policy
from noma_semcom_agents.quality import (
    QualityModel,
    TabulatedImages,
    Trial,
    bank_rows,
    held_out,
    joined_banks,
    relabelled,
)
from noma_semcom_agents.searching import SearchingPolicy
from noma_semcom_env.features import FeatureBank


class Truth:
    """Knows the LPIPS of every image, which it tells by its sizes and labels."""

    def __init__(self, images: TabulatedImages) -> None:
        self.labels = images.bank.labels
        self.calls = 0
        self._known = {self._name(images.bank, row): images.lpips[row] for row in range(len(images))}

    @staticmethod
    def _name(bank: FeatureBank, row: int) -> tuple:
        return (*bank.size_bits[row], *bank.label[row])

    def predict(self, bank: FeatureBank) -> np.ndarray:
        self.calls += 1
        return np.stack([self._known[self._name(bank, row)] for row in range(len(bank))])


class MaskCounter:
    """LPIPS falls by a tenth with every feature."""

    def __init__(self, images: TabulatedImages) -> None:
        self.labels = images.bank.labels
        self.seen = len(images)

    def predict(self, bank: FeatureBank) -> np.ndarray:
        members = (np.arange(1 << bank.width)[:, None] >> np.arange(bank.width)) & 1
        return np.where((~bank.exists) @ members.T > 0, np.nan, 1.0 - 0.1 * members.sum(axis=1))


@pytest.fixture(scope="module")
def knobs(table_paths: dict[str, Path]) -> dict:
    return {"images": str(table_paths["policy"]), "latency_ref_s": 2e-4, "episode_length": 3}


def test_who_knows_the_truth_has_no_regret(knobs: dict) -> None:
    images = TabulatedImages.of(knobs)
    policy = SearchingPolicy(Truth(images), images.scenario, "Truth")
    assert isinstance(policy, Policy)
    assert isinstance(policy.model, QualityModel)
    pruned = SearchingPolicy(Truth(images), images.scenario, "Truth, pruned")
    result = evaluate([Contender(policy, {"prune": False}), Contender(pruned)], knobs, 12, 5)
    for name, oracle in (("Truth", "Oracle"), ("Truth, pruned", "Oracle (pruned)")):
        np.testing.assert_allclose(result.records[name].reward, result.records[oracle].reward, atol=1e-6)
    assert policy.model.calls <= 2  # images that were seen before are not predicted again


def test_what_cannot_be_searched_is_refused_at_once(knobs: dict) -> None:
    images = TabulatedImages.of(knobs)
    with pytest.raises(ValueError, match="sic_residual=0.0 alone"):
        SearchingPolicy(Truth(images), replace(images.scenario, sic_residual=0.1), "Truth")


def test_many_images_are_forgotten_without_a_trace(knobs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    images = TabulatedImages.of(knobs)
    envs = gym.make_vec("NomaSemCom-v0", num_envs=2, vectorization_mode="vector_entry_point", **knobs)
    observation, info = envs.reset(seed=0)
    envs.close()
    rng = np.random.default_rng(0)
    chosen, calls = [], []
    for most in (100, 1):
        monkeypatch.setattr("noma_semcom_agents.searching._MOST_IMAGES", most)
        policy = SearchingPolicy(Truth(images), images.scenario, "Truth")
        chosen += [policy.act(observation, info, rng) for _ in range(3)]
        calls.append(policy.model.calls)
    for one in chosen[1:]:
        np.testing.assert_array_equal(one, chosen[0])
    assert calls == [1, 3]


def test_trials_order_beliefs_by_their_truth(knobs: dict) -> None:
    trial = Trial(knobs, episodes=60)
    true = trial.images.lpips
    noise = np.random.default_rng(0).normal(0.0, 1.0, true.shape)
    slight, heavy = (trial.regret(true + scale * noise) for scale in (0.005, 0.1))
    assert trial.regret(true) == pytest.approx(0.0, abs=1e-12)
    assert trial.regret(true + 3.0) == pytest.approx(0.0, abs=1e-12)
    assert 0.0 <= slight < heavy
    assert trial.regret(true, true + 0.1 * noise) > 0.0


def test_each_image_is_predicted_from_the_others(knobs: dict) -> None:
    images = TabulatedImages.of(knobs)
    learned: list[set[str]] = []

    def learn(some: TabulatedImages) -> MaskCounter:
        learned.append(set(some.bank.image_ids))
        return MaskCounter(some)

    predicted = held_out(learn, images, folds=3)
    np.testing.assert_array_equal(np.isfinite(predicted), np.isfinite(images.lpips))
    assert [len(ids) for ids in learned] == [4, 4, 4]
    assert not set.intersection(*learned)  # each image is left out once
    for folds in (1, 7):
        with pytest.raises(ValueError, match=rf"folds={folds} must lie in \[2, 6\]"):
            held_out(learn, images, folds)


def test_banks_are_cut_joined_and_relabelled(knobs: dict) -> None:
    bank = TabulatedImages.of(knobs).bank
    again = joined_banks([bank_rows(bank, np.array([0, 1])), bank_rows(bank, np.arange(2, len(bank)))])
    assert again.image_ids == bank.image_ids
    np.testing.assert_array_equal(again.size_bits, bank.size_bits)
    assert relabelled(bank, bank.labels) is bank
    other = relabelled(bank, ("", *reversed(bank.labels[1:-1])))
    for row, column in np.argwhere(bank.exists):
        name = bank.labels[bank.label[row, column]]
        expected = "" if name == bank.labels[-1] else name
        assert other.labels[other.label[row, column]] == expected


def test_live_recovery_has_no_table_to_learn_from(table_paths: dict[str, Path]) -> None:
    from noma_semcom_env import load_table

    class Live:
        bank = load_table(str(table_paths["test"])).bank

        def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
            return np.zeros(images.shape)

    with pytest.raises(ValueError, match="a full table"):
        TabulatedImages.of({"recovery": Live()})
