"""The RLModule: masks in every phase, both forms of action, one or several agents, and critics of any scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents import IMPPOConfig, MPPOConfig, PlainPPOConfig
from noma_semcom_agents.distributions import MaskedBernoulli
from noma_semcom_agents.imppo import AgentConfig, layout_of
from noma_semcom_agents.modules import ScaledCritic, TransmissionModule
from noma_semcom_env.envs.rllib import NomaSemComMultiAgentEnv

CONFIG = {"network": "equivariant", "width": 16, "label_width": 4, "labels": 16, "credit": "feature"}
BATCH = 5


def look(env_id: str, path: Path) -> tuple[dict[str, gym.Space[Any]], dict[str, torch.Tensor]]:
    """Spaces of an environment, and what five of it see first."""
    knobs = {"images": str(path), "num_users": 3}
    envs = gym.make_vec(env_id, num_envs=BATCH, vectorization_mode="vector_entry_point", **knobs)
    seen = {name: torch.as_tensor(value) for name, value in envs.reset(seed=4)[0].items()}
    envs.close()
    return {"observation_space": envs.single_observation_space, "action_space": envs.single_action_space}, seen


@pytest.mark.parametrize("network", ["equivariant", "mlp"])
@pytest.mark.parametrize("credit", ["feature", "model", "step"])
@pytest.mark.parametrize("env_id", ["NomaSemCom-v0", "NomaSemComModelFree-v0"])
def test_masks_hold_in_every_phase(env_id: str, credit: str, network: str, table_paths: dict[str, Path]) -> None:
    torch.manual_seed(0)
    spaces, seen = look(env_id, table_paths["policy"])
    module = TransmissionModule(**spaces, model_config={**CONFIG, "network": network, "credit": credit})
    batch: dict[str, Any] = {Columns.OBS: seen}
    mask = seen["action_mask"]

    def bits(action: Any) -> torch.Tensor:
        return action["selection"] if env_id == "NomaSemComModelFree-v0" else action

    greedy = module.forward_inference(batch)[Columns.ACTIONS]
    assert not (bits(greedy) * (1 - mask)).any()
    for inputs in (module.forward_exploration(batch), module.forward_train(batch)):
        law = module.action_dist_cls.from_logits(inputs[Columns.ACTION_DIST_INPUTS])
        sampled = bits(law.sample(sample_shape=(50,)))
        assert not (sampled * (1 - mask)).any()
        # Untrained, a bit that is allowed is set about every second time.
        assert 0.4 < sampled.float().sum() / (50 * mask.sum()) < 0.6
        batch[Columns.ACTIONS] = law.sample()
    assert module.compute_values(batch).shape == (BATCH,)
    if env_id == "NomaSemComModelFree-v0":
        assert all(part.abs().max() <= 1.0 for part in greedy.values())
        assert {name: part.shape for name, part in greedy.items()} == {
            name: (BATCH, *space.shape) for name, space in spaces["action_space"].items()
        }


def test_one_of_several_agents_is_an_uplink_of_one_user(table_paths: dict[str, Path]) -> None:
    """A module for an agent computes from its flat observation what the single form's would for one user."""
    knobs = {"images": str(table_paths["policy"]), "num_users": 2}
    env = NomaSemComMultiAgentEnv(knobs)
    seen, _ = env.reset(seed=1)
    layout = layout_of(NomaSemComMultiAgentEnv, knobs)
    module = TransmissionModule(
        observation_space=env.observation_spaces["su_0"],
        action_space=env.action_spaces["su_0"],
        model_config={**CONFIG, **layout},
    )
    agents = {name: torch.as_tensor(np.stack([seen[agent][name] for agent in env.agents])) for name in seen["su_0"]}
    logits = module.forward_train({Columns.OBS: agents})[Columns.ACTION_DIST_INPUTS]
    parts = {name: agents["observation"][:, start:stop] for name, (start, stop) in layout["slices"].items()}
    torch.testing.assert_close(
        MaskedBernoulli.from_logits(logits).logits, module.actor({**parts, "action_mask": agents["action_mask"]})
    )
    assert parts["size"].shape == agents["action_mask"].shape
    assert parts["snr"].shape == (2, 1)


