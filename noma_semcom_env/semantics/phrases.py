"""Splits a caption into the textual features that are sent: its words, or its phrases."""

from __future__ import annotations

from typing import Final, Literal

TextUnit = Literal["word", "phrase"]

FUNCTION_WORDS: Final = frozenset(
    "a an the this that these those some and or but with without near by at on in of to from into onto over under "
    "behind beside between next is are was were be being has have there it its his her their while as for up "
    "down".split()
)
"""Words that separate phrases and are not sent with ``text_unit="phrase"``."""


def split_caption(caption: str, unit: TextUnit = "phrase") -> tuple[str, ...]:
    """Cut a caption into textual features, in the caption's order.

    With ``unit="word"`` every word is one feature. With ``unit="phrase"`` a feature is a run of content words between
    function words; "in" directly before a content word stays inside the run, as in "person in blue".

    Args:
        caption: Plain text; case and punctuation are dropped.
        unit: ``"word"`` or ``"phrase"``.

    Returns:
        The features' texts, lower case, words separated by one space.

    Raises:
        ValueError: If ``unit`` is neither.
    """
    words = "".join(c if c.isalnum() or c in "'-" else " " for c in caption.lower()).split()
    return tuple(" ".join(words[i] for i in group) for group in group_words(words, unit))


def group_words(words: list[str], unit: TextUnit = "phrase") -> list[list[int]]:
    """Indices of the words that make up each textual feature; see :func:`split_caption`."""
    if unit == "word":
        return [[i] for i in range(len(words))]
    if unit != "phrase":
        raise ValueError(f"text_unit={unit!r} is unknown; choose 'word' or 'phrase'")
    groups: list[list[int]] = []
    current: list[int] = []
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else None
        joins = word == "in" and bool(current) and following is not None and following not in FUNCTION_WORDS
        if word not in FUNCTION_WORDS or joins:
            current.append(i)
        elif current:
            groups.append(current)
            current = []
    return [*groups, current] if current else groups


def head_word(phrase: str) -> str:
    """The word that names a phrase's thing: its last word before "in"."""
    words = phrase.split()
    return words[words.index("in") - 1] if "in" in words[1:] else words[-1]
