"""The text of what is not sent as an image: a caption without the phrase that names the region of interest.

The whole image is captioned, since a captioner describes what it knows, images; an image with a hole would be another
matter. The region arrives as pixels, so that its own phrase would cost symbols and, at the receiver, call for a second
object of its kind to be painted beside it. It is left out where the kind of thing in the region is known and named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_ARTICLES: Final = "a an the".split()
_JOINTS: Final = "with near by beside behind of on at under over".split()
"""Words that begin a list of things."""

_LISTING: Final = "and"


def leave_out(caption: str, kind: str | None) -> str:
    """A caption without its first phrase about a kind of thing.

    A phrase is the kind with the words before it back to its article, and "in ..." behind it ("a person in red"). With
    it goes the "and" that joined it to its neighbour, or, if it stood alone, the preposition before it.

    Args:
        caption: A sentence of words, without punctuation.
        kind: Name of the kind, one word or more; None leaves the caption whole.

    Returns:
        The caption as it is if the kind is not named.
    """
    words, named = caption.split(), (kind or "").lower().split()
    if not named:
        return caption
    place = _find([word.lower() for word in words], named)
    if place < 0:
        return caption
    first, last = place, place + len(named)
    while first > 0 and words[first - 1].lower() not in (*_ARTICLES, *_JOINTS, _LISTING):
        first -= 1
    if first > 0 and words[first - 1].lower() in _ARTICLES:
        first -= 1
    if last + 1 < len(words) and words[last].lower() == "in" and words[last + 1].lower() not in _ARTICLES:
        last += 2
    before = words[first - 1].lower() if first else ""
    after = words[last].lower() if last < len(words) else ""
    if before == _LISTING:
        first -= 1
    elif after == _LISTING:
        last += 1
    elif before in _JOINTS:
        first -= 1
    return " ".join(words[:first] + words[last:])


def head_of(expression: str, kinds: Sequence[str]) -> str | None:
    """The kind of thing that a referring expression points at: the first of the kinds that it names.

    Args:
        expression: Such as "the red car on the left".
        kinds: Names that are known.
    """
    text = expression.lower()
    found = [(match.start(), kind) for kind in kinds if (match := re.search(rf"\b{re.escape(kind.lower())}\b", text))]
    return min(found)[1] if found else None


def _find(words: Sequence[str], named: Sequence[str]) -> int:
    for start in range(len(words) - len(named) + 1):
        if list(words[start : start + len(named)]) == list(named):
            return start
    return -1
