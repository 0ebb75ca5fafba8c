"""COCO and Pascal VOC: truth stays aligned with its picture, and what is missing or broken is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from noma_semcom_env.scenes.annotated import VOC_CLASSES
from noma_semcom_env.scenes.sets import load_images

RED, BLUE = (220, 10, 10), (10, 10, 220)
RED_BOX, BLUE_BOX = (42, 8, 70, 30), (30, 4, 90, 52)
SIDE = 48


def scene(width: int, height: int, *blocks: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> np.ndarray:
    pixels = np.full((height, width, 3), 120, dtype=np.uint8)
    for (left, top, right, bottom), colour in blocks:
        pixels[top:bottom, left:right] = colour
    return pixels


def save_jpeg(pixels: np.ndarray, path: Path, orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, quality=98, subsampling=0, exif=exif)


def shows(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(image.astype(int) - colour) < 60).all(axis=-1)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def polygon(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(width: int, height: int, box: tuple[int, int, int, int]) -> list[int]:
    """COCO's uncompressed run lengths of a box, column by column, zeros first."""
    left, top, right, bottom = box
    inner = height - (bottom - top)
    runs = [left * height + top]
    for _ in range(right - left - 1):
        runs += [bottom - top, inner]
    return [*runs, bottom - top, (width - right) * height + height - bottom]


def annotation(image: int, category: int, box: tuple[int, int, int, int], outline: Any = None, **more: Any) -> dict:
    left, top, right, bottom = box
    segmentation = polygon(*box) if outline is None else outline
    area = [left, top, right - left, bottom - top]
    return {
        "image_id": image,
        "category_id": category,
        "bbox": area,
        "segmentation": segmentation,
        "iscrowd": 0,
        **more,
    }


