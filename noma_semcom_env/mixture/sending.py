"""Regions and texts over the channel, with noise that is common to all of them. Needs torch.

Whatever is compared meets the same noise: that of a seed is drawn once, and a codeword of n symbols takes the first n
of it. A known block fade h is equalized, after which it is white noise at SNR + 10 log10 abs(h)^2, the effective SNR;
the encoder is told the mean SNR, the decoder the effective one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from noma_semcom_env.mixture.channel import AWGN, send
from noma_semcom_env.mixture.image_codec import ImageCodec, keep_region
from noma_semcom_env.mixture.text_codec import TextCodec

GREY: Final = 128
"""Level of what has not arrived."""

_TOLD_DB: Final = (-100.0, 100.0)
"""Codecs are told finite SNRs; beyond these nothing changes any more."""

_REGIONS_TOGETHER: Final = 64
_TEXTS_TOGETHER: Final = 1024


def send_regions(
    codec: ImageCodec,
    images: np.ndarray,
    regions: np.ndarray,
    symbols: np.ndarray,
    snr_db: np.ndarray,
    effective_db: np.ndarray,
    seeds: np.ndarray,
) -> np.ndarray:
    """Send regions of interest.

    Args:
        codec: Image codec; one that takes a region sends the whole image and is told the region.
        images: (B, H, W, 3) uint8 of the codec's side.
        regions: (B, H, W) bool.
        symbols: (B,) complex symbols, at least 0; 0 sends nothing, and beyond the codec's most the rest stays idle.
        snr_db: (B,) mean SNR in dB.
        effective_db: (B,) SNR in dB after equalization; ``-inf`` where nothing arrives.
        seeds: (B,) seeds of the noise.

    Returns:
        (B, H, W, 3) uint8, grey outside the regions and where nothing arrived.

    Raises:
        ValueError: If an image does not fit the codec.
    """
    check_images(codec, images)
    _check_regions(images, regions)
    received = np.full(images.shape, GREY, dtype=np.uint8)
    sent = np.flatnonzero((symbols > 0) & ~np.isneginf(effective_db))
    device = next(codec.parameters()).device
    for start in range(0, len(sent), _REGIONS_TOGETHER):
        rows = sent[start : start + _REGIONS_TOGETHER]
        region = torch.from_numpy(regions[rows]).to(device)
        image = torch.from_numpy(images[rows]).to(device).permute(0, 3, 1, 2).float() / 255
        count = torch.from_numpy(np.minimum(symbols[rows], codec.max_symbols).astype(np.int64)).to(device)
        told, after = (_told(values[rows], device) for values in (snr_db, effective_db))
        with torch.inference_mode():
            if codec.takes_region:
                codeword = codec.encode(image, told, count, region)
            else:
                codeword = codec.encode(keep_region(image, region), told, count)
            heard = _add_noise(codeword, after, 2 * seeds[rows])
            decoded = codec.decode(heard, after, count)
        levels = (decoded * 255).round().permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
        received[rows] = np.where(regions[rows][..., None], levels, GREY)
    return received


def send_texts(
    codec: TextCodec,
    ids: np.ndarray,
    tokens: np.ndarray,
    symbols: np.ndarray,
    snr_db: np.ndarray,
    effective_db: np.ndarray,
    seeds: np.ndarray,
) -> np.ndarray:
    """Send captions.

    Args:
        codec: Text codec.
        ids: (B, T) int64 token ids, end tokens behind each caption.
        tokens: (B,) tokens of each, its end token included.
        symbols: (B,) complex symbols a token; 0 sends nothing.
        snr_db: (B,) mean SNR in dB.
        effective_db: (B,) SNR in dB after equalization; ``-inf`` where nothing arrives.
        seeds: (B,) seeds of the noise.

    Returns:
        (B, T) int64, nothing but end tokens where nothing arrived.
    """
    received = np.full(ids.shape, codec.config.end, dtype=np.int64)
    sent = np.flatnonzero((symbols > 0) & ~np.isneginf(effective_db))
    device = next(codec.parameters()).device
    for start in range(0, len(sent), _TEXTS_TOGETHER):
        rows = sent[start : start + _TEXTS_TOGETHER]
        words, counts, each = (
            torch.from_numpy(np.ascontiguousarray(values[rows], dtype=np.int64)).to(device)
            for values in (ids, tokens, symbols)
        )
        told, after = (_told(values[rows], device) for values in (snr_db, effective_db))
        with torch.inference_mode():
            codeword = codec.encode(words, counts, told, each)
            heard = _add_noise(codeword, after, 2 * seeds[rows] + 1)
            received[rows] = codec.decode(heard, counts, after, each).cpu().numpy()
    return received


def token_errors(received: np.ndarray, sent: np.ndarray, tokens: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """(B,) share of each caption's tokens received as others; 1 where none were sent.

    Args:
        received: (B, T).
        sent: (B, T).
        tokens: (B,) tokens of each caption.
        symbols: (B,) complex symbols a token; 0 where nothing was sent.
    """
    there = np.arange(sent.shape[1]) < tokens[:, None]
    share = ((received != sent) & there).sum(axis=1) / tokens
    return np.asarray(np.where(symbols > 0, share, 1.0))


def _add_noise(codeword: torch.Tensor, effective_db: torch.Tensor, seeds: np.ndarray) -> torch.Tensor:
    """(B, 2k) codewords as they arrive; each row's noise depends on its seed alone, on no batch and no device."""
    device, arrived = codeword.device, codeword.float().cpu()
    after = effective_db.cpu()
    rows = []
    for i, seed in enumerate(seeds.tolist()):
        generator = torch.Generator().manual_seed(int(seed))
        rows.append(send(arrived[i : i + 1], after[i : i + 1], AWGN, generator)[0])
    return torch.cat(rows).to(device)


def _told(snr_db: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.clip(snr_db, *_TOLD_DB).astype(np.float32)).to(device)


def check_images(codec: ImageCodec, images: np.ndarray) -> None:
    """Refuse what is not (B, H, W, 3) of uint8 with the codec's side.

    Raises:
        ValueError: If it is not.
    """
    side = codec.side
    if images.ndim != 4 or images.shape[1:] != (side, side, 3) or images.dtype != np.uint8:
        raise ValueError(
            f"images is {images.dtype} of shape {images.shape}; uint8 of (B, {side}, {side}, 3) is needed, the size "
            "that the image codec was built for: resize or crop the images"
        )


def _check_regions(images: np.ndarray, regions: np.ndarray) -> None:
    if regions.shape != images.shape[:3] or regions.dtype != np.bool_:
        raise ValueError(f"regions is {regions.dtype} of shape {regions.shape}; bool of {images.shape[:3]} is needed")
