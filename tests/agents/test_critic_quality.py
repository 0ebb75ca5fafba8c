"""A critic as a model of LPIPS says of subsets what it says of selections."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from noma_semcom_agents.critic_quality import CriticQuality
from noma_semcom_agents.modules import ScaledCritic
from noma_semcom_agents.quality import QualityModel, TabulatedImages, relabelled
from noma_semcom_env.recovery.subsets import subset_numbers

SETTINGS = {"network": "equivariant", "labels": 16, "width": 16, "label_width": 4}
INPUTS = ("snr", "direction", "last_order", "bandwidth", "size", "importance", "modality", "label")


def make_critic(labels: int, credit: str = "model") -> ScaledCritic:
    torch.manual_seed(0)
    critic = ScaledCritic({**SETTINGS, "labels": labels, "inputs": dict.fromkeys(INPUTS, 1)}, credit)
    critic.fit_scale(torch.tensor([-0.2, -0.1, -0.05]))
    return critic


def test_predictions_are_the_critics_values(table_paths: dict[str, Path]) -> None:
    knobs = {"images": str(table_paths["policy"]), "num_users": 2, "latency_ref_s": 1e-3}
    images = TabulatedImages.of(knobs)
    critic = make_critic(len(images.bank.labels))
    model = CriticQuality(critic, images.bank.labels, 0.5)
    assert isinstance(model, QualityModel)
    predicted = model.predict(images.bank)
    np.testing.assert_array_equal(np.isfinite(predicted), np.isfinite(images.lpips))
    np.testing.assert_array_equal(model.predict(relabelled(images.bank, images.bank.labels[::-1])), predicted)

    env = gym.make_vec("noma_semcom_env:NomaSemCom-v0", num_envs=6, vectorization_mode="vector_entry_point", **knobs)
    observation, info = env.reset(seed=0)
    mask = observation["action_mask"]
    selection = (np.random.default_rng(0).random(mask.shape) < 0.5).astype(np.int8) * mask
    seen = {name: torch.as_tensor(np.array(value)) for name, value in observation.items()}
    value = critic(seen, torch.from_numpy(selection)).detach().numpy()
    believed = predicted[info["privileged"]["image_index"], subset_numbers(selection.reshape(6, 2, -1))]
    np.testing.assert_allclose(-0.5 * believed.mean(axis=1), value, rtol=1e-5, atol=1e-6)
    env.close()


def test_other_critics_are_refused() -> None:
    with pytest.raises(ValueError, match="train with credit='model'"):
        CriticQuality(make_critic(4, "feature"), ("a", "b", "c", "d"), 0.5)
    with pytest.raises(ValueError, match="lpips_weight=0.0 must be above 0"):
        CriticQuality(make_critic(4), ("a", "b", "c", "d"), 0.0)
