"""Every feature's code stands alone, ends by itself and decodes to the identical feature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bitarray import bitarray
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from noma_semcom_env.scenes.street import CLASSES, render, split_seeds
from noma_semcom_env.semantics.coding import Codebook, CodedMask, CodedPhrase
from noma_semcom_env.semantics.phrases import TextUnit, split_caption
from noma_semcom_env.zoo.presets import load_preset

CODEBOOK = Codebook(
    labels={"sky": 9, "tree": 3, "car": 1},
    words={"clear": 5, "sky": 5, "red": 2, "car": 2, "person": 1, "in": 1},
    ends=9,
    positions=[9, 8, 4, 1],
)

sides = st.integers(1, 40)
masks = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.bool_, shape))
words = st.one_of(
    st.sampled_from(CODEBOOK.words),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Z", "C"]), min_size=1, max_size=8),
)
phrases = st.lists(words, min_size=1, max_size=4).map(" ".join)
noise = st.lists(st.booleans(), max_size=200).map(bitarray)


@settings(deadline=None, max_examples=60)
@given(masks, st.sampled_from(CODEBOOK.labels), noise)
def test_a_mask_comes_back_whatever_follows_it(mask: np.ndarray, label: str, following: bitarray) -> None:
    code = CODEBOOK.encode_mask(label, mask)
    decoded, end = CODEBOOK.decode(code + following, mask.shape)
    assert isinstance(decoded, CodedMask)
    assert decoded.label == label
    assert end == len(code)
    np.testing.assert_array_equal(decoded.mask, mask)


@settings(deadline=None, max_examples=60)
@given(phrases, st.integers(0, 3), noise)
def test_a_phrase_comes_back_whatever_follows_it(text: str, position: int, following: bitarray) -> None:
    code = CODEBOOK.encode_phrase(text, position)
    assert CODEBOOK.decode(code + following, (8, 8)) == (CodedPhrase(text, position), len(code))


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(5)))
def test_codes_sent_one_after_the_other_are_told_apart(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    shape = (12, 20)
    pictures = [rng.random(shape) < 0.5, np.zeros(shape, bool)]
    codes = [CODEBOOK.encode_mask(label, mask) for label, mask in zip(("sky", "car"), pictures, strict=True)]
    codes += [CODEBOOK.encode_phrase(text, i) for i, text in enumerate(("clear sky", "red zeppelin", "car"))]
    sent = bitarray()
    for i in order:
        sent += codes[i]
    received = list(CODEBOOK.decode_all(sent, shape))
    for i, feature in zip(order, received, strict=True):
        if isinstance(feature, CodedMask):
            np.testing.assert_array_equal(feature.mask, pictures[i])
        else:
            assert feature.position == i - 2


@settings(deadline=None, max_examples=40)
@given(noise)
def test_bits_that_are_no_code_are_refused_or_read_as_one(bits: bitarray) -> None:
    try:
        _, end = CODEBOOK.decode(bits, (6, 6))
    except ValueError:
        return
    assert 0 < end <= len(bits)


def test_a_code_cut_short_is_refused() -> None:
    mask = np.random.default_rng(1).random((6, 6)) < 0.5
    for code in (CODEBOOK.encode_mask("tree", mask), CODEBOOK.encode_phrase("person in mauve", 3)):
        for length in range(len(code)):
            with pytest.raises(ValueError, match="bits"):
                CODEBOOK.decode(code[:length], mask.shape)


def test_masks_of_a_scene_take_far_fewer_bits_than_raw_or_png() -> None:
    from io import BytesIO

    from PIL import Image

    codebook = Codebook.load(load_preset("street").codebook)
    ours, png = [], []
    for seed in split_seeds("validation", 4):
        scene = render(seed)
        for index in np.unique(scene.labels):
            mask = scene.labels == index
            ours.append(len(codebook.encode_mask(CLASSES[index], mask)))
            file = BytesIO()
            Image.fromarray(mask).save(file, "PNG", optimize=True)
            png.append(8 * len(file.getvalue()))
    assert np.mean(ours) < 0.3 * np.mean(png) < 0.3 * 64 * 64


@pytest.mark.parametrize("unit", ["phrase", "word"])
def test_the_street_codebook_codes_every_caption_without_spelling(unit: TextUnit) -> None:
    codebook = Codebook.load(load_preset("street").codebook, unit)
    for seed in split_seeds("validation", 20):
        texts = split_caption(render(seed).caption, unit)
        bits = [len(codebook.encode_phrase(text, i)) for i, text in enumerate(texts)]
        assert max(bits) < 40
        assert all(b < 8 * len(t) for b, t in zip(bits, texts, strict=True) if len(t) > 3)


@pytest.mark.parametrize(
    ("label", "mask", "named"),
    [
        ("zebra", np.ones((4, 4), bool), "zebra"),
        ("sky", np.ones((4, 4)), "float64"),
        ("sky", np.ones(4, bool), r"\(4,\)"),
        ("sky", np.ones((0, 4), bool), r"\(0, 4\)"),
    ],
)
def test_masks_that_cannot_be_coded_are_named(label: str, mask: np.ndarray, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CODEBOOK.encode_mask(label, mask)


@pytest.mark.parametrize(
    ("text", "position"), [("", 0), ("red  car", 0), (" car", 0), ("a\0b", 0), ("car", 4), ("car", -1)]
)
def test_phrases_that_cannot_be_coded_are_named(text: str, position: int) -> None:
    with pytest.raises(ValueError, match="phrase|position"):
        CODEBOOK.encode_phrase(text, position)


VOCABULARY = [
    *("[PAD]", "[unused0]", "!", "##s", "2", "a", "b", "ö"),
    *("the", "of", "in", "street", "car", "##ing", "red", "street", "pedestrian", "nécessaire", "1912"),
]


@pytest.mark.parametrize("unit", ["phrase", "word"])
def test_a_vocabulary_makes_a_code_with_short_words_for_frequent_ones(unit: TextUnit) -> None:
    rng = np.random.default_rng(0)
    rare = ["".join(map(chr, row)) for row in rng.integers(ord("a"), ord("z") + 1, (30_000, 7))]
    book = Codebook.from_vocabulary([*VOCABULARY, *rare], ["sky", "car"], unit, 12)
    assert book.labels == ("sky", "car")
    assert book.max_positions == 12
    first = ("a", "the", "of", "in", "street") if unit == "word" else ("in", "street", "car", "red", "pedestrian")
    assert book.words[:5] == first
    alphabet = {"2", "b", "ö"}
    assert set(book.words[-3:]) == alphabet
    assert not set(book.words) & {"[PAD]", "[unused0]", "!", "##s", "##ing"}
    bits = np.array([len(book.encode_phrase(word, 0)) for word in book.words])
    # Words of one count may differ by a bit.
    assert (np.maximum.accumulate(bits) - bits).max() <= 1
    assert bits[0] <= 10 < bits[1_000] < bits[-1] < 30
    assert len(book.encode_phrase("unknown!", 0)) > bits.max()
    by_position = [len(book.encode_phrase("street", i)) for i in range(12)]
    assert by_position == sorted(by_position)
    for text in (book.words[-1], f"street {rare[-1]}", "zöölogical"):
        code = book.encode_phrase(text, 11)
        assert book.decode(code, (4, 4)) == (CodedPhrase(text, 11), len(code))


tokens = st.lists(
    st.one_of(st.sampled_from(VOCABULARY), st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(tokens, st.sampled_from(["word", "phrase"]), st.integers(1, 62), st.data())
def test_codes_of_any_vocabulary_come_back(
    vocabulary: list[str], unit: TextUnit, max_positions: int, data: st.DataObject
) -> None:
    book = Codebook.from_vocabulary(["street", *vocabulary], ["sky", "car", "wall"], unit, max_positions)
    text = " ".join(data.draw(st.lists(st.sampled_from([*book.words, "zeppelin", "##s"]), min_size=1, max_size=4)))
    position = data.draw(st.integers(0, max_positions - 1))
    following = data.draw(noise)
    code = book.encode_phrase(text, position)
    assert book.decode(code + following, (8, 8)) == (CodedPhrase(text, position), len(code))
    mask = np.eye(5, 7, dtype=bool)
    coded, end = book.decode(book.encode_mask("wall", mask) + following, mask.shape)
    assert isinstance(coded, CodedMask)
    assert coded.label == "wall"
    np.testing.assert_array_equal(coded.mask, mask)
    assert end == len(book.encode_mask("wall", mask))


@pytest.mark.parametrize(
    ("vocabulary", "labels", "positions", "named"),
    [(["##s", "[PAD]"], ["sky"], 3, "words"), (["car"], [], 3, "labels"), (["car"], ["sky"], 0, "positions")],
)
def test_vocabularies_that_make_no_codebook_are_named(
    vocabulary: list[str], labels: list[str], positions: int, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Codebook.from_vocabulary(vocabulary, labels, "word", positions)


def test_files_that_are_no_codebook_are_named(tmp_path: Path) -> None:
    path = tmp_path / "codebook.json"
    with pytest.raises(ValueError, match="does not exist"):
        Codebook.load(path)
    for content in ("{", "[]", json.dumps({"labels": {"sky": 1}, "units": {}})):
        path.write_text(content)
        with pytest.raises(ValueError, match="no codebook"):
            Codebook.load(path)
    with pytest.raises(ValueError, match="labels"):
        Codebook({}, {"car": 1}, 1, [1])