def write_coco(root: Path, images: list[dict], annotations: list[dict], captions: list[dict] | None = None) -> str:
    """Index a split ``tiny``; its pictures are written by the test."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    numbered = [{"id": number, **one} for number, one in enumerate(annotations, start=1)]
    categories = [{"id": 44, "name": "bus"}, {"id": 3, "name": "car"}, {"id": 17, "name": "cat"}]
    index = {"images": images, "annotations": numbered, "categories": categories}
    (root / "annotations" / "instances_tiny.json").write_text(json.dumps(index))
    if captions is not None:
        index = {"images": images, "annotations": [{"id": i, **one} for i, one in enumerate(captions)]}
        (root / "annotations" / "captions_tiny.json").write_text(json.dumps(index))
    return f"coco:{root}:tiny"


def listed(image: int, width: int, height: int) -> dict:
    return {"id": image, "file_name": f"{image:012d}.jpg", "width": width, "height": height}


@pytest.fixture
def coco(tmp_path: Path) -> str:
    """Three pictures: 3 with a small car on a bus, a cat in the margin and a crowd; 5 and 8 without any object."""
    root = tmp_path / "coco"
    (root / "tiny").mkdir(parents=True)
    save_jpeg(scene(120, 60, (BLUE_BOX, BLUE), (RED_BOX, RED)), root / "tiny" / f"{3:012d}.jpg")
    Image.new("L", (50, 70), 90).save(root / "tiny" / f"{5:012d}.jpg")
    save_jpeg(scene(70, 90), root / "tiny" / f"{8:012d}.jpg")
    crowd = np.zeros((60, 120), dtype=np.uint8, order="F")
    crowd[54:60, 40:80] = 1
    packed = coco_mask.encode(crowd)
    packed = {"size": packed["size"], "counts": packed["counts"].decode()}
    annotations = [
        annotation(3, 3, RED_BOX),
        annotation(3, 44, BLUE_BOX, {"size": [60, 120], "counts": run_lengths(120, 60, BLUE_BOX)}),
        annotation(3, 17, (0, 10, 20, 20)),
        annotation(3, 17, (40, 54, 80, 60), packed, iscrowd=1),
    ]
    images = [listed(8, 70, 90), listed(3, 120, 60), listed(5, 50, 70)]
    captions = [{"image_id": 3, "caption": " A red car. \n"}, {"image_id": 3, "caption": "A bus behind a car."}]
    return write_coco(root, images, annotations, captions)


def test_coco_masks_and_boxes_follow_the_picture(coco: str, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_images(coco, SIDE)
    assert capsys.readouterr().out == ""
    assert loaded.image_ids == ("coco:tiny:000000000003", "coco:tiny:000000000005", "coco:tiny:000000000008")
    assert loaded.truth is not None
    truth = loaded.truth[0]
    assert truth.classes == ("car", "cat", "bus")
    assert truth.captions == ("A red car.", "A bus behind a car.")
    assert truth.labels is not None
    assert truth.labels.dtype == np.int32
    assert iou(truth.labels == 0, shows(loaded.images[0], RED)) > 0.9
    assert iou(truth.labels == 2, shows(loaded.images[0], BLUE)) > 0.9
    # The cat in the margin has fallen away; the crowd is in the map alone.
    assert truth.box_labels == ("car", "bus")
    assert np.array_equal(truth.boxes, [[10, 6, 32, 24], [0, 3, 48, 42]])
    assert truth.boxes.dtype == np.int32
    assert (truth.labels == 1).sum() == 5 * 32
    assert (truth.labels == -1).sum() == (truth.labels.size - 48 * 39 - 5 * 32)


def test_coco_pictures_without_objects_have_empty_truth(coco: str) -> None:
    loaded = load_images(coco, SIDE, offset=1)
    assert (loaded.images[0] == 90).all()
    assert loaded.truth is not None
    for truth in loaded.truth:
        assert truth.captions == truth.box_labels == ()
        assert truth.boxes.shape == (0, 4)
        assert truth.labels is not None
        assert (truth.labels == -1).all()


@pytest.mark.parametrize("turned", [True, False], ids=["as shown", "as stored"])
def test_coco_pictures_that_exif_turns_fit_either_way_of_annotating(tmp_path: Path, turned: bool) -> None:
    (tmp_path / "tiny").mkdir()
    upright = scene(40, 64, ((4, 30, 20, 50), RED))
    # Orientation 6: the stored picture is shown after a quarter turn clockwise.
    stored = np.rot90(upright)
    save_jpeg(stored, tmp_path / "tiny" / f"{1:012d}.jpg", orientation=6)
    frame, box = (upright, (4, 30, 20, 50)) if turned else (stored, (30, 20, 50, 36))
    source = write_coco(tmp_path, [listed(1, frame.shape[1], frame.shape[0])], [annotation(1, 3, box)])
    loaded = load_images(source, SIDE)
    assert loaded.truth is not None
    assert loaded.truth[0].labels is not None
    assert iou(loaded.truth[0].labels == 0, shows(loaded.images[0], RED)) > 0.9
    assert loaded.truth[0].captions == ()


def test_coco_pictures_whose_annotations_do_not_fit_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    for image in range(1, 9):
        if image != 5:
            save_jpeg(scene(60, 50), tmp_path / "tiny" / f"{image:012d}.jpg")
    box = (10, 10, 30, 30)
    images = [listed(image, 60, 50) for image in (1, 2, 3, 5, 6, 7, 8)] + [listed(4, 61, 50)]
    annotations = [
        annotation(1, 3, box, [[10, 10, 30, 30]]),
        annotation(2, 99, box),
        annotation(3, 3, box, []),
        annotation(6, 3, box, {"size": [50, 61], "counts": [3050]}),
        annotation(7, 3, box, bbox=None),
        annotation(8, 3, box),
    ]
    source = write_coco(tmp_path, images, annotations)
    assert load_images(source, SIDE).image_ids == ("coco:tiny:000000000008",)
    source = write_coco(tmp_path, images, [*annotations, annotation(8, 99, box)])
    with pytest.raises(ValueError, match=r"none of the 8 images listed in .*instances_tiny\.json can be used"):
        load_images(source, SIDE)


def test_coco_errors_name_the_file(coco: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "coco"
    with pytest.raises(ValueError, match="is incomplete; write coco:ROOT:SPLIT, for example"):
        load_images(f"coco:{root.name}", SIDE)
    with pytest.raises(ValueError, match=r"absent is missing, the folder of its pictures"):
        load_images(f"coco:{root}:absent", SIDE)
    with pytest.raises(ValueError, match="holds 3 pictures; count=3 from offset=1 goes beyond"):
        load_images(coco, SIDE, count=3, offset=1)
    (root / "tiny" / f"{8:012d}.jpg").write_bytes((root / "tiny" / f"{8:012d}.jpg").read_bytes()[:700])
    assert len(load_images(coco, SIDE, count=2)) == 2
    with pytest.raises(ValueError, match=r"0008\.jpg cannot be read as a picture"):
        load_images(coco, SIDE)
    broken = {"size": [60, 120], "counts": [9000, 9000]}
    write_coco(root, [listed(3, 120, 60)], [annotation(3, 3, RED_BOX, broken)])
    with pytest.raises(ValueError, match="an outline of image 3 in .* is broken"):
        load_images(coco, SIDE)
    (root / "annotations" / "instances_tiny.json").write_text("[]")
    with pytest.raises(ValueError, match=r"instances_tiny\.json is no annotation file of COCO"):
        load_images(coco, SIDE)
    (root / "annotations" / "instances_tiny.json").unlink()
    with pytest.raises(ValueError, match=r"instances_tiny\.json is missing, its annotations"):
        load_images(coco, SIDE)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    (root / "annotations" / "instances_tiny.json").write_text("{}")
    with pytest.raises(ImportError, match=r"noma-semcom-env\[data\]"):
        load_images(coco, SIDE)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC2012 with two pictures, tall and wide, each of a car in front of a void seam."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, width, height, (left, top, right, bottom) in (
        ("2007_000002", 61, 90, (5, 30, 45, 60)),
        ("2007_000001", 100, 50, (0, 10, 60, 40)),
    ):
        save_jpeg(scene(width, height, ((left, top, right, bottom), RED)), root / "JPEGImages" / f"{name}.jpg")
        labels = np.zeros((height, width), dtype=np.uint8)
        labels[bottom : bottom + 4] = 255
        labels[top:bottom, left:right] = VOC_CLASSES.index("car")
        picture = Image.fromarray(labels).convert("P")
        picture.putpalette(np.arange(768, dtype=np.uint8).tobytes())
        picture.save(root / "SegmentationClass" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><object><name>car</name><part><bndbox/></part><bndbox><xmin>{left + 1}</xmin>"
            f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}.0</ymax></bndbox></object>"
            "<object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax>"
            "<ymax>3</ymax></bndbox></object></annotation>"
        )
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000002\n\n2007_000001  1\n")
    return root


def test_voc_masks_and_boxes_follow_the_picture(voc: Path) -> None:
    loaded = load_images(f"voc:{voc}:val", SIDE)
    assert loaded.image_ids == ("voc:val:2007_000002", "voc:val:2007_000001")
    assert loaded.truth is not None
    for image, truth in zip(loaded.images, loaded.truth, strict=True):
        assert len(truth.classes) == 21
        assert truth.labels is not None
        car = truth.labels == truth.classes.index("car")
        assert iou(car, shows(image, RED)) > 0.9
        assert set(np.unique(truth.labels)) == {-1, 0, 7}
        assert truth.box_labels == ("car",)
        rows, columns = np.nonzero(car)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.array_equal(truth.boxes, [tight])


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("Annotations/2007_000001.xml", None, r"2007_000001\.xml is missing, an annotation file"),
        ("Annotations/2007_000001.xml", "<annotation>", r"2007_000001\.xml is no annotation file of VOC"),
        ("Annotations/2007_000001.xml", "<a><object><name>car</name></object></a>", "is no annotation file of VOC"),
        ("SegmentationClass/2007_000001.png", None, "2007_000001.png is missing, the class map"),
        ("JPEGImages/2007_000001.jpg", None, r"2007_000001\.jpg cannot be read as a picture"),
        ("ImageSets/Segmentation/val.txt", None, r"val\.txt is missing, the list of its pictures"),
        ("ImageSets/Segmentation/val.txt", "\n", r"val\.txt names no pictures"),
        ("ImageSets/Segmentation/val.txt", "a\na\n", r"val\.txt names a more than once"),
    ],
)
def test_voc_errors_name_the_file(voc: Path, path: str, text: str | None, message: str) -> None:
    (voc / path).unlink()
    if text is not None:
        (voc / path).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_images(f"voc:{voc}:val", SIDE)


def test_voc_maps_that_are_none_or_of_another_size_are_refused(voc: Path) -> None:
    path = voc / "SegmentationClass" / "2007_000002.png"
    for picture in (Image.new("RGB", (61, 90)), Image.new("L", (61, 90), 21)):
        picture.save(path)
        with pytest.raises(ValueError, match=r"2007_000002\.png is no class map"):
            load_images(f"voc:{voc}:val", SIDE)
    Image.new("L", (90, 61)).save(path)
    with pytest.raises(ValueError, match="is of 90 x 61 pixels but its picture of 61 x 90"):
        load_images(f"voc:{voc}:val", SIDE)
    with pytest.raises(ValueError, match="JPEGImages is missing"):
        load_images(f"voc:{voc / 'absent'}:val", SIDE)


def test_loading_is_deterministic(coco: str, voc: Path) -> None:
    for source in (coco, f"voc:{voc}:val"):
        one, other = (load_images(source, 37) for _ in range(2))
        assert one.image_ids == other.image_ids
        assert np.array_equal(one.images, other.images)
