"""Layouts beside the default one: what they show is what they promise."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from noma_semcom_env.wrappers import PaperState


@pytest.mark.parametrize("id_", ["NomaSemCom-v0", "NomaSemComModelFree-v0"])
def test_the_papers_layout_is_the_wrappers(table_path: str, id_: str) -> None:
    knobs: dict[str, Any] = {"images": table_path, "csi_error": 0.1, "num_users": 4, "episode_length": 3}
    laid = gymnasium.make(id_, observation="paper", **knobs)
    wrapped = PaperState(gymnasium.make(id_, **knobs))
    assert laid.observation_space == wrapped.observation_space
    check_env(laid.unwrapped)
    seen, expected = laid.reset(seed=3)[0], wrapped.reset(seed=3)[0]
    laid.action_space.seed(0)
    for _ in range(3):
        assert list(seen) == ["channel", "last_order", "action_mask"]
        for name in seen:
            np.testing.assert_array_equal(seen[name], expected[name])
        action = laid.action_space.sample()
        seen, expected = laid.step(action)[0], wrapped.step(action)[0]
    assert set(seen["last_order"]) == set(np.float32([-1, -1 / 3, 1 / 3, 1]))


def test_vectorized_it_has_a_leading_axis(table_path: str) -> None:
    knobs: dict[str, Any] = {"images": table_path, "observation": "paper"}
    many = gymnasium.make_vec("NomaSemCom-v0", 3, "vector_entry_point", **knobs)
    seen, _ = many.reset(seed=5)
    assert many.observation_space.contains(seen)
    for i in range(3):
        one, _ = gymnasium.make("NomaSemCom-v0", **knobs).reset(seed=5 + i)
        for name in one:
            np.testing.assert_array_equal(seen[name][i], one[name])


def test_agents_of_the_parallel_form_see_their_own_channel(table_path: str) -> None:
    parallel = pytest.importorskip("noma_semcom_env.envs.parallel")
    env = parallel.parallel_env(images=table_path, observation="paper")
    observations, _ = env.reset(seed=1)
    whole, _ = gymnasium.make("NomaSemCom-v0", images=table_path, observation="paper").reset(seed=1)
    for k in range(3):
        own = observations[f"su_{k}"]["observation"][env.slices["channel"]]
        np.testing.assert_array_equal(own, whole["channel"].reshape(3, 4)[k])
