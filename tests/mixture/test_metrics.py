"""PSNR over regions of interest, and CLIP-RONI."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from noma_semcom_env.mixture.metrics import GREY, MOST_PSNR_DB, ClipScore, clip_roni, psnr_roi
from noma_semcom_env.scenes.street import CLASSES, StreetScene, render, split_seeds
from noma_semcom_env.zoo.loading import load_model
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.data import Scenes
from noma_semcom_env.zoo.train.mixture.clip import Lessons, contrast

BUNDLED = WEIGHTS / "street_mixture" / "clip"


@pytest.fixture(scope="module")
def bundled() -> ClipScore:
    return ClipScore(*load_model("clip", str(BUNDLED)))


@pytest.fixture(scope="module")
def scenes() -> list[StreetScene]:
    return [render(seed, 128) for seed in split_seeds("test", 24)]


def pictures(count: int = 2, side: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (count, side, side, 3)).astype(np.uint8)


class TestPsnrRoi:
    def test_is_that_of_the_region_alone(self) -> None:
        reference = pictures()
        mask = np.zeros((2, 4, 4), dtype=bool)
        mask[0, 1:3, 1:3] = mask[1, 0] = True
        image = reference.copy()
        image[mask] += 5
        image[~mask] = 255
        np.testing.assert_allclose(psnr_roi(image, reference, mask), 20 * np.log10(255 / 5))
        np.testing.assert_allclose(psnr_roi(image[0], reference[0], mask[0]), 20 * np.log10(255 / 5))

    def test_averages_squares_over_pixels_and_colours(self) -> None:
        reference = np.zeros((4, 4, 3))
        image = reference.copy()
        image[0, 0, 1] = 0.6
        mask = np.zeros((4, 4), dtype=bool)
        mask[0, :2] = True
        assert psnr_roi(image, reference, mask) == pytest.approx(-10 * np.log10(0.36 / 6))

    def test_bytes_and_shares_agree(self) -> None:
        first, second = pictures()
        mask = np.eye(4, dtype=bool)
        np.testing.assert_allclose(psnr_roi(first, second, mask), psnr_roi(first / 255, second / 255, mask))

    def test_without_error_it_is_the_most_there_is(self) -> None:
        image = pictures(1)
        assert psnr_roi(image, image, np.ones((1, 4, 4), dtype=bool)).tolist() == [MOST_PSNR_DB]
        large = np.zeros((1, 128, 128, 3), dtype=np.uint8)
        off = large.copy()
        off[0, 0, 0, 0] = 1
        assert 90 < psnr_roi(off, large, np.ones((1, 128, 128), dtype=bool))[0] < MOST_PSNR_DB
        assert psnr_roi(image[:0], image[:0], np.ones((0, 4, 4), dtype=bool)).shape == (0,)

    @pytest.mark.parametrize(
        ("image", "mask", "message"),
        [
            (pictures(1), np.ones((2, 4, 4), dtype=bool), "give both alike"),
            (pictures() / 255, np.ones((2, 4, 4), dtype=bool), "give both alike"),
            (pictures(), np.ones((2, 4, 4)), "bool of"),
            (pictures(), np.ones((4, 4), dtype=bool), "bool of"),
            (pictures(), np.zeros((2, 4, 4), dtype=bool), "empty region"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, image: np.ndarray, mask: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            psnr_roi(image, pictures(), mask)

    @pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
    def test_floats_are_shares(self, value: float) -> None:
        with pytest.raises(ValueError, match="in \\[0, 1\\]"):
            psnr_roi(np.full((4, 4, 3), value), np.full((4, 4, 3), value), np.ones((4, 4), dtype=bool))


class TestClipRoni:
    def test_is_the_cosine_of_the_models_own_features(self, scenes: list[StreetScene]) -> None:
        model, processor = load_model("clip", str(BUNDLED))
        scene = scenes[0]
        mask = scene.labels == CLASSES.index(scene.items[0].kind)
        image = np.where(mask[..., None], np.uint8(GREY), scene.image)
        inputs = processor(text=[scene.caption], images=[image], padding="max_length", return_tensors="pt")
        with torch.inference_mode():
            outputs = model(**inputs)
        expected = float(torch.cosine_similarity(outputs.image_embeds, outputs.text_embeds))
        assert clip_roni(scene.image, mask, scene.caption, ClipScore(model, processor)) == pytest.approx(expected, 1e-5)

    def test_what_the_region_holds_does_not_matter(self, bundled: ClipScore, scenes: list[StreetScene]) -> None:
        mask = np.zeros((1, 128, 128), dtype=bool)
        mask[:, 30:90, 20:70] = True
        image = scenes[0].image[None]
        other = np.where(mask[..., None], scenes[1].image, image)
        text = [scenes[0].caption]
        assert bundled.roni(image, mask, text) == bundled.roni(other, mask, text)
        assert bundled.roni(image, ~mask, text) != bundled.roni(other, ~mask, text)

    def test_batches_do_not_matter(self, scenes: list[StreetScene]) -> None:
        model, processor = load_model("clip", str(BUNDLED))
        images, texts = np.stack([s.image for s in scenes[:5]]), [s.caption for s in scenes[:5]]
        np.testing.assert_allclose(
            ClipScore(model, processor, batch_size=2).score(images, texts),
            ClipScore(model, processor).score(images, texts),
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            ClipScore(model, processor).score(images / 255, texts), ClipScore(model, processor).score(images, texts)
        )

    def test_tells_true_captions_from_false_ones(self, bundled: ClipScore, scenes: list[StreetScene]) -> None:
        images, texts = np.stack([s.image for s in scenes]), [s.caption for s in scenes]
        true, false = bundled.score(images, texts), bundled.score(images, texts[1:] + texts[:1])
        assert (true > false).all()
        card = json.loads((BUNDLED / "card.json").read_text())
        assert true.mean() == pytest.approx(card["cosine_true"], abs=0.1)
        assert false.mean() == pytest.approx(card["cosine_false"], abs=0.15)

    def test_misses_an_item_that_the_mask_hides(self, bundled: ClipScore, scenes: list[StreetScene]) -> None:
        chosen = [s for s in scenes if len(s.items) > 1 and (s.boxes[0, 2:] - s.boxes[0, :2]).min() > 16]
        assert len(chosen) > 4
        images = np.stack([s.image for s in chosen])
        masks = np.stack([s.labels == CLASSES.index(s.items[0].kind) for s in chosen])
        texts = [f"a {s.items[0].phrase}" for s in chosen]
        shown, hidden = bundled.score(images, texts), bundled.roni(images, masks, texts)
        assert (hidden < shown).mean() > 0.9

    def test_texts_of_any_length_have_a_cosine(self, bundled: ClipScore) -> None:
        images = pictures(3, 64)
        values = bundled.score(images, ["", "tree " * 60, "fog"])
        assert np.isfinite(values).all()
        assert (np.abs(values) <= 1).all()
        assert bundled.score(images[:0], []).shape == (0,)

    @pytest.mark.parametrize(
        ("images", "masks", "texts", "message"),
        [
            (pictures(1, 8), np.zeros((1, 8, 8), dtype=bool), [], "0 texts for 1 images"),
            (pictures(1, 8), np.zeros((1, 8, 8)), ["fog"], "bool of"),
            (pictures(1, 8), np.ones((1, 8, 8), dtype=bool), ["fog"], r"masks\[0\] is the whole image"),
            (pictures(1, 8)[0], np.zeros((1, 8, 8), dtype=bool), ["fog"], "B, H, W, 3"),
            (pictures(1, 8) / 1.0, np.zeros((1, 8, 8), dtype=bool), ["fog"], r"in \[0, 1\]"),
            (np.full((1, 8, 8, 3), np.nan), np.zeros((1, 8, 8), dtype=bool), ["fog"], r"in \[0, 1\]"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, bundled: ClipScore, images: Any, masks: np.ndarray, texts: list[str], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            bundled.roni(images, masks, texts)

    def test_batches_must_hold_something(self) -> None:
        with pytest.raises(ValueError, match="batch_size=0"):
            ClipScore(None, None, 0)


class TestLessons:
    def test_a_painted_item_is_neither_seen_nor_said(self, scenes: list[StreetScene]) -> None:
        _, processor = load_model("clip", str(BUNDLED))
        data = Scenes(
            np.stack([s.image for s in scenes]), np.stack([s.labels for s in scenes]), [s.caption for s in scenes]
        )
        lessons = Lessons.on("cpu", data, processor.tokenizer)
        images, shares, ids, said, seen = lessons.draw(96, torch.Generator().manual_seed(0))
        texts = processor.batch_decode(ids, skip_special_tokens=True)
        grey = (images == 0.5).all(1).float().mean((1, 2)) > 0.002
        assert 20 < int(grey.sum()) < 76
        assert torch.equal(grey, shares[..., -1].sum(1) > 0)
        assert (said <= seen).all()
        assert said.any(1).all()
        for row, text in enumerate(texts):
            phrases = [lessons.sentences.phrases[i] for i in said[row].nonzero()[:, 0]]
            assert all(phrase.split()[0] in text.split() for phrase in phrases)
        # Of a picture with grey the caption lacks one item; of others none that it could say.
        full = {int(value) for value in lessons.sentences.counts}
        assert set(seen[~grey].sum(1).int().tolist()) <= full

    def test_captions_that_fit_are_not_pushed_away(self) -> None:
        logits = torch.tensor([[2.0, 5.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
        fits = torch.eye(3, dtype=torch.bool)
        fits[0, 1] = True
        without = logits.clone()
        without[0, 1] = -1e9
        assert contrast(logits, fits) == pytest.approx(float(contrast(without, torch.eye(3, dtype=torch.bool))))
        assert contrast(logits, fits) < contrast(logits, torch.eye(3, dtype=torch.bool))
