"""Which region speaks for which word: the gradients are BLIP's own, image by image, and point at the right thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES, StreetScene, render, split_seeds
from noma_semcom_env.semantics import importance
from noma_semcom_env.semantics.attribution import attribute_captions, group_tokens
from noma_semcom_env.semantics.phrases import FUNCTION_WORDS, head_word


def test_sub_words_are_merged_and_punctuation_is_left_out(captioner: tuple[Any, Any]) -> None:
    tokenizer = captioner[1].tokenizer
    ids = tokenizer("a red zebra, near a car.").input_ids
    words, owner = group_tokens(tokenizer, ids)
    assert words == ["a", "red", "zebra", "near", "a", "car"]
    assert owner[0] is None
    assert owner[-1] is None
    assert owner.count(2) == len("zebra")


def test_images_of_a_batch_do_not_mix(captioner: tuple[Any, Any], images: np.ndarray) -> None:
    together = attribute_captions(*captioner, list(images[:6]))
    assert len({len(caption.words) for caption in together}) > 1
    for image, caption in zip(images, together, strict=False):
        (alone,) = attribute_captions(*captioner, [image])
        assert alone.words == caption.words
        np.testing.assert_allclose(alone.gradients, caption.gradients, atol=1e-4)
        np.testing.assert_allclose(alone.regions, caption.regions, atol=1e-4)


def test_gradients_predict_how_the_scores_change(captioner: tuple[Any, Any], images: np.ndarray) -> None:
    import torch

    model, processor = captioner
    (caption,) = attribute_captions(model, processor, [images[0]])
    ids = processor.tokenizer(caption.text, return_tensors="pt").input_ids
    ids[:, 0] = processor.tokenizer.bos_token_id
    pixels = processor(images=[images[0]], return_tensors="pt").pixel_values
    decoder = model.text_decoder.double()
    try:
        regions = model.vision_model(pixel_values=pixels).last_hidden_state.double()
        nudge = torch.randn(regions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-4
        nudge[:, 0] = 0  # the class token is no region
        up, down = (decoder(ids[:, :-1], encoder_hidden_states=regions + s * nudge).logits for s in (0.5, -0.5))
    finally:
        decoder.float()
    change = (up - down).gather(2, ids[:, 1:, None])[0, :, 0].numpy()
    predicted = np.einsum("mrd,rd->m", caption.gradients, nudge[0, 1:].numpy())
    np.testing.assert_allclose(change[: len(predicted)], predicted, rtol=1e-2, atol=1e-6)


def test_gradients_are_taken_inside_inference_mode_too(captioner: tuple[Any, Any], images: np.ndarray) -> None:
    import torch

    with torch.inference_mode():
        (caption,) = attribute_captions(*captioner, [images[0]])
    assert np.abs(caption.gradients).max() > 0


def test_no_images_no_captions(captioner: tuple[Any, Any]) -> None:
    assert attribute_captions(*captioner, []) == []


@pytest.mark.parametrize("unit", ["phrase", "word"])
def test_maps_peak_on_the_thing_and_function_words_rank_low(
    make_extractor: Callable[..., Any], scenes: list[StreetScene], images: np.ndarray, unit: str
) -> None:
    hits, things, fillers = [], [], []
    for scene, text in zip(scenes, make_extractor(unit).read(images), strict=True):
        for phrase, heat, score in zip(text.phrases, text.maps, text.importance, strict=True):
            word = head_word(phrase)
            if word in ("a", "an", "and", "with"):
                fillers.append(score)
            if word in ATTRIBUTES and (scene.labels == CLASSES.index(word)).any():
                row, column = np.unravel_index(heat.argmax(), heat.shape)
                patch = scene.labels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                hits.append(bool((patch == CLASSES.index(word)).any()))
                things.append(score)
    assert np.mean(hits) >= 0.8
    if unit == "word":
        assert np.mean(fillers) < 0.5 * np.mean(things)


def test_on_fixed_scenes_words_point_at_their_object_and_function_words_rank_below(captioner: tuple[Any, Any]) -> None:
    """Peaks of the unscaled maps, since scaling clips; at least half of the peak region's pixels must be the object."""
    scenes = [render(seed) for seed in split_seeds("validation", 32)]
    hits: list[bool] = []
    scores: dict[bool, list[float]] = {True: [], False: []}
    for scene, caption in zip(scenes, attribute_captions(*captioner, [one.image for one in scenes]), strict=True):
        maps = importance.heatmaps(caption.gradients, caption.regions)
        areas = importance.activated_areas(importance.scale_heatmaps(maps))
        worth = importance.textual_importance(importance.dependency(areas), importance.contribution(areas))
        for word, heat, score in zip(caption.words, maps.reshape(-1, *caption.grid), worth, strict=True):
            scores[word in FUNCTION_WORDS].append(score)
            if word in ATTRIBUTES and (scene.labels == CLASSES.index(word)).any():
                row, column = np.unravel_index(heat.argmax(), heat.shape)
                patch = scene.labels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
                hits.append(bool((patch == CLASSES.index(word)).mean() >= 0.5))
    assert len(hits) > 50
    assert np.mean(hits) >= 0.8
    assert np.mean(scores[True]) < 0.5 * np.mean(scores[False])
