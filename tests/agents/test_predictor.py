"""Set networks: blind to order, repeatable, kept without pickles, taken up again, and better for what they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from noma_semcom_agents.predictor import (
    FILE,
    SetNetworkSettings,
    SetQuality,
    tensors_of,
    train_and_try,
    train_set_quality,
)
from noma_semcom_agents.quality import QualityModel, TabulatedImages, Trial, relabelled

QUICK = SetNetworkSettings(members=2, width=16, label_width=4, epochs=3, subsets=16)


@pytest.fixture(scope="module")
def knobs(table_paths: dict[str, Path]) -> dict:
    return {"images": str(table_paths["policy"]), "latency_ref_s": 2e-4}


@pytest.fixture(scope="module")
def images(knobs: dict) -> TabulatedImages:
    return TabulatedImages.of(knobs)


@pytest.fixture(scope="module")
def model(images: TabulatedImages) -> SetQuality:
    return train_set_quality(images, QUICK)


def test_predictions_are_there_where_subsets_are(images: TabulatedImages, model: SetQuality) -> None:
    assert isinstance(model, QualityModel)
    predicted = model.predict(images.bank)
    np.testing.assert_array_equal(np.isfinite(predicted), np.isfinite(images.lpips))
    shuffled = relabelled(images.bank, ("", *reversed(images.bank.labels[1:])))
    np.testing.assert_array_equal(model.predict(shuffled), predicted)


def test_the_order_of_features_does_not_matter(images: TabulatedImages, model: SetQuality) -> None:
    network = model.networks[0]
    place, sizes, exists = tensors_of(images.bank)
    selected = (
        torch.rand(len(images), 20, images.bank.width, generator=torch.Generator().manual_seed(0)) < 0.5
    ).float()
    order = torch.randperm(images.bank.width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        straight = network(place, sizes, exists, selected)
        turned = network(place[:, order], sizes[:, order], exists[:, order], selected[..., order])
    torch.testing.assert_close(straight, turned)
    assert straight.std() > 0


def test_equal_seeds_give_equal_networks(images: TabulatedImages, model: SetQuality) -> None:
    state = torch.random.get_rng_state()
    again = train_set_quality(images, QUICK)
    torch.testing.assert_close(torch.random.get_rng_state(), state)  # nobody else's numbers change
    np.testing.assert_array_equal(model.predict(images.bank), again.predict(images.bank))
    other = train_set_quality(images, replace(QUICK, seed=7))
    assert not np.array_equal(model.predict(images.bank), other.predict(images.bank), equal_nan=True)


def test_models_are_kept_and_damage_is_refused(images: TabulatedImages, model: SetQuality, tmp_path: Path) -> None:
    path = tmp_path / "deep" / FILE
    model.save(path)
    loaded = SetQuality.load(path)
    assert loaded.labels == model.labels
    assert loaded.record == model.record
    np.testing.assert_array_equal(loaded.predict(images.bank), model.predict(images.bank))
    with pytest.raises(FileNotFoundError, match=r"train one with python -m noma_semcom_agents.predictor"):
        SetQuality.load(tmp_path / "none.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        SetQuality.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="holds no set networks"):
        SetQuality.load(path)


def test_an_interrupted_training_is_taken_up_again(
    images: TabulatedImages, model: SetQuality, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noma_semcom_agents import predictor

    trained: list[int] = []
    real = predictor._train_one

    def train_one(some: TabulatedImages, settings: SetNetworkSettings, advance: object) -> object:
        trained.append(settings.seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return real(some, settings, advance)

    monkeypatch.setattr(predictor, "_train_one", train_one)
    with pytest.raises(KeyboardInterrupt):
        train_set_quality(images, QUICK, tmp_path)
    resumed = train_set_quality(images, QUICK, tmp_path)
    assert trained == [0, 1, 1]  # the first network was done
    np.testing.assert_array_equal(resumed.predict(images.bank), model.predict(images.bank))
    train_set_quality(images, replace(QUICK, emphasis=1.0), tmp_path)
    assert trained == [0, 1, 1, 0, 1]  # other settings are another training


@pytest.mark.slow
def test_learning_lowers_the_regret_on_other_images(knobs: dict, table_paths: dict[str, Path], tmp_path: Path) -> None:
    validation = {**knobs, "images": str(table_paths["validation"])}
    settings = replace(QUICK, epochs=400)
    model, regret = train_and_try(knobs, validation, tmp_path, settings, progress=False)
    trial = Trial(validation)
    untrained = train_set_quality(TabulatedImages.of(knobs), replace(QUICK, epochs=1, lr=1e-12))
    assert regret < 0.5 * trial.regret(untrained.predict(trial.images.bank))
    np.testing.assert_array_equal(
        SetQuality.load(tmp_path / FILE).predict(trial.images.bank), model.predict(trial.images.bank)
    )
