"""The full-size mixture preset end to end, its classes at tiny size: RefCOCO becomes codecs, a table and an episode."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_env.mixture.swin_jscc import PAPER, SwinConfig, SwinJSCC
from noma_semcom_env.mixture.table import MixtureTable, MixtureTableError, load_mixture_table
from noma_semcom_env.mixture.tabulate import MixtureRecipe
from noma_semcom_env.mixture.text_codec import TextCodec
from noma_semcom_env.mixture_models import PRESETS, encode_mask, load_mixture_preset, load_part_of, load_transceiver
from noma_semcom_env.scenes.annotated import COCO_CLASSES
from noma_semcom_env.scenes.refcoco import open_refcoco
from noma_semcom_env.scenes.street import CLASSES, render
from noma_semcom_env.zoo.devices import choose_device
from noma_semcom_env.zoo.loading import ModelLoadError, load_model
from noma_semcom_env.zoo.train.mixture import image_codec, reference_tables, text_codec

SIDE = 64
TINY = SwinConfig(SIDE, 8, (8, 8), (1, 1), (2, 2), 4, 1.0, channels=96)
"""768 complex symbols at most."""

FIRST_SEED = 12_000_000


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's plain run lengths of a mask, column by column, from the pixels that are not its own."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's train2014 with RefCOCO's two files: ten street scenes, the last three of testA, an object of each."""
    root = tmp_path_factory.mktemp("data")
    (root / "train2014").mkdir()
    (root / "annotations").mkdir()
    images, annotations, references, captions = [], [], [], []
    for number in range(10):
        scene = render(FIRST_SEED + number, 128)
        name = f"COCO_train2014_{number:012d}.png"
        Image.fromarray(scene.image).save(root / "train2014" / name)
        images.append({"id": number, "file_name": name, "width": 128, "height": 128})
        kind = CLASSES.index(scene.items[0].kind)
        mask = scene.labels == kind
        left, top, right, bottom = scene.boxes[0].tolist()
        box = {"bbox": [left, top, right - left, bottom - top], "area": int(mask.sum()), "iscrowd": 0}
        outline = {"segmentation": run_lengths(mask), "category_id": kind}
        annotations.append({"id": 100 + number, "image_id": number, **box, **outline})
        split = "train" if number < 7 else "testA"
        said = [{"sent": scene.expressions[0], "sent_id": number}]
        references.append(
            {"ref_id": number, "ann_id": 100 + number, "image_id": number, "split": split, "sentences": said}
        )
        captions.append({"id": number, "image_id": number, "caption": f"{scene.caption.capitalize()}."})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
    }
    (root / "instances.json").write_text(json.dumps(content))
    (root / "annotations" / "instances_train2014.json").write_text(json.dumps(content))
    spoken = {"images": images, "annotations": captions}
    (root / "annotations" / "captions_train2014.json").write_text(json.dumps(spoken))
    (root / "refs(unc).json").write_text(json.dumps(references))
    return root


@pytest.fixture(scope="module")
def published(mixture_originals: Any) -> dict[str, Any]:
    """The preset with its five published parts, as a user would swap them."""
    parts = {part: str(folder) for part, folder in mixture_originals._asdict().items()}
    small = {"denoising_steps": 2, "painted_side": 128, "allow_bin": ["captioner", "clip"]}
    return {"preset": "sd15_mixture", **parts, **small}


def run(module: Any, *arguments: Any) -> None:
    """A script's command line in this process."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setitem(image_codec.SETTINGS, "paper", replace(image_codec.SETTINGS["paper"], config=TINY))
        patch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        module.main()


@pytest.fixture(scope="module")
def models(published: dict[str, Any], data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The preset with codecs that two steps of their scripts have trained."""
    root = tmp_path_factory.mktemp("codecs")
    common = ("--steps", 2, "--batch", 2, "--folder", root / "zoo", "--target", root)
    source = ("--images", f"refcoco:{data}:train", "--scenes", 100)
    run(image_codec, "--kind", "roi", "--config", "paper", "--test", f"refcoco:{data}:testA", *source, *common)
    spoken = ("--models", json.dumps(published), "--width", 16, "--heads", 2)
    run(text_codec, *source, *spoken, *common)
    return {**published, "image_codec": str(root / "image_roi"), "text_codec": str(root / "text_codec")}


