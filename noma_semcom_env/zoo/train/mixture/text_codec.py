r"""Trains the text codec of the MoS side.

    python -m noma_semcom_env.zoo.train.mixture.text_codec --steps 8000 --device cuda
    python -m noma_semcom_env.zoo.train.mixture.text_codec --images refcoco:ROOT:train --models sd15_mixture \
        --width 256 --target FOLDER --device cuda

The first command trains the bundled codec of street scenes' captions; the second one a codec of the tokens of another
preset's painter, on what that preset's captioner says of photographs, see
:mod:`~noma_semcom_env.zoo.train.mixture.annotated_captions`.

Half of what is sent are captions of the training scenes, with all of their phrases or random ones; the other half are
uniformly random tokens, so that the codec sends what it is given and does not only guess what captions say. Channel
(AWGN or Rayleigh block fading), signal-to-noise ratio, symbols a token and number of tokens are drawn for each
sentence.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from transformers import CLIPTokenizer

from noma_semcom_env.mixture.allocation import PAPER_SYMBOLS, PAPER_TOKENS
from noma_semcom_env.mixture.channel import AWGN, CHANNELS, RAYLEIGH, send
from noma_semcom_env.mixture.text_codec import (
    SNR_RANGE_DB,
    TextCodec,
    TextCodecConfig,
    to_tokens,
    token_error_rate,
)
from noma_semcom_env.mixture_models import load_mixture_preset
from noma_semcom_env.scenes.street import BACKGROUND, CLASSES, FOREGROUND, TIME_PHRASE
from noma_semcom_env.semantics.phrases import head_word, split_caption
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.data import held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit, steps_done
from noma_semcom_env.zoo.train.mixture.annotated import read_annotated
from noma_semcom_env.zoo.train.mixture.annotated_captions import SIDE as PICTURE_SIDE
from noma_semcom_env.zoo.train.mixture.annotated_captions import Captions, painters_tokenizer, read_captions

TARGET = WEIGHTS / "street_mixture"
TOKENIZER = WEIGHTS / "street" / "diffusion" / "tokenizer"
MAX_PHRASES = 5
"""Weather, time and at most three items."""

TESTED_SNR_DB = (0, 5, 10, 15, 20)
TESTED_SYMBOLS = (5, 6, 8, 11, 16, 32)
_TESTED: Final = 1000
"""Most captions for the figures."""

_SCORES: Final = 2**26
"""Scores of tokens that are computed together where none is trained."""

_TIMES = {phrase.split()[-1]: phrase for phrase in TIME_PHRASE.values()}


def write_sentence(phrases: Sequence[str]) -> str:
    """The sentence that says these phrases of a street caption and no others, in the caption's grammar.

    Args:
        phrases: Some phrases of a caption in its order, as :func:`split_caption` cuts them.
    """
    text = ""
    front, back = [], []
    for phrase in phrases:
        kind = head_word(phrase)
        if kind in FOREGROUND:
            front.append(phrase)
        elif kind in BACKGROUND:
            back.append(phrase)
        else:
            text = f"{text} {_TIMES.get(phrase, phrase)}".strip()
    for joint, named in (("with", front), ("near", back)):
        if named:
            listed = " and ".join(f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}" for phrase in named)
            text = f"{text} {joint} {listed}" if text else listed
    return text


@dataclass(frozen=True)
class Sentences:
    """Every sentence that subsets of the scenes' phrases make.

    Attributes:
        texts: U sentences, no two alike; the empty one is among them.
        ids: (U, T) int64 token ids without start token, padded with end tokens.
        tokens: (U,) int64 tokens of each, its end token included.
        phrases: P phrases, no two alike.
        holds: (U, P) bool: which phrases a sentence says.
        rows: (n, 2^MAX_PHRASES) int64 sentence of each scene that says the phrases whose bits are set in the column.
        counts: (n,) int64 phrases of each scene.
        kinds: (n, MAX_PHRASES) int64 class index of the item that each phrase names, -1 for weather, time and none.
    """

    texts: list[str]
    ids: torch.Tensor
    tokens: torch.Tensor
    phrases: tuple[str, ...]
    holds: torch.Tensor
    rows: torch.Tensor
    counts: torch.Tensor
    kinds: torch.Tensor

    def draw_rows(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """(size,) int64 rows of sentences of random scenes that say some of their phrases."""
        scenes = torch.randint(len(self.rows), (size,), generator=generator, device=generator.device)
        return self.rows[scenes, draw_subsets(self, scenes, generator)]


Said = TypeVar("Said", bound=Sentences | Captions)


def write_sentences(captions: Sequence[str], tokenizer: Any) -> Sentences:
    """Write all sentences of all scenes."""
    known: dict[tuple[str, ...], int] = {(): 0}
    table: dict[tuple[str, ...], np.ndarray] = {}
    items = {kind: CLASSES.index(kind) for kind in (*FOREGROUND, *BACKGROUND)}
    rows = np.zeros((len(captions), 1 << MAX_PHRASES), dtype=np.int64)
    kinds = np.full((len(captions), MAX_PHRASES), -1, dtype=np.int64)
    counts = np.zeros(len(captions), dtype=np.int64)
    for scene, caption in enumerate(track(captions, "writing sentences")):
        said = split_caption(caption)
        if said not in table:
            subsets = [
                tuple(phrase for bit, phrase in enumerate(said) if chosen >> bit & 1)
                for chosen in range(1 << MAX_PHRASES)
            ]
            table[said] = np.array([known.setdefault(subset, len(known)) for subset in subsets])
        rows[scene], counts[scene] = table[said], len(said)
        kinds[scene, : len(said)] = [items.get(head_word(phrase), -1) for phrase in said]
    texts = [write_sentence(subset) for subset in known]
    phrases = tuple(dict.fromkeys(phrase for subset in known for phrase in subset))
    place = {phrase: i for i, phrase in enumerate(phrases)}
    said_in = [(row, place[phrase]) for row, subset in enumerate(known) for phrase in subset]
    holds = np.zeros((len(texts), len(phrases)), dtype=np.bool_)
    holds[tuple(np.array(said_in, dtype=np.int64).reshape(-1, 2).T)] = True
    ids, tokens = to_tokens(tokenizer, texts, tokenizer.model_max_length)
    return Sentences(texts, ids, tokens, phrases, *map(torch.from_numpy, (holds, rows, counts, kinds)))


def draw_subsets(sentences: Sentences, scenes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(B,) numbers whose bits say which phrases are kept: all of half of the scenes, a random share of the others'."""
    size, device = len(scenes), scenes.device
    rate = torch.rand(size, 1, generator=generator, device=device)
    whole = torch.rand(size, 1, generator=generator, device=device) < 0.5
    kept = (torch.rand(size, MAX_PHRASES, generator=generator, device=device) < rate) | whole
    bits = (kept.long() << torch.arange(MAX_PHRASES, device=device)).sum(1)
    return bits & ((1 << sentences.counts[scenes]) - 1)


