"""The text codec of MoS (2): a transformer that sends a caption's tokens as complex channel symbols. Needs torch.

The paper says of it: "a JSCC encoder based on the transformer, which comprises 4 transformer blocks", and that the
receiver's configuration is the transmitter's. So there are four blocks at either end. Encoder and decoder are told the
signal-to-noise ratio, the symbols a token and the number of tokens, so that one codec serves all of them: of each
token's latents a prefix is sent, five to 32 complex symbols in the bundled codec.

Only what a caption has is sent: its tokens and the end token. Decoding needs their number and the symbols a token,
which differ from caption to caption. Both are taken to be known at the receiver for nothing, as is how the budget is
split; a header that told them would be some 24 bits, see :func:`~noma_semcom_env.mixture.budget.mask_cost`. A caption
can be padded with end tokens to a
fixed number, as Table I of the paper has it (24 tokens of 32, 11, 8, 6 or 5 symbols); then all of those count.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import torch
import torch.nn.functional as F
from torch import nn

from noma_semcom_env.mixture.channel import check_snr, normalize_power, send, send_unchecked
from noma_semcom_env.mixture.codec_files import load_codec, save_codec

SNR_RANGE_DB: Final = (0.0, 20.0)
"""Signal-to-noise ratios that the bundled codec is trained for; beyond them the encoder is told the nearest one."""

_RECEIVED_RANGE_DB: Final = (-20.0, 30.0)


@dataclass(frozen=True)
class TextCodecConfig:
    """Size of a text codec.

    Attributes:
        vocabulary: Number of token ids.
        end: Id of the end token, which also pads.
        width: Width of the transformer.
        blocks: Transformer blocks at either end.
        heads: Attention heads a block.
        max_tokens: Longest sequence, its end token included.
        min_symbols: Fewest complex symbols a token.
        max_symbols: Most complex symbols a token.
    """

    vocabulary: int
    end: int
    width: int = 64
    blocks: int = 4
    heads: int = 4
    max_tokens: int = 24
    min_symbols: int = 5
    max_symbols: int = 32

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name == "end" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r} of a text codec must be a whole number of at least {least}")
        if self.end >= self.vocabulary:
            raise ValueError(f"end={self.end!r} must be an id below vocabulary={self.vocabulary}")
        if self.width % self.heads:
            raise ValueError(f"width={self.width!r} must be a multiple of heads={self.heads}")
        if self.min_symbols > self.max_symbols:
            raise ValueError(f"min_symbols={self.min_symbols!r} must not exceed max_symbols={self.max_symbols}")


class _Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.before_expansion = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(B, T, width) of which positions (B, 1, 1, T) are attended to."""
        batch, length, width = x.shape
        parts = self.attention(self.before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=present)
        x = x + self.mix(seen.transpose(1, 2).reshape(batch, length, width))
        out: torch.Tensor = x + self.contract(F.gelu(self.expand(self.before_expansion(x))))
        return out


