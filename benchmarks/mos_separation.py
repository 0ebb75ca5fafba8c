"""Separate source and channel coding, at its best: WebP or JPEG without containers, at the capacity of the channel.

What a decoder need not be told is not counted: file headers, dimensions, quantization and Huffman tables, side and
quality. What is left is sent at capacity and without error, a bound that no code of finite length reaches. Where no
picture fits, the mean colour is sent at 24 bits; where not even that does, the receiver shows mid grey.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from noma_semcom_env.mixture.budget import mask_rate, total_symbols

SIDES: Final = (128, 112, 96, 80, 64, 48, 32, 24, 16, 8)
QUALITIES: Final = {
    "WEBP": (0, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90),
    "JPEG": (2, 5, 10, 15, 20, 30, 50, 75, 90),
}
COLOUR_BITS: Final = 24
GREY: Final = 128

_RIFF_BYTES: Final = 12 + 8
_WEBP_FIXED_BYTES: Final = 3 + 4
"""Start code and dimensions of a VP8 key frame, behind its tag of three bytes."""

_START_OF_SCAN: Final = b"\xff\xda"


@dataclass(frozen=True, eq=False)
class Coded:
    """One way of coding an image.

    Attributes:
        bits: What it costs.
        image: (H, W, 3) uint8, what is decoded.
        psnr_db: Over the whole image.
        form: ``"WEBP"``, ``"JPEG"``, ``"mean colour"`` or ``"nothing"``.
    """

    bits: int
    image: np.ndarray
    psnr_db: float
    form: str


def every_coding(image: np.ndarray) -> list[Coded]:
    """All codings of an (H, W, 3) uint8 image, at several sides and qualities, besides its mean colour and nothing."""
    side = len(image)
    mean = np.broadcast_to(np.round(image.reshape(-1, 3).mean(axis=0)).astype(np.uint8), image.shape).copy()
    found = [
        _valued(0, np.full_like(image, GREY), image, "nothing"),
        _valued(COLOUR_BITS, mean, image, "mean colour"),
    ]
    source = Image.fromarray(image)
    for small in sorted({min(one, side) for one in SIDES}):
        reduced = source.resize((small, small), Image.Resampling.LANCZOS) if small < side else source
        for form, qualities in QUALITIES.items():
            for quality in qualities:
                file = io.BytesIO()
                reduced.save(file, form, quality=quality, **({"method": 6} if form == "WEBP" else {"subsampling": 2}))
                decoded = Image.open(file).convert("RGB")
                full = decoded.resize((side, side), Image.Resampling.BICUBIC) if small < side else decoded
                found.append(_valued(8 * payload_bytes(file.getvalue(), form), np.array(full), image, form))
    return found


def payload_bytes(file: bytes, form: str) -> int:
    """Bytes of a file that its image decides, containers and fixed fields left out.

    Raises:
        ValueError: If the form is unknown, or a file of another layout.
    """
    if form == "WEBP":
        if file[:4] != b"RIFF" or file[12:16] != b"VP8 ":
            raise ValueError("file is no lossy WebP of one chunk")
        return int.from_bytes(file[16:20], "little") - _WEBP_FIXED_BYTES
    if form == "JPEG":
        start = file.index(_START_OF_SCAN)
        header = int.from_bytes(file[start + 2 : start + 4], "big")
        return len(file) - (start + 2 + header) - 2  # the end marker is fixed, too
    raise ValueError(f"form={form!r} is unknown; choose 'WEBP' or 'JPEG'")


def budget_bits(cbr: float, samples: int, snr_db: float) -> int:
    """Bits that a budget carries at the capacity of an SNR that sender and receiver know."""
    return int(int(total_symbols(cbr, samples)) * float(mask_rate(snr_db, "awgn", 0.1)))


def best_coding(codings: list[Coded], bits: int) -> Coded:
    """The coding of highest PSNR among those that fit."""
    return max((one for one in codings if one.bits <= bits), key=lambda one: one.psnr_db)


def _valued(bits: int, image: np.ndarray, reference: np.ndarray, form: str) -> Coded:
    error = np.square(image.astype(np.float64) - reference).mean() / 255**2
    return Coded(bits, image, float(-10 * np.log10(max(error, 1e-12))), form)
