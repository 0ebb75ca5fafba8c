"""The agents train, repeat themselves, go on after a kill, and leave what can be loaded again.

Slow, most of it: each training starts its own algorithm.
"""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from noma_semcom_agents import IMPPO, MPPO, IMPPOConfig, LearnedPolicy, MPPOConfig, PlainPPO, PlainPPOConfig
from noma_semcom_agents.evaluation import Knobs
from noma_semcom_agents.imppo import AgentConfig, register
from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection
from noma_semcom_agents.training import (
    CHECKPOINT,
    CURVE,
    EVENTS,
    POLICY,
    Training,
    Validation,
    anneal,
    find_checkpoint,
    knobs_of,
    read_points,
    start_ray,
    train,
)
from noma_semcom_env.envs.rllib import NomaSemComMultiAgentEnv

CONFIGS = (IMPPOConfig, MPPOConfig, PlainPPOConfig)
SCARCE = {"latency_ref_s": 2e-4}
"""A latency that bites with six features an image."""


def small(config: AgentConfig, path: Path, seed: int = 0) -> AgentConfig:
    config.environment(env_config={"images": str(path), **SCARCE}).network(width=32)
    config.training(train_batch_size_per_learner=512, minibatch_size=128, regret_steps=32)
    config.env_runners(num_envs_per_env_runner=32)
    return config.debugging(seed=seed)


def run(paths: dict[str, Path], folder: Path, steps: int, config: AgentConfig | None = None, **others: Any) -> Training:
    config = config or small(IMPPOConfig(), paths["policy"])
    knobs = {**knobs_of(config.env), **config.env_config}
    options = {"look_every": 512, "progress": False, **others}
    return train(config, folder, steps, validation=Validation(knobs, str(paths["validation"]), episodes=16), **options)


def weights(one: Training) -> dict[str, np.ndarray]:
    return {name: value.numpy(force=True) for name, value in one.policy.module.actor.state_dict().items()}


def regret_on(path: Path, policy: Any, knobs: Knobs | None = None) -> float:
    seen = Validation(SCARCE, str(path), episodes=64, seed=77)
    return seen.regret(seen.reward(policy, knobs))


@pytest.fixture(scope="module")
def training(table_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Training:
    return run(table_paths, tmp_path_factory.mktemp("run"), 12_288)


@pytest.mark.slow
def test_training_beats_the_schemes_on_the_images_it_saw(training: Training, table_paths: dict[str, Path]) -> None:
    images = table_paths["policy"]
    learned = regret_on(images, training.policy)
    schemes = [regret_on(images, one, {"prune": False}) for one in (AllSelection(), NoSelection(), RandomSelection())]
    assert 0.0 <= learned < 0.6 * min(schemes)


@pytest.mark.slow
@pytest.mark.parametrize("credit", ["auto", "feature", "step"])
@pytest.mark.parametrize("network", ["equivariant", "mlp"])
@pytest.mark.parametrize("config_class", CONFIGS[1:])
def test_every_agent_learns_with_either_network_and_credit(
    config_class: type[AgentConfig], network: str, credit: str, table_paths: dict[str, Path], tmp_path: Path
) -> None:
    """A few thousand steps are enough to see the reward rise; without solvers sending nothing is not beaten so soon."""
    config = small(config_class(), table_paths["policy"]).network(network)
    config.training(credit=credit, entropy_coeff=0.01 if credit == "step" else 0.1)
    curve = run(table_paths, tmp_path, 6144, config).curve
    assert np.mean([one.reward for one in curve[-3:]]) > 0.8 * curve[1].reward
    if config_class is MPPOConfig:
        assert np.mean([one.regret for one in curve[-3:]]) < 0.8 * curve[0].regret


@pytest.mark.slow
def test_curve_and_events_are_written(training: Training) -> None:
    folder = training.checkpoint.parent
    steps = [point.steps for point in training.curve]
    assert steps[0] == 0
    assert steps == sorted(set(steps))
    assert 12_288 <= steps[-1] < 12_288 + 512
    assert training.curve[-1].regret < 0.7 * training.curve[0].regret
    rows = list(csv.DictReader(io.StringIO((folder / CURVE).read_text())))
    assert [int(row["steps"]) for row in rows] == steps
    assert float(rows[-1]["validation_reward"]) == training.curve[-1].validation_reward
    assert read_points(folder / CURVE)[1:] == list(training.curve[1:])
    (events,) = (folder / EVENTS).iterdir()
    content = events.read_bytes()
    for tag in (b"validation/regret", b"sampled/selection_share", b"sampled/oracle_regret", b"learner/entropy"):
        assert tag in content


@pytest.mark.slow
def test_checkpoint_and_policy_file_hold_the_policy(
    training: Training, table_paths: dict[str, Path], tmp_path: Path
) -> None:
    again = LearnedPolicy.from_checkpoint(training.checkpoint)
    # The last look at the curve was taken of the module in memory, before anything was saved.
    assert training.validation.reward(again) == training.curve[-1].validation_reward
    envs = gym.make_vec("NomaSemCom-v0", num_envs=20, images=str(table_paths["test"]))
    observation, info = envs.reset(seed=1)
    envs.close()
    rng = np.random.default_rng(0)
    alone = LearnedPolicy.load(training.checkpoint.parent / POLICY)
    assert alone.name == training.policy.name == "IM-PPO"
    for one in (again, alone):
        np.testing.assert_array_equal(one.act(observation, info, rng), training.policy.act(observation, info, rng))
    with pytest.raises(FileNotFoundError, match="no checkpoint of a trained policy"):
        LearnedPolicy.from_checkpoint(training.checkpoint.parent)
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match="holds no policy"):
        LearnedPolicy.load(tmp_path / "other.npz")


