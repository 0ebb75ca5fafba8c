"""Feature coding: a real, self-delimiting code for every mask and every phrase (its size in bits).

Each feature is coded on its own, so that the demands of a selection add up, and its code holds all that the receiver
needs to place it:

=========  ====================================================================================================
feature    code
=========  ====================================================================================================
mask       ``0``, Huffman code of its class, two bits for the quarter turns after which it is coded, CCITT Group 4 rows
phrase     ``1``, Huffman code of its position, Huffman code of each word, end-of-phrase symbol
=========  ====================================================================================================

Group 4 (ITU-T T.6) is written and read by libtiff through Pillow. The TIFF container and the closing end mark are no
payload: the receiver knows the height and width of the maps, and Group 4's row codes end by themselves at the last row.
The Huffman codes are canonical (``bitarray``) and fixed by a :class:`Codebook`, which both ends hold. A word outside
the codebook is an escape symbol, its UTF-8 bytes and a zero byte.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

try:
    from bitarray import bitarray
    from bitarray.util import ba2int, canonical_decode, canonical_huffman, int2ba
except ImportError as error:
    raise ImportError("coding features needs the extra 'models': pip install 'noma-semcom-env[models]'") from error

from noma_semcom_env.semantics.phrases import FUNCTION_WORDS, TextUnit

_END: Final = 0
_ESCAPE: Final = 1
_EOFB: Final = bitarray("000000000001000000000001")


@dataclass(frozen=True, eq=False)
class CodedMask:
    """A mask as the receiver gets it: (H, W) bool and its class."""

    label: str
    mask: np.ndarray


@dataclass(frozen=True)
class CodedPhrase:
    """A phrase (or word) as the receiver gets it: its text and its place among the caption's phrases, from 0."""

    text: str
    position: int


class _Huffman:
    """A canonical Huffman code over a fixed set of symbols."""

    def __init__(self, counts: Mapping[Any, int]) -> None:
        self._codes, self._lengths, self._symbols = canonical_huffman(dict(counts))

    def __contains__(self, symbol: Hashable) -> bool:
        return symbol in self._codes

    def encode(self, symbol: Hashable) -> bitarray:
        return self._codes[symbol]

    def decode(self, bits: bitarray, start: int) -> tuple[Any, int]:
        """The symbol that begins at bit ``start``, and the bit after it."""
        try:
            symbol = next(canonical_decode(bits[start : start + 64], self._lengths, self._symbols))
        except (StopIteration, ValueError) as error:
            raise ValueError(f"the bits at {start} of {len(bits)} are no code word of the codebook") from error
        return symbol, start + len(self._codes[symbol])


