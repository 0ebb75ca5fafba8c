"""Photographs with annotated objects to train on: RefCOCO, COCO or Pascal VOC, read once into memory-mapped arrays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.progress import track

from noma_semcom_env.scenes.annotated import Truth
from noma_semcom_env.scenes.refcoco import PREFIX, open_refcoco
from noma_semcom_env.scenes.sets import open_images

LEAST_SHARE: Final = 256
"""An object has at least one of so many pixels of its picture."""

_SCHEMES: Final = (PREFIX.rstrip(":"), "coco", "voc")
"""What the names of annotated sets in folders begin with."""


@dataclass(frozen=True, eq=False)
class Annotated:
    """Square pictures of one size with at least one object each.

    Attributes:
        name: Of the source and its size, as the folder is called that holds them.
        images: (n, H, H, 3) uint8.
        masks: (m, H, ceil(H / 8)) uint8, the pixels of objects, eight of a row in a byte, the first one highest.
        picture: (m,) int64, the picture of each object.
        kinds: m names of what the objects are.
        captions: n tuples of sentences about the pictures, empty ones where the source has none.
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    picture: np.ndarray
    kinds: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.images)

    def part(self, start: int, stop: int) -> Annotated:
        """The pictures from ``start`` to before ``stop`` with their objects."""
        chosen = np.flatnonzero((self.picture >= start) & (self.picture < stop))
        return Annotated(
            self.name,
            self.images[start:stop],
            self.masks[chosen],
            self.picture[chosen] - start,
            tuple(self.kinds[i] for i in chosen),
            self.captions[start:stop],
        )


class _Look(NamedTuple):
    """Some objects of a picture; a picture may come again with others."""

    name: Any
    image: np.ndarray
    objects: list[tuple[str, np.ndarray]]
    captions: tuple[str, ...]


def read_annotated(source: str, side: int, count: int, folder: Path) -> Annotated:
    """Pictures of a source with their objects, read into ``folder`` if they are not there yet.

    The objects of RefCOCO are what its references point at, by their own masks. Of COCO, VOC and street scenes, which
    come with a map of classes, an object is what its box holds of its class. Left out are objects of less than one in
    :data:`LEAST_SHARE` pixels, those that fill their picture, and pictures without any other.

    Args:
        source: ``"refcoco:ROOT:SPLIT"`` (:func:`~noma_semcom_env.scenes.refcoco.open_refcoco`), or one of
            :func:`~noma_semcom_env.scenes.sets.load_images` that has class maps and boxes.
        side: Side of the pictures in pixels.
        count: Most pictures to read.
        folder: Where the arrays are kept; a source that has changed since must be read into another one.

    Raises:
        ImportError: If Pillow or pycocotools is needed and not installed.
        ValueError: If the source is missing or broken, has no annotations or no object of that size, or ``count`` is
            below 1.
    """
    if count < 1:
        raise ValueError(f"count={count!r} pictures of {source!r}; at least 1 is needed")
    digest = hashlib.sha256(json.dumps(_resolved(source)).encode()).hexdigest()[:12]
    target = folder / f"pictures-{side}-{count}-{digest}"
    if not target.is_dir():
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            _write(source, side, count, part)
            os.replace(part, target)
        except OSError:
            if not target.is_dir():  # unless another process has read the same pictures meanwhile
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    texts = json.loads((target / "texts.json").read_text())
    captions = tuple(map(tuple, texts["captions"]))
    if texts["taken"] < texts["available"]:
        print(f"{texts['taken']} of {texts['available']} pictures of {source} are taken, the first ones")
    return Annotated(
        name=target.name,
        images=np.load(target / "images.npy", mmap_mode="r")[: len(captions)],
        masks=np.load(target / "masks.npy", mmap_mode="r"),
        picture=np.load(target / "picture.npy"),
        kinds=tuple(texts["kinds"]),
        captions=captions,
    )


def _resolved(source: str) -> tuple[str, str, str]:
    """Scheme, absolute folder and split of a source; empty where it has none."""
    scheme, _, rest = source.partition(":")
    if scheme not in _SCHEMES:
        # Street scenes lie in no folder, and of a folder of pictures nothing is annotated.
        return ("", source, "")
    root, _, split = rest.rpartition(":")
    return (scheme, str(Path(root).expanduser().resolve()), split)


def _write(source: str, side: int, count: int, folder: Path) -> None:
    available, looks = (_references if source.startswith(PREFIX) else _pictures)(source, side, count)
    most = min(count, available)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (most, side, side, 3))
    rows: dict[Any, int] = {}
    captions: list[tuple[str, ...]] = []
    found: list[tuple[int, str, np.ndarray]] = []
    least = -(-side * side // LEAST_SHARE)
    for look in looks:
        objects = [(kind, mask) for kind, mask in look.objects if least <= mask.sum() < mask.size]
        if objects and look.name not in rows:
            rows[look.name] = len(rows)
            images[rows[look.name]] = look.image
            captions.append(look.captions)
        found += [(rows[look.name], kind, np.packbits(mask, axis=1)) for kind, mask in objects]
    if not found:
        raise ValueError(
            f"{source!r} has no object of {least} pixels or more on pictures of {side} x {side}; give a source of "
            "larger objects"
        )
    images.flush()
    np.save(folder / "masks.npy", np.stack([mask for _, _, mask in found]))
    np.save(folder / "picture.npy", np.array([row for row, _, _ in found], dtype=np.int64))
    texts = {"kinds": [kind for _, kind, _ in found], "captions": captions, "taken": most, "available": available}
    (folder / "texts.json").write_text(json.dumps(texts))


def _references(source: str, side: int, count: int) -> tuple[int, Iterator[_Look]]:
    references = open_refcoco(source)

    def look() -> Iterator[_Look]:
        seen: set[int] = set()
        for one in track(references, "reading references", total=len(references)):
            if one.image_id in seen or len(seen) < count:
                seen.add(one.image_id)
                image, mask, _ = one.squared(side)
                yield _Look(one.image_id, image, [(one.category, mask)], ())

    return references.picture_count, look()


def _pictures(source: str, side: int, count: int) -> tuple[int, Iterator[_Look]]:
    # Of sets in folders all pictures are counted, to tell how many are left aside.
    available, read = open_images(source, side, count if source.startswith("street:") else None)

    def look() -> Iterator[_Look]:
        for index in track(range(min(count, available)), "reading pictures"):
            name, image, truth = read(index)
            if truth is None or truth.labels is None:
                raise ValueError(
                    f"{source!r} has no annotated objects; give refcoco:ROOT:SPLIT, coco:ROOT:SPLIT or voc:ROOT:SET"
                )
            yield _Look(name, image, objects_of(truth, truth.labels), truth.captions)

    return available, look()


def objects_of(truth: Truth, labels: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Kind and (H, W) bool pixels of each object with a box: those of its class in the (H, W) map within the box."""
    found = []
    for kind, (left, top, right, bottom) in zip(truth.box_labels, truth.boxes.tolist(), strict=True):
        mask = np.zeros(labels.shape, dtype=np.bool_)
        if kind in truth.classes:
            mask[top:bottom, left:right] = labels[top:bottom, left:right] == truth.classes.index(kind)
        found.append((kind, mask))
    return found