@pytest.mark.slow
def test_a_policy_file_needs_no_ray(table_paths: dict[str, Path], tmp_path: Path) -> None:
    trained = run(table_paths, tmp_path, 512, small(PlainPPOConfig(), table_paths["policy"]))
    code = f"""
import sys
sys.modules["ray"] = None  # as if it were not installed
import gymnasium, numpy, noma_semcom_env
from noma_semcom_agents import LearnedPolicy
policy = LearnedPolicy.load({str(tmp_path / POLICY)!r})
envs = gymnasium.make_vec("NomaSemComModelFree-v0", num_envs=4, images={str(table_paths["test"])!r})
seen, info = envs.reset(seed=0)
action = policy.act(seen, info, numpy.random.default_rng(0))
envs.step(action)
print(policy.name, action["beams"].sum())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    envs = gym.make_vec("NomaSemComModelFree-v0", num_envs=4, images=str(table_paths["test"]))
    seen, info = envs.reset(seed=0)
    envs.close()
    expected = trained.policy.act(seen, info, np.random.default_rng(0))["beams"].sum()
    name, total = done.stdout.split()
    assert name == "Plain-PPO"
    assert float(total) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("runners", [0, 2])
def test_same_seed_same_training_bit_for_bit(runners: int, table_paths: dict[str, Path], tmp_path: Path) -> None:
    def once(name: str, seed: int) -> Training:
        config = small(IMPPOConfig(), table_paths["policy"], seed)
        config.env_runners(num_env_runners=runners, num_envs_per_env_runner=32 // max(1, runners))
        return run(table_paths, tmp_path / name, 1024, config)

    first, second, other = once("a", 5), once("b", 5), once("c", 6)
    for name, value in weights(first).items():
        np.testing.assert_array_equal(value, weights(second)[name])
    rewards = [point.reward for point in first.curve[1:]]
    assert rewards == [point.reward for point in second.curve[1:]]
    assert len(set(rewards)) == 2
    assert any(not np.array_equal(value, weights(other)[name]) for name, value in weights(first).items())


@pytest.mark.slow
def test_actor_and_critic_have_their_own_rates(table_paths: dict[str, Path]) -> None:
    start_ray()
    algorithm = small(IMPPOConfig(), table_paths["policy"]).training(lr=1e-3, critic_lr=4e-3).build_algo()
    try:
        learner: Any = algorithm.learner_group._learner
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in learner._named_optimizers.items()}
    finally:
        algorithm.stop()
    assert {name.removeprefix("default_policy_"): rate for name, rate in rates.items()} == {
        "actor": pytest.approx(1e-3),
        "critic": pytest.approx(4e-3),
    }


@pytest.mark.parametrize("algorithm", [IMPPO, MPPO, PlainPPO])
def test_defaults_survive_the_algorithm_class(algorithm: Any) -> None:
    config = algorithm.get_default_config()
    assert isinstance(config, AgentConfig)
    assert (config.gamma, config.num_env_runners, config.credit) == (0.0, 0, "auto")
    assert config.algo_class is algorithm


def test_the_agents_differ_in_their_tasks_and_in_what_was_tuned() -> None:
    settings = [config().to_dict() for config in CONFIGS]
    assert [one.pop("env").rpartition(":")[2] for one in settings] == [
        "NomaSemCom-v0",
        "NomaSemComUnpruned-v0",
        "NomaSemComModelFree-v0",
    ]
    tuned = {"lr", "critic_lr", "entropy_coeff", "num_epochs"}
    for one in settings[1:]:
        assert {name for name in one if repr(one[name]) != repr(settings[0][name])} <= {"algo_class", *tuned}


def test_annealing_leaves_the_settings_given_alone() -> None:
    config = IMPPOConfig().training(lr=1e-3, critic_lr=[[0, 1e-3], [10, 1e-4]], entropy_coeff=0.2)
    annealed = anneal(config, 100)
    assert annealed.lr == [[0, 1e-3], [100, pytest.approx(5e-5)]]
    assert annealed.critic_lr == [[0, 1e-3], [10, 1e-4]]
    assert annealed.entropy_coeff == [[0, 0.2], [100, 0.0]]
    assert (config.lr, config.entropy_coeff) == (1e-3, 0.2)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"steps": 0}, "steps=0"), ({"seconds": -1.0}, "seconds=-1.0"), ({"look_every": 0}, "look_every=0")],
)
def test_impossible_lengths_are_refused(changed: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        train(IMPPOConfig(), tmp_path, **{"steps": 5, **changed})
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train(IMPPOConfig(), tmp_path, 5, resume=True)


def test_an_id_brings_its_knobs() -> None:
    assert knobs_of("noma_semcom_env:NomaSemComUnpruned-v0") == {"prune": False}
    assert knobs_of("NomaSemCom-v0") == {}


def test_regret_of_a_worthless_objective_has_no_share(table_paths: dict[str, Path]) -> None:
    free = Validation({"lpips_weight": 0.0}, str(table_paths["validation"]), episodes=2)
    assert np.isnan(free.regret(free.reward(NoSelection())))


def test_every_task_has_the_same_oracle(table_paths: dict[str, Path]) -> None:
    validations = [Validation(knobs_of(config().env), str(table_paths["validation"]), episodes=8) for config in CONFIGS]
    assert len({one.best for one in validations}) == 1


@pytest.mark.slow
def test_an_interrupted_training_keeps_what_it_learned(
    table_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = IMPPO.train

    def interrupted(self: IMPPO) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(IMPPO, "train", interrupted)
    training = run(table_paths, tmp_path, 50_000)
    assert training.curve[-1].steps == 1024
    assert (tmp_path / CHECKPOINT).is_dir()


KILLED = """
import sys
from pathlib import Path
from tests_of_training import run, small
from noma_semcom_agents import MPPOConfig
paths = {{name: Path(path) for name, path in {paths!r}.items()}}
run(paths, Path({folder!r}), 6144, small(MPPOConfig(), paths["policy"]), save_every_s=0.0)
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_checkpoint(table_paths: dict[str, Path], tmp_path: Path) -> None:
    folder, home = tmp_path / "run", tmp_path / "home"
    home.mkdir()
    (home / "tests_of_training.py").write_text(Path(__file__).read_text())
    paths = {name: str(path) for name, path in table_paths.items()}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(home), *filter(None, sys.path)])}
    code = KILLED.format(paths=paths, folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 240.0
        while not ((folder / CURVE).exists() and read_points(folder / CURVE)[-1].steps >= 1536):
            assert process.poll() is None, "the training ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    checkpoint = find_checkpoint(folder)
    assert checkpoint is not None
    before = read_points(checkpoint / CURVE)
    assert 512 <= before[-1].steps < 6144
    config = small(MPPOConfig(), table_paths["policy"])
    trained = run(table_paths, folder, 6144, config, resume=True)
    assert trained.curve[: len(before)] == tuple(before) or np.isnan(before[0].reward)
    steps = [point.steps for point in trained.curve]
    assert steps == [512 * number for number in range(13)]
    assert trained.curve[-1].seconds > before[-1].seconds
    assert trained.curve[-1].regret < 0.8 * trained.curve[0].regret
    assert not (folder / f"{CHECKPOINT}.old").exists()


def test_a_checkpoint_cut_off_while_it_was_replaced_is_put_back(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None
    old = tmp_path / f"{CHECKPOINT}.old"
    old.mkdir()
    (old / "progress.json").write_text("{}")
    (tmp_path / f"{CHECKPOINT}.part").mkdir()
    assert find_checkpoint(tmp_path) == tmp_path / CHECKPOINT
    assert not old.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["IM-PPO", "M-PPO", "Plain-PPO"])
def test_tune_knows_the_algorithms_by_name_and_keeps_their_defaults(
    name: str, table_paths: dict[str, Path], tmp_path: Path
) -> None:
    from ray import tune

    start_ray()
    register()
    config = {one.title: one for one in CONFIGS}[name]()
    space = small(config, table_paths["policy"])
    settings = tune.RunConfig(name="one", storage_path=str(tmp_path), stop={"training_iteration": 1}, verbose=0)
    (result,) = tune.Tuner(name, param_space=space, run_config=settings).fit()
    assert result.error is None
    assert result.config["gamma"] == 0.0
    assert result.config["env"] == config.env
    for metric in ("selection_share", "lpips", "latency_s", "step_reward", "oracle_regret"):
        assert np.isfinite(result.metrics["env_runners"][metric])


@pytest.mark.slow
def test_the_multi_agent_form_trains_with_the_same_module(table_paths: dict[str, Path]) -> None:
    start_ray()
    config = small(IMPPOConfig(), table_paths["policy"])
    knobs = {**config.env_config, "num_users": 2}
    config.environment(NomaSemComMultiAgentEnv, env_config=knobs)
    config.multi_agent(policies={"user"}, policy_mapping_fn=lambda agent, episode, **others: "user")
    config.env_runners(num_envs_per_env_runner=4).training(num_epochs=2)
    algorithm = config.build_algo()
    try:
        before = [one.clone() for one in algorithm.get_module("user").parameters()]
        rewards = [float(algorithm.train()["env_runners"]["step_reward"]) for _ in range(4)]
        after = list(algorithm.get_module("user").parameters())
    finally:
        algorithm.stop()
    assert any(not np.array_equal(a.detach(), b.detach()) for a, b in zip(before, after, strict=True))
    assert np.mean(rewards[2:]) > rewards[0]
