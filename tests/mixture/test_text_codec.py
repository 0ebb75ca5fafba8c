"""The text codec: what is sent and at what power, independence of what is not, errors over the channel, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from noma_semcom_env.mixture.channel import AWGN, CHANNELS, RAYLEIGH, send
from noma_semcom_env.mixture.text_codec import (
    TextCodec,
    TextCodecConfig,
    to_captions,
    to_tokens,
    token_error_rate,
)
from noma_semcom_env.scenes.street import compose, split_seeds
from noma_semcom_env.semantics.phrases import split_caption
from noma_semcom_env.zoo.hub import ModelLoadError
from noma_semcom_env.zoo.loading import write_sums
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.mixture.text_codec import draw_batch, draw_subsets, write_sentences

TINY = TextCodecConfig(12, 11, width=16, blocks=1, heads=2, max_tokens=6, min_symbols=2, max_symbols=4)
BUNDLED = WEIGHTS / "street_mixture" / "text_codec"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build() -> TextCodec:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TextCodec(TINY).eval().requires_grad_(False)


def sentences(count: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, tokens of every number, SNRs and symbols of every number."""
    ids = torch.randint(TINY.vocabulary, (count, TINY.max_tokens), generator=seeded())
    number = torch.arange(count)
    return ids, 1 + number % TINY.max_tokens, 5.0 * number, TINY.min_symbols + number % 3


def street_captions(count: int) -> list[str]:
    return [compose(np.random.default_rng(seed)).caption for seed in split_seeds("test", count)]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(WEIGHTS / "street" / "diffusion" / "tokenizer", local_files_only=True)


@pytest.fixture(scope="module")
def bundled() -> TextCodec:
    return TextCodec.load(BUNDLED)


def test_just_the_tokens_symbols_are_sent_at_unit_power() -> None:
    ids, tokens, snr_db, symbols = sentences()
    codeword = build().encode(ids, tokens, snr_db, symbols)
    sent = tokens * symbols
    assert codeword.shape == (5, 2 * TINY.max_tokens * TINY.max_symbols)
    assert torch.equal((codeword != 0).sum(1), 2 * sent)
    torch.testing.assert_close(codeword.square().sum(1), sent.float())
    reals = codeword.view(5, TINY.max_tokens, TINY.max_symbols, 2)
    for row, (count, each) in enumerate(zip(tokens.tolist(), symbols.tolist(), strict=True)):
        assert not reals[row, count:].any()
        assert not reals[row, :, each:].any()


def test_what_is_not_sent_does_not_matter() -> None:
    codec = build()
    ids, tokens, snr_db, symbols = sentences()
    beyond = torch.arange(TINY.max_tokens) >= tokens[:, None]
    codeword = codec.encode(ids, tokens, snr_db, symbols)
    torch.testing.assert_close(codec.encode(ids.masked_fill(beyond, 3), tokens, snr_db, symbols), codeword)
    decided = codec.decode(codeword, tokens, snr_db, symbols)
    disturbed = torch.where(codeword == 0, torch.nan, codeword)
    assert torch.equal(codec.decode(disturbed, tokens, snr_db, symbols), decided)
    assert (decided[beyond] == TINY.end).all()


def test_a_sentence_is_sent_the_same_in_any_batch_and_of_any_length() -> None:
    codec = build()
    ids, tokens, snr_db, symbols = sentences()
    together = codec.encode(ids, tokens, snr_db, symbols)
    for row in range(len(ids)):
        alone = codec.encode(ids[row : row + 1], tokens[row : row + 1], snr_db[row : row + 1], symbols[row : row + 1])
        torch.testing.assert_close(alone[0], together[row])
    short = codec.encode(ids[:2, :2], tokens[:2], snr_db[:2], symbols[:2])
    torch.testing.assert_close(short, together[:2, : short.shape[1]])


def test_encoder_and_decoder_adapt_to_the_conditions() -> None:
    codec = build()
    ids, _, _, _ = sentences(1)
    conditions = [torch.tensor([6]), torch.tensor([0.0]), torch.tensor([2])]
    codeword = codec.encode(ids, *conditions)
    others = [torch.tensor([6]), torch.tensor([20.0]), torch.tensor([2])]
    assert not torch.allclose(codec.encode(ids, *others), codeword)
    scores = codec._decode(codeword, *conditions)
    assert not torch.allclose(codec._decode(codeword, *others), scores)
    assert not torch.allclose(codec._decode(codeword, torch.tensor([5]), *conditions[1:])[:, :5], scores[:, :5])