def move(sentences: Said, device: str) -> Said:
    """The same sentences with their tensors on a device."""
    moved: dict[str, Any] = {
        name: value.to(device) for name, value in vars(sentences).items() if isinstance(value, torch.Tensor)
    }
    return replace(sentences, **moved)


def draw_batch(
    sentences: Sentences | Captions, config: TextCodecConfig, size: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is sent and how: ids, tokens, SNR and symbols of :meth:`TextCodec.encode`."""
    device = generator.device
    row = sentences.draw_rows(size, generator)
    ids, tokens = sentences.ids[row], sentences.tokens[row]
    kind, rate, level = torch.rand(3, size, generator=generator, device=device)
    # One caption in four is padded to the full length, and half of the random tokens are as many.
    length = torch.randint(1, config.max_tokens + 1, (size,), generator=generator, device=device)
    anything = torch.randint(config.vocabulary, ids.shape, generator=generator, device=device)
    uniform = kind >= 0.5
    ids, tokens = torch.where(uniform[:, None], anything, ids), torch.where(uniform, length, tokens)
    tokens = torch.where((kind < 0.125) | (kind > 0.75), config.max_tokens, tokens)
    # Few symbols are the hard case, so every doubling of them is met as often.
    span = (config.max_symbols + 1) / config.min_symbols
    symbols = (config.min_symbols * span**rate).long().clamp(config.min_symbols, config.max_symbols)
    low, high = SNR_RANGE_DB
    return ids, tokens, low + (high - low) * level, symbols


@torch.no_grad()
def measure(codec: TextCodec, ids: torch.Tensor, tokens: torch.Tensor) -> dict[str, Any]:
    """Token error rates over both channels; rows are symbols a token, columns :data:`TESTED_SNR_DB`."""
    figures: dict[str, Any] = {}
    together = max(1, _SCORES // (ids.shape[1] * codec.config.vocabulary))
    for channel in CHANNELS:
        # A fade hits a whole sentence, so it takes more of them for a steady mean.
        repeats = 4 if channel == RAYLEIGH else 1
        sent, counts = ids.repeat(repeats, 1), tokens.repeat(repeats)
        table: dict[int, list[float]] = {}
        for symbols in track(TESTED_SYMBOLS, f"measuring over {channel}"):
            table[symbols] = []
            for snr_db in TESTED_SNR_DB:
                # Common fading and noise for all cells, so that they differ by SNR and rate alone.
                generator = torch.Generator(ids.device).manual_seed(1)
                level, each = torch.full_like(counts, snr_db).float(), torch.full_like(counts, symbols)
                codewords = codec.encode(sent, counts, level, each)
                arrived, after_db = send(codewords, level, channel, generator)
                # The scores of all sentences at once would be gigabytes for a large vocabulary.
                parts = torch.arange(len(sent), device=sent.device).split(together)
                decided = [codec.decode(arrived[part], counts[part], after_db[part], each[part]) for part in parts]
                table[symbols].append(round(token_error_rate(torch.cat(decided), sent, counts), 5))
        figures[channel] = table
        figures[f"{channel}_at_table_i"] = [table[n][i] for i, n in enumerate(PAPER_SYMBOLS)]
    return figures


@dataclass(frozen=True)
class Lessons:
    """What a text codec is trained on.

    Attributes:
        tokenizer: A ``CLIPTokenizer``.
        sentences: For the training.
        captions: The captions that they are made of.
        test: Captions for the figures.
        origin: Names them, for the checkpoint.
        said: Describes them, for the card.
        config: Size of the codec.
    """

    tokenizer: Any
    sentences: Sentences | Captions
    captions: list[str]
    test: list[str]
    origin: str
    said: str
    config: TextCodecConfig


def street_lessons(arguments: argparse.Namespace) -> Lessons:
    """Captions of street scenes."""
    scenes = arguments.scenes
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    captions = training_scenes(scenes, arguments.folder, resolution=128).captions
    return Lessons(
        tokenizer,
        write_sentences(captions, tokenizer),
        captions,
        # A tiny set is a trial of the script; its figures need be no larger.
        held_out(min(_TESTED, -(-scenes // 8)), 128).captions,
        f"{scenes} scenes",
        f"captions of {scenes} street scenes of the model split, subsets of their phrases",
        TextCodecConfig(len(tokenizer), tokenizer.eos_token_id, max_tokens=tokenizer.model_max_length),
    )


def photograph_lessons(arguments: argparse.Namespace) -> Lessons:
    """Captions of photographs, of which one in eight is held out.

    Raises:
        ValueError: If there are fewer than two pictures.
        ModelLoadError: If the painter or the captioner cannot be loaded.
    """
    preset = load_mixture_preset(arguments.models)
    tokenizer = painters_tokenizer(preset)
    known = read_annotated(arguments.images, PICTURE_SIDE, arguments.scenes, arguments.folder)
    count = len(known) - min(_TESTED, -(-len(known) // 8))
    if not count:
        raise ValueError(f"--images {arguments.images} has but one picture with objects; give more, some to be tested")
    captions = read_captions(known, preset, arguments.folder, arguments.device)
    texts, test = (list(dict.fromkeys(chain(*part))) for part in (captions[:count], captions[count:]))
    most = min(arguments.max_tokens, tokenizer.model_max_length)
    config = TextCodecConfig(
        len(tokenizer), tokenizer.eos_token_id, width=arguments.width, heads=arguments.heads, max_tokens=most
    )
    said = f"{len(texts)} captions of {count} pictures of {arguments.images}"
    return Lessons(
        tokenizer, Captions.of(texts, tokenizer, most), texts, test[:_TESTED], f"{said}, {config}", said, config
    )


def train(arguments: argparse.Namespace) -> None:
    """Train, measure and package the codec."""
    torch.manual_seed(0)
    device = arguments.device
    lessons = street_lessons(arguments) if arguments.images is None else photograph_lessons(arguments)
    config, batch = lessons.config, min(arguments.batch, arguments.scenes)
    codec = TextCodec(config).to(device)
    sentences = move(lessons.sentences, device)
    fast = torch.device(device).type == "cuda"

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        channel = RAYLEIGH if float(torch.rand((), generator=generator)) < 0.5 else AWGN
        dice = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        ids, tokens, snr_db, symbols = draw_batch(sentences, config, batch, dice)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast):
            scores = codec(ids, tokens, snr_db, symbols, channel, dice)
        present = torch.arange(ids.shape[1], device=device) < tokens[:, None]
        entropy = F.cross_entropy(scores.transpose(1, 2), ids, reduction="none") * present
        wrong = (scores.detach().argmax(-1) != ids) & present
        return {"loss": entropy.sum() / present.sum(), "token_errors": wrong.sum() / present.sum()}

    schedule = Schedule(
        arguments.steps,
        arguments.rate,
        warmup=200,
        hold=0.2,
        averaging=0.998,
        weight_decay=0.01,
        limit_s=arguments.seconds,
    )
    folder = arguments.folder / "text_codec"
    seconds = fit("text codec", [codec], loss, schedule, folder, data=f"{lessons.origin}, batches of {batch}")
    codec.eval()
    ids, tokens = (value.to(device) for value in to_tokens(lessons.tokenizer, lessons.test, config.max_tokens))
    anything = torch.randint(config.vocabulary, ids.shape, generator=torch.Generator().manual_seed(5)).to(device)
    known = set(lessons.captions)
    card = {
        "class": type(codec).__name__,
        "parameters": sum(p.numel() for p in codec.parameters()),
        "data": f"{lessons.said}, random tokens",
        "steps": steps_done(folder),
        "batch": batch,
        "seconds": round(seconds),
        "snr_db": list(SNR_RANGE_DB),
        "reported_snr_db": list(TESTED_SNR_DB),
        "symbols_at_table_i": list(PAPER_SYMBOLS),
        "held_out_captions": len(lessons.test),
        "not_among_training_captions": len([text for text in lessons.test if text not in known]),
        "mean_tokens": round(float(tokens.float().mean()), 2),
        "token_error_rate": measure(codec, ids, tokens),
        "token_error_rate_of_random_tokens": measure(codec, anything, torch.full_like(tokens, config.max_tokens)),
    }
    codec.save(arguments.target / "text_codec", card)
    print(json.dumps(card, indent=2))


def mixture_parser(description: str | None, steps: int, batch: int) -> argparse.ArgumentParser:
    """Options of the scripts of this folder that train on one device."""
    parser = make_parser(description, steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="limit of the training's time")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder of the package that gets the weights")
    return parser


def main() -> None:
    parser = mixture_parser(__doc__, steps=8000, batch=512)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--images", metavar="SOURCE", help="photographs instead of scenes, at most --scenes of them")
    parser.add_argument("--models", help="preset whose painter and captioner are taken, or its JSON; with --images")
    parser.add_argument("--width", type=int, default=64, help="of the transformer; with --images")
    parser.add_argument("--heads", type=int, default=4, help="attention heads a block; with --images")
    parser.add_argument("--max-tokens", type=int, default=PAPER_TOKENS, help="of a caption; with --images")
    parser.set_defaults(target=None)
    arguments = parser.parse_args()
    if arguments.images is None:
        for name in ("models", "width", "heads", "max_tokens"):
            if getattr(arguments, name) != parser.get_default(name):
                parser.error(f"--{name.replace('_', '-')} without --images has no effect")
        arguments.target = arguments.target or TARGET
    elif arguments.models is None or arguments.target is None:
        parser.error(
            "--images needs --models, whose tokens are sent, and --target, lest the package's codec be replaced"
        )
    train(arguments)


if __name__ == "__main__":
    main()
