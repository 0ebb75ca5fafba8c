"""What the inpainting model is trained on: texts with phrases left out, regions, disturbed images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from noma_semcom_env.scenes.street import CLASSES


@pytest.fixture(scope="module")
def scenes() -> list[Any]:
    from noma_semcom_env.scenes.street import render

    return [render(seed, 128) for seed in range(6)]


def test_texts_say_what_the_scene_shows_but_for_the_region(scenes: list[Any]) -> None:
    from noma_semcom_env.zoo.train.mixture.drawing import Texts
    from noma_semcom_env.zoo.train.recovery import build_tokenizer

    tokenizer = build_tokenizer()
    captions = [scene.caption for scene in scenes]
    words = {w: tokenizer(w, add_special_tokens=False).input_ids[0] for c in captions for w in c.split()}
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    texts = Texts.of(captions, words, bos, eos, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(6).repeat(200)
    classes = torch.tensor([CLASSES.index(scene.items[0].kind) for scene in scenes]).repeat(200)
    ids = texts.draw(index, classes, 24, generator)
    assert ids.shape == (1200, 24)
    assert (ids[:, 0] == bos).all()
    # One end of text, and nothing behind it.
    ended = (ids == eos).int().cummax(1).values.bool()
    assert (ids[ended] == eos).all()
    assert ended[:, -1].all()
    decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
    whole = sum(text == captions[i] for text, i in zip(decoded, index.tolist(), strict=True)) / 1200
    empty = sum(not text for text in decoded) / 1200
    named = sum(scenes[i].items[0].kind in text for text, i in zip(decoded, index.tolist(), strict=True)) / 1200
    assert 0.1 < whole < 0.25
    assert 0.08 < empty < 0.14
    assert 0.33 < named < 0.5
    clean = [set(text.split()) <= set(captions[i].split()) for text, i in zip(decoded, index.tolist(), strict=True)]
    assert 0.9 < np.mean(clean) < 0.97


def test_regions_are_of_every_kind(scenes: list[Any]) -> None:
    from noma_semcom_env.zoo.train.mixture.drawing import draw_known, presence

    labels = torch.from_numpy(np.stack([scene.labels for scene in scenes]))
    weights = presence(labels)
    for row, scene in zip(weights, scenes, strict=True):
        assert all(row[CLASSES.index(item.kind)] > 0 for item in scene.items)
        assert all(row[number] == 0 for number in range(len(CLASSES)) if not (scene.labels == number).any())
    labels = labels[:, ::4, ::4].repeat(200, 1, 1)
    classes = torch.tensor([CLASSES.index(scene.items[0].kind) for scene in scenes]).repeat(200)
    known = draw_known(labels, classes, torch.Generator().manual_seed(1))
    assert set(known.unique().tolist()) <= {0.0, 1.0}
    exact = (labels == classes[:, None, None]).unsqueeze(1)
    equal = (known.bool() == exact).flatten(1).all(1).float().mean()
    nothing = (known.flatten(1).sum(1) == 0).float().mean()
    covered = ((known.bool() & exact).flatten(1).sum(1) == exact.flatten(1).sum(1)).float().mean()
    most = (known.flatten(1).mean(1) > 0.6).float().mean()
    assert 0.12 < equal < 0.25
    assert 0.05 < nothing < 0.3
    assert 0.55 < covered < 0.8
    assert 0.04 < most < 0.15


def test_disturbed_images_are_images() -> None:
    from noma_semcom_env.zoo.train.mixture.drawing import disturb

    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    disturbed = disturb(images, torch.Generator().manual_seed(1))
    assert disturbed.abs().max() <= 1
    error = (disturbed - images).square().mean((1, 2, 3))
    assert (error > 0).all()
    assert error.max() > 10 * error.min()


def test_every_weight_learns(scenes: list[Any]) -> None:
    from noma_semcom_env.zoo.train.data import Scenes
    from noma_semcom_env.zoo.train.mixture.inpainting import Denoising, build
    from noma_semcom_env.zoo.train.mixture.inpainting_autoencoder import build_autoencoder
    from noma_semcom_env.zoo.train.recovery import build_tokenizer

    stacked = Scenes(
        np.stack([s.image for s in scenes]), np.stack([s.labels for s in scenes]), [s.caption for s in scenes]
    )
    autoencoder = build_autoencoder().eval().requires_grad_(False)
    tokenizer = build_tokenizer()
    loss = Denoising(stacked, torch.from_numpy(stacked.images), autoencoder, tokenizer, *build(tokenizer), batch=4)
    value = loss(torch.Generator().manual_seed(0), 0.0)["loss"]
    assert 0 < value.item() < 5
    value.backward()
    idle = [
        name
        for module in (loss.text, loss.unet)
        for name, weight in module.named_parameters()
        if weight.grad is None or not weight.grad.any()
    ]
    # A CLIP text encoder's key biases never matter: softmax ignores what all keys have in common.
    assert [name for name in idle if not name.endswith("k_proj.bias")] == []
