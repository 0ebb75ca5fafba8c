"""The known cost of latency is the environment's own, for the selection that was sent and for every other one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from noma_semcom_agents.known_latency import KnownLatency, why_unknown
from noma_semcom_agents.worth import EquivariantWorth
from noma_semcom_env import Scenario

SETTINGS = {"labels": 16, "width": 16, "label_width": 4}


def steps_of(knobs: dict[str, Any], selection: np.ndarray | None = None) -> tuple[dict[str, torch.Tensor], Any, Any]:
    """The observation after one step of eight episodes, a selection, and the transmission's figures for it."""
    env = gym.make_vec("noma_semcom_env:NomaSemCom-v0", num_envs=8, vectorization_mode="vector_entry_point", **knobs)
    env.reset(seed=5)
    rng = np.random.default_rng(0)
    first = np.ones(env.action_space.shape, dtype=np.int8)
    observation, *_ = env.step(first)
    seen = {name: torch.as_tensor(np.array(value)) for name, value in observation.items()}
    if selection is None:
        selection = (rng.random(first.shape) < 0.5).astype(np.int8) * observation["action_mask"]
    _, reward, _, _, info = env.step(selection)
    env.close()
    return seen, torch.from_numpy(selection), (reward, info)


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"num_users": 4, "num_antennas": 3, "bandwidth_hz": 2e6, "lpips_weight": 0.3},
        {"transmission": "strength"},
        {"transmission": "distance"},
        {"access": "tdma"},
        {"blocklength": "normal"},
    ],
)
def test_cost_is_what_the_environment_charges(knobs: dict[str, Any], table_paths: dict[str, Path]) -> None:
    knobs = {**knobs, "images": str(table_paths["policy"]), "latency_ref_s": 1e-3, "doppler_hz": 0.0}
    seen, selection, (reward, info) = steps_of(knobs)
    scenario = Scenario.of(None, knobs)
    cost, without, within = KnownLatency(scenario).costs(seen, selection)
    lpips = np.asarray(info["lpips"]).mean(axis=-1)
    charged = -np.asarray(reward) - scenario.lpips_weight * lpips
    np.testing.assert_allclose(cost, charged, rtol=2e-4, atol=1e-6)
    on = selection > 0
    torch.testing.assert_close(torch.where(on, within, without), cost[:, None].expand_as(within))
    # A bit that is flipped costs what the environment charges for the selection with that bit flipped.
    bit = int(np.flatnonzero((seen["action_mask"] > 0).all(0).numpy())[0])
    other = selection.clone()
    other[:, bit] = 1 - other[:, bit]
    _, _, (reward, info) = steps_of(knobs, other.numpy())
    charged = -np.asarray(reward) - scenario.lpips_weight * np.asarray(info["lpips"]).mean(axis=-1)
    np.testing.assert_allclose(torch.where(on, without, within)[:, bit], charged, rtol=2e-4, atol=1e-6)


def test_what_is_not_known_is_named() -> None:
    assert why_unknown(Scenario()) == ""
    for knobs, reason in (
        ({"transmission": "model_free"}, "transmission='model_free' is none of"),
        ({"transmission": "paper"}, "transmission='paper' is none of"),
        ({"reward": "worst_user"}, "reward='worst_user' is no sum"),
        ({"backlog": True}, "bits of earlier steps"),
        ({"observation": "paper"}, "observation='paper' does not show"),
    ):
        scenario = Scenario.of(None, knobs)
        assert reason in why_unknown(scenario)
        with pytest.raises(ValueError, match="credit='model' needs latencies that follow from observations"):
            KnownLatency(scenario)


def test_worth_of_flipped_bits_is_that_of_the_selections_with_them_flipped() -> None:
    torch.manual_seed(0)
    net, generator = EquivariantWorth(SETTINGS), torch.Generator().manual_seed(1)
    shape = (5, 3 * 4)
    observation = {name: 2.0 * torch.rand(shape, generator=generator) - 1.0 for name in ("label", "size", "importance")}
    observation["modality"] = torch.ones(shape)
    observation["snr"] = torch.zeros(5, 3)
    observation["action_mask"] = (torch.rand(shape, generator=generator) < 0.7).to(torch.int8)
    selection = (torch.rand(shape, generator=generator) < 0.5).to(torch.int8) * observation["action_mask"]
    without, within = net.without_and_with(observation, selection)
    value = net(observation, selection)
    for bit in range(shape[1]):
        for number, found in ((0, without), (1, within)):
            other = selection.clone()
            other[:, bit] = number * observation["action_mask"][:, bit]
            torch.testing.assert_close(found[:, bit], net(observation, other), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.where(selection > 0, within, without), value[:, None].expand(shape))
