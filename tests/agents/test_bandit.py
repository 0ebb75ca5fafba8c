"""LinUCB: its description of subsets, its confidence, and that it learns from the LPIPS that it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noma_semcom_agents.bandit import LinearQuality, describe_linearly, learn_linucb
from noma_semcom_agents.evaluation import Contender, evaluate
from noma_semcom_agents.quality import TabulatedImages
from noma_semcom_agents.schemes import AllSelection, RandomSelection
from noma_semcom_agents.searching import SearchingPolicy


@pytest.fixture(scope="module")
def knobs(table_paths: dict[str, Path]) -> dict:
    return {"images": str(table_paths["policy"]), "latency_ref_s": 2e-4, "prune": False, "episode_length": 4}


def test_description_holds_what_is_sent_and_what_there_is(knobs: dict) -> None:
    bank = TabulatedImages.of(knobs).bank
    everything = np.array([(1 << int(n)) - 1 for n in bank.exists.sum(axis=1)])
    rows = np.arange(len(bank))
    full, nothing = (describe_linearly(bank, rows, numbers) for numbers in (everything, 0 * everything))
    labels = len(bank.labels)
    np.testing.assert_array_equal(full[:, : 6 * labels], full[:, 6 * labels : 12 * labels])
    assert not nothing[:, : 6 * labels].any()
    np.testing.assert_array_equal(nothing[:, 6 * labels : 12 * labels], full[:, 6 * labels : 12 * labels])
    np.testing.assert_allclose(full[:, 4 * labels : 6 * labels].sum(axis=1), bank.size_bits.sum(axis=1) / 1000.0)
    np.testing.assert_array_equal(full[:, -1], 1.0)


def test_optimism_is_the_radius_of_the_confidence_ellipsoid(knobs: dict) -> None:
    images = TabulatedImages.of(knobs)
    rng = np.random.default_rng(0)
    d = describe_linearly(images.bank, np.array([0]), np.array([0])).shape[1]
    data = rng.normal(size=(300, d))
    precision = np.eye(d) + data.T @ data
    plain, bold = (LinearQuality(images.bank.labels, rng.normal(size=d) * 0, precision, a) for a in (0.0, 0.7))
    gap = plain.predict(images.bank) - bold.predict(images.bank)
    numbers = np.array([0, 1, 5])
    x = describe_linearly(images.bank, np.full(3, 2), numbers)
    expected = 0.7 * np.sqrt(np.einsum("nd,de,ne->n", x, np.linalg.inv(precision), x))
    np.testing.assert_allclose(gap[2, numbers], expected, rtol=1e-8)


def test_it_learns_repeats_itself_and_is_kept(knobs: dict, tmp_path: Path) -> None:
    model, curve = learn_linucb(knobs, steps=600)
    assert curve[-1][0] >= 600
    assert [steps for steps, _ in curve] == sorted({steps for steps, _ in curve})
    assert curve[-1][1] > curve[0][1]
    images = TabulatedImages.of(knobs)
    policy = SearchingPolicy(model, images.scenario, "LinUCB")
    result = evaluate([Contender(policy), Contender(AllSelection()), Contender(RandomSelection())], knobs, 20, 5)
    regret = {name: result.summary(name)["regret"].value for name in result.records}
    assert regret["LinUCB"] < 0.5 * min(regret["ALL-Selection"], regret["Random-Selection"])

    again, _ = learn_linucb(knobs, steps=600)
    np.testing.assert_array_equal(model.coefficients, again.coefficients)
    model.save(tmp_path / "linucb.npz")
    loaded = LinearQuality.load(tmp_path / "linucb.npz")
    np.testing.assert_array_equal(loaded.predict(images.bank), model.predict(images.bank))


def test_bad_settings_are_refused(knobs: dict) -> None:
    for bad in ({"steps": 0}, {"optimism": -1.0}, {"ridge": 0.0}):
        with pytest.raises(ValueError, match=rf"{next(iter(bad))}={next(iter(bad.values()))}"):
            learn_linucb(knobs, **bad)
