"""RefCOCO: references with their masks and boxes, and what is missing or broken is named."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from noma_semcom_env.scenes.refcoco import RefCOCO, open_refcoco

WIDTH, HEIGHT = 40, 24
BOX = (8, 4, 20, 14)
RED = (220, 10, 10)


def polygon(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def packed(mask: np.ndarray) -> dict[str, Any]:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def block(box: tuple[int, int, int, int] = BOX) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def run_lengths(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    return np.diff([0, *edges, flat.size]).tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture with three references; those of masks in each of COCO's codes."""
    (tmp_path / "train2014").mkdir()
    pixels = np.full((HEIGHT, WIDTH, 3), 120, dtype=np.uint8)
    pixels[block()] = RED
    Image.fromarray(pixels).save(tmp_path / "train2014" / "COCO_train2014_000000000007.png")
    outlines = [polygon(*BOX), packed(block()), {"size": [HEIGHT, WIDTH], "counts": run_lengths(block())}]
    left, top, right, bottom = BOX
    instances = {
        "images": [{"id": 7, "file_name": "COCO_train2014_000000000007.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": 3, "bbox": [left, top, right - left, bottom - top]}
            | {"segmentation": outline}
            for i, outline in enumerate(outlines)
        ],
        "categories": [{"id": 3, "name": "car"}],
    }
    sentences: list[list[Any]] = [
        [{"raw": "The red car!", "sent": "the red car", "sent_id": 1}, {"raw": "car", "sent": "car", "sent_id": 2}],
        [{"raw": "Red one"}],
        ["left car"],
    ]
    references = [
        {"ref_id": 10 + i, "ann_id": i, "image_id": 7, "category_id": 3, "split": split, "sentences": said}
        for i, (split, said) in enumerate(zip(("train", "train", "testA"), sentences, strict=True))
    ]
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "refs(unc).json").write_text(json.dumps(references))
    return tmp_path


def load(folder: Path, split: str | None = None, name: str = "refs(unc).json") -> RefCOCO:
    return RefCOCO(folder / name, folder / "instances.json", folder / "train2014", split)


