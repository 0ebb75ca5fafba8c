"""The channel between JSCC encoders and decoders: complex symbols of unit power, white noise, Rayleigh block fading.

A codeword of k complex symbols is a row of 2k reals; reals 2i and 2i + 1 are the parts of symbol i. The bandwidth ratio
is CBR = k / (3HW), complex symbols over real source samples, and the SNR is that of a complex symbol of unit average
power: noise of variance 10^(-SNR/10), half of it in each real.
"""

from __future__ import annotations

from typing import Final

import torch

AWGN: Final = "awgn"
RAYLEIGH: Final = "rayleigh"
CHANNELS: Final = (AWGN, RAYLEIGH)


def bandwidth_ratio(symbols: int, height: int, width: int) -> float:
    """CBR of an image of ``height`` x ``width`` pixels for which ``symbols`` complex symbols are sent in all."""
    return symbols / (3 * height * width)


def symbols_of(cbr: float, height: int, width: int) -> int:
    """Complex symbols that a bandwidth ratio allows, to the nearest whole number.

    Raises:
        ValueError: If the ratio is not a finite number above 0.
    """
    if not 0 < cbr < float("inf"):
        raise ValueError(f"cbr={cbr!r} must be a finite number above 0: complex symbols a real source sample")
    return round(cbr * 3 * height * width)


def normalize_power(reals: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
    """Scale each codeword to an average power of 1 a complex symbol sent.

    Args:
        reals: (B, 2K) latents, 0 where nothing is sent.
        symbols: (B,) complex symbols that are sent of each codeword, at most K.

    Returns:
        (B, 2K); the squares of row b add up to ``symbols[b]``. A row of zeros stays one: nothing is sent.
    """
    energy = reals.square().sum(dim=1)
    scale = symbols.to(reals.dtype) / energy.clamp_min(torch.finfo(reals.dtype).tiny)
    return reals * torch.where(energy > 0, scale, 0).sqrt()[:, None]


def send(
    reals: torch.Tensor, snr_db: torch.Tensor, channel: str, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Send codewords over the channel and equalize what arrives.

    Args:
        reals: (B, 2k) codewords of unit average power a complex symbol; B may be 0.
        snr_db: (B,) SNR in dB of a complex symbol; ``inf`` is a channel without noise.
        channel: ``"awgn"``, or ``"rayleigh"``: one coefficient h ~ CN(0, 1) a codeword, known at the receiver, which
            divides by it.
        generator: Source of noise and fading, on the device of the codewords.

    Returns:
        (B, 2k) received reals and (B,) SNR in dB after equalization, ``snr_db`` + 10 log10 abs(h)^2.

    Raises:
        ValueError: If the channel is unknown, shapes do not agree, or an SNR is NaN or ``-inf``.
    """
    if channel not in CHANNELS:
        raise ValueError(f"channel={channel!r} is unknown; choose one of {CHANNELS}")
    if reals.ndim != 2 or reals.shape[1] % 2:
        raise ValueError(f"reals has shape {tuple(reals.shape)}; (B, 2k) is needed, two reals a complex symbol")
    if snr_db.shape != reals.shape[:1]:
        raise ValueError(f"snr_db has shape {tuple(snr_db.shape)}; ({len(reals)},) is needed, one SNR a codeword")
    check_snr(snr_db)
    return send_unchecked(reals, snr_db, channel, generator)


def send_unchecked(
    reals: torch.Tensor, snr_db: torch.Tensor, channel: str, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`send` for training loops: it checks nothing, so that it never waits for the device."""
    after_db = snr_db
    if channel == RAYLEIGH:
        parts = torch.randn(len(reals), 2, generator=generator, device=reals.device)
        # abs(h)^2 of h ~ CN(0, 1). Division by the phase of h turns circular noise into noise of the same law, so that
        # only the modulus is left of h after equalization.
        gain = (parts.square().sum(dim=1) / 2).clamp_min(torch.finfo(parts.dtype).tiny)
        after_db = snr_db + 10 * gain.log10()
    noise = torch.randn(reals.shape, generator=generator, device=reals.device)
    return reals + noise * (10 ** (-after_db / 10) / 2).sqrt()[:, None], after_db


def check_snr(snr_db: torch.Tensor, name: str = "snr_db") -> None:
    """Refuse an SNR that leaves nothing to receive or is no number.

    Raises:
        ValueError: If one is NaN or ``-inf``.
    """
    if bool(snr_db.isnan().any()) or bool(snr_db.isneginf().any()):
        raise ValueError(f"{name} holds NaN or -inf; dB above -inf are needed, inf for a channel without noise")