@pytest.fixture(scope="module")
def table(models: dict[str, Any], data: Path, tmp_path_factory: pytest.TempPathFactory) -> MixtureTable:
    output = tmp_path_factory.mktemp("table") / "refcoco.npz"
    options = ("--models", json.dumps(models), "--output", output, "--device", "cpu", "--off-grid", 2)
    run(reference_tables, "--references", f"refcoco:{data}:testA", "--count", 2, *options)
    return load_mixture_table(output)


def test_the_preset_names_the_papers_models_and_no_codecs() -> None:
    preset = load_mixture_preset("sd15_mixture")
    assert preset == PRESETS["sd15_mixture"] == preset.receivers
    on_gpu = torch.cuda.is_available()
    assert [choose_device(one) for one in (preset, load_mixture_preset())] == ["cuda" if on_gpu else "cpu", "cpu"]
    assert preset.sources == (
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        "facebook/sam-vit-base",
        "openai/clip-vit-base-patch32",
        "Salesforce/blip-image-captioning-base",
        "IDEA-Research/grounding-dino-tiny",
    )
    assert len(COCO_CLASSES) == 80
    assert {*COCO_CLASSES, "woman"} <= {*preset.kinds}
    setting = image_codec.SETTINGS["paper"]
    assert (setting.config, setting.config.side, setting.cbr) == (PAPER, 256, (0.01, 0.05))
    most = SwinJSCC(PAPER).max_symbols
    assert setting.roi_symbols[1] == most > setting.cbr[1] * 3 * 256 * 256
    assert reference_tables.recipe_of(most).roi_symbols[-1] == most
    assert reference_tables.recipe_of(most).seeds == MixtureRecipe().seeds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"no image_codec and no text_codec.*mixture\.image_codec and python.*mixture\.text_codec.*'text_codec': "),
        ({"image_codec": "x"}, r"'sd15_mixture' has no text_codec.*models=\{'preset': 'sd15_mixture', 'text_codec': "),
        ({"allow_bin": ["codec"]}, r"models\['allow_bin'\]=\('codec',\) must be a list of parts among"),
        ({"allow_bin": "clip"}, r"models\['allow_bin'\]='clip'"),
        ({"kinds": [""]}, r"models\['kinds'\]"),
        ({"painted_side": 0}, r"models\['painted_side'\]=0"),
        ({"image_codec": ""}, r"models\['image_codec'\]=''"),
    ],
)
def test_a_preset_without_codecs_or_out_of_range_is_refused_before_anything_is_loaded(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_transceiver({"preset": "sd15_mixture", **given})


def test_masks_are_coded_without_a_codebook_of_street_scenes() -> None:
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:40, 10:50] = True
    plain, street = encode_mask(None, mask), encode_mask(PRESETS["street_mixture"].codebook, mask)
    # But for the class they are the same: one bit here, a Huffman code there.
    assert len(street) - 4 <= len(plain) < len(street)
    assert len(encode_mask(None, ~mask)) > 0


def test_published_parts_load_from_the_hubs_cache(
    mixture_originals: Any, published: dict[str, Any], hub_cache: Callable[[str, Path], Path]
) -> None:
    usual = PRESETS["sd15_mixture"]
    for part, folder in mixture_originals._asdict().items():
        hub_cache(getattr(usual, part), folder)
    preset = load_mixture_preset({"preset": "sd15_mixture", "allow_bin": ["captioner", "clip"]})
    assert len(preset.origin["models_sha256"]) == 64
    for part in ("segment_anything", "clip", "captioner", "detector"):
        model, processor = load_part_of(preset, part)  # type: ignore[arg-type]  # one of its literals
        assert model.dtype == torch.float32
        assert processor is not None
    for part in ("captioner", "clip"):
        with pytest.raises(ModelLoadError, match=rf"pytorch_model\.bin alone, a pickle.*'allow_bin': \['{part}'\]"):
            load_part_of(usual, part)  # type: ignore[arg-type]
    with pytest.raises(ModelLoadError, match=r"not in the cache.*models=\{'preset': ..., 'segment_anything': 'folder'"):
        load_part_of(replace(usual, segment_anything="owner/name"), "segment_anything")


def test_a_clip_without_its_tokenizer_is_refused(mixture_originals: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(mixture_originals.clip, tmp_path / "clip"))
    (folder / "vocab.json").unlink()
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json or .*vocab\.json is missing"):
        load_model("clip", folder, allow_bin=True)


