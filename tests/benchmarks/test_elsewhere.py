"""Policies of other libraries: their weights act as the libraries do, are kept, and the page shows what is run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from noma_semcom_agents.evaluation import ENVIRONMENT
from noma_semcom_agents.roster import spread
from noma_semcom_benchmarks import elsewhere
from noma_semcom_benchmarks.elsewhere import FlatPolicy, Trained, cleanrl, layers_of, maskable, stable_baselines3
from noma_semcom_env.wrappers import FlatObservation, VectorFlatObservation

ROOT = Path(__file__).parents[2]


def faced(steps: int = 12) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Observations as the environment gives them, and flat."""
    envs = gym.make_vec(ENVIRONMENT, num_envs=steps, vectorization_mode="vector_entry_point")
    flat = VectorFlatObservation(envs)
    observation, _ = envs.reset(seed=3)
    return observation, flat.observations(observation)


def keys() -> tuple[str, ...]:
    return tuple(FlatObservation(gym.make(ENVIRONMENT)).slices)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_weights_of_stable_baselines3_act_as_its_predictions(masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "KNOBS", {**elsewhere.KNOBS, "n_steps": 16, "batch_size": 32})
    models: list[Any] = []

    def keep(model: Any) -> elsewhere.Layers:
        models.append(model)
        return layers_of(model)

    monkeypatch.setattr(elsewhere, "layers_of", keep)
    layers, steps = (maskable if masked else stable_baselines3)(200, 0)
    assert steps == 256
    observation, flat = faced()
    ours = FlatPolicy("x", layers, keys()).act(observation, {}, np.random.default_rng(0))
    available = observation["action_mask"].astype(bool)
    if masked:
        masks = np.stack([np.ones_like(available), available], axis=-1).reshape(len(available), -1)
        theirs, _ = models[0].predict(flat, deterministic=True, action_masks=masks)
    else:
        theirs, _ = models[0].predict(flat, deterministic=True)
    np.testing.assert_array_equal(ours[available], theirs[available])
    assert 0.1 < ours.mean() < 0.9


def test_the_script_acts_as_its_means_say(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from noma_semcom_benchmarks import cleanrl_ppo

    kept: list[Any] = []
    train = cleanrl_ppo.train

    def remember(*arguments: Any, **settings: Any) -> Any:
        kept.append(train(*arguments, **settings))
        return kept[-1]

    monkeypatch.setattr(cleanrl_ppo, "train", remember)
    layers, steps = cleanrl(1000, 5)
    ((actor, curve),) = kept
    assert (steps, len(curve)) == (1024, 1)
    observation, flat = faced()
    with torch.no_grad():
        means = actor(torch.tensor(flat)).numpy()
    ours = FlatPolicy("x", layers, keys()).act(observation, {}, np.random.default_rng(0))
    np.testing.assert_array_equal(ours, means > 0.0)


def test_trainings_are_kept_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[int, int]] = []

    def train(steps: int, seed: int) -> tuple[elsewhere.Layers, int]:
        done.append((steps, seed))
        return [(np.full((2, 3), float(seed)), np.zeros(2)), (np.ones((1, 2)), np.ones(1))], steps + 1

    monkeypatch.setattr(elsewhere, "TRAINERS", {"x": train})
    path = tmp_path / "deep" / "seed-4.npz"
    made = elsewhere.trained("x", 10, 4, path)
    again = elsewhere.trained("x", 10, 4, path)
    assert done == [(10, spread(4))]  # far from the seed of run 5, as sub-environments count up from it
    assert (again.steps, again.seconds, again.policy.keys) == (made.steps, made.seconds, made.policy.keys)
    for one, other in zip(made.policy.layers, again.policy.layers, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)
    elsewhere.trained("x", 20, 4, path)
    elsewhere.trained("x", 10, 4, path)
    assert [steps for steps, _ in done] == [10, 20, 10]  # another budget is another training
    assert (Trained.load(path).budget, Trained.load(path).steps) == (10, 11)


def script(source: str) -> str:
    """``train`` of a source, its docstring left out."""
    (found,) = [one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef)]
    if ast.get_docstring(found) is not None:
        del found.body[0]
    return ast.dump(found)


def test_the_page_shows_the_script_that_is_run() -> None:
    page = (ROOT / "docs" / "training-elsewhere.md").read_text()
    (block,) = [one for one in page.split("```python\n") if "def train(" in one]
    assert script(block.partition("```")[0]) == script((ROOT / "benchmarks" / "cleanrl_ppo.py").read_text())
    for name, value in elsewhere.KNOBS.items():
        assert f'"{name}": {value!r}'.replace("0.001", "1e-3") in page
    assert f"n_envs={elsewhere.ENVS}," in page
