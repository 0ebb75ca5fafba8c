"""What an observation tells is what the environment knows, as far as float32 goes."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.observed import read_images, read_links
from noma_semcom_env.link.decoding_order import set_sinr


@pytest.mark.parametrize("environment", ["NomaSemCom-v0", "NomaSemComUnpruned-v0"])
def test_features_and_links_are_read_back(environment: str, table_paths: dict[str, Path]) -> None:
    envs = gym.make_vec(
        environment,
        num_envs=9,
        vectorization_mode="vector_entry_point",
        images=str(table_paths["test"]),
        num_users=4,
        num_antennas=3,
        transmit_power_dbm=(23.0, 10.0, 0.0, 23.0),
        bandwidth_hz=3.3e5,
    )
    observation, info = envs.reset(seed=3)
    dynamics, known = envs.unwrapped.dynamics, info["privileged"]
    envs.close()
    labels = dynamics.bank.labels
    bank, index, seen = read_images(observation, labels)
    assert len(bank) == len(seen) == len(np.unique(known["image_index"]))
    for name, exact in (
        ("exists", dynamics.bank.exists),
        ("kept", dynamics.available),
        ("size_bits", dynamics.bank.size_bits),
        ("modality", dynamics.bank.modality),
        ("label", dynamics.bank.label),
    ):
        np.testing.assert_array_equal(getattr(bank, name)[index], exact[known["image_index"]], err_msg=name)
    np.testing.assert_allclose(bank.importance[index], dynamics.bank.importance[known["image_index"]], atol=1e-6)

    links = read_links(observation)
    np.testing.assert_allclose(links.bandwidth_hz, 3.3e5, rtol=1e-5)
    np.testing.assert_allclose(
        set_sinr(links.channel, links.power_w, links.noise_power_w),
        set_sinr(known["channel"], known["power_w"], known["noise_power_w"]),
        rtol=1e-3,  # what a receiver nulls leaves a small difference of float32 directions
    )


def test_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no direction"):
        read_links({"snr": np.zeros((1, 2)), "bandwidth": np.zeros((1, 1))})
    with pytest.raises(ValueError, match="holds no importance, label, modality, size"):
        read_images({"snr": np.zeros((1, 2)), "action_mask": np.zeros((1, 4))}, ("", "car"))
