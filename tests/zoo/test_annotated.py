"""Photographs to train on: which objects count, what is kept of them, and what is said of their pictures."""

from __future__ import annotations

import json
import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from noma_semcom_env.mixture_models import load_mixture_preset
from noma_semcom_env.scenes.street import CLASSES, render, split_seeds
from noma_semcom_env.zoo.train.mixture import image_codec, text_codec
from noma_semcom_env.zoo.train.mixture.annotated import Annotated, read_annotated
from noma_semcom_env.zoo.train.mixture.annotated_captions import (
    Captions,
    caption_all,
    painters_tokenizer,
    read_captions,
)
from noma_semcom_env.zoo.train.mixture.regions import Objects

SIDE = 64
BOXES = {0: [(8, 8, 40, 30), (30, 20, 60, 60)], 1: [(4, 4, 6, 6)], 2: [(0, 0, 64, 64), (10, 10, 20, 50)]}
"""By picture: two that overlap, the smaller one in front; one that is too small; one that fills it, behind another."""


def polygon(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def block(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures of 64 x 64; each box is of a class of its own, and is a reference as well."""
    root = tmp_path / "data"
    (root / "train2014").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations, references = [], [], []
    for number, boxes in BOXES.items():
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        Image.new("RGB", (SIDE, SIDE), (50 * number, 100, 7)).save(root / "train2014" / f"{number}.png")
        for left, top, right, bottom in boxes:
            one = {"id": len(annotations), "image_id": number, "category_id": 1 + len(annotations), "iscrowd": 0}
            box = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            annotations.append({**one, **box, "segmentation": polygon(left, top, right, bottom)})
            said = {"ref_id": one["id"], "ann_id": one["id"], "image_id": number, "split": "train"}
            references.append({**said, "sentences": [{"sent": "that one"}]})
    kinds = [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "ant", "sea", "red fox"), start=1)]
    content = {"images": images, "annotations": annotations, "categories": kinds}
    spoken = [
        {"id": 0, "image_id": 0, "caption": "A cat sits beside a dog. "},
        {"id": 1, "image_id": 0, "caption": "Pets"},
    ]
    spoken += [{"id": 2, "image_id": 2, "caption": "a red fox near the sea"}]
    (root / "instances.json").write_text(json.dumps(content))
    (root / "annotations" / "instances_train2014.json").write_text(json.dumps(content))
    (root / "annotations" / "captions_train2014.json").write_text(json.dumps({"images": images, "annotations": spoken}))
    # What people pointed at first on the second picture comes last.
    (root / "refs(unc).json").write_text(json.dumps([references[i] for i in (4, 0, 2, 3, 1)]))
    return root


def masks_of(known: Annotated) -> np.ndarray:
    return np.unpackbits(known.masks, axis=2, count=SIDE).astype(bool)


def test_an_object_of_coco_is_what_its_box_holds_of_its_class(data: Path, tmp_path: Path) -> None:
    known = read_annotated(f"coco:{data}:train2014", SIDE, 10, tmp_path / "zoo")
    assert known.kinds == ("cat", "dog", "sea", "red fox")
    assert known.picture.tolist() == [0, 0, 1, 1]
    assert known.captions == (("A cat sits beside a dog.", "Pets"), ("a red fox near the sea",))
    assert known.images[:, 0, 0, 0].tolist() == [0, 100]
    cat, dog, sea, fox = (block(*BOXES[picture][i]) for picture in (0, 2) for i in (0, 1))
    # Smaller outlines lie on larger ones.
    np.testing.assert_array_equal(masks_of(known), [cat, dog & ~cat, sea & ~fox, fox])
    shutil.rmtree(data)
    again = read_annotated(f"coco:{data}:train2014", SIDE, 10, tmp_path / "zoo")
    np.testing.assert_array_equal(again.masks, known.masks)
    second = known.part(1, 2)
    assert (len(second), second.kinds, second.picture.tolist()) == (1, ("sea", "red fox"), [0, 0])
    assert second.captions == known.captions[1:]


def test_objects_of_refcoco_have_their_own_masks_and_share_pictures(data: Path, tmp_path: Path) -> None:
    known = read_annotated(f"refcoco:{data}:train", SIDE, 10, tmp_path / "zoo")
    # The sea fills its picture and the ant is too small.
    assert known.kinds == ("red fox", "cat", "dog")
    assert known.picture.tolist() == [0, 1, 1]
    assert known.captions == ((), ())
    wanted = [block(*BOXES[2][1]), block(*BOXES[0][0]), block(*BOXES[0][1])]
    np.testing.assert_array_equal(masks_of(known), wanted)
    fewer = read_annotated(f"refcoco:{data}:train", SIDE, 1, tmp_path / "zoo")
    assert (fewer.kinds, len(fewer)) == (("red fox",), 1)


def test_room_is_made_for_each_picture_once(data: Path, tmp_path: Path) -> None:
    known = read_annotated(f"refcoco:{data}:train", SIDE, 10, tmp_path / "zoo")
    # Five references point into three pictures.
    assert len(np.load(tmp_path / "zoo" / known.name / "images.npy", mmap_mode="r")) == 3


@pytest.mark.parametrize("source", ["refcoco:{}:train", "coco:{}:train2014"])
def test_it_is_said_that_pictures_are_left_aside(
    data: Path, tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = source.format(data)
    read_annotated(named, SIDE, 3, tmp_path / "zoo")
    assert "are taken" not in capsys.readouterr().out
    # Again when they have been read before.
    for _ in range(2):
        read_annotated(named, SIDE, 2, tmp_path / "zoo")
        assert f"2 of 3 pictures of {named} are taken" in capsys.readouterr().out


def test_what_was_read_of_another_folder_of_that_name_is_not_taken(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "data"
    shutil.copytree(data, other)
    (other / "train2014" / "0.png").write_bytes((data / "train2014" / "2.png").read_bytes())
    names = []
    for folder in (data.parent, other.parent):
        monkeypatch.chdir(folder)
        known = read_annotated("coco:data:train2014", SIDE, 10, tmp_path / "zoo")
        names.append(known.name)
        assert known.images[0, 0, 0, 0] == (0 if folder == data.parent else 100)
    assert read_annotated(f"coco:{data}/../data:train2014", SIDE, 10, tmp_path / "zoo").name == names[0]


def test_street_scenes_are_a_source_too(tmp_path: Path) -> None:
    known = read_annotated("street:test", SIDE, 3, tmp_path)
    scenes = [render(seed, SIDE) for seed in split_seeds("test", 3)]
    for row, (kind, mask) in enumerate(zip(known.kinds, masks_of(known), strict=True)):
        scene = scenes[known.picture[row]]
        np.testing.assert_array_equal(mask, scene.labels == CLASSES.index(kind))
    assert known.captions == tuple((scene.caption,) for scene in scenes)


def test_sources_without_objects_are_refused(data: Path, tmp_path: Path) -> None:
    for source, count, message in (
        (str(data / "train2014"), 5, "has no annotated objects; give refcoco"),
        (f"coco:{data}:train2014", 0, "count=0 pictures"),
        (f"refcoco:{data}:val", 5, "split='val' has no reference"),
        ("refcoco:train", 5, "is incomplete; write refcoco:ROOT:SPLIT"),
    ):
        with pytest.raises(ValueError, match=message):
            read_annotated(source, SIDE, count, tmp_path / "zoo")
    index = data / "instances.json"
    content = json.loads(index.read_text())
    content["annotations"][0] |= {"segmentation": polygon(4, 4, 6, 6), "bbox": [4, 4, 2, 2]}
    index.write_text(json.dumps(content))
    (data / "refs(unc).json").write_text(json.dumps(json.loads((data / "refs(unc).json").read_text())[1:2]))
    with pytest.raises(ValueError, match="has no object of 16 pixels or more on pictures of 64 x 64"):
        read_annotated(f"refcoco:{data}:train", SIDE, 5, tmp_path / "zoo")
    assert not list((tmp_path / "zoo").iterdir())


def test_objects_are_drawn_with_their_pictures(data: Path, tmp_path: Path) -> None:
    known = read_annotated(f"refcoco:{data}:train", SIDE, 10, tmp_path / "zoo")
    objects = Objects.on("cpu", known)
    assert len(objects) == 3
    generator = torch.Generator().manual_seed(0)
    image, region = objects.take(torch.tensor([2, 0]), generator)
    np.testing.assert_array_equal(region.numpy(), masks_of(known)[[2, 0]])
    assert (image[:, :, 5, 5] * 255).round().int().tolist() == [[0, 100, 7], [100, 100, 7]]
    image, region = objects.draw(200, generator)
    areas = {float(one) for one in region.sum((1, 2))}
    assert areas == {float(mask.sum()) for mask in masks_of(known)}
    upright = (region[:, None] == torch.from_numpy(masks_of(known))).all((2, 3)).any(1)
    assert 0.35 < float(upright.float().mean()) < 0.65


def test_the_last_pictures_are_held_out_unless_others_are_given(data: Path, tmp_path: Path) -> None:
    given = {"device": "cpu", "scenes": 16, "images": "street:test", "test": None, "folder": tmp_path / "zoo"}
    lessons = image_codec.open_lessons(Namespace(**given), SIDE)
    known = read_annotated("street:test", SIDE, 16, tmp_path / "zoo")
    counts = np.bincount(known.picture)
    assert (len(lessons.data), len(lessons.held_out)) == (counts[:14].sum(), counts[14:].sum())
    assert lessons.said == f"{counts[:14].sum()} objects in 14 pictures of street:test, 64 x 64"
    other = image_codec.open_lessons(Namespace(**given | {"test": f"refcoco:{data}:train"}), SIDE)
    assert (len(other.data), len(other.held_out)) == (counts.sum(), 3)
    with pytest.raises(ValueError, match="has 2 pictures with objects, of which 2 would be held out"):
        image_codec.open_lessons(Namespace(**given | {"images": f"refcoco:{data}:train"}), SIDE)


def test_captions_are_the_sources_with_and_without_what_is_on_the_picture(data: Path, tmp_path: Path) -> None:
    preset = load_mixture_preset()
    known = read_annotated(f"coco:{data}:train2014", SIDE, 10, tmp_path / "zoo")
    said = read_captions(known, preset, tmp_path / "zoo", "cpu")
    assert said == [
        ["a cat sits beside a dog", "sits beside a dog", "a cat sits", "pets", "pets", "pets"],
        ["a red fox near the sea", "near the sea", "a red fox"],
    ]
    tokenizer = painters_tokenizer(preset)
    captions = Captions.of([*said[0], *said[1]], tokenizer, 12)
    assert len(captions.texts) == len(captions.ids) == 7
    rows = captions.draw_rows(500, torch.Generator().manual_seed(0))
    assert set(rows.tolist()) == set(range(7))


def test_captioning_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    images = np.zeros((70, 4, 4, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(70)
    asked: list[int] = []

    def describe(part: np.ndarray) -> list[str]:
        asked.extend(part[:, 0, 0, 0].tolist())
        return [f"picture\n{number}" for number in part[:, 0, 0, 0]]

    file = tmp_path / "captions.jsonl"
    whole = caption_all(images, range(2, 70), describe, file)
    assert whole == [f"picture\n{number}" for number in range(2, 70)]
    lines = file.read_text()
    # Killed while the third line was being written.
    file.write_text("\n".join(lines.split("\n")[:2]) + '\n"pict')
    asked.clear()
    assert caption_all(images, range(2, 70), describe, file) == whole
    assert asked == list(range(4, 70))
    assert file.read_text() == lines


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (image_codec, ["--kind", "roi", "--config", "paper"], "--target is needed"),
        (image_codec, ["--kind", "roi", "--images", "coco:x:y"], "--target is needed"),
        (image_codec, ["--kind", "roi", "--test", "coco:x:y"], "--test without --images"),
        (text_codec, ["--images", "coco:x:y", "--target", "x"], "--images needs --models"),
        (text_codec, ["--images", "coco:x:y", "--models", "sd15_mixture"], "--images needs --models.* and --target"),
        (text_codec, ["--width", "128"], "--width without --images has no effect"),
    ],
)
def test_options_that_do_not_fit_end_a_script_at_once(
    module: Any,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *options])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
