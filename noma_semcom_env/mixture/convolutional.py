"""ADJSCC: convolutional image JSCC whose features attend to the SNR. Needs torch.

After Xu et al., "Wireless image transmission using deep source channel coding with attention modules" (IEEE TCSVT
32(4), 2022), the codec over which DiffCom samples. Unlike there, any rate is sent, as a prefix of the latents, and the
rate is an input of the attention beside the SNR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import torch
import torch.nn.functional as F
from torch import nn

from noma_semcom_env.mixture.image_codec import GREY, ImageCodec


class DivisiveNormalization(nn.Module):
    """Generalized divisive normalization, x / sqrt(beta + gamma x^2), or its approximate inverse.

    Args:
        width: Channels.
        inverse: Whether to multiply by the root instead.
    """

    def __init__(self, width: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(width))
        self.gamma = nn.Parameter(0.1 * torch.eye(width) + 1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        # Absolute values keep the root real without a constraint on the optimizer.
        pool = F.conv2d(x.square(), self.gamma.abs()[:, :, None, None], self.beta.abs() + 1e-6)
        return x * (pool.sqrt() if self.inverse else pool.rsqrt())


class AttentionFeature(nn.Module):
    """ADJSCC's AF module: scales channels by factors that depend on their means, the SNR and the rate.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(width // 4, 1)
        self.factors = nn.Sequential(nn.Linear(width + 2, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.Sigmoid())

    def forward(self, x: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) features and (B, 2) SNR and rate, to (B, C, H, W)."""
        means = x.mean((2, 3))
        factors: torch.Tensor = self.factors(torch.cat([means, conditions.to(means.dtype)], 1))
        return x * factors[:, :, None, None]


class _Layer(nn.Module):
    """A convolution, divisive normalization, PReLU and attention to SNR and rate."""

    def __init__(self, convolution: nn.Module, width: int, inverse: bool) -> None:
        super().__init__()
        self.convolution = convolution
        self.normalization = DivisiveNormalization(width, inverse)
        self.activation = nn.PReLU(width)
        self.attention = AttentionFeature(width)

    def forward(self, x: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.attention(self.activation(self.normalization(self.convolution(x))), conditions)
        return y


@dataclass(frozen=True)
class ADJSCCConfig:
    """Size of an :class:`ADJSCC`.

    Attributes:
        side: Side of the images in pixels.
        widths: Channels of the strided layers; each halves the side.
        kernel: Side of their kernels, odd.
        channels: Real latents at each place of the last layer's grid.

    Raises:
        ValueError: If the numbers do not fit one another.
    """

    side: int = 128
    widths: tuple[int, ...] = (48, 64, 80)
    kernel: int = 5
    channels: int = 48

    def __post_init__(self) -> None:
        whole = (self.side, self.kernel, self.channels, *self.widths)
        if not self.widths or min(whole) < 1:
            raise ValueError(f"{self} must hold whole numbers of at least 1, and one width or more")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} must be odd")
        if self.side % (1 << len(self.widths)):
            raise ValueError(f"side={self.side} must be a multiple of {1 << len(self.widths)}")
        if (self.side >> len(self.widths)) ** 2 * self.channels % 2:
            raise ValueError(f"channels={self.channels} must be even, as the grid has an odd number of places")


STREET_ADJSCC: Final = ADJSCCConfig()
"""For street scenes of 128 x 128: CBR up to 0.125."""


class ADJSCC(ImageCodec):
    """Convolutional JSCC with attention features.

    Args:
        config: Its size.
    """

    config_class = ADJSCCConfig

    def __init__(self, config: ADJSCCConfig) -> None:
        super().__init__(config, config.side, config.side >> len(config.widths), config.channels)
        widths, kernel, last = config.widths, config.kernel, config.widths[-1]
        pad = kernel // 2
        steps = list(zip((3, *widths), widths, strict=False))
        self.encoder = nn.ModuleList(
            _Layer(nn.Conv2d(before, after, kernel, 2, pad), after, inverse=False) for before, after in steps
        )
        self.encoder.append(_Layer(nn.Conv2d(last, last, 3, 1, 1), last, inverse=False))
        self.head = nn.Conv2d(last, config.channels, 3, 1, 1)
        self.decoder = nn.ModuleList([_Layer(nn.Conv2d(config.channels, last, 3, 1, 1), last, inverse=True)])
        self.decoder.append(_Layer(nn.Conv2d(last, last, 3, 1, 1), last, inverse=True))
        for after, before in reversed(steps[1:]):
            self.decoder.append(_Layer(nn.ConvTranspose2d(before, after, kernel, 2, pad, 1), after, inverse=True))
        self.pixels = nn.ConvTranspose2d(widths[0], 3, kernel, 2, pad, 1)

    @classmethod
    def _build(cls, config: ADJSCCConfig) -> Self:
        return cls(config)

    def analyze(
        self, image: torch.Tensor, snr: torch.Tensor, rate: torch.Tensor, region: torch.Tensor | None
    ) -> torch.Tensor:
        """See :meth:`ImageCodec.analyze`; ``region`` is not used."""
        x = (image - GREY).contiguous(memory_format=torch.channels_last)
        conditions = torch.stack([snr, rate], dim=1)
        for layer in self.encoder:
            x = layer(x, conditions)
        latents: torch.Tensor = self.head(x)
        return latents

    def synthesize(self, latents: torch.Tensor, snr: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """See :meth:`ImageCodec.synthesize`."""
        x = latents.contiguous(memory_format=torch.channels_last)
        conditions = torch.stack([snr, rate], dim=1)
        for layer in self.decoder:
            x = layer(x, conditions)
        image: torch.Tensor = self.pixels(x) + GREY
        return image
