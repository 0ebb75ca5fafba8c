"""What features are thought to be worth is chosen by name or by a function of the user's own, and prunes anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_env import load_table
from noma_semcom_env.features import FeatureBank, SemanticFeatures
from noma_semcom_env.importance import FittedImportance, load_fitted, paper_importance, pruned_bank
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.zoo.presets import load_preset


@pytest.fixture(scope="module")
def bundled() -> Any:
    return load_table("street-validation")


def test_the_presets_thresholds_give_the_bundled_pruning_again(bundled: Any) -> None:
    preset = load_preset("street")
    knobs = {"text_threshold": preset.text_threshold, "visual_threshold": preset.visual_threshold}
    anew = pruned_bank(bundled, Scenario(**knobs))
    np.testing.assert_array_equal(anew.kept, bundled.bank.kept)
    np.testing.assert_allclose(anew.importance, bundled.bank.importance, atol=1e-12)
    assert pruned_bank(bundled, Scenario()) is bundled.bank


def test_thresholds_prune_and_change_what_masks_are_measured_by(bundled: Any) -> None:
    nothing, strict = (
        pruned_bank(bundled, Scenario(text_threshold=eps, visual_threshold=eps / 2)) for eps in (0.0, 0.5)
    )
    np.testing.assert_array_equal(nothing.kept, nothing.exists)
    assert strict.kept.sum() < bundled.bank.kept.sum()
    for row, one in enumerate(bundled.features):
        visual = len(one.mask_labels)
        assert strict.kept[row, :visual].any()
        assert strict.kept[row, visual : one.count].any()
    assert not np.array_equal(nothing.importance, strict.importance)
    np.testing.assert_array_equal(nothing.modality, strict.modality)


def test_environments_show_and_mask_by_the_scenarios_importance() -> None:
    seen = {}
    for name, knobs in {
        "paper": {},
        "strict": {"text_threshold": 0.5, "visual_threshold": 0.1},
        "fitted": {"importance": "fitted"},
        "unpruned": {"importance": "fitted", "prune": False},
    }.items():
        env = gymnasium.make("NomaSemCom-v0", images="street-validation", **knobs)
        seen[name], _ = env.reset(seed=1)
    offered = {name: observation["action_mask"].sum() for name, observation in seen.items()}
    assert offered["strict"] < offered["paper"] <= offered["unpruned"]
    assert not np.array_equal(seen["paper"]["importance"], seen["fitted"]["importance"])
    np.testing.assert_array_equal(seen["fitted"]["importance"], seen["unpruned"]["importance"])
    np.testing.assert_array_equal(seen["paper"]["size"], seen["fitted"]["size"])


def test_a_function_of_the_users_own_values_and_prunes(bundled: Any) -> None:
    def small_first(features: SemanticFeatures, text: float, visual: float) -> tuple[np.ndarray, np.ndarray]:
        assert (text, visual) == (0.25, load_preset("street").visual_threshold)
        return 1 / features.size_bits, features.size_bits < 100

    bank = pruned_bank(bundled, Scenario(importance=small_first, text_threshold=0.25))
    np.testing.assert_array_equal(bank.kept, bank.exists & (bank.size_bits < 100))


def test_a_threshold_alone_leaves_the_other_as_the_image_set_has_it(bundled: Any) -> None:
    strict = pruned_bank(bundled, Scenario(text_threshold=0.2, visual_threshold=0.3))
    features = [
        replace(one, importance=worth[: one.count], kept=kept[: one.count])
        for one, worth, kept in zip(bundled.features, strict.importance, strict.kept, strict=True)
    ]
    record = {**bundled.provenance, "thresholds": {"text": 0.2, "visual": 0.3}}
    table = replace(bundled, features=tuple(features), provenance=record)
    for knobs in ({"text_threshold": 0.2}, {"visual_threshold": 0.3}):
        np.testing.assert_array_equal(pruned_bank(table, Scenario(**knobs)).kept, strict.kept)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "but gave None"),
        (np.zeros(3), "but gave array"),
        ((np.zeros(3), np.ones(3, bool)), r"gave shapes \(3,\) and \(3,\)"),
        ("nan", "but gave .*nan"),
        ("shares", "the second of float64"),
        ("nothing", "at least one of them True"),
    ],
)
def test_what_a_function_gives_is_checked(bundled: Any, given: Any, said: str) -> None:
    def bad(features: SemanticFeatures, text: float, visual: float) -> Any:
        n = features.count
        made = {
            "nan": (np.full(n, np.nan), np.ones(n, bool)),
            "shares": (np.zeros(n), np.full(n, 0.3)),
            "nothing": (np.zeros(n), np.zeros(n, bool)),
        }
        return made[given] if isinstance(given, str) else given

    with pytest.raises(ValueError, match=rf"importance=.*bad.*'street:validation:0000'.*{said}"):
        pruned_bank(bundled, Scenario(importance=bad))


def test_what_pruning_anew_lacks_is_named(bundled: Any) -> None:
    class Own:
        bank: FeatureBank = bundled.bank

        def lpips(self, images: np.ndarray, selection: np.ndarray) -> np.ndarray:
            return np.zeros(images.shape)

    own = Own()
    assert pruned_bank(own, Scenario(recovery=own)) is own.bank
    with pytest.raises(ValueError, match=r"no attribute 'features', so importance='fitted'"):
        pruned_bank(own, Scenario(recovery=own, importance="fitted"))
    with pytest.raises(ValueError, match="does not hold the matching of its masks and phrases"):
        paper_importance(replace(bundled.features[0], matches=None), 0.0, 0.0)


def test_the_fitted_importance_of_the_preset(bundled: Any) -> None:
    fitted, preset = load_fitted(), load_preset("street")
    assert set(fitted.labels) <= set(preset.labels)
    for one in bundled.features:
        worth, kept = fitted(one, 0.0, 1.0)
        assert ((worth >= 0) & (worth <= 1)).all()
        visual = len(one.mask_labels)
        assert kept[visual:].all()
        assert kept[:visual].sum() == 1  # none reaches the threshold, so the best stays
        np.testing.assert_allclose(worth, np.clip(fitted.saving(one) / fitted.scale, 0, 1))


def test_a_file_that_holds_no_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="importance='fitted' needs a fit, which models='sd15' has not"):
        load_fitted("sd15")
    content = json.loads(Path(str(load_preset("street").importance)).read_text())
    for name, text in {
        "missing.json": None,
        "text.json": "fit",
        "part.json": json.dumps({key: value for key, value in content.items() if key != "scale"}),
        "short.json": json.dumps({**content, "visual": [1.0]}),
        "flat.json": json.dumps({**content, "scale": 0.0}),
        "infinite.json": json.dumps({**content, "textual": [float("inf")] * 3}),
        "strict.json": json.dumps({**content, "thresholds": [2.0, 0.0]}),
    }.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=rf"{name} holds no fitted importance"):
            FittedImportance.load(tmp_path / name)
