"""From images to features: what is found, what it costs, what survives pruning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bitarray import bitarray

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.scenes.street import CLASSES, StreetScene
from noma_semcom_env.semantics import extraction
from noma_semcom_env.semantics.attribution import AttributedCaption
from noma_semcom_env.semantics.coding import Codebook, CodedMask
from noma_semcom_env.semantics.extraction import FeatureExtractor, load_extractor
from noma_semcom_env.semantics.importance import Reading
from noma_semcom_env.semantics.phrases import split_caption
from noma_semcom_env.zoo.presets import load_preset

MakeExtractor = Callable[..., FeatureExtractor]


@pytest.fixture(scope="session")
def names(scenes: list[StreetScene]) -> list[str]:
    return [f"street:validation:{i:04d}" for i in range(len(scenes))]


@pytest.fixture(scope="session")
def features(images: np.ndarray, names: list[str]) -> list[SemanticFeatures]:
    return load_extractor().extract(images, names)


def test_masks_are_disjoint_and_agree_with_the_truth(
    features: list[SemanticFeatures], scenes: list[StreetScene]
) -> None:
    right = total = 0
    for one, scene in zip(features, scenes, strict=True):
        assert one.masks.sum(axis=0).max() <= 1
        for label, mask in zip(one.mask_labels, one.masks, strict=True):
            right += int((scene.labels[mask] == CLASSES.index(label)).sum())
        total += scene.labels.size
    assert right / total > 0.97


def test_phrases_name_what_is_there(features: list[SemanticFeatures], scenes: list[StreetScene]) -> None:
    said = [set(one.phrases) for one in features]
    true = [set(split_caption(scene.caption)) for scene in scenes]
    right = sum(len(a & b) for a, b in zip(said, true, strict=True))
    assert right / sum(map(len, true)) >= 0.9
    assert right / sum(map(len, said)) >= 0.95


def test_every_feature_has_a_label_of_the_preset(features: list[SemanticFeatures]) -> None:
    known = set(load_preset("street").labels)
    assert {label for one in features for label in one.labels} <= known


def test_sizes_are_the_lengths_of_codes_that_decode_to_the_features(features: list[SemanticFeatures]) -> None:
    codebook = Codebook.load(load_preset("street").codebook)
    for one in features[:8]:
        sent = bitarray()
        for label, mask in zip(one.mask_labels, one.masks, strict=True):
            sent += codebook.encode_mask(label, mask)
        for position, phrase in enumerate(one.phrases):
            sent += codebook.encode_phrase(phrase, position)
        assert len(sent) == one.size_bits.sum()
        received = list(codebook.decode_all(sent, one.masks.shape[1:]))
        for label, mask, got in zip(one.mask_labels, one.masks, received, strict=False):
            assert isinstance(got, CodedMask)
            assert got.label == label
            np.testing.assert_array_equal(got.mask, mask)
        assert tuple(got.text for got in received[len(one.masks) :]) == one.phrases  # type: ignore[union-attr]


def test_pruning_keeps_both_kinds_and_takes_its_share(features: list[SemanticFeatures]) -> None:
    preset = load_preset("street")
    for one in features:
        visual = len(one.masks)
        assert one.count <= preset.max_features
        assert ((one.importance >= 0) & (one.importance <= 1)).all()
        for part, threshold in (
            (slice(0, visual), preset.visual_threshold),
            (slice(visual, None), preset.text_threshold),
        ):
            kept, scores = one.kept[part], one.importance[part]
            assert kept.any()
            np.testing.assert_array_equal(
                kept, (scores >= threshold) | (scores == scores[kept].max()) & (kept.sum() == 1)
            )
    pruned = 1 - np.mean(np.concatenate([one.kept for one in features]))
    assert 0.0 < pruned < 0.35


def test_zero_thresholds_prune_nothing(make_extractor: MakeExtractor, images: np.ndarray, names: list[str]) -> None:
    extractor = make_extractor(text_threshold=0.0, visual_threshold=0.0)
    assert all(one.kept.all() for one in extractor.extract(images[:4], names[:4]))


def test_the_batch_size_changes_nothing(make_extractor: MakeExtractor, images: np.ndarray, names: list[str]) -> None:
    one, many = (make_extractor(batch_size=size).extract(images[:5], names[:5]) for size in (2, 5))
    for a, b in zip(one, many, strict=True):
        assert (a.image_id, a.phrases, a.mask_labels) == (b.image_id, b.phrases, b.mask_labels)
        np.testing.assert_array_equal(a.size_bits, b.size_bits)
        np.testing.assert_allclose(a.importance, b.importance, atol=1e-3)


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_the_smallest_masks_go_first(
    make_extractor: MakeExtractor, images: np.ndarray, names: list[str], limit: int
) -> None:
    whole = make_extractor(max_features=40).extract(images[:6], names[:6])
    for full, cut in zip(whole, make_extractor(max_features=limit).extract(images[:6], names[:6]), strict=True):
        assert cut.count == min(limit, full.count)
        assert len(cut.masks) >= 1
        left_out = set(full.mask_labels) - set(cut.mask_labels)
        areas = dict(zip(full.mask_labels, full.masks.sum(axis=(1, 2)), strict=True))
        if left_out:
            assert max(areas[label] for label in left_out) <= min(areas[label] for label in cut.mask_labels)
        if len(full.phrases) < limit:
            assert cut.phrases == full.phrases


def test_words_can_be_the_unit(make_extractor: MakeExtractor, images: np.ndarray, names: list[str]) -> None:
    (one,) = make_extractor("word", max_features=40).extract(images[:1], names[:1])
    assert one.phrases == tuple(one.caption.split())


def test_another_reading_of_textual_importance_can_be_given(
    make_extractor: MakeExtractor, images: np.ndarray, names: list[str]
) -> None:
    extractor = make_extractor(
        reading=Reading(textual_importance=lambda dependency, contribution: np.ones(len(contribution)))
    )
    (one,) = extractor.extract(images[:1], names[:1])
    assert (one.importance[len(one.masks) :] == 1).all()


def test_an_image_without_words_has_masks_alone(
    make_extractor: MakeExtractor, images: np.ndarray, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(model: Any, processor: Any, pictures: list[np.ndarray]) -> list[AttributedCaption]:
        nothing = np.zeros((0, 64, 16), dtype=np.float32)
        return [AttributedCaption("", (), nothing, np.ones((64, 16), dtype=np.float32), (8, 8)) for _ in pictures]

    monkeypatch.setattr(extraction, "attribute_captions", silent)
    for unit in ("phrase", "word"):
        for one in make_extractor(unit, visual_threshold=0.1).extract(images[:3], names[:3]):
            assert one.caption == ""
            assert one.phrases == one.phrase_labels == ()
            assert one.count == len(one.masks) > 1
            assert (one.size_bits > 0).all()
            # No word speaks of any mask: all weigh nothing, and pruning keeps one.
            assert not one.importance.any()
            assert one.kept.sum() == 1


def test_extractors_are_kept_by_what_they_are_made_of() -> None:
    assert load_extractor() is load_extractor("street")
    assert load_extractor({"preset": "street", "max_features": 4}).max_features == 4
    assert next(load_extractor()._segmenter.parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"text_threshold": 1.5}, r"text_threshold=1\.5.*\[0, 1\]"),
        ({"visual_threshold": float("nan")}, "visual_threshold=nan"),
        ({"least_mask_share": -1}, "least_mask_share=-1"),
        ({"max_features": 0}, "max_features=0.*at least 1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_options_out_of_range_are_named(make_extractor: MakeExtractor, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make_extractor(**options)


def test_a_codebook_of_other_classes_is_refused(captioner: tuple[Any, Any], segmenter: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="bus"):
        FeatureExtractor(captioner, segmenter, Codebook({"sky": 1}, {"sky": 1}, 1, [1]))


def test_images_of_the_wrong_kind_are_refused(make_extractor: MakeExtractor, images: np.ndarray) -> None:
    extractor = make_extractor()
    with pytest.raises(ValueError, match="float64"):
        extractor.extract(images[:1] / 255, ["a"])
    with pytest.raises(ValueError, match=r"\(64, 64, 3\)"):
        extractor.extract(images[0], ["a"])
    with pytest.raises(ValueError, match="2 names for 1 images"):
        extractor.extract(images[:1], ["a", "b"])
