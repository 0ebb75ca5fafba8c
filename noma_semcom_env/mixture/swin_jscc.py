"""SwinJSCC, the paper's image codec: a Swin Transformer whose features are modulated by SNR and rate. Needs torch.

After Yang et al., "SwinJSCC: Taming Swin Transformer for deep joint source-channel coding" (IEEE TCCN 11(1), 2025),
and, with a region gate, Choi and Seo's ROI-JSCC (arXiv:2506.01269).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import torch
import torch.nn.functional as F
from torch import nn

from noma_semcom_env.mixture.image_codec import GREY, ImageCodec
from noma_semcom_env.mixture.swin import Modulation, PatchDivision, PatchMerging, RegionGate, SwinBlock


@dataclass(frozen=True)
class SwinConfig:
    """Size of a :class:`SwinJSCC`.

    Attributes:
        side: Side of the images in pixels.
        patch: Side of the patches that become the first stage's tokens.
        widths: Channels of each stage; each later stage halves the side.
        depths: Blocks of each stage.
        heads: Attention heads of each stage.
        window: Side of the windows in tokens.
        expansion: Hidden width of the blocks' perceptrons over their width.
        channels: Real latents at each place of the last stage's grid.
        snr_modulation: Whether encoder and decoder adapt to the SNR.
        rate_modulation: Whether encoder and decoder adapt to the rate.
        modulation_layers: Gated layers of each modulation.
        modulation_expansion: Their width over the last stage's.
        modulation_depth: Layers of each gate's perceptron.
        region_gate: Whether the encoder is told the region of interest, after ROI-JSCC.

    Raises:
        ValueError: If the numbers do not fit one another.
    """

    side: int
    patch: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    expansion: float
    channels: int
    snr_modulation: bool = True
    rate_modulation: bool = True
    modulation_layers: int = 1
    modulation_expansion: float = 1.0
    modulation_depth: int = 2
    region_gate: bool = False

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.depths) == len(self.heads) > 0:
            raise ValueError(f"widths={self.widths}, depths={self.depths} and heads={self.heads} must be equally many")
        whole = (self.side, self.patch, self.window, self.channels, *self.widths, *self.depths, *self.heads)
        if min(*whole, self.modulation_layers, self.modulation_depth) < 1:
            raise ValueError(f"{self} must hold whole numbers of at least 1")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"heads={self.heads} must divide widths={self.widths}")
        if self.side % (self.patch << len(self.widths) - 1):
            raise ValueError(f"side={self.side} must be a multiple of {self.patch << len(self.widths) - 1}")
        for side in self.sides:
            if side > self.window and side % self.window:
                raise ValueError(f"window={self.window} must divide each stage's side, which are {self.sides}")
        if self.sides[-1] ** 2 * self.channels % 2:
            raise ValueError(f"channels={self.channels} must be even, as the grid has an odd number of places")

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of each stage's square feature map."""
        return tuple(self.side // self.patch >> stage for stage in range(len(self.widths)))


PAPER: Final = SwinConfig(
    side=256,
    patch=2,
    widths=(128, 192, 256, 320),
    depths=(2, 2, 2, 2),
    heads=(4, 6, 8, 10),
    window=8,
    expansion=4.0,
    channels=96,
    rate_modulation=False,
    modulation_layers=7,
    modulation_expansion=1.5,
    modulation_depth=3,
)
"""SwinJSCC "small", the paper's image codec: CBR up to 0.0625."""

STREET: Final = SwinConfig(
    side=128,
    patch=4,
    widths=(64, 128),
    depths=(2, 4),
    heads=(2, 4),
    window=8,
    expansion=2.0,
    channels=48,
    modulation_expansion=0.75,
)
"""For street scenes of 128 x 128: CBR up to 0.125."""

STREET_REGION_GATE: Final = replace(STREET, region_gate=True)
"""Likewise, for a codec after ROI-JSCC."""


class SwinJSCC(ImageCodec):
    """Swin Transformer JSCC.

    Args:
        config: Its size.
    """

    config_class = SwinConfig

    def __init__(self, config: SwinConfig) -> None:
        super().__init__(config, config.side, config.sides[-1], config.channels)
        widths, last = config.widths, config.widths[-1]
        stages = range(len(widths))
        self.embedding = PatchMerging(3, widths[0], config.patch, bias=True, norm=False)
        self.merging = nn.ModuleList(PatchMerging(widths[i - 1], widths[i]) for i in stages[1:])
        self.encoder = nn.ModuleList(_stage(config, i) for i in stages)
        self.region_gates = nn.ModuleList(RegionGate(width) for width in widths if config.region_gate)
        self.encoder_norm = nn.LayerNorm(last)
        self.encoder_snr = _modulation(config, config.snr_modulation)
        self.encoder_rate = _modulation(config, config.rate_modulation)
        self.head = nn.Linear(last, config.channels)
        self.decoder_head = nn.Linear(config.channels, last)
        self.decoder_snr = _modulation(config, config.snr_modulation)
        self.decoder_rate = _modulation(config, config.rate_modulation)
        self.decoder = nn.ModuleList(_stage(config, i) for i in reversed(stages))
        self.division = nn.ModuleList(PatchDivision(widths[i], widths[i - 1]) for i in reversed(stages[1:]))
        self.pixels = PatchDivision(widths[0], 3, config.patch)
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.in_features > 1:
                nn.init.trunc_normal_(module.weight, std=min(0.05, module.in_features**-0.5))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def _build(cls, config: SwinConfig) -> Self:
        return cls(config)

    @property
    def takes_region(self) -> bool:
        """Whether the encoder must be told the region of interest."""
        return bool(self.config.region_gate)

    def analyze(
        self, image: torch.Tensor, snr: torch.Tensor, rate: torch.Tensor, region: torch.Tensor | None
    ) -> torch.Tensor:
        """See :meth:`ImageCodec.analyze`."""
        x = self.embedding(image.permute(0, 2, 3, 1) - GREY)
        for i, stage in enumerate(self.encoder):
            x = stage(self.merging[i - 1](x) if i else x)
            if region is not None:
                share = F.avg_pool2d(region[:, None].to(x.dtype), self.side // x.shape[1])
                x = self.region_gates[i](x, share.permute(0, 2, 3, 1))
        x = self._modulate(self.encoder_norm(x), (self.encoder_snr, snr), (self.encoder_rate, rate))
        latents: torch.Tensor = self.head(x).permute(0, 3, 1, 2)
        return latents

    def synthesize(self, latents: torch.Tensor, snr: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """See :meth:`ImageCodec.synthesize`."""
        x = self.decoder_head(latents.permute(0, 2, 3, 1))
        x = self._modulate(x, (self.decoder_snr, snr), (self.decoder_rate, rate))
        for i, stage in enumerate(self.decoder):
            x = stage(x)
            if i < len(self.division):
                x = self.division[i](x)
        image: torch.Tensor = self.pixels(x).permute(0, 3, 1, 2) + GREY
        return image

    @staticmethod
    def _modulate(x: torch.Tensor, *steps: tuple[nn.Module | None, torch.Tensor]) -> torch.Tensor:
        for modulation, number in steps:
            if modulation is not None:
                x = modulation(x, number)
        return x


def _stage(config: SwinConfig, stage: int) -> nn.Sequential:
    width, heads, side = config.widths[stage], config.heads[stage], config.sides[stage]
    return nn.Sequential(
        *(
            SwinBlock(width, heads, side, config.window, shifted=i % 2 == 1, expansion=config.expansion)
            for i in range(config.depths[stage])
        )
    )


def _modulation(config: SwinConfig, wanted: bool) -> Modulation | None:
    layers, expansion, depth = config.modulation_layers, config.modulation_expansion, config.modulation_depth
    return Modulation(config.widths[-1], layers, expansion, depth) if wanted else None
