"""The schemes that the figures of Mixture of Semantics compare, over the same channel, noise and fades.

MoS pays for text, mask and region out of its budget (``accounting="counted"``); the paper never counts the mask
(``"paper"``). The baselines send the whole image with all symbols. Over Rayleigh fading every scene meets one fade,
which the receivers know and the senders do not, but for the separate code, which is granted the capacity of each fade.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from noma_semcom_benchmarks.mos_scenes import SAMPLES, Asked
from noma_semcom_benchmarks.mos_separation import Coded, best_coding, budget_bits, every_coding
from noma_semcom_env.mixture.budget import total_symbols
from noma_semcom_env.mixture_models import load_transceiver
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.presets import WEIGHTS

MOS: Final = "MoS"
SWIN: Final = "SwinJSCC"
ROI_JSCC: Final = "ROI-JSCC"
DIFFCOM: Final = "DiffCom"
SEPARATE: Final = "WebP/JPEG at capacity"
SCHEMES: Final = (MOS, SWIN, ROI_JSCC, DIFFCOM, SEPARATE)

FOLDER: Final = WEIGHTS / "street_mixture"
MEASURED: Final = ("psnr_roi_db", "clip_roni", "lpips", "psnr_db", "token_error", "text", "mask", "roi", "total")
"""What :func:`measure` gives of a scene: qualities, and complex symbols by use; NaN where there is no such thing."""

_CODECS: Final = {SWIN: "image_whole", ROI_JSCC: "image_roi_jscc", DIFFCOM: "adjscc"}


@dataclass(frozen=True)
class Condition:
    """What a scheme is measured under.

    Attributes:
        scheme: One of :data:`SCHEMES`.
        channel: ``"awgn"`` or ``"rayleigh"``.
        cbr: Complex symbols a source sample.
        snr_db: Mean SNR in dB.
        alpha: Share of the symbols for the text; None leaves it to ``token_symbols``. Of MoS alone, as what follows.
        token_symbols: Complex symbols a token.
        accounting: ``"counted"`` or ``"paper"``.
        painted: Whether the rest is painted; if not, PSNR-ROI alone is measured.
    """

    scheme: str
    channel: str
    cbr: float
    snr_db: float
    alpha: float | None = None
    token_symbols: float | None = None
    accounting: str = "counted"
    painted: bool = True

    def share(self, asked: Asked) -> float:
        """Alpha for a scene."""
        if self.alpha is not None:
            return self.alpha
        if self.token_symbols is None:
            raise ValueError(f"alpha and token_symbols of {self} are both None; MoS needs one of them")
        return min(1.0, self.token_symbols * asked.tokens / int(total_symbols(self.cbr, SAMPLES)))

    def effective_db(self, asked: Asked) -> float:
        """SNR in dB after equalization."""
        fade = abs(asked.fade) if self.channel == "rayleigh" else 1.0
        return self.snr_db + 20 * float(np.log10(fade))


def measure(condition: Condition, asked: Asked) -> dict[str, float]:
    """Send one scene.

    Returns:
        :data:`MEASURED`.
    """
    if condition.scheme == MOS:
        return _measure_mos(condition, asked)
    from noma_semcom_env.mixture.metrics import psnr_roi

    image, sent = recover(condition, asked), asked.prepared.images
    everywhere = np.ones_like(asked.prepared.regions)
    total = int(total_symbols(condition.cbr, SAMPLES))
    return _row(
        psnr_roi_db=psnr_roi(image[None], sent, asked.prepared.targets)[0],
        psnr_db=psnr_roi(image[None], sent, everywhere)[0],
        clip_roni=load_transceiver().clip_roni(image[None], asked.prepared.regions, asked.prepared.captions)[0],
        lpips=_lpips(sent, image[None]),
        total=total,
        roi=total,
    )


def recover(condition: Condition, asked: Asked) -> np.ndarray:
    """(H, W, 3) uint8: what a scheme shows of a scene."""
    if condition.scheme == MOS:
        return np.asarray(_transmit(condition, asked).painted[0])
    if condition.scheme == SEPARATE:
        bits = budget_bits(condition.cbr, SAMPLES, condition.effective_db(asked))
        return best_coding(_codings(asked.name, asked), bits).image
    return _send_whole(condition, asked)


def origin(scheme: str) -> Mapping[str, Any]:
    """What a scheme's results depend on besides its condition: digests of models, and settings."""
    if scheme == SEPARATE:
        return load_transceiver().origin
    if scheme == MOS:
        return load_transceiver().origin
    facts = {**load_transceiver().origin, "codec": _digest(_CODECS[scheme])}
    if scheme == DIFFCOM:
        sampler = diffcom()
        settings = {name: getattr(sampler, name) for name in ("steps", "guidance", "through_denoiser", "start")}
        facts |= {"diffusion": _digest("unconditional"), **settings}
    return facts