@pytest.mark.slow
def test_two_steps_of_the_scripts_make_codecs_of_photographs(models: dict[str, Any]) -> None:
    image, text = SwinJSCC.load(models["image_codec"]), TextCodec.load(models["text_codec"])
    card = json.loads((Path(models["image_codec"]) / "card.json").read_text())
    assert image.config == TINY
    assert card["steps"] == 2
    assert card["data"].startswith("7 objects in 7 pictures of refcoco:")
    assert card["held_out_objects"] == 3
    assert card["reported_cbr"] == [0.016, 0.024, 0.032, 0.04, 0.048]
    assert np.isfinite(card["psnr_roi_db"]).all()
    card = json.loads((Path(models["text_codec"]) / "card.json").read_text())
    # The painter's 77 tokens are more than the paper's 24.
    assert (text.config.max_tokens, text.config.width) == (24, 16)
    assert text.config.vocabulary == load_part_of(load_mixture_preset(models), "clip")[0].config.text_config.vocab_size
    assert card["steps"] == 2
    assert "of 6 pictures of refcoco:" in card["data"]
    assert card["held_out_captions"] >= 1


@pytest.mark.slow
def test_references_become_a_table(table: MixtureTable, models: dict[str, Any], data: Path) -> None:
    items = table.items
    assert items.item_ids == ("refcoco:testA:7", "refcoco:testA:8")
    assert items.prompts == tuple(render(FIRST_SEED + number, 128).expressions[0] for number in (7, 8))
    assert items.pictures.shape == (2, SIDE, SIDE, 3)
    assert table.roi_symbols.tolist() == [64, 128, 256, 384, 512, 768]
    assert items.max_roi_symbols == 768
    assert (items.mask_bits > 0).all()
    assert table.provenance["source"] == f"refcoco:{data}:testA"
    origin = table.provenance["origin"]
    assert (origin["models"], origin["guidance"], origin["painted_side"]) == ("sd15_mixture", 7.5, 128)


@pytest.mark.slow
def test_expressions_are_found_by_their_boxes_or_by_the_detector(models: dict[str, Any], data: Path) -> None:
    transceiver, references = load_transceiver(models), open_refcoco(f"refcoco:{data}:testA")
    asked = reference_tables.ask_for_references(transceiver, references, 3, targets="object", margins=[0, 2])
    # The segmenter is a trained one, so that its regions are about the annotated objects.
    overlap = (asked.rois & asked.targets).sum(axis=(1, 2)) / (asked.rois | asked.targets).sum(axis=(1, 2))
    assert (overlap > 0.6).all(), overlap
    assert (asked.roi_share[:, 1] > asked.roi_share[:, 0]).all()
    # A random detector points anywhere.
    found = reference_tables.ask_for_references(transceiver, references, 3, find="detector")
    assert set(found.prompts) <= set(asked.prompts)
    assert (found.rois[0] != asked.rois[asked.prompts.index(found.prompts[0])]).any()
    for arguments, message in (
        ({"find": "eye"}, "find='eye' is unknown"),
        ({"targets": "all"}, "targets='all' is unknown"),
        ({"count": 0}, "count=0 items"),
    ):
        with pytest.raises(ValueError, match=message):
            reference_tables.ask_for_references(transceiver, references, **{"count": 1, **arguments})  # type: ignore


@pytest.mark.slow
@pytest.mark.parametrize("recovery", ["table", "live"])
def test_an_episode_plays_the_file(table: MixtureTable, models: dict[str, Any], recovery: str) -> None:
    env = gymnasium.make(
        "MixtureOfSemantics-v0",
        images=str(table.path),
        models=models,
        recovery=recovery,
        channel="awgn",
        cbr_values=(0.03, 0.05),
        clip_ceiling=0.5,
        accounting="paper",
    )
    env.reset(seed=0)
    for share in (-0.9, 0.5):
        _, reward, *_, info = env.step(np.array([share], dtype=np.float32))
        assert np.isfinite(reward)
        assert info["psnr_roi_db"] > 0
        assert -1 <= info["clip_roni"] <= 1
    other = {**models, "guidance": 1.0}
    if recovery == "live":
        with pytest.raises(MixtureTableError, match="would not agree"):
            gymnasium.make("MixtureOfSemantics-v0", images=str(table.path), models=other, recovery="live")
