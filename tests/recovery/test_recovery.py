"""The bundled recovery: it answers to what is sent, repeats itself, and agrees with its tables."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from noma_semcom_env.features import FeatureKind, select_kind
from noma_semcom_env.recovery.live import LiveRecovery
from noma_semcom_env.recovery.perceptual import PerceptualDistance
from noma_semcom_env.recovery.pipeline import DiffusionRecovery, RecoveryError, load_recovery
from noma_semcom_env.recovery.subsets import subset_selections
from noma_semcom_env.recovery.table import RecoveryTable, TableError, load_table
from noma_semcom_env.recovery.tabulate import Recipe, tabulate
from noma_semcom_env.scenes import street
from noma_semcom_env.zoo.devices import choose_device
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.presets import load_preset

SPLITS = ("street-policy", "street-validation", "street-test")


@pytest.fixture(scope="module")
def recovery() -> DiffusionRecovery:
    return load_recovery("street")


def test_lpips_answers_to_the_selection(recovery: DiffusionRecovery) -> None:
    """All features beat either kind alone, which beats nothing; each bound leaves a fifth of what the models reach."""
    table = load_table("street-validation")
    features, images, distance = table.features[:12], table.images[:12], PerceptualDistance()
    kinds: tuple[FeatureKind, ...] = ("all", "masks", "words", "none")
    means = {
        kind: recovery.distances(features, images, select_kind(features, kind), (0,), distance).mean() for kind in kinds
    }
    assert means["all"] <= 0.12
    assert means["none"] >= 0.42
    assert means["all"] < min(means["masks"], means["words"])
    assert max(means["masks"], means["words"]) < means["none"]


def test_the_same_seed_repeats_bit_for_bit_and_another_differs(recovery: DiffusionRecovery) -> None:
    one = load_table("street-test").features[0]
    selection = np.ones((1, one.count), dtype=bool)
    first = recovery.recover([one], selection, seeds=(3, 4))
    again = recovery.recover([one], selection, seeds=(3, 4))
    assert first.shape == (1, 2, 64, 64, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:, 0], first[:, 1])


@pytest.mark.parametrize("split", [*(pytest.param(one, marks=pytest.mark.slow) for one in SPLITS[:2]), SPLITS[2]])
def test_live_recovery_equals_the_table(split: str) -> None:
    table = load_table(split)
    live = LiveRecovery.from_table(table)
    rng = np.random.default_rng(0)
    images = rng.integers(len(table.features), size=(2, 3))
    selection = rng.random((2, 3, table.width)) < 0.5
    assert np.abs(live.lpips(images, selection) - table.lpips(images, selection)).max() < 1e-3
    twin = pickle.loads(pickle.dumps(live))  # noqa: S301 (its own)
    assert np.array_equal(twin.lpips(images, selection), live.lpips(images, selection))


def test_live_environment_equals_the_tabulated_one() -> None:
    envs = [
        gymnasium.make("NomaSemCom-v0", images="street-validation", recovery=recovery, num_users=2, episode_length=2)
        for recovery in ("table", "live")
    ]
    (table, info), (live, live_info) = (env.reset(seed=3) for env in envs)
    for name in table:
        np.testing.assert_array_equal(table[name], live[name])
    np.testing.assert_array_equal(info["privileged"]["channel"], live_info["privileged"]["channel"])
    rng = np.random.default_rng(0)
    for _ in range(2):
        action = (rng.random(table["action_mask"].shape) < 0.5).astype(np.int8)
        (_, reward, *_, info), (_, live_reward, *_, live_info) = (env.step(action) for env in envs)
        assert np.abs(info["lpips"] - live_info["lpips"]).max() < 1e-3
        assert abs(reward - live_reward) < 1e-3
        assert info["latency_s"] == pytest.approx(live_info["latency_s"], rel=1e-9)


def test_live_recovery_of_a_wider_table_keeps_its_width() -> None:
    table = load_table("street-validation")
    wide = np.full((len(table.features), 1, 1 << 12), np.nan, dtype=np.float32)
    wide[..., : 1 << 10] = table.lpips_by_seed[:, :1]
    wider = RecoveryTable(
        table.features, table.images, wide, table.labels, {**table.provenance, "diffusion_seeds": [0]}
    )
    selection = np.ones((1, 12), dtype=bool)
    image = np.array([0])
    assert LiveRecovery.from_table(wider).lpips(image, selection) == pytest.approx(
        wider.lpips(image, selection), abs=1e-3
    )


def test_a_table_of_other_models_does_not_fit_a_scenario(tmp_path: Path) -> None:
    table = load_table("street-validation")
    replace(table, provenance={**table.provenance, "models": "sd15"}).save(tmp_path / "other.npz")
    with pytest.raises(ValueError, match="models='street' does not fit images=.*tabulated with models='sd15'"):
        gymnasium.make("NomaSemCom-v0", images=str(tmp_path / "other.npz"))
    env = gymnasium.make("NomaSemCom-v0", images=str(tmp_path / "other.npz"), models="sd15")
    assert env.unwrapped.scenario.latency_ref_s == load_preset("sd15").latency_ref_s  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "value"),
    [("models", "sd15"), ("lpips_net", "vgg"), ("models_sha256", "0"), ("denoising_steps", None)],
)
def test_live_recovery_refuses_a_table_that_other_models_made(key: str, value: str | None) -> None:
    table = load_table("street-validation")
    provenance = {name: one for name, one in {**table.provenance, key: value}.items() if one is not None}
    with pytest.raises(TableError, match=f"{key}.*[Tt]abulate"):
        LiveRecovery.from_table(replace(table, provenance=provenance))


def test_bundled_splits_share_no_image_and_name_what_made_them(recovery: DiffusionRecovery) -> None:
    tables = [load_table(split) for split in SPLITS]
    pictures = [image.tobytes() for table in tables for image in table.images]
    assert len(pictures) == len(set(pictures))
    for split, table in zip(SPLITS, tables, strict=True):
        made_by = table.provenance
        name = split.removeprefix("street-")
        assert made_by["source"] == f"street:{name}"
        assert made_by["offset"] == 0
        for image, seed in zip(table.images, street.split_seeds(name, len(table.images)), strict=True):
            np.testing.assert_array_equal(image, street.render(seed).image)
        recipe = Recipe("street", made_by["denoising_steps"], made_by["diffusion_seeds"])
        assert recipe.provenance().items() <= made_by.items()
        preset = load_preset("street")
        assert made_by["extraction_sha256"] == models_digest([preset.captioner, preset.segmenter])
        assert made_by["thresholds"] == {"text": preset.text_threshold, "visual": preset.visual_threshold}
        assert made_by["denoising_steps"] == preset.denoising_steps
        assert made_by["diffusion_seeds"] == tables[0].provenance["diffusion_seeds"]
        assert len(made_by["diffusion_seeds"]) >= 4
        assert table.is_full
    assert [len(table.features) for table in tables] == [512, 16, 48]


def test_bad_arguments_are_refused(recovery: DiffusionRecovery, tmp_path: Path) -> None:
    one = load_table("street-test").features[0]
    with pytest.raises(ValueError, match="steps=0"):
        DiffusionRecovery(recovery.pipeline, recovery.palette, steps=0)
    with pytest.raises(ValueError, match="selections has shape"):
        recovery.recover([one], np.ones((2, 10), dtype=bool))
    recipe = Recipe("street", steps=4, seeds=(0,))
    with pytest.raises(ValueError, match="images has 2 entries and features 1"):
        tabulate(np.zeros((2, 64, 64, 3), np.uint8), [one], tmp_path / "x.npz", recipe)
    with pytest.raises(ValueError, match="dtype float64"):
        tabulate(np.zeros((1, 64, 64, 3)), [one], tmp_path / "x.npz", recipe)
    raw = np.zeros((1, 64, 64, 3))
    with pytest.raises(ValueError, match=r"dtype float64; .*uint8 in 0\.\.255.*multiply float images in \[0, 1\]"):
        recovery.distances([one], raw, np.ones((1, 10), dtype=bool), (0,), PerceptualDistance())
    with pytest.raises(ValueError, match="raw has shape"):
        recovery.distances([one], raw[:, :32].astype(np.uint8), np.ones((1, 10), bool), (0,), PerceptualDistance())
    with pytest.raises(ValueError, match="decoder_precision='int8'"):
        DiffusionRecovery(recovery.pipeline, recovery.palette, steps=1, decoder_precision="int8")
    with pytest.raises(ValueError, match="lpips_net='squeeze'"):
        PerceptualDistance("squeeze")


def test_a_recovery_that_is_not_finite_names_its_prompt(
    recovery: DiffusionRecovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = load_table("street-test").features[0]
    monkeypatch.setattr(recovery, "_decode", lambda latents: torch.full((len(latents), 3, 64, 64), float("nan")))
    with pytest.raises(RecoveryError, match=rf"'{one.image_id}' from the prompt '' is not finite.*another checkpoint"):
        recovery.recover([one], np.zeros((1, 10), dtype=bool))


@pytest.mark.slow
def test_a_decoder_of_lower_precision_keeps_lpips(recovery: DiffusionRecovery) -> None:
    """Over 256 entries none moves by 0.002."""
    table, distance = load_table("street-validation"), PerceptualDistance()
    exact = DiffusionRecovery(recovery.pipeline, recovery.palette, recovery.steps)
    one, raw = table.features[0], np.broadcast_to(table.images[0], (128, 64, 64, 3))
    chosen = subset_selections(one.count, one.count)
    chosen = chosen[np.random.default_rng(0).choice(len(chosen), 128, replace=False)]
    values = [each.distances([one] * 128, raw, chosen, (0, 1), distance) for each in (recovery, exact)]
    assert recovery.decoder_precision == "bfloat16"
    assert np.abs(values[0] - values[1]).max() <= 0.002


def test_where_models_run_is_checked() -> None:
    preset = load_preset("street")
    assert choose_device(preset) == "cpu"
    assert choose_device(preset, "cpu") == "cpu"
    with pytest.raises(ValueError, match="device='abacus' cannot be used here"):
        choose_device(preset, "abacus")