class Codebook:
    """What sender and receiver agree on before any image: the Huffman codes of classes, words and positions.

    Args:
        labels: Class name to count. Every class that may be sent must be here.
        words: Word to count; other words are sent by escape.
        ends: Count of the end-of-phrase symbol, that is of phrases.
        positions: Count of phrases at each position, from 0; its length is the largest number of phrases.
        text_unit: The unit the counts were taken for.

    Raises:
        ValueError: If a table is empty or a count is not positive.
    """

    def __init__(
        self,
        labels: Mapping[str, int],
        words: Mapping[str, int],
        ends: int,
        positions: Sequence[int],
        text_unit: TextUnit = "phrase",
    ) -> None:
        tables: dict[str, Mapping[Any, int]] = {
            "labels": labels,
            "words": words,
            "positions": dict(enumerate(positions)),
            "ends": {"ends": ends},
        }
        for name, table in tables.items():
            if not table or min(table.values()) < 1:
                raise ValueError(f"{name}={table!r} of a codebook needs at least one entry and counts of at least 1")
        self.text_unit: TextUnit = text_unit
        self.labels = tuple(labels)
        self.words = tuple(words)
        self.max_positions = len(positions)
        self._labels = _Huffman(labels)
        self._words = _Huffman({_END: ends, _ESCAPE: 1, **words})
        self._positions = _Huffman(tables["positions"])

    @classmethod
    def load(cls, path: Path | str, text_unit: TextUnit = "phrase") -> Codebook:
        """Read a codebook that :mod:`noma_semcom_env.zoo.train.codebook` wrote.

        Raises:
            ValueError: If the file is missing, is no codebook, or has no counts for ``text_unit``.
        """
        try:
            content = json.loads(Path(path).read_text())
            unit = content["units"][text_unit]
            return cls(content["labels"], unit["words"], unit["ends"], unit["positions"], text_unit)
        except FileNotFoundError as error:
            raise ValueError(
                f"codebook {path} does not exist; make it with noma_semcom_env.zoo.train.codebook"
            ) from error
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no codebook with counts for text_unit={text_unit!r} ({type(error).__name__}: {error}); "
                "make it anew with noma_semcom_env.zoo.train.codebook"
            ) from error

    @classmethod
    def from_vocabulary(
        cls, tokens: Sequence[str], labels: Sequence[str], text_unit: TextUnit, max_positions: int
    ) -> Codebook:
        """A codebook without counts, from a vocabulary that lists frequent words first, as WordPiece's does.

        * Words are the tokens of letters and digits; sub-words and special tokens are none. By Zipf's law the count of
          the r-th is proportional to 1 / r. The alphabet, which a vocabulary lists first by code point, comes last.
          With ``text_unit="phrase"`` function words are never sent, so they have no code, except "in".
        * A phrase ends after 1.5 words in the mean, a word after itself.
        * Position i is sent by captions of more than i phrases: with any number of phrases up to ``max_positions``
          equally likely, as often as ``max_positions - i``.
        * Classes are equally likely.

        Args:
            tokens: The vocabulary, by id.
            labels: Class names.
            text_unit: ``"phrase"`` or ``"word"``.
            max_positions: The largest number of phrases of a caption.

        Raises:
            ValueError: If no token is a word, or there is no label or position.
        """
        sent = FUNCTION_WORDS if text_unit == "word" else {"in"}
        whole = [token for token in dict.fromkeys(tokens) if token.isalnum()]
        words = [token for token in whole if token in sent or (len(token) > 1 and token not in FUNCTION_WORDS)]
        words += [token for token in whole if len(token) == 1 and token not in FUNCTION_WORDS]
        counts = {word: max(1, round(len(words) / rank)) for rank, word in enumerate(words, 1)}
        total = sum(counts.values())
        ends = total if text_unit == "word" else round(total / 1.5)
        return cls(dict.fromkeys(labels, 1), counts, ends, range(max_positions, 0, -1), text_unit)

    def encode_mask(self, label: str, mask: np.ndarray) -> bitarray:
        """The code of one mask.

        Args:
            label: Class name.
            mask: (H, W) bool, not empty of pixels.

        Raises:
            ValueError: If the class is not in the codebook or the mask is not two-dimensional bool.
        """
        if label not in self._labels:
            raise ValueError(f"label={label!r} is not in the codebook; it knows {self.labels}")
        if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
            raise ValueError(
                f"mask of {label!r} has shape {mask.shape} and dtype {mask.dtype}; (H, W) of bool is needed"
            )
        rows = [_group4_encode(np.rot90(mask, turns)) for turns in range(4)]
        turns = min(range(4), key=lambda k: len(rows[k]))
        return bitarray("0") + self._labels.encode(label) + int2ba(turns, 2) + rows[turns]

    def encode_phrase(self, text: str, position: int) -> bitarray:
        """The code of one phrase.

        Args:
            text: Words separated by one space each.
            position: Place among the caption's phrases, in [0, max_positions).

        Raises:
            ValueError: If the text is empty, holds stray blanks or zero characters, or the position is out of range.
        """
        if not text or text != " ".join(text.split()) or "\0" in text:
            raise ValueError(f"phrase {text!r} must be words separated by one space each")
        if position not in self._positions:
            raise ValueError(f"position={position!r} must lie in [0, {self.max_positions}), the codebook's range")
        bits = bitarray("1") + self._positions.encode(position)
        for word in text.split():
            if word in self._words:
                bits += self._words.encode(word)
            else:
                bits += self._words.encode(_ESCAPE) + bitarray(word.encode() + b"\0")
        return bits + self._words.encode(_END)

    def decode(self, bits: bitarray, shape: tuple[int, int], start: int = 0) -> tuple[CodedMask | CodedPhrase, int]:
        """Read the feature that begins at bit ``start``, whatever follows it.

        Args:
            bits: One or more codes, one after the other.
            shape: (H, W) of the maps, known to the receiver.
            start: First bit to read.

        Returns:
            The feature and the bit after its code.

        Raises:
            ValueError: If the bits are no code.
        """
        if start >= len(bits):
            raise ValueError(f"start={start!r} is beyond the {len(bits)} bits")
        if bits[start]:
            position, start = self._positions.decode(bits, start + 1)
            words, start = self._decode_words(bits, start)
            return CodedPhrase(" ".join(words), position), start
        label, start = self._labels.decode(bits, start + 1)
        if start + 2 > len(bits):
            raise ValueError(f"a mask's code is cut off after {len(bits)} bits")
        turns = ba2int(bits[start : start + 2])
        turned = shape if turns % 2 == 0 else (shape[1], shape[0])
        rows, used = _group4_decode(bits[start + 2 :], turned)
        return CodedMask(label, np.ascontiguousarray(np.rot90(rows, -turns))), start + 2 + used

    def decode_all(self, bits: bitarray, shape: tuple[int, int]) -> Iterator[CodedMask | CodedPhrase]:
        """Read codes until the bits are used up; see :meth:`decode`."""
        start = 0
        while start < len(bits):
            feature, start = self.decode(bits, shape, start)
            yield feature

    def _decode_words(self, bits: bitarray, start: int) -> tuple[list[str], int]:
        words: list[str] = []
        while True:
            symbol, start = self._words.decode(bits, start)
            if symbol == _END:
                return words, start
            if symbol == _ESCAPE:
                symbol, start = _decode_spelled(bits, start)
            words.append(symbol)