@pytest.mark.parametrize("channel", CHANNELS)
def test_transmission_is_encoding_channel_and_decoding(channel: str) -> None:
    codec = build()
    ids, tokens, snr_db, symbols = sentences()
    received, after_db = send(codec.encode(ids, tokens, snr_db, symbols), snr_db, channel, seeded(3))
    expected = codec.decode(received, tokens, after_db, symbols)
    assert torch.equal(codec.transmit(ids, tokens, snr_db, symbols, channel, seeded(3)), expected)


def test_extreme_snr_stays_finite() -> None:
    codec = build()
    ids, tokens, _, symbols = sentences(2)
    for level in (-100.0, 100.0, float("inf")):
        snr_db = torch.full((2,), level)
        codeword = codec.encode(ids, tokens, snr_db, symbols)
        assert codeword.isfinite().all()
        assert codec._decode(1e4 * codeword, tokens, snr_db, symbols).isfinite().all()
    assert codec.encode(ids[:0], tokens[:0], torch.zeros(0), symbols[:0]).shape == (0, 48)


def test_a_codec_learns_to_be_right_where_there_is_no_noise() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = TextCodec(TINY)
    optimizer = torch.optim.AdamW(codec.parameters(), 5e-3)
    dice = seeded(1)
    full = torch.full((64,), TINY.max_tokens)
    for _ in range(120):
        ids = torch.randint(TINY.vocabulary, (64, TINY.max_tokens), generator=dice)
        scores = codec(ids, full, torch.full((64,), 15.0), torch.full((64,), 4), AWGN, dice)
        optimizer.zero_grad()
        F.cross_entropy(scores.flatten(0, 1), ids.flatten()).backward()
        optimizer.step()
    codec.eval()
    ids = torch.randint(TINY.vocabulary, (64, TINY.max_tokens), generator=seeded(9))
    rates = {}
    for snr_db in (-20.0, 15.0):
        conditions = full, torch.full((64,), snr_db), torch.full((64,), 4)
        rates[snr_db] = token_error_rate(codec.transmit(ids, *conditions, AWGN, seeded()), ids, full)
    assert rates[15.0] < 0.05
    assert rates[-20.0] > 0.7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ids", torch.full((5, 6), 12), "in \\[0, 12\\)"),
        ("ids", torch.zeros(5, 6), "whole numbers"),
        ("ids", torch.zeros(5, 7, dtype=torch.int64), "T in \\[1, 6\\]"),
        ("tokens", torch.tensor([1, 2, 3, 4, 7]), "tokens=.*\\[1, 6\\]"),
        ("tokens", torch.tensor([0, 2, 3, 4, 5]), "tokens=.*\\[1, 6\\]"),
        ("symbols", torch.tensor([1, 2, 2, 2, 2]), "symbols=.*\\[2, 4\\]"),
        ("symbols", torch.tensor([5, 2, 2, 2, 2]), "symbols=.*\\[2, 4\\]"),
        ("symbols", torch.full((5,), 2.0), "whole numbers"),
        ("snr_db", torch.zeros(4), "one a sentence"),
        ("snr_db", torch.full((5,), torch.nan), "NaN"),
        ("snr_db", torch.full((5,), -torch.inf), "-inf"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: torch.Tensor, message: str) -> None:
    arguments = dict(zip(("ids", "tokens", "snr_db", "symbols"), sentences(), strict=True))
    with pytest.raises(ValueError, match=message):
        build().encode(**{**arguments, name: value})


def test_received_reals_of_another_size_and_unknown_channels_are_refused() -> None:
    codec = build()
    ids, tokens, snr_db, symbols = sentences()
    with pytest.raises(ValueError, match="T \\* 8"):
        codec.decode(torch.zeros(5, 47), tokens, snr_db, symbols)
    with pytest.raises(ValueError, match="channel='rician'"):
        codec.transmit(ids, tokens, snr_db, symbols, "rician", seeded())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 0}, "vocabulary=0"),
        ({"end": 12}, "end=12"),
        ({"width": 15}, "multiple of heads"),
        ({"blocks": 1.5}, "blocks=1.5"),
        ({"min_symbols": 5}, "min_symbols=5"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, float], message: str) -> None:
    size = {"vocabulary": 12, "end": 11, "width": 16, "heads": 2, "min_symbols": 2, "max_symbols": 4}
    with pytest.raises(ValueError, match=message):
        TextCodecConfig(**{**size, **changes})


