"""Layers of Swin Transformer JSCC: shifted windows, patch merging and division, modulation by SNR and rate.

After SwinJSCC (Yang et al., IEEE TCCN 11(1), 2025). Feature maps are (B, H, W, C), channels last.
"""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import nn


class WindowAttention(nn.Module):
    """Attention of several heads inside windows, with a learned bias for each relative position.

    Args:
        width: Channels.
        heads: Number of heads, a divisor of ``width``.
        window: Side of a window.
    """

    index: torch.Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        places = torch.tensor(list(product(range(window), repeat=2)))
        offsets = places[:, None] - places[None] + window - 1
        self.register_buffer("index", offsets[..., 0] * (2 * window - 1) + offsets[..., 1], persistent=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Attend within each window.

        Args:
            x: (B, windows, N, C).
            mask: (windows, N, N) added to the scores, or None.

        Returns:
            (B, windows, N, C).
        """
        batch, windows, size, width = x.shape
        heads = self.heads
        parts = self.qkv(x).view(batch, windows, size, 3, heads, width // heads)
        bias = self.bias[self.index].permute(2, 0, 1)
        if mask is None:
            q, k, v = parts.flatten(0, 1).permute(2, 0, 3, 1, 4)
            bias = bias[None].expand(batch * windows, -1, -1, -1)
        else:
            # Heads and windows share one axis, so that the mask need not be repeated for each image.
            q, k, v = parts.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
            bias = (bias[None] + mask[:, None]).flatten(0, 1)[None].expand(batch, -1, -1, -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        out = out.view(batch, windows, heads, size, width // heads).transpose(2, 3)
        joined: torch.Tensor = self.proj(out.reshape(x.shape))
        return joined


class SwinBlock(nn.Module):
    """Pre-norm block of window attention and a two-layer perceptron.

    Args:
        width: Channels.
        heads: Heads of the attention.
        side: Side of the square feature map.
        window: Side of a window, at most ``side``.
        shifted: Whether windows are shifted by half their side; not done where one window covers the map.
        expansion: Hidden width of the perceptron over ``width``.
    """

    mask: torch.Tensor | None

    def __init__(self, width: int, heads: int, side: int, window: int, shifted: bool, expansion: float) -> None:
        super().__init__()
        self.window = min(window, side)
        self.shift = self.window // 2 if shifted and self.window < side else 0
        hidden = int(width * expansion)
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, self.window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.register_buffer("mask", self._wrapping(side) if self.shift else None, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        side, shift = x.shape[1], self.shift
        y = self.norm1(x)
        if shift:
            y = y.roll((-shift, -shift), (1, 2))
        y = self._join(self.attention(self._split(y), self.mask), side)
        if shift:
            y = y.roll((shift, shift), (1, 2))
        x = x + y
        out: torch.Tensor = x + self.mlp(self.norm2(x))
        return out

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) to (B, windows, N, C)."""
        batch, side, _, width = x.shape
        w, count = self.window, side // self.window
        return x.view(batch, count, w, count, w, width).transpose(2, 3).reshape(batch, count**2, w * w, width)

    def _join(self, x: torch.Tensor, side: int) -> torch.Tensor:
        batch, _, _, width = x.shape
        w, count = self.window, side // self.window
        return x.view(batch, count, count, w, w, width).transpose(2, 3).reshape(batch, side, side, width)

    def _wrapping(self, side: int) -> torch.Tensor:
        """(windows, N, N) large negative scores between pixels that are neighbours only because a shift wraps."""
        edges = torch.zeros(side, dtype=torch.long)
        edges[side - self.window :] = 1
        edges[side - self.shift :] = 2
        regions = self._split((3 * edges[:, None] + edges)[None, :, :, None])[0, :, :, 0]
        return torch.where(regions[:, :, None] == regions[:, None], 0.0, -100.0)


class PatchMerging(nn.Module):
    """Joins squares of ``factor`` x ``factor`` pixels into one of ``after`` channels."""

    def __init__(self, before: int, after: int, factor: int = 2, bias: bool = False, norm: bool = True) -> None:
        super().__init__()
        self.factor = factor
        self.norm = nn.LayerNorm(factor**2 * before) if norm else nn.Identity()
        self.reduction = nn.Linear(factor**2 * before, after, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, before) to (B, H / factor, W / factor, after)."""
        batch, height, width, channels = x.shape
        f = self.factor
        squares = x.view(batch, height // f, f, width // f, f, channels).transpose(2, 3)
        reduced: torch.Tensor = self.reduction(
            self.norm(squares.reshape(batch, height // f, width // f, f * f * channels))
        )
        return reduced


class PatchDivision(nn.Module):
    """Divides each pixel into a square of ``factor`` x ``factor`` pixels of ``after`` channels."""

    def __init__(self, before: int, after: int, factor: int = 2) -> None:
        super().__init__()
        self.factor, self.after = factor, after
        self.norm = nn.LayerNorm(before)
        self.expansion = nn.Linear(before, after * factor**2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, before) to (B, H * factor, W * factor, after)."""
        batch, height, width, _ = x.shape
        f = self.factor
        squares: torch.Tensor = self.expansion(self.norm(x)).view(batch, height, width, f, f, self.after)
        return squares.transpose(2, 3).reshape(batch, height * f, width * f, self.after)


class Modulation(nn.Module):
    """Scales features by factors in (0, 1) that depend on them and on one number, such as the SNR.

    SwinJSCC's channel and rate "ModNet": fully connected layers on the features, each but the last multiplied by a
    perceptron of the number; the last gives the factors.

    Args:
        width: Channels.
        layers: Gated layers.
        expansion: Width of the layers over ``width``.
        depth: Layers of each perceptron of the number.
    """

    def __init__(self, width: int, layers: int, expansion: float, depth: int) -> None:
        super().__init__()
        hidden = int(width * expansion)
        self.layers = nn.ModuleList(nn.Linear(hidden if i else width, hidden) for i in range(layers))
        self.gates = nn.ModuleList(self._gate(hidden, depth) for _ in range(layers))
        self.factors = nn.Linear(hidden, width)
        # Features pass almost whole until training finds what to weaken.
        self.opening = 2.0

    @staticmethod
    def _gate(hidden: int, depth: int) -> nn.Sequential:
        parts: list[nn.Module] = [nn.Linear(1, hidden)]
        for _ in range(depth - 1):
            parts += [nn.ReLU(), nn.Linear(hidden, hidden)]
        return nn.Sequential(*parts, nn.Sigmoid())

    def forward(self, x: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) features and (B,) numbers of about -1 to 1, to (B, H, W, C)."""
        y = x
        for layer, gate in zip(self.layers, self.gates, strict=True):
            y = layer(y) * gate(number[:, None])[:, None, None]
        return x * torch.sigmoid(self.factors(y) + self.opening)


class RegionGate(nn.Module):
    """Treats the region of interest and the rest by two perceptrons, mixed by the share of each pixel inside it.

    The split processing of ROI-JSCC (Choi and Seo, arXiv:2506.01269) in a residual block.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inside = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, width))
        self.outside = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, width))

    def forward(self, x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) features and (B, H, W, 1) shares in [0, 1], to (B, H, W, C)."""
        y = self.norm(x)
        out: torch.Tensor = x + share * self.inside(y) + (1 - share) * self.outside(y)
        return out
