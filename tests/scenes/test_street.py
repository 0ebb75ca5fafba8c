"""The street world: seeded, consistent with its ground truth, within ten features."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from noma_semcom_env.scenes.street import CLASSES, SPLITS, render, split_seeds, vocabulary
from noma_semcom_env.scenes.styles import STYLES
from noma_semcom_env.semantics.phrases import head_word, split_caption

SCENES = [render(seed) for seed in range(200)]


def test_same_seed_same_scene_and_other_seed_other_scene() -> None:
    again = render(3)
    assert np.array_equal(again.image, SCENES[3].image)
    assert np.array_equal(again.labels, SCENES[3].labels)
    assert again.caption == SCENES[3].caption
    assert not np.array_equal(SCENES[3].image, SCENES[4].image)


def test_splits_are_disjoint() -> None:
    assert set(SPLITS) == {"model", "policy", "validation", "test"}
    for one, other in combinations(SPLITS.values(), 2):
        assert one.step == other.step == 1
        assert one.stop <= other.start or other.stop <= one.start
    assert split_seeds("test", 3) == list(SPLITS["test"][:3])


def test_splits_share_no_picture() -> None:
    pictures = [render(seed).image.tobytes() for split in SPLITS for seed in split_seeds(split, 25)]
    assert len(set(pictures)) == len(pictures)


def test_every_class_appears_and_no_scene_has_more_than_ten_features() -> None:
    seen = set()
    for scene in SCENES:
        present = np.unique(scene.labels)
        seen |= set(present.tolist())
        assert len(present) + len(split_caption(scene.caption)) <= 10
    assert seen == set(range(len(CLASSES)))


def test_caption_names_exactly_the_visible_items() -> None:
    for scene in SCENES:
        phrases = split_caption(scene.caption)
        assert len(phrases) == 2 + len(scene.items)
        assert sorted(phrases[2:]) == sorted(item.phrase for item in scene.items)
        for item, (left, top, right, bottom) in zip(scene.items, scene.boxes, strict=True):
            inside = scene.labels[top:bottom, left:right] == CLASSES.index(item.kind)
            assert inside.sum() == (scene.labels == CLASSES.index(item.kind)).sum() > 0
            assert head_word(item.phrase) == item.kind


@pytest.mark.parametrize(("resolution", "style"), [(64, "plain"), (128, "plain"), (128, "crayon"), (256, "plain")])
def test_boxes_enclose_exactly_the_pixels_of_their_item(resolution: int, style: str) -> None:
    for seed in range(40):
        scene = render(seed, resolution, style)
        assert scene.boxes.shape == (len(scene.items), 4)
        assert scene.boxes.dtype == np.int32
        for item, (left, top, right, bottom) in zip(scene.items, scene.boxes, strict=True):
            on_item = scene.labels == CLASSES.index(item.kind)
            inside = on_item[top:bottom, left:right]
            assert inside.sum() == on_item.sum()
            # Each side of the box touches the item, so no smaller box would do.
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_vocabulary_holds_every_caption_word() -> None:
    known = set(vocabulary())
    assert all(set(scene.caption.split()) <= known for scene in SCENES)


@pytest.mark.slow
def test_objects_show_in_the_colour_they_are_named_by() -> None:
    """The mean colour of a clear day's red cars is red, of blue ones blue."""
    for colour, channel in (("red", 0), ("blue", 2)):
        pixels = [
            scene.image[scene.labels == CLASSES.index("car")]
            for scene in (render(seed) for seed in range(1500))
            if scene.caption.startswith("clear sky by day") and f"{colour} car" in scene.caption
        ]
        mean = np.concatenate(pixels).mean(0)
        assert mean.argmax() == channel


@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_resolution_changes_the_grid_and_not_the_scene(resolution: int) -> None:
    scene = render(7, resolution)
    assert scene.image.shape == (resolution, resolution, 3)
    assert scene.image.dtype == np.uint8
    step = resolution // 64
    agreement = (scene.labels[step // 2 :: step, step // 2 :: step] == SCENES[7].labels).mean()
    assert agreement > 0.95


@pytest.mark.parametrize("resolution", range(64, 257, 38))
@pytest.mark.parametrize("style", STYLES)
def test_every_even_side_shows_the_same_items(resolution: int, style: str) -> None:
    same = 0
    for small in SCENES[:12]:
        scene = render(small.seed, resolution, style)
        assert scene.image.shape == (resolution, resolution, 3)
        assert scene.labels.shape == (resolution, resolution)
        assert scene.labels.max() < len(CLASSES)
        same += scene.caption == small.caption
        for item, box in zip(scene.items, scene.boxes / resolution, strict=True):
            if item in small.items:
                np.testing.assert_allclose(box, small.boxes[small.items.index(item)] / 64, atol=3 / 64)
    # What covers a pixel or two at one side may not be visible at another.
    assert same >= 11


def test_style_changes_the_look_and_nothing_else() -> None:
    for plain in SCENES[:20]:
        other = render(plain.seed, style="crayon")
        assert np.array_equal(other.labels, plain.labels)
        assert (other.caption, other.items) == (plain.caption, plain.items)
        assert np.array_equal(other.image, render(plain.seed, style="crayon").image)
        difference = np.abs(other.image.astype(int) - plain.image).mean()
        assert 12 < difference < 90


def test_expressions_point_at_each_item() -> None:
    seen = set()
    for scene in SCENES:
        # No scene holds two items of a kind, so an expression never points at two things.
        assert len(set(scene.expressions)) == len({item.kind for item in scene.items}) == len(scene.items)
        for said, item, (left, _, right, _) in zip(scene.expressions, scene.items, scene.boxes, strict=True):
            assert said.startswith(f"the {item.phrase} ")
            centre = (left + right) / 2 / 64
            assert ("left" in said, "right" in said) == (centre < 0.4, centre > 0.6)
            seen.add(said.partition(item.phrase)[2])
    assert seen == {" on the left", " in the middle", " on the right"}
    assert any(said == "the red car on the left" for scene in SCENES for said in scene.expressions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 64), "seed=-1"), ((0, 63), "resolution=63"), ((0, 65), "resolution=65"), ((0, 512), "resolution=512")],
)
def test_render_refuses_bad_arguments(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render(*arguments)
    with pytest.raises(ValueError, match="style='oil' is unknown; choose one of"):
        render(0, style="oil")


def test_split_seeds_refuses_unknown_splits_and_counts() -> None:
    with pytest.raises(ValueError, match="split='train'"):
        split_seeds("train", 1)
    with pytest.raises(ValueError, match="count=-1"):
        split_seeds("test", -1)