def test_captions_become_tokens_and_captions_again(tokenizer: CLIPTokenizer) -> None:
    captions = ["clear sky by day with a person in red", "fog", ""]
    ids, tokens = to_tokens(tokenizer, captions)
    assert tokens.tolist() == [10, 2, 1]
    assert ids.shape == (3, 24)
    assert to_captions(tokenizer, ids) == captions
    same, padded = to_tokens(tokenizer, captions, padded=True)
    assert padded.tolist() == [24, 24, 24]
    assert torch.equal(same, ids)
    assert [value.shape for value in to_tokens(tokenizer, [])] == [(0, 24), (0,)]


def test_long_captions_are_cut_and_unknown_signs_dropped(tokenizer: CLIPTokenizer) -> None:
    ids, tokens = to_tokens(tokenizer, ["tree " * 40, "red — car"], max_tokens=5)
    assert tokens.tolist() == [5, 3]
    assert to_captions(tokenizer, ids) == ["tree tree tree tree", "red car"]
    with pytest.raises(ValueError, match="max_tokens=0"):
        to_tokens(tokenizer, ["fog"], max_tokens=0)


def test_token_errors_are_counted_over_what_was_sent() -> None:
    sent = torch.tensor([[1, 2, 3], [4, 5, 6]])
    received = torch.tensor([[1, 0, 3], [4, 5, 0]])
    assert token_error_rate(received, sent, torch.tensor([3, 2])) == pytest.approx(1 / 5)
    with pytest.raises(ValueError, match="at least one"):
        token_error_rate(received[:0], sent[:0], torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="shapes"):
        token_error_rate(received, sent[:, :2], torch.tensor([3, 2]))


class TestLessons:
    def test_sentences_say_the_phrases_of_their_subset_in_the_captions_grammar(self, tokenizer: CLIPTokenizer) -> None:
        captions = street_captions(100)
        sentences = write_sentences(captions, tokenizer)
        assert len(set(sentences.texts)) == len(sentences.texts)
        for scene, caption in enumerate(captions):
            said = split_caption(caption)
            assert int(sentences.counts[scene]) == len(said)
            for chosen in range(1 << len(said)):
                row = int(sentences.rows[scene, chosen])
                subset = tuple(phrase for bit, phrase in enumerate(said) if chosen >> bit & 1)
                assert split_caption(sentences.texts[row]) == subset
                assert {sentences.phrases[i] for i in sentences.holds[row].nonzero()[:, 0]} == set(subset)
            assert sentences.texts[int(sentences.rows[scene, (1 << len(said)) - 1])] == caption
        assert to_captions(tokenizer, sentences.ids) == sentences.texts

    def test_batches_hold_captions_and_random_tokens_under_all_conditions(self, tokenizer: CLIPTokenizer) -> None:
        sentences = write_sentences(street_captions(50), tokenizer)
        config = TextCodecConfig(len(tokenizer), tokenizer.eos_token_id)
        ids, tokens, snr_db, symbols = draw_batch(sentences, config, 2000, seeded())
        texts = set(sentences.texts)
        known = [text in texts for text in to_captions(tokenizer, ids)]
        assert np.mean(known) == pytest.approx(0.5, abs=0.05)
        assert (int(tokens.min()), int(tokens.max())) == (1, 24)
        assert (int(symbols.min()), int(symbols.max())) == (5, 32)
        assert float(snr_db.min()) >= 0
        assert float(snr_db.max()) <= 20
        scenes = torch.arange(50).repeat(20)
        chosen = draw_subsets(sentences, scenes, seeded())
        whole = (1 << sentences.counts[scenes]) - 1
        assert (chosen <= whole).all()
        assert 0.5 < float((chosen == whole).float().mean()) < 0.75


