"""Image JSCC: pixels become complex symbols and symbols pixels, at any SNR and any rate. Needs torch.

:class:`ImageCodec` is what all image codecs share. A rate is a prefix of the latents, so that nothing but the number of
symbols need be agreed on.

Regions of interest enter in two ways. :func:`keep_region` greys out all else, for a codec trained on the region alone;
a codec that takes a region (after ROI-JSCC) sends the whole image and is told the region at the transmitter.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import torch
from torch import nn

from noma_semcom_env.mixture.channel import check_snr, normalize_power, send, send_unchecked
from noma_semcom_env.mixture.codec_files import load_codec, save_codec

GREY: Final = 0.5
"""What stands for pixels outside a region that is sent alone."""

_SNR_RANGE_DB: Final = (-10.0, 30.0)


class ImageCodec(nn.Module, ABC):
    """An image JSCC codec of square images.

    Args:
        config: A frozen dataclass of plain numbers.
        side: Side of its images in pixels.
        grid: Side of the square grid of latents.
        channels: Real latents at each place of the grid.

    Attributes:
        max_symbols: Most complex symbols it can send for an image.
    """

    config_class: ClassVar[type[Any]]

    def __init__(self, config: Any, side: int, grid: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.side, self.grid, self.channels = side, grid, channels
        self.max_symbols = grid * grid * channels // 2

    @property
    def takes_region(self) -> bool:
        """Whether the encoder must be told the region of interest."""
        return False

    @abstractmethod
    def analyze(
        self, image: torch.Tensor, snr: torch.Tensor, rate: torch.Tensor, region: torch.Tensor | None
    ) -> torch.Tensor:
        """(B, 3, H, W) images in [0, 1], (B,) SNR and rate of about -1 to 1, to (B, channels, grid, grid) latents."""

    @abstractmethod
    def synthesize(self, latents: torch.Tensor, snr: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """(B, channels, grid, grid) received latents to (B, 3, H, W) images, not clipped."""

    def encode(
        self, image: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor, region: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Encode images.

        Args:
            image: (B, 3, H, W) float in [0, 1].
            snr_db: (B,) SNR in dB of a complex symbol, as the transmitter knows it.
            symbols: (B,) whole numbers of complex symbols, 1 to :attr:`max_symbols`.
            region: (B, H, W) bool, the region of interest, if the codec takes one.

        Returns:
            (B, 2 * max_symbols) reals. Row b has unit average power over its first 2 * symbols[b] entries, which are
            sent; the rest is 0.

        Raises:
            ValueError: If an argument does not fit the codec.
        """
        side = self.side
        if image.ndim != 4 or image.shape[1:] != (3, side, side):
            raise ValueError(
                f"image has shape {tuple(image.shape)}; this codec takes (B, 3, {side}, {side}): resize the images, or "
                "build a codec of their size"
            )
        if not bool(((image >= 0) & (image <= 1)).all()):
            raise ValueError("image holds values outside [0, 1]; divide whole numbers of 0 to 255 by 255")
        self._check(len(image), snr_db, symbols)
        if (region is not None) != self.takes_region:
            needs = "needs a region: a bool mask of the region of interest" if self.takes_region else "takes no region"
            raise ValueError(f"region is {'missing' if region is None else 'given'}, but this codec {needs}")
        if region is not None and (region.shape != (len(image), side, side) or region.dtype != torch.bool):
            raise ValueError(
                f"region is {region.dtype} of shape {tuple(region.shape)}; bool of ({len(image)}, {side}, {side}) is "
                "needed"
            )
        return self._encode(image, snr_db, symbols, region)

    def decode(self, received: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        """Decode what arrived.

        Args:
            received: (B, 2 * max_symbols) reals; beyond the first 2 * symbols[b] of row b they do not matter.
            snr_db: (B,) SNR in dB after equalization.
            symbols: (B,) complex symbols sent.

        Returns:
            (B, 3, H, W) images in [0, 1].

        Raises:
            ValueError: If an argument does not fit the codec.
        """
        if received.ndim != 2 or received.shape[1] != 2 * self.max_symbols:
            raise ValueError(f"received has shape {tuple(received.shape)}; (B, {2 * self.max_symbols}) is needed")
        self._check(len(received), snr_db, symbols)
        return self._decode(received, snr_db, symbols).clamp(0, 1)

    def transmit(
        self,
        image: torch.Tensor,
        snr_db: torch.Tensor,
        symbols: torch.Tensor,
        channel: str,
        generator: torch.Generator,
        region: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode, :func:`~noma_semcom_env.mixture.channel.send` and decode.

        Returns:
            (B, 3, H, W) images in [0, 1].

        Raises:
            ValueError: If an argument does not fit the codec or the channel is unknown.
        """
        received, after_db = send(self.encode(image, snr_db, symbols, region), snr_db, channel, generator)
        return self.decode(received, after_db, symbols)

    def forward(
        self,
        image: torch.Tensor,
        snr_db: torch.Tensor,
        symbols: torch.Tensor,
        channel: str,
        generator: torch.Generator,
        region: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """:meth:`transmit` for training loops: images are not clipped, and no check waits for the device."""
        sent = self._encode(image, snr_db, symbols, region)
        received, after_db = send_unchecked(sent, snr_db, channel, generator)
        return self._decode(received, after_db, symbols)

    def save(self, folder: Path, card: Mapping[str, object]) -> None:
        """Write configuration, float16 weights, a card of what was trained and SHA-256 sums; replaces the folder.

        Raises:
            ValueError: If a weight is not finite in float16.
        """
        save_codec(self, self.config, folder, card)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a codec that :meth:`save` wrote, in float32 and evaluation mode, without gradients.

        Raises:
            ModelLoadError: If the folder does not hold such a codec, complete, finite and unchanged.
        """
        return load_codec(folder, cls.__name__, lambda facts: cls._build(cls.config_class(**facts)), "image codec")

    @classmethod
    @abstractmethod
    def _build(cls, config: Any) -> Self:
        """An untrained codec of a configuration."""

    def _check(self, batch: int, snr_db: torch.Tensor, symbols: torch.Tensor) -> None:
        for name, value in (("snr_db", snr_db), ("symbols", symbols)):
            if value.shape != (batch,):
                raise ValueError(f"{name} has shape {tuple(value.shape)}; ({batch},) is needed, one an image")
        check_snr(snr_db)
        if symbols.is_floating_point() or not bool(((symbols >= 1) & (symbols <= self.max_symbols)).all()):
            raise ValueError(f"symbols={symbols.tolist()!r} must be whole numbers in [1, {self.max_symbols}]")

    def _sent(self, symbols: torch.Tensor) -> torch.Tensor:
        """(B, 2 * max_symbols) bool: which reals are sent."""
        return torch.arange(2 * self.max_symbols, device=symbols.device)[None] < 2 * symbols[:, None]

    def _conditions(self, snr_db: torch.Tensor, symbols: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """SNR and rate as numbers of about -1 to 1."""
        low, high = _SNR_RANGE_DB
        return (snr_db.clamp(low, high) - (low + high) / 2) / 10, symbols * (2 / self.max_symbols) - 1

    def _encode(
        self, image: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor, region: torch.Tensor | None
    ) -> torch.Tensor:
        latents = self.analyze(image, *self._conditions(snr_db, symbols), region)
        # Channel after channel, so that any prefix covers the image evenly.
        return normalize_power(latents.float().flatten(1) * self._sent(symbols), symbols)

    def _decode(self, received: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        # Unit power at any SNR: in a deep fade the noise would otherwise swamp the first layer.
        scale = (1 + 10 ** (-snr_db / 10)).rsqrt()
        latents = torch.where(self._sent(symbols), received * scale[:, None], 0)
        latents = latents.unflatten(1, (self.channels, self.grid, self.grid))
        return self.synthesize(latents, *self._conditions(snr_db, symbols)).float()


def keep_region(image: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Replace all outside a region by mid grey.

    Args:
        image: (B, 3, H, W) in [0, 1].
        region: (B, H, W) bool.
    """
    return torch.where(region[:, None], image, GREY)


def count_parameters(module: nn.Module) -> int:
    """Number of learned values."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(codec: ImageCodec) -> int:
    """Multiply-adds of one image through encoder and decoder, the products of attention included.

    Matrix products and convolutions as PyTorch runs them are counted; norms, activations and sums are not.
    """
    import copy

    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    shapes = copy.deepcopy(codec).to("meta").eval()
    image = torch.empty(1, 3, codec.side, codec.side, device="meta")
    number = torch.empty(1, device="meta")
    region = torch.empty(1, codec.side, codec.side, device="meta") if codec.takes_region else None
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        shapes.synthesize(shapes.analyze(image, number, number, region), number, number)
    return int(counter.get_total_flops()) // 2