@lru_cache(maxsize=1)
def diffcom() -> Any:
    """The sampler of DiffCom with its default settings."""
    from noma_semcom_env.mixture.diffcom import load_diffcom

    return load_diffcom(FOLDER / "unconditional")


@lru_cache(maxsize=3)
def codec_of(scheme: str) -> Any:
    """The image codec of a baseline."""
    from noma_semcom_env.mixture.convolutional import ADJSCC
    from noma_semcom_env.mixture.swin_jscc import SwinJSCC

    return (ADJSCC if scheme == DIFFCOM else SwinJSCC).load(FOLDER / _CODECS[scheme])


def _transmit(condition: Condition, asked: Asked) -> Any:
    return load_transceiver().transmit(
        asked.prepared,
        condition.share(asked),
        condition.cbr,
        condition.snr_db,
        condition.channel,
        accounting=condition.accounting,
        fades=np.array([asked.fade if condition.channel == "rayleigh" else 1.0]),
        seed=asked.number,
    )


def _measure_mos(condition: Condition, asked: Asked) -> dict[str, float]:
    if condition.painted:
        got = _transmit(condition, asked)
        used = {name: getattr(got.split, name)[0] for name in ("text", "mask", "roi", "total")}
        qualities = {name: getattr(got, name)[0] for name in ("psnr_roi_db", "clip_roni", "token_error", "lpips")}
        return _row(**qualities, **used)
    from noma_semcom_env.mixture.budget import mask_arrives, mask_cost, split_symbols
    from noma_semcom_env.mixture.metrics import psnr_roi
    from noma_semcom_env.mixture.sending import send_regions

    prepared, snr, after = asked.prepared, condition.snr_db, condition.effective_db(asked)
    cost = mask_cost(prepared.mask_bits, snr, condition.channel, accounting=condition.accounting)
    split = split_symbols(condition.share(asked), total_symbols(condition.cbr, SAMPLES), cost)
    arrives = split.mask_sent & mask_arrives(snr, after, condition.channel, accounting=condition.accounting)
    received = send_regions(
        load_transceiver().image_codec,
        prepared.images,
        prepared.regions,
        np.where(arrives, split.roi, 0),
        np.array([snr]),
        np.array([after]),
        np.array([asked.number]),
    )
    used = {name: getattr(split, name)[0] for name in ("text", "mask", "roi", "total")}
    return _row(psnr_roi_db=psnr_roi(received, prepared.images, prepared.targets)[0], **used)


def _send_whole(condition: Condition, asked: Asked) -> np.ndarray:
    """A whole image by a JSCC codec, decoded or, by DiffCom, sampled."""
    import torch

    from noma_semcom_env.mixture.channel import AWGN, send

    codec, prepared = codec_of(condition.scheme), asked.prepared
    image = torch.from_numpy(prepared.images).permute(0, 3, 1, 2).float() / 255
    told = torch.tensor([condition.snr_db], dtype=torch.float32)
    after = torch.tensor([condition.effective_db(asked)], dtype=torch.float32)
    count = torch.tensor([min(int(total_symbols(condition.cbr, SAMPLES)), codec.max_symbols)])
    region = torch.from_numpy(prepared.regions) if codec.takes_region else None
    with torch.no_grad():
        codeword = codec.encode(image, told, count, region)
        # The fade is equalized: what is left of it is white noise at the effective SNR, as in MoS's own channel.
        heard, _ = send(codeword, after, AWGN, torch.Generator().manual_seed(2 * asked.number))
        if condition.scheme == DIFFCOM:
            return np.asarray(diffcom().recover(codec, heard, told, after, count, (asked.number,))[0, 0])
        decoded = codec.decode(heard, after, count)
    return np.asarray((decoded[0] * 255).round().permute(1, 2, 0).to(torch.uint8).numpy())


def _lpips(sent: np.ndarray, shown: np.ndarray) -> float:
    import torch

    pair = [torch.from_numpy(value).permute(0, 3, 1, 2).float() / 255 for value in (sent, shown)]
    distance = load_transceiver().perceptual
    assert distance is not None
    with torch.inference_mode():
        return float(distance(*pair))


_CODINGS: dict[str, list[Coded]] = {}


def _codings(name: str, asked: Asked) -> list[Coded]:
    if name not in _CODINGS:
        _CODINGS[name] = every_coding(asked.scene.image)
    return _CODINGS[name]


@lru_cache(maxsize=8)
def _digest(folder: str) -> str:
    return models_digest([FOLDER / folder])


def _row(**values: float) -> dict[str, float]:
    return {name: float(values.get(name, np.nan)) for name in MEASURED}
