"""The text of the rest: a caption without the region's own phrase."""

from __future__ import annotations

import pytest

from noma_semcom_env.mixture.captions import head_of, leave_out
from noma_semcom_env.scenes.street import CLASSES, render
from noma_semcom_env.semantics.phrases import head_word, split_caption

SENTENCE = "clear sky by day with a red car and a person in blue near a tall grey building and an orange tree"


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("car", "clear sky by day with a person in blue near a tall grey building and an orange tree"),
        ("person", "clear sky by day with a red car near a tall grey building and an orange tree"),
        ("building", "clear sky by day with a red car and a person in blue near an orange tree"),
        ("tree", "clear sky by day with a red car and a person in blue near a tall grey building"),
        ("sky", "by day with a red car and a person in blue near a tall grey building and an orange tree"),
        ("bus", SENTENCE),
        (None, SENTENCE),
        ("", SENTENCE),
    ],
)
def test_the_phrase_of_the_kind_goes_with_what_joined_it(kind: str | None, rest: str) -> None:
    assert leave_out(SENTENCE, kind) == rest


@pytest.mark.parametrize(
    ("caption", "kind", "rest"),
    [
        ("a dog", "dog", ""),
        ("", "dog", ""),
        ("a man riding a wave on a surfboard", "surfboard", "a man riding a wave"),
        ("a red traffic light on a street", "traffic light", "on a street"),
        ("A Red Car in the rain", "car", "in the rain"),
        ("rain by night with a bus", "bus", "rain by night"),
    ],
)
def test_other_sentences(caption: str, kind: str, rest: str) -> None:
    assert leave_out(caption, kind) == rest


def test_street_captions_lose_one_phrase_and_keep_the_others() -> None:
    for seed in range(30):
        scene = render(12_000_000 + seed, 64)
        phrases = split_caption(scene.caption)
        for item in scene.items:
            rest = split_caption(leave_out(scene.caption, item.kind))
            assert list(rest) == [phrase for phrase in phrases if head_word(phrase) != item.kind]


def test_the_kind_of_an_expression() -> None:
    assert head_of("the red car on the left", CLASSES) == "car"
    assert head_of("the person in blue near the bus", CLASSES) == "person"
    assert head_of("the dog", CLASSES) is None
    assert head_of("a carpet", CLASSES) is None
