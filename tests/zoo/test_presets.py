"""Presets agree with what stands elsewhere, and so do the models that are trained for them."""

from __future__ import annotations

import pytest

from noma_semcom_env.scenario import Scenario
from noma_semcom_env.scenes.street import CLASSES, PALETTE, vocabulary
from noma_semcom_env.zoo.presets import load_preset


def test_street_preset_agrees_with_the_world_and_the_default_scenario() -> None:
    preset = load_preset("street")
    assert preset.palette == {name: tuple(colour) for name, colour in zip(CLASSES, PALETTE.tolist(), strict=True)}
    assert preset.labels[0] == ""
    assert set(CLASSES) < set(preset.labels)
    assert Scenario().latency_ref_s == preset.latency_ref_s
    assert Scenario().models == preset.name


def test_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match="models='sd3' is no preset; choose one of .*street"):
        load_preset("sd3")


def test_every_street_word_is_one_token_of_the_recovery() -> None:
    from noma_semcom_env.zoo.train.recovery import build_tokenizer

    tokenizer = build_tokenizer()
    words = vocabulary()
    ids = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(words)
    assert tokenizer.eos_token_id == len(tokenizer) - 1


def test_whitening_changes_latents_and_not_reconstructions() -> None:
    import torch

    from noma_semcom_env.zoo.train.autoencoder import build, to_tensor, whiten

    torch.manual_seed(0)
    model = build().eval()
    images = torch.randint(256, (24, 64, 64, 3), dtype=torch.uint8)
    raw = to_tensor(images)
    with torch.no_grad():
        before = model.decode(model.encode(raw).latent_dist.mean).sample
        whiten(model, images)
        latents = model.encode(raw).latent_dist.mean
        after = model.decode(latents).sample
    flat = latents.permute(1, 0, 2, 3).flatten(1).double()
    torch.testing.assert_close(torch.cov(flat), torch.eye(4).double(), atol=1e-2, rtol=0)
    torch.testing.assert_close(flat.mean(1), torch.zeros(4).double(), atol=1e-2, rtol=0)
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)