class TestFiles:
    def test_a_saved_codec_is_read_as_it_was(self, tmp_path: Path) -> None:
        codec = build()
        codec.save(tmp_path / "codec", {"steps": 1})
        codec.save(tmp_path / "codec", {"steps": 2})
        read = TextCodec.load(tmp_path / "codec")
        assert read.config == TINY
        assert not read.training
        assert json.loads((tmp_path / "codec" / "card.json").read_text()) == {"steps": 2}
        assert [path.name for path in tmp_path.iterdir()] == ["codec"]
        for name, value in codec.state_dict().items():
            assert torch.equal(read.state_dict()[name], value.half().float())

    def test_weights_beyond_half_precision_are_not_saved(self, tmp_path: Path) -> None:
        codec = build()
        codec.to_scores.bias.fill_(1e6)
        with pytest.raises(ValueError, match=r"to_scores\.bias is not finite"):
            codec.save(tmp_path / "codec", {})
        assert not list(tmp_path.iterdir())

    def test_damage_is_named(self, tmp_path: Path) -> None:
        folder = tmp_path / "codec"
        with pytest.raises(ModelLoadError, match=r"config\.json is missing"):
            TextCodec.load(folder)
        build().save(folder, {})
        (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
        with pytest.raises(ModelLoadError, match="differs from its SHA-256"):
            TextCodec.load(folder)
        build().save(folder, {})
        (folder / "sha256.json").unlink()
        weights = load_file(folder / "model.safetensors")
        save_file({k: v for k, v in weights.items() if k != "to_scores.bias"}, folder / "model.safetensors")
        with pytest.raises(ModelLoadError, match="does not fit"):
            TextCodec.load(folder)
        save_file({**weights, "to_scores.bias": weights["to_scores.bias"] + torch.nan}, folder / "model.safetensors")
        with pytest.raises(ModelLoadError, match=r"to_scores\.bias .* not finite"):
            TextCodec.load(folder)
        (folder / "config.json").write_text(json.dumps({"class": "SwinJSCC"}))
        write_sums(folder)
        with pytest.raises(ModelLoadError, match="describes no TextCodec"):
            TextCodec.load(folder)


class TestBundled:
    def send(
        self, codec: TextCodec, tokenizer: CLIPTokenizer, symbols: int, snr_db: float, channel: str, repeats: int = 4
    ) -> float:
        captions = street_captions(48)
        ids, tokens = (value.repeat(repeats, *[1] * (value.ndim - 1)) for value in to_tokens(tokenizer, captions))
        conditions = torch.full((len(ids),), snr_db), torch.full((len(ids),), symbols)
        return token_error_rate(codec.transmit(ids, tokens, *conditions, channel, seeded()), ids, tokens)

    def test_fits_the_street_tokenizer_and_the_papers_table(self, bundled: TextCodec, tokenizer: CLIPTokenizer) -> None:
        config = bundled.config
        assert (config.vocabulary, config.end) == (len(tokenizer), tokenizer.eos_token_id)
        assert (config.blocks, config.max_tokens, config.min_symbols, config.max_symbols) == (4, 24, 5, 32)
        assert sum(p.numel() for p in bundled.parameters()) <= 0.5e6

    def test_sends_captions_as_its_card_says(self, bundled: TextCodec, tokenizer: CLIPTokenizer) -> None:
        card = json.loads((BUNDLED / "card.json").read_text())["token_error_rate"]
        for symbols, snr_db, channel, tolerance in ((5, 0, AWGN, 0.01), (5, 10, AWGN, 0.001), (8, 5, RAYLEIGH, 0.03)):
            rate = self.send(bundled, tokenizer, symbols, snr_db, channel)
            expected = card[channel][str(symbols)][card_column(snr_db)]
            assert rate == pytest.approx(expected, abs=tolerance)

    def test_more_symbols_and_less_noise_mean_fewer_errors(self, bundled: TextCodec, tokenizer: CLIPTokenizer) -> None:
        by_symbols = [self.send(bundled, tokenizer, symbols, 0.0, RAYLEIGH) for symbols in (5, 11, 32)]
        by_snr = [self.send(bundled, tokenizer, 5, snr_db, RAYLEIGH) for snr_db in (0.0, 10.0, 20.0)]
        assert by_symbols == sorted(by_symbols, reverse=True)
        assert by_snr == sorted(by_snr, reverse=True)
        assert by_symbols[0] > 2 * by_symbols[-1]

    def test_words_no_caption_has_are_sent_as_well(self, bundled: TextCodec, tokenizer: CLIPTokenizer) -> None:
        text = "2 foxes with 1 red bus"
        ids, tokens = to_tokens(tokenizer, [text])
        conditions = torch.tensor([20.0]), torch.tensor([8])
        assert to_captions(tokenizer, bundled.transmit(ids, tokens, *conditions, AWGN, seeded())) == [text]


def card_column(snr_db: float) -> int:
    return json.loads((BUNDLED / "card.json").read_text())["reported_snr_db"].index(snr_db)