def test_layout_names_what_spaces_do_not_tell(table_paths: dict[str, Path]) -> None:
    knobs = {"images": str(table_paths["policy"])}
    assert layout_of("noma_semcom_env:NomaSemCom-v0", knobs) == {"labels": 16}
    slices = layout_of(NomaSemComMultiAgentEnv, knobs)["slices"]
    assert {stop - start for start, stop in (slices["snr"], slices["bandwidth"])} == {1}
    assert max(stop for _, stop in slices.values()) == 4 * 6 + 4 + 3
    assert layout_of("CartPole-v1", {}) == {"labels": 1}


def test_observations_without_a_mask_are_refused() -> None:
    spaces = {"observation_space": gym.spaces.Dict({"snr": gym.spaces.Box(-1, 1, (3,))})}
    with pytest.raises(ValueError, match=r"observations hold \['snr'\], but no action_mask"):
        TransmissionModule(**spaces, action_space=gym.spaces.MultiBinary(6), model_config=CONFIG)


@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_a_critic_takes_its_scale_from_the_first_rewards(scale: float, table_paths: dict[str, Path]) -> None:
    torch.manual_seed(0)
    spaces, seen = look("NomaSemCom-v0", table_paths["policy"])
    critic: ScaledCritic = TransmissionModule(**spaces, model_config=CONFIG).critic
    rewards = scale * (torch.randn(400) - 3.0)
    critic.fit_scale(rewards)
    critic.fit_scale(100 * rewards)
    value = critic(seen, seen["action_mask"])
    assert ((value / scale + 3.0).abs() < 1.0).all()
    without, within = critic.without_and_with(seen, seen["action_mask"])
    rows, bits = torch.nonzero(seen["action_mask"]).T
    torch.testing.assert_close(within[rows, bits], value[rows], rtol=1e-4, atol=1e-5 * scale)
    assert (without[rows, bits] != value[rows]).any()
    assert critic.state_dict()["scale"] == pytest.approx(float(rewards.std()))


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ValueError, match=r"credit='auto' knows no later rewards, so gamma=0.9 must be 0"):
        AgentConfig().training(gamma=0.9).validate()
    with pytest.raises(ValueError, match="credit='bit' is unknown; choose one of 'auto', 'feature', 'model', 'step'"):
        AgentConfig().training(credit="bit").validate()
    with pytest.raises(ValueError, match="network='cnn' is unknown"):
        AgentConfig().network("cnn").validate()
    with pytest.raises(ValueError, match=r"model_config=\{'widht': 3\} must hold network, width, label_width"):
        AgentConfig().rl_module(model_config={"widht": 3}).validate()
    AgentConfig().training(gamma=0.9, credit="step").validate()
    config = AgentConfig().network(width=32)
    assert {name: config.model_config[name] for name in ("network", "width")} == {"network": "equivariant", "width": 32}


@pytest.mark.parametrize(
    ("config_class", "knobs", "credit"),
    [
        (IMPPOConfig, {}, "model"),
        (MPPOConfig, {"transmission": "distance"}, "model"),
        (IMPPOConfig, {"transmission": "paper"}, "feature"),
        (IMPPOConfig, {"reward": "worst_user"}, "feature"),
        (PlainPPOConfig, {}, "feature"),
    ],
)
def test_what_the_link_costs_is_known_where_the_environment_solves_it(
    config_class: type[AgentConfig], knobs: dict[str, Any], credit: str, table_paths: dict[str, Path]
) -> None:
    config = config_class().environment(env_config={**knobs, "images": str(table_paths["policy"])})
    assert config.resolved_credit == credit
    assert config.training(credit="feature").resolved_credit == "feature"
