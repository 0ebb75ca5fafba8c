"""Presets agree with what stands elsewhere, and so do the models that are trained for them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from noma_semcom_env.scenario import Scenario
from noma_semcom_env.scenes.street import CLASSES, PALETTE, vocabulary
from noma_semcom_env.zoo.presets import PARTS, load_preset, models_key


def test_street_preset_agrees_with_the_world_and_the_default_scenario() -> None:
    preset = load_preset("street")
    assert preset.palette == {name: tuple(colour) for name, colour in zip(CLASSES, PALETTE.tolist(), strict=True)}
    assert preset.labels[0] == ""
    assert set(CLASSES) < set(preset.labels)
    assert Scenario().latency_ref_s is None  # which is the preset's
    assert Scenario().models == preset.name


def test_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match="models='sd3' is no preset; choose one of .*street"):
        load_preset("sd3")


def test_the_full_size_preset_colours_ade20k_as_its_controlnet_was_trained() -> None:
    preset = load_preset("sd15")
    assert len(preset.palette) == 150
    assert preset.labels == ("", *preset.palette)
    # The colours are those of both segmenters that ControlNet 1.1's own code colours with, which number "wall" 0. The
    # table in the card of control_v11p_sd15_seg has [0, 0, 0] before them and is indexed by the same numbers: it would
    # give each class the colour of the class before it, and walls the black of what was not sent.
    assert preset.palette["wall"] == (120, 120, 120)
    assert preset.palette["building"] == (180, 120, 120)
    assert preset.palette["sky"] == (6, 230, 230)
    assert preset.palette["flag"] == (92, 0, 255)
    assert (0, 0, 0) not in preset.palette.values()
    # ADE20K itself has one colour twice.
    twice = [colour for colour, count in Counter(preset.palette.values()).items() if count > 1]
    assert twice == [preset.palette["road"]] == [preset.palette["skyscraper"]]


def test_the_full_size_preset_names_hub_ids_and_reads_no_pickle_unasked() -> None:
    preset = load_preset("sd15")
    assert all(getattr(preset, part).count("/") == 1 for part in PARTS)
    assert preset.codebook is None
    assert preset.allow_bin == ()


def test_a_mapping_swaps_parts_of_a_preset(tmp_path: Path) -> None:
    swapped = {"controlnet": tmp_path, "denoising_steps": 30, "allow_bin": ["captioner"], "palette": {"sky": [1, 2, 3]}}
    preset = load_preset({"preset": "sd15", **swapped})
    others = asdict(load_preset("sd15"))
    changed = {name for name, value in asdict(preset).items() if value != others[name]}
    assert changed == swapped.keys()
    assert preset.controlnet == str(tmp_path)
    assert preset.allow_bin == ("captioner",)
    assert preset.palette == {"sky": (1, 2, 3)}
    assert load_preset({}) == load_preset({"preset": "street"}) == load_preset()


def test_the_order_of_a_mapping_does_not_matter() -> None:
    assert models_key({"preset": "sd15", "denoising_steps": 3}) == models_key({"denoising_steps": 3, "preset": "sd15"})
    assert models_key("sd15") == "sd15"


@pytest.mark.parametrize(
    ("models", "named"),
    [
        ({"preset": "sd16"}, "models='sd16' is no preset; choose one of .*sd15.*street"),
        ({"control_net": "folder"}, "'control_net'.*did you mean 'controlnet'"),
        ({"xyz": 1}, "'xyz'.*fields are: diffusion, controlnet"),
        ({"name": "mine"}, "'name', which is no field"),
        ({"segmenter": ""}, r"models\['segmenter'\]='' must be a folder or a hub id"),
        ({"diffusion": 5}, r"models\['diffusion'\]=5 must be a folder or a hub id"),
        ({"importance": 3}, r"models\['importance'\]=3 must be a file"),
        ({"allow_bin": ["unet"]}, r"models\['allow_bin'\]=\('unet',\) must be a list of parts"),
        ({"allow_bin": "captioner"}, r"models\['allow_bin'\]='captioner' must be a list of parts"),
        ({"palette": []}, r"models\['palette'\]=\[\] must be a mapping"),
        ({"palette": {"sky": [1, 2]}}, r"models\['palette'\]=.* three whole numbers in \[0, 255\]"),
        ({"palette": {"sky": [300, 2, -4]}}, r"models\['palette'\]=.* three whole numbers in \[0, 255\]"),
        ({"labels": ["sky"]}, r"models\['labels'\]=\('sky',\) must be a list of texts, the first one empty"),
        ({"text_threshold": "a"}, r"models\['text_threshold'\]='a' must be a number in \[0, 1\]"),
        ({"latency_ref_s": None}, r"models\['latency_ref_s'\]=None must be a number"),
        ({"latency_ref_s": float("inf")}, r"models\['latency_ref_s'\]=inf must be a number"),
        ({"max_features": True}, r"models\['max_features'\]=True must be a whole number"),
        ({"text_unit": "letter"}, r"models\['text_unit'\]='letter'"),
        ({"decoder_precision": "int8"}, r"models\['decoder_precision'\]='int8'"),
        ({"denoising_steps": 0}, r"models\['denoising_steps'\]=0"),
        ({"max_features": 63}, r"models\['max_features'\]=63"),
        ({"visual_threshold": 2}, r"models\['visual_threshold'\]=2"),
        ({"latency_ref_s": 0}, r"models\['latency_ref_s'\]=0"),
    ],
)
def test_mappings_that_make_no_preset_are_named(models: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        load_preset(models)


def test_a_text_that_starts_like_a_mapping_and_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"models='\{x' is no preset and no JSON object"):
        load_preset("{x")


def test_every_street_word_is_one_token_of_the_recovery() -> None:
    from noma_semcom_env.zoo.train.recovery import build_tokenizer

    tokenizer = build_tokenizer()
    words = vocabulary()
    ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(words)
    assert tokenizer.eos_token_id == len(tokenizer) - 1


def test_whitening_changes_latents_and_not_reconstructions() -> None:
    import torch

    from noma_semcom_env.zoo.train.autoencoder import build, to_tensor, whiten

    torch.manual_seed(0)
    model = build().eval()
    images = torch.randint(256, (24, 64, 64, 3), dtype=torch.uint8)
    raw = to_tensor(images)
    with torch.no_grad():
        before = model.decode(model.encode(raw).latent_dist.mean).sample
        whiten(model, images)
        latents = model.encode(raw).latent_dist.mean
        after = model.decode(latents).sample
    flat = latents.permute(1, 0, 2, 3).flatten(1).double()
    torch.testing.assert_close(torch.cov(flat), torch.eye(4).double(), atol=1e-2, rtol=0)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4).double(), atol=1e-2, rtol=0)
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)
