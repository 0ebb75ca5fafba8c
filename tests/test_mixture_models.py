"""The bundled models of the mixture, put together: presets by name, and what the whole chain does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.mixture.table import load_mixture_table
from noma_semcom_env.mixture_models import (
    PRESETS,
    load_mixture_preset,
    load_transceiver,
    write_captions,
)
from noma_semcom_env.scenes.street import CLASSES, render
from noma_semcom_env.zoo.loading import ModelLoadError, load_model


def test_parts_are_swapped_by_mapping_or_its_json() -> None:
    plain = load_mixture_preset()
    assert plain == PRESETS["street_mixture"]
    mapping = {"clip": Path("elsewhere"), "denoising_steps": 8}
    for models in (mapping, json.dumps({"clip": "elsewhere", "denoising_steps": 8})):
        swapped = load_mixture_preset(models)
        assert (swapped.clip, swapped.denoising_steps, swapped.text_codec) == ("elsewhere", 8, plain.text_codec)
    assert load_mixture_preset({"preset": "street_mixture"}) == plain
    assert len(plain.sources) == 6
    detecting = load_mixture_preset({"detector": "IDEA-Research/grounding-dino-tiny"})
    assert (plain.detector, detecting.sources) == (None, (*plain.sources, "IDEA-Research/grounding-dino-tiny"))


def test_numbers_of_numpy_are_numbers() -> None:
    given = {"guidance": np.float32(2), "denoising_steps": np.int64(8), "painted_side": np.int32(256)}
    preset = load_mixture_preset(given)
    assert preset == load_mixture_preset({"guidance": 2, "denoising_steps": 8, "painted_side": 256})
    kept = [getattr(preset, name) for name in given]
    assert json.loads(json.dumps(kept)) == kept == [2.0, 8, 256]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("fog", "models='fog' is no mixture preset; choose one of"),
        ({"clips": "x"}, "models holds 'clips'.*did you mean 'clip'"),
        ({"clip": ""}, r"models\['clip'\]=''"),
        ({"clip": 3}, r"models\['clip'\]=3"),
        ({"clip": None}, r"models\['clip'\]=None"),
        ({"detector": ""}, r"models\['detector'\]=''"),
        ({"denoising_steps": 0}, r"models\['denoising_steps'\]=0"),
        ({"denoising_steps": True}, r"models\['denoising_steps'\]=True"),
        ({"guidance": 0.5}, r"models\['guidance'\]=0.5"),
        ({"denoising_steps": np.float64(4)}, r"models\['denoising_steps'\]="),
        ({"guidance": np.bool_(True)}, r"models\['guidance'\]="),
        ({"guidance": True}, r"models\['guidance'\]=True"),
        ({"guidance": "7"}, r"models\['guidance'\]='7'"),
        ({"guidance": float("nan")}, r"models\['guidance'\]=nan"),
    ],
)
def test_bad_presets_are_refused(models: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_mixture_preset(models)


def test_the_origin_of_the_bundled_models_is_that_of_the_bundled_tables() -> None:
    preset = load_mixture_preset()
    assert preset.origin == load_mixture_table("street-test").provenance["origin"]
    for knob in ({"guidance": 7.5}, {"denoising_steps": 5}, {"painted_side": 256}):
        assert load_mixture_preset(knob).origin == {**preset.origin, **knob}


def test_swapping_what_looks_before_sending_leaves_the_receivers_alone() -> None:
    preset = load_mixture_preset()
    # Any folder of models will do for its digest.
    for part in ("detector", "segment_anything", "captioner"):
        swapped = load_mixture_preset({part: preset.clip})
        assert swapped.origin != preset.origin, part
        assert swapped.receivers.origin == preset.origin, part
    for part, value in (("clip", preset.captioner), ("inpainting", preset.clip), ("image_codec", preset.clip)):
        assert load_mixture_preset({part: value}).receivers.origin != preset.origin, part
    for knob in ({"denoising_steps": 5}, {"guidance": 3.5}, {"painted_side": 256}):
        assert load_mixture_preset(knob).receivers.origin != preset.origin


def test_missing_and_foreign_models_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="nowhere"):
        load_model("sam", str(tmp_path / "nowhere"))
    preset = PRESETS["street_mixture"]
    with pytest.raises(ModelLoadError, match="sam"):
        load_model("sam", preset.clip)


@pytest.fixture(scope="module")
def scenes() -> list[Any]:
    return [render(12_000_000 + seed, 128) for seed in range(6)]


@pytest.fixture(scope="module")
def prepared(scenes: list[Any]) -> Any:
    transceiver = load_transceiver()
    return transceiver.prepare(
        np.stack([scene.image for scene in scenes]),
        [scene.expressions[0] for scene in scenes],
        kinds=[scene.items[0].kind for scene in scenes],
        named=[list(zip(scene.expressions, scene.boxes.tolist(), strict=True)) for scene in scenes],
    )


@pytest.mark.slow
def test_expressions_become_regions_and_captions_of_the_rest(prepared: Any, scenes: list[Any]) -> None:
    overlap = []
    for region, caption, scene in zip(prepared.regions, prepared.captions, scenes, strict=True):
        kind = scene.items[0].kind
        truth = scene.labels == CLASSES.index(kind)
        overlap.append((region & truth).sum() / (region | truth).sum())
        assert kind not in caption.split()
    assert np.median(overlap) > 0.75
    assert min(overlap) > 0.3
    assert (prepared.mask_bits > 150).all()
    assert (prepared.mask_bits < 700).all()
    transceiver = load_transceiver()
    assert transceiver is load_transceiver("street_mixture")
    assert len(transceiver.origin["models_sha256"]) == 64


@pytest.mark.slow
def test_text_has_a_threshold_and_the_region_pays_for_it(prepared: Any) -> None:
    transceiver = load_transceiver()
    none, some, much = (transceiver.transmit(prepared, alpha, 0.064, 10.0) for alpha in (0.0, 0.05, 0.6))
    assert (some.token_error == 0).all()
    assert some.captions == prepared.captions
    assert some.clip_roni.mean() > none.clip_roni.mean() + 0.1
    assert abs(much.clip_roni.mean() - some.clip_roni.mean()) < 0.05
    assert some.psnr_roi_db.mean() > much.psnr_roi_db.mean() + 0.5
    assert some.lpips.mean() < none.lpips.mean()
    lower = transceiver.transmit(prepared, 0.05, 0.064, 0.0)
    assert lower.psnr_roi_db.mean() < some.psnr_roi_db.mean()
    assert some.psnr_roi_db.mean() > 22


@pytest.mark.slow
def test_every_object_of_a_scene_is_an_item(scenes: list[Any]) -> None:
    from noma_semcom_env.zoo.train.mixture.tables import ask_for_objects

    seeds = [scene.seed for scene in scenes[:3]]
    items = ask_for_objects(load_transceiver(), seeds, "plain", "object", [0, 3])
    assert len(items.pictures) == 3
    wanted = [f"street:{scene.seed}:{item.kind}" for scene in scenes[:3] for item in scene.items]
    assert list(items.item_ids) == wanted
    assert items.prompts[0] == scenes[0].expressions[0]
    truth = scenes[0].labels == CLASSES.index(scenes[0].items[0].kind)
    np.testing.assert_array_equal(items.targets[0], truth)
    assert (items.roi_share[:, 1] > items.roi_share[:, 0]).all()
    assert (items.importance > 0.3).mean() > 0.7


@pytest.mark.slow
def test_captions_are_those_of_the_extraction(scenes: list[Any]) -> None:
    from noma_semcom_env.semantics.extraction import load_extractor

    images = np.stack([scene.image for scene in scenes])
    extractor = load_extractor("street")
    ours = write_captions(extractor._captioner, extractor._caption_processor, images)
    assert ours == [text.caption for text in extractor.read(images)]
    assert write_captions(extractor._captioner, extractor._caption_processor, images[:0]) == []
