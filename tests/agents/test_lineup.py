"""References as the protocol has them: on all features, fitted where they act, and the bundled set network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from noma_semcom_agents import bandit, boosting, comparison
from noma_semcom_agents.bandit import LinearQuality, learn_linucb
from noma_semcom_agents.evaluation import Contender, evaluate
from noma_semcom_agents.lineup import EVALUATION_SEED, REFERENCES, Run, contenders_of
from noma_semcom_agents.predictor import BUNDLED, SetNetworkSettings, SetQuality, train_set_quality
from noma_semcom_agents.quality import TabulatedImages
from noma_semcom_agents.references import GreedySelection
from noma_semcom_agents.schemes import AllSelection

PROTOCOL = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()


@pytest.fixture(scope="module")
def training(table_paths: dict[str, Path]) -> dict[str, Any]:
    return {"images": str(table_paths["policy"]), "latency_ref_s": 2e-4}


@pytest.fixture
def fitted(training: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Keywords of the environments that references learn in, which they do but briefly."""
    seen: list[Mapping[str, Any]] = []
    learn, fit = bandit.learn_linucb, GreedySelection.fit
    model = boosting.BoostedQuality.fit(TabulatedImages.of(training), 8, 5, 8)

    def boosted(knobs: Mapping[str, Any]) -> tuple[Any, dict]:
        seen.append(knobs)
        return model, {}

    def linucb(knobs: Mapping[str, Any], **settings: Any) -> tuple[LinearQuality, list]:
        seen.append(knobs)
        return learn(knobs, steps=64, **settings)

    def greedy(knobs: Mapping[str, Any], episodes: int, name: str) -> GreedySelection:
        seen.append(knobs)
        return fit(knobs, [1e-4], 2, name=name)

    monkeypatch.setattr(boosting, "fit_boosted", boosted)
    monkeypatch.setattr(bandit, "learn_linucb", linucb)
    monkeypatch.setattr(GreedySelection, "fit", greedy)
    return seen


@pytest.mark.parametrize("name", [name for name in REFERENCES if name != "set-network"])
def test_references_learn_and_act_on_all_features(
    name: str, training: dict[str, Any], fitted: list[Mapping[str, Any]]
) -> None:
    contender = REFERENCES[name](training)
    assert contender.knobs == {"prune": False}
    assert all(knobs == {**training, "prune": False} for knobs in fitted)
    assert len(fitted) == (name in ("greedy", "linucb", "predictor"))
    result = evaluate([contender], training, 2, 0)
    assert result.records[contender.name].reward.shape[0] == 2


def test_what_is_set_for_everyone_holds_for_references(
    training: dict[str, Any], fitted: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "contender", lambda self: Contender(AllSelection(), {"prune": True}, "run"))
    run = Run(Path("run"), {"agent": "im-ppo", "scenario": training}, "run")
    run_free, greedy_free = contenders_of([run], training, ["greedy"])
    assert (run_free.knobs, greedy_free.knobs) == ({"prune": True}, {"prune": False})
    everyone = contenders_of([run], {**training, "prune": True}, ["greedy", "all"])
    assert [one.knobs for one in everyone] == [{}, {}, {}]
    assert [knobs["prune"] for knobs in fitted] == [False, True]


def test_the_protocol_and_the_defaults_of_linucb_agree() -> None:
    (row,) = re.findall(r"^\| LinUCB \|.*$", PROTOCOL, re.M)
    steps, optimism, ridge = re.findall(r"([\d ]+) environment steps.*optimism ([\d.]+), ridge ([\d.]+)", row)[0]
    defaults = {name: one.default for name, one in signature(learn_linucb).parameters.items()}
    told = {"steps": int(steps.replace(" ", "")), "optimism": float(optimism), "ridge": float(ridge)}
    assert {name: defaults[name] for name in told} == told


def test_the_bundled_set_network_is_what_its_card_says() -> None:
    model = SetQuality.bundled()
    assert model.was_trained_on(TabulatedImages.of({"images": "street-policy"}))
    assert not model.was_trained_on(TabulatedImages.of({"images": "street-validation"}))
    card = json.loads(BUNDLED.with_name("card.json").read_text())
    assert card["parameters"] == sum(one.numel() for network in model.networks for one in network.parameters())
    assert (card["members"], card["epochs"]) == (len(model.networks), model.record["settings"]["epochs"])
    assert (card["image_set"], card["images"]) == (model.record["image_set"], model.record["images"])
    assert SetNetworkSettings(**model.record["settings"]) == SetNetworkSettings()  # what the card's command trains


def test_the_bundled_set_network_is_a_reference() -> None:
    contender = REFERENCES["set-network"]({"images": "street-policy"})
    assert contender.knobs == {"prune": False}
    assert isinstance(contender.policy.model, SetQuality)
    knobs = {"images": "street-validation", "episode_length": 2}
    result = evaluate([contender], knobs, 16, EVALUATION_SEED)
    assert result.summary("Set network")["regret"].value < 0.2


def test_images_that_the_set_network_cannot_read_are_refused(training: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"trained on 'street-policy', and images '.*' have other labels; train others"
    ):
        REFERENCES["set-network"](training)
    with pytest.raises(ValueError, match=r"with importance='paper', not 'fitted'; leave importance"):
        REFERENCES["set-network"]({"importance": "fitted"})
    own = train_set_quality(TabulatedImages.of(training), SetNetworkSettings(members=1, epochs=1, width=8))
    own.check(TabulatedImages.of(training))
    assert own.was_trained_on(TabulatedImages.of(training))


def test_a_comparison_takes_references(
    training: dict[str, Any], table_paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "contender", lambda self: Contender(AllSelection(), {}, self.label))
    monkeypatch.setattr(comparison, "read_curve", lambda folder: None)
    monkeypatch.setattr(comparison, "_random_regret", lambda runs: 1.0)
    record = {"agent": "im-ppo", "seed": 0, "scenario": training, "training": {}}
    run = Run(Path("run"), {**record, "request": {"steps": 8}, "ended": {"steps": 8}}, "IM-PPO")
    found = comparison.compare_runs([run], str(table_paths["test"]), 2, 0, {}, ["none", "location"])
    assert found.beside == ["No-Selection", "Location-Decoding", "Oracle", "Oracle (pruned)"]
