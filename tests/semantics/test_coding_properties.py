"""What holds of the code of any feature: it comes back, it adds up, and a part of it is never taken for a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bitarray import bitarray
from hypothesis import given, settings
from hypothesis import strategies as st

from noma_semcom_env.semantics.coding import Codebook, CodedMask, CodedPhrase

CODEBOOK = Codebook(
    labels={"sky": 900, "road": 300, "tree": 40, "car": 7, "straßenschild": 1},
    words={"clear": 500, "sky": 400, "red": 60, "car": 50, "person": 9, "in": 8, "fjäll": 1},
    ends=700,
    positions=[90, 80, 40, 10, 3, 1],
)
Feature = tuple[str, Any]

sides = st.integers(1, 80)
shapes = st.tuples(sides, sides)


@st.composite
def masks_of(draw: st.DrawFn, shape: tuple[int, int]) -> np.ndarray:
    """Empty, full, noise of any density, stripes, or boxes: what is easy and what is hard for a run-length code."""
    height, width = shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["empty", "full", "one", "noise", "boxes", "stripes"]))
    mask = np.full(shape, kind == "full")
    if kind == "one":
        mask[rng.integers(height), rng.integers(width)] = True
    elif kind == "noise":
        mask = rng.random(shape) < draw(st.floats(0.0, 1.0))
    elif kind == "boxes":
        for _ in range(draw(st.integers(1, 4))):
            top, left = rng.integers(height), rng.integers(width)
            mask[top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)] ^= True
    elif kind == "stripes":
        mask[:: draw(st.integers(1, 3)), :: draw(st.integers(1, 3))] = True
    return mask


# Any character but blanks and zero; lone surrogates are no text, and UTF-8 refuses them.
spelled = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda word: word.split() == [word]
)
phrases = st.lists(st.sampled_from(CODEBOOK.words) | spelled, min_size=1, max_size=4).map(" ".join)


def features_of(shape: tuple[int, int]) -> st.SearchStrategy[Feature]:
    """("mask", label, pixels) or ("phrase", text, position)."""
    visual = st.tuples(st.just("mask"), st.sampled_from(CODEBOOK.labels), masks_of(shape))
    textual = st.tuples(st.just("phrase"), phrases, st.integers(0, CODEBOOK.max_positions - 1))
    return visual | textual


def encode(feature: Any) -> bitarray:
    kind, name, content = feature
    return CODEBOOK.encode_mask(name, content) if kind == "mask" else CODEBOOK.encode_phrase(name, content)


def assert_same(decoded: CodedMask | CodedPhrase, feature: Any) -> None:
    kind, name, content = feature
    if kind == "phrase":
        assert decoded == CodedPhrase(name, content)
    else:
        assert isinstance(decoded, CodedMask)
        assert decoded.label == name
        assert decoded.mask.dtype == np.bool_
        np.testing.assert_array_equal(decoded.mask, content, strict=True)


with_shape = shapes.flatmap(lambda shape: st.tuples(st.just(shape), st.lists(features_of(shape), max_size=6)))


@settings(deadline=None, max_examples=100)
@given(with_shape)
def test_any_features_in_any_order_come_back_from_one_stream(case: tuple[tuple[int, int], list[Any]]) -> None:
    shape, features = case
    codes = [encode(feature) for feature in features]
    stream = sum(codes, bitarray())
    assert len(stream) == sum(len(code) for code in codes)
    start = 0
    for code, feature in zip(codes, features, strict=True):
        decoded, end = CODEBOOK.decode(stream, shape, start)
        assert_same(decoded, feature)
        assert end == start + len(code)
        start = end
    received = list(CODEBOOK.decode_all(stream, shape))
    assert len(received) == len(features)
    for decoded, feature in zip(received, features, strict=True):
        assert_same(decoded, feature)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_code_cut_off_anywhere_is_refused(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    code = encode(data.draw(features_of(shape)))
    with pytest.raises(ValueError, match="bits"):
        CODEBOOK.decode(code[: data.draw(st.integers(0, len(code) - 1))], shape)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_stream_cut_off_gives_the_whole_features_before_the_cut_and_then_refuses(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    features = data.draw(st.lists(features_of(shape), min_size=1, max_size=4))
    codes = [encode(feature) for feature in features]
    ends = np.cumsum([len(code) for code in codes])
    cut = data.draw(st.integers(0, int(ends[-1]) - 1))
    whole = int((ends <= cut).sum())
    received = CODEBOOK.decode_all(sum(codes, bitarray())[:cut], shape)
    for feature in features[:whole]:
        assert_same(next(received), feature)
    # A cut between two features leaves a shorter stream that is whole.
    if cut in (0, *ends):
        assert next(received, None) is None
    else:
        with pytest.raises(ValueError, match="bits"):
            next(received)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_no_code_begins_with_another(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    one, other = (encode(data.draw(features_of(shape))) for _ in range(2))
    assert one == other or one[: len(other)] != other