def edit(path: Path, *keys: Any, value: Any = None) -> None:
    """Replace an entry of a JSON file, or remove it."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if value is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    path.write_text(json.dumps(content))


def test_references_have_masks_boxes_and_expressions(folder: Path) -> None:
    references = load(folder)
    assert len(references) == 3
    for one in references:
        assert np.array_equal(one.mask, block())
        assert one.box.tolist() == list(BOX)
        assert (one.image_id, one.category) == (7, "car")
        assert one.file.is_file()
    assert [one.ref_id for one in references] == [10, 11, 12]
    assert [one.expressions for one in references] == [("the red car", "car"), ("Red one",), ("left car",)]
    assert references[-1].split == "testA"
    assert [one.ref_id for one in references[1:]] == [11, 12]
    with pytest.raises(IndexError):
        references[3]


def test_a_split_is_chosen_by_name(folder: Path) -> None:
    assert [one.ref_id for one in load(folder, "testA")] == [12]
    with pytest.raises(ValueError, match=r"split='val' .*\['testA', 'train'\]"):
        load(folder, "val")


def test_a_square_shows_the_object_where_its_mask_and_box_say(folder: Path) -> None:
    image, mask, box = load(folder)[0].squared(48)
    assert image.shape == (48, 48, 3)
    red = (np.abs(image.astype(int) - RED) < 60).all(axis=-1)
    assert (red & mask).sum() / (red | mask).sum() > 0.95
    rows, columns = np.nonzero(mask)
    assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_an_object_beside_the_square_is_empty_there(folder: Path) -> None:
    edit(folder / "instances.json", "annotations", 0, "segmentation", value=polygon(34, 2, 39, 9))
    edit(folder / "instances.json", "annotations", 0, "bbox", value=[34, 2, 5, 7])
    _, mask, box = load(folder)[0].squared(48)
    assert not mask.any()
    assert box[2] <= box[0]


def test_a_folder_holds_all_of_a_split(folder: Path) -> None:
    assert [one.ref_id for one in open_refcoco(f"refcoco:{folder}:testA")] == [12]
    assert len(open_refcoco(f"refcoco:{folder}:train")) == 2
    for source in ("refcoco:", "refcoco:train", f"refcoco:{folder}:", f"coco:{folder}:train"):
        with pytest.raises(ValueError, match="is incomplete; write refcoco:ROOT:SPLIT"):
            open_refcoco(source)
    listed = (folder / "refs(unc).json").rename(folder / "refs(google).json")
    assert len(open_refcoco(f"refcoco:{folder}:train")) == 2
    (folder / "refs(unc).json").write_text("[]")
    with pytest.raises(ValueError, match=r"holds refs\(google\)\.json, refs\(unc\)\.json; keep one"):
        open_refcoco(f"refcoco:{folder}:train")
    (folder / "refs(unc).json").unlink()
    listed.rename(folder / "refs(google).p")
    with pytest.raises(ValueError, match=r"refs\(google\)\.p' is a pickle.*python -c "):
        open_refcoco(f"refcoco:{folder}:train")
    (folder / "refs(google).p").unlink()
    with pytest.raises(ValueError, match=r"refs\(unc\)\.json' does not exist"):
        open_refcoco(f"refcoco:{folder}:train")


def test_pickles_are_refused_with_the_command_that_converts_them(folder: Path, tmp_path: Path) -> None:
    listed = json.loads((folder / "refs(unc).json").read_text())
    (folder / "refs(unc).p").write_bytes(pickle.dumps(listed))
    (folder / "refs(unc).json").unlink()
    with pytest.raises(ValueError, match=r"is a pickle.*python -c ") as refused:
        load(folder, name="refs(unc).p")
    words = shlex.split(str(refused.value).partition("give the result: ")[2])
    subprocess.run([sys.executable, *words[1:]], cwd=folder, check=True)
    assert len(load(folder)) == 3


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("refs(unc).json", (0, "ann_id"), 99, "reference 10 .*annotation 99"),
        ("refs(unc).json", (0, "image_id"), 99, "reference 10 .*image 99"),
        ("refs(unc).json", (1, "split"), None, "no list of RefCOCO's references"),
        ("refs(unc).json", (1, "sentences"), "car", "no list of RefCOCO's references"),
        ("refs(unc).json", (1, "sentences"), [], "reference 11 .*empty sentence"),
        ("refs(unc).json", (1, "sentences"), [{"sent": " "}], "reference 11 .*empty sentence"),
        ("instances.json", ("images",), None, r"instances\.json is no annotation file of COCO"),
        ("instances.json", ("annotations",), 5, r"instances\.json is no annotation file of COCO"),
    ],
)
def test_broken_files_are_named_at_once(folder: Path, file: str, keys: Any, value: Any, message: str) -> None:
    edit(folder / file, *keys, value=value)
    with pytest.raises(ValueError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("bbox",), None),
        (("segmentation",), [[1, 2, 3, 4]]),
        (("segmentation",), []),
        (("segmentation",), {"size": [HEIGHT, WIDTH], "counts": [5, 5]}),
        (("segmentation",), {"size": [5, 5], "counts": [5, 20]}),
    ],
)
def test_broken_annotations_are_named_when_they_are_read(folder: Path, keys: Any, value: Any) -> None:
    edit(folder / "instances.json", "annotations", 0, *keys, value=value)
    references = load(folder)
    assert references[1].mask.any()
    with pytest.raises(ValueError, match="annotation 0 of reference 10 is broken"):
        references[0]


def test_missing_and_foreign_files_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load(folder, name="other.json")
    with pytest.raises(ValueError, match="images=.* is no folder"):
        RefCOCO(folder / "refs(unc).json", folder / "instances.json", folder / "val2014", None)
    (folder / "text.json").write_text("no JSON")
    with pytest.raises(ValueError, match="is no JSON"):
        load(folder, name="text.json")
    (folder / "empty.json").write_text("[]")
    with pytest.raises(ValueError, match="no list of RefCOCO"):
        load(folder, name="empty.json")


def test_pictures_of_another_size_are_refused(folder: Path) -> None:
    reference = load(folder)[0]
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(reference.file)
    with pytest.raises(ValueError, match="40 x 25 pixels but annotated as 40 x 24"):
        reference.squared(48)
    reference.file.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        reference.squared(48)


def test_without_pycocotools_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ImportError, match=r"noma-semcom-env\[data\]"):
        load(folder)