def _decode_spelled(bits: bitarray, start: int) -> tuple[str, int]:
    letters = bytearray()
    while start + 8 <= len(bits):
        letter = ba2int(bits[start : start + 8])
        start += 8
        if letter == 0:
            try:
                return letters.decode(), start
            except UnicodeDecodeError as error:
                raise ValueError(f"the bits before {start} of {len(bits)} spell no word") from error
        letters.append(letter)
    raise ValueError(f"a word's code is cut off after {len(bits)} bits")


def _group4_encode(mask: np.ndarray) -> bitarray:
    """Group 4 rows of an (H, W) bool mask, without TIFF container, end mark and padding."""
    from PIL import Image

    file = io.BytesIO()
    rows_per_strip = 278
    image = Image.fromarray(np.ascontiguousarray(mask))
    image.save(file, "TIFF", compression="group4", tiffinfo={rows_per_strip: len(mask)})
    bits = bitarray(_strip(file.getvalue()))
    return bits[: bits.find(_EOFB)]


def _group4_decode(bits: bitarray, shape: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The (H, W) bool mask whose Group 4 rows ``bits`` begin with, and how many bits they take."""
    from PIL import Image

    # Twice the end mark: a code that was cut off stops the decoder instead of running out of data.
    payload = (bits + _EOFB + _EOFB).tobytes()
    try:
        with Image.open(io.BytesIO(_tiff(payload, shape))) as image:
            mask = np.array(image, dtype=np.bool_)
    except OSError as error:
        raise ValueError(f"{len(bits)} bits are no Group 4 code of a map of shape {shape}") from error
    # A mask has one code, so its length tells where the next feature begins.
    used = _group4_encode(mask)
    if bits[: len(used)] != used:
        raise ValueError(f"{len(bits)} bits are no Group 4 code of a map of shape {shape}")
    return mask, len(used)


def _strip(container: bytes) -> bytes:
    """The one strip of a little-endian TIFF."""
    (directory,) = struct.unpack_from("<I", container, 4)
    (count,) = struct.unpack_from("<H", container, directory)
    entries = struct.iter_unpack("<HHII", container[directory + 2 : directory + 2 + 12 * count])
    values = {tag: value for tag, _, _, value in entries}
    offset, length = values[273], values[279]
    return container[offset : offset + length]


def _tiff(strip: bytes, shape: tuple[int, int]) -> bytes:
    """A bilevel Group 4 TIFF around one strip."""
    short, long = 3, 4
    header = 8
    entries = [
        (256, long, shape[1]),  # width
        (257, long, shape[0]),  # height
        (258, short, 1),  # bits a sample
        (259, short, 4),  # Group 4
        (262, short, 1),  # zero is black
        (273, long, header),  # where the strip is
        (277, short, 1),  # samples a pixel
        (278, long, shape[0]),  # rows in the strip
        (279, long, len(strip)),
    ]
    padded = strip + b"\0" * (len(strip) % 2)
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return (
        struct.pack("<2sHI", b"II", 42, header + len(padded))
        + padded
        + struct.pack("<H", len(entries))
        + directory
        + bytes(4)
    )