class _Transformer(nn.Module):
    """Blocks that know where a token stands and under what conditions it travels."""

    def __init__(self, config: TextCodecConfig) -> None:
        super().__init__()
        self.position = nn.Parameter(0.02 * torch.randn(config.max_tokens, config.width))
        self.condition = nn.Sequential(nn.Linear(3, config.width), nn.GELU(), nn.Linear(config.width, config.width))
        self.blocks = nn.ModuleList(_Block(config.width, config.heads) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: torch.Tensor, conditions: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        x = x + self.position[: x.shape[1]] + self.condition(conditions)[:, None]
        for block in self.blocks:
            x = block(x, present[:, None, None])
        out: torch.Tensor = self.norm(x)
        return out


class TextCodec(nn.Module):
    """Encoder and decoder of token sequences.

    A codeword is a row of 2 T max_symbols reals: of each of T tokens, max_symbols complex symbols. What is not sent,
    beyond a sentence's tokens or a token's symbols, is 0.

    Args:
        config: Its size.
    """

    def __init__(self, config: TextCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.encoder = _Transformer(config)
        self.to_symbols = nn.Linear(config.width, 2 * config.max_symbols)
        self.from_symbols = nn.Sequential(
            nn.Linear(2 * config.max_symbols, 2 * config.width), nn.GELU(), nn.Linear(2 * config.width, config.width)
        )
        self.decoder = _Transformer(config)
        self.to_scores = nn.Linear(config.width, config.vocabulary)

    def encode(
        self, ids: torch.Tensor, tokens: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor
    ) -> torch.Tensor:
        """Encode sentences, each into a codeword of its own.

        Args:
            ids: (B, T) int64 token ids in [0, vocabulary); those beyond a sentence's tokens do not matter.
            tokens: (B,) int64 tokens of each sentence, in [1, T].
            snr_db: (B,) SNR in dB of a complex symbol, as the transmitter knows it.
            symbols: (B,) int64 complex symbols a token, in [min_symbols, max_symbols].

        Returns:
            (B, 2 T max_symbols) reals. Of row b, ``tokens[b] * symbols[b]`` complex symbols are sent, of unit average
            power; the rest is 0.

        Raises:
            ValueError: If an argument does not fit the codec.
        """
        self._check(tuple(ids.shape), tokens, snr_db, symbols)
        if ids.is_floating_point() or not bool(((ids >= 0) & (ids < self.config.vocabulary)).all()):
            raise ValueError(
                f"ids must be whole numbers in [0, {self.config.vocabulary}); use the tokenizer that the codec was "
                "trained with"
            )
        return self._encode(ids, tokens, snr_db, symbols)

    def decode(
        self, received: torch.Tensor, tokens: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor
    ) -> torch.Tensor:
        """Decode what arrived.

        Args:
            received: (B, 2 T max_symbols) reals, equalized; those that were not sent do not matter.
            tokens: (B,) int64, as sent.
            snr_db: (B,) SNR in dB after equalization.
            symbols: (B,) int64, as sent.

        Returns:
            (B, T) int64, the likeliest ids; the end token beyond each sentence's tokens.

        Raises:
            ValueError: If an argument does not fit the codec.
        """
        if received.ndim != 2 or received.shape[1] % (2 * self.config.max_symbols):
            raise ValueError(
                f"received has shape {tuple(received.shape)}; (B, T * {2 * self.config.max_symbols}) is needed"
            )
        length = received.shape[1] // (2 * self.config.max_symbols)
        self._check((len(received), length), tokens, snr_db, symbols)
        decided = self._decode(received, tokens, snr_db, symbols).argmax(-1)
        return decided.masked_fill(~_present(tokens, length), self.config.end)

    def transmit(
        self,
        ids: torch.Tensor,
        tokens: torch.Tensor,
        snr_db: torch.Tensor,
        symbols: torch.Tensor,
        channel: str,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Encode, :func:`~noma_semcom_env.mixture.channel.send` and decode.

        Returns:
            (B, T) int64 ids.

        Raises:
            ValueError: If an argument does not fit the codec or the channel is unknown.
        """
        received, after_db = send(self.encode(ids, tokens, snr_db, symbols), snr_db, channel, generator)
        return self.decode(received, tokens, after_db, symbols)

    def forward(
        self,
        ids: torch.Tensor,
        tokens: torch.Tensor,
        snr_db: torch.Tensor,
        symbols: torch.Tensor,
        channel: str,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """:meth:`transmit` for training loops: it checks nothing and gives (B, T, vocabulary) unnormalized scores."""
        sent = self._encode(ids, tokens, snr_db, symbols)
        received, after_db = send_unchecked(sent, snr_db, channel, generator)
        return self._decode(received, tokens, after_db, symbols)

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
        return load_codec(folder, cls.__name__, lambda facts: cls(TextCodecConfig(**facts)), "text codec")

    def _encode(
        self, ids: torch.Tensor, tokens: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor
    ) -> torch.Tensor:
        present = _present(tokens, ids.shape[1])
        conditions = _conditions(tokens, snr_db.clamp(*SNR_RANGE_DB), symbols)
        latents = self.to_symbols(self.encoder(self.embedding(ids), conditions, present)).float()
        return normalize_power((latents * self._sent(present, symbols)).flatten(1), tokens * symbols)

    def _decode(
        self, received: torch.Tensor, tokens: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor
    ) -> torch.Tensor:
        received = received.unflatten(1, (-1, 2 * self.config.max_symbols))
        present = _present(tokens, received.shape[1])
        # Unit power at any SNR: in a deep fade the noise would otherwise swamp the first layer.
        scale = (1 + 10 ** (-snr_db / 10)).rsqrt()[:, None, None]
        features = self.from_symbols(torch.where(self._sent(present, symbols), received * scale, 0))
        conditions = _conditions(tokens, snr_db.clamp(*_RECEIVED_RANGE_DB), symbols)
        scores: torch.Tensor = self.to_scores(self.decoder(features, conditions, present))
        return scores.float()

    def _sent(self, present: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
        """(B, T, 2 max_symbols) bool: which reals are sent."""
        place = torch.arange(2 * self.config.max_symbols, device=present.device)
        return present[:, :, None] & (place < 2 * symbols[:, None])[:, None]

    def _check(self, shape: tuple[int, ...], tokens: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> None:
        config = self.config
        if len(shape) != 2 or not 1 <= shape[1] <= config.max_tokens:
            raise ValueError(f"sequences are of shape {shape}; (B, T) with T in [1, {config.max_tokens}] is needed")
        for name, value in (("tokens", tokens), ("snr_db", snr_db), ("symbols", symbols)):
            if value.shape != shape[:1]:
                raise ValueError(f"{name} has shape {tuple(value.shape)}; ({shape[0]},) is needed, one a sentence")
        check_snr(snr_db)
        for name, value, low, high in (
            ("tokens", tokens, 1, shape[1]),
            ("symbols", symbols, config.min_symbols, config.max_symbols),
        ):
            if value.is_floating_point() or not bool(((value >= low) & (value <= high)).all()):
                raise ValueError(f"{name}={value.tolist()!r} must be whole numbers in [{low}, {high}]")


def to_tokens(
    tokenizer: Any, captions: Sequence[str], max_tokens: int = 24, padded: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions as what is sent of them.

    Args:
        tokenizer: A ``CLIPTokenizer``.
        captions: B sentences; of one that is too long the beginning is kept, as Stable Diffusion does.
        max_tokens: T, the longest sequence with its end token.
        padded: Whether all T tokens are sent, the rest being end tokens, instead of the caption's own.

    Returns:
        (B, T) int64 ids without start token, padded with end tokens; (B,) int64 tokens to send.

    Raises:
        ValueError: If ``max_tokens`` is below 1.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens={max_tokens!r} must be at least 1, the end token")
    end = int(tokenizer.eos_token_id)
    found = tokenizer(list(captions), add_special_tokens=False).input_ids if captions else []
    # What the tokenizer does not know is its end token, which would cut the sentence.
    kept = [[i for i in words if i != end][: max_tokens - 1] for words in found]
    rows = [words + [end] * (max_tokens - len(words)) for words in kept]
    ids = torch.tensor(rows, dtype=torch.int64).view(-1, max_tokens)
    tokens = torch.tensor([max_tokens if padded else len(words) + 1 for words in kept], dtype=torch.int64)
    return ids, tokens


def to_captions(tokenizer: Any, ids: torch.Tensor) -> list[str]:
    """Sentences of received ids: each row up to its first end token."""
    end = int(tokenizer.eos_token_id)
    rows = (row[: row.index(end)] if end in row else row for row in ids.tolist())
    texts: list[str] = tokenizer.batch_decode(list(rows), skip_special_tokens=True)
    return [text.strip() for text in texts]


def token_error_rate(received: torch.Tensor, sent: torch.Tensor, tokens: torch.Tensor) -> float:
    """Share of the tokens sent that were received as others.

    Args:
        received: (B, T) int64.
        sent: (B, T) int64.
        tokens: (B,) int64 tokens of each sentence that were sent.

    Raises:
        ValueError: If the shapes differ or no token was sent.
    """
    if received.shape != sent.shape or sent.ndim != 2 or tokens.shape != sent.shape[:1]:
        raise ValueError(
            f"received {tuple(received.shape)}, sent {tuple(sent.shape)} and tokens {tuple(tokens.shape)} must be of "
            "shapes (B, T), (B, T) and (B,)"
        )
    present = _present(tokens, sent.shape[1])
    if not bool(present.any()):
        raise ValueError("tokens holds no token that was sent; an error rate needs at least one")
    return float((received != sent)[present].float().mean())


def _conditions(tokens: torch.Tensor, snr_db: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
    """(B, 3): SNR, symbols and tokens as numbers of about -1 to 2."""
    return torch.stack([snr_db / 10 - 1, symbols.float().log2() - 3.5, tokens / 12 - 1], dim=1)


def _present(tokens: torch.Tensor, length: int) -> torch.Tensor:
    """(B, length) bool: which positions hold a token that is sent."""
    return torch.arange(length, device=tokens.device) < tokens[:, None]
