"""IM-PPO trains, repeats itself, and leaves what can be loaded again. Slow: each training starts its own algorithm."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from typer.testing import CliRunner

from noma_semcom_agents import IMPPO, IMPPOConfig, LearnedPolicy
from noma_semcom_agents.cli import app, read_knobs
from noma_semcom_agents.demo import run_demo
from noma_semcom_agents.runs import spread
from noma_semcom_agents.schemes import AllSelection, NoSelection, RandomSelection
from noma_semcom_agents.training import Training, Validation, anneal, knobs_of, train


def small_config(path: Path, seed: int = 0) -> IMPPOConfig:
    config = IMPPOConfig().environment(env_config={"images": str(path), "latency_ref_s": 2e-4})
    config.training(train_batch_size_per_learner=512, minibatch_size=256)
    config.env_runners(num_envs_per_env_runner=16)
    return config.debugging(seed=seed)


def run(paths: dict[str, Path], folder: Path, steps: int, seed: int = 0) -> Training:
    config = small_config(paths["policy"], seed)
    validation = Validation(config.env_config, str(paths["validation"]), episodes=16)
    return train(config, folder, steps, validation=validation, progress=False, look_every_s=0.0)


@pytest.fixture(scope="module")
def training(table_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Training:
    return run(table_paths, tmp_path_factory.mktemp("run"), 24_000)


@pytest.mark.slow
def test_training_beats_the_schemes_on_the_images_it_saw(training: Training, table_paths: dict[str, Path]) -> None:
    seen = Validation({"latency_ref_s": 2e-4}, str(table_paths["policy"]), episodes=64, seed=77)
    learned = seen.reward(training.policy)
    for scheme in (AllSelection(), NoSelection(), RandomSelection()):
        assert learned > seen.reward(scheme, {"prune": False})
    assert 0.0 <= seen.regret(learned) < 0.5 * seen.regret(seen.reward(RandomSelection()))


@pytest.mark.slow
def test_curve_rises_and_is_written(training: Training) -> None:
    steps = [point.steps for point in training.curve]
    assert steps[0] == 0
    assert steps == sorted(steps)
    assert 24_000 <= steps[-1] < 25_000
    assert training.curve[-1].regret < 0.7 * training.curve[0].regret
    rows = list(csv.DictReader(io.StringIO((training.checkpoint.parent / "learning_curve.csv").read_text())))
    assert [int(row["steps"]) for row in rows] == steps
    assert float(rows[-1]["validation_reward"]) == training.curve[-1].validation_reward


@pytest.mark.slow
def test_checkpoint_holds_the_policy(training: Training, table_paths: dict[str, Path]) -> None:
    again = LearnedPolicy.from_checkpoint(training.checkpoint)
    # The last look at the curve was taken of the module in memory, before anything was saved.
    assert training.validation.reward(again) == training.curve[-1].validation_reward
    envs = gym.make_vec("NomaSemCom-v0", num_envs=20, images=str(table_paths["test"]))
    observation, info = envs.reset(seed=1)
    envs.close()
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(again.act(observation, info, rng), training.policy.act(observation, info, rng))
    with pytest.raises(FileNotFoundError, match="no checkpoint of a trained policy"):
        LearnedPolicy.from_checkpoint(training.checkpoint.parent)


@pytest.mark.slow
def test_same_seed_same_training_bit_for_bit(table_paths: dict[str, Path], tmp_path: Path) -> None:
    first, second, other = (
        run(table_paths, tmp_path / name, 1024, seed) for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )

    def weights(one: Training) -> dict[str, Any]:
        return {name: value.numpy() for name, value in one.policy.module.state_dict().items()}

    for name, value in weights(first).items():
        np.testing.assert_array_equal(value, weights(second)[name])
    assert any(not np.array_equal(value, weights(other)[name]) for name, value in weights(first).items())


@pytest.mark.slow
def test_actor_and_critic_have_their_own_rates(table_paths: dict[str, Path]) -> None:
    from noma_semcom_agents.training import start_ray

    start_ray()
    config = small_config(table_paths["policy"]).training(lr=1e-3, critic_lr=4e-3)
    algorithm = config.build_algo()
    try:
        learner: Any = algorithm.learner_group._learner
        rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in learner._named_optimizers.items()}
    finally:
        algorithm.stop()
    assert {name.removeprefix("default_policy_"): rate for name, rate in rates.items()} == {
        "actor": pytest.approx(1e-3),
        "critic": pytest.approx(4e-3),
    }


def test_defaults_survive_the_algorithm_class() -> None:
    config = IMPPO.get_default_config()
    assert isinstance(config, IMPPOConfig)
    assert (config.gamma, config.num_env_runners, config.critic_lr) == (0.0, 0, 3e-3)
    assert config.algo_class is IMPPO


def test_annealing_leaves_the_settings_given_alone() -> None:
    config = IMPPOConfig().training(lr=1e-3, critic_lr=[[0, 1e-3], [10, 1e-4]])
    annealed = anneal(config, 100)
    assert annealed.lr == [[0, 1e-3], [100, 1e-4]]
    assert annealed.critic_lr == [[0, 1e-3], [10, 1e-4]]
    assert config.lr == 1e-3


@pytest.mark.parametrize(("steps", "seconds", "named"), [(0, None, "steps=0"), (5, -1.0, "seconds=-1.0")])
def test_impossible_lengths_are_refused(steps: int, seconds: float | None, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        train(IMPPOConfig(), tmp_path, steps, seconds)


def test_knobs_are_read_and_checked() -> None:
    assert read_knobs(["num_users=4", "fading=rician", "distances_m=[60, 70, 80, 90]"]) == {
        "num_users": 4,
        "fading": "rician",
        "distances_m": [60, 70, 80, 90],
    }
    result = CliRunner().invoke(app, ["train", "--set", "num_user=4"])
    assert result.exit_code == 2
    assert "num_user" in result.output
    assert CliRunner().invoke(app, ["train", "--set", "num_users"]).exit_code == 2


def test_commands_refuse_what_they_cannot_use(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path)])
    assert result.exit_code == 2
    assert "run.json" in result.output
    for command in (
        ["demo", "--set", "images=street-test"],
        ["train", "--validation", "street-dawn"],
        ["tabulate", "street:test", "--output", str(tmp_path / "x.npz")],
        ["tabulate", "street:test", "--count", "1", "--output", str(tmp_path / "x.txt")],
    ):
        assert CliRunner().invoke(app, command).exit_code == 2, command
    result = CliRunner().invoke(app, ["tabulate", "street:test", "--output", str(tmp_path / "x.npz"), "--seeds", "a,b"])
    assert result.exit_code == 2


def test_an_id_brings_its_knobs() -> None:
    assert knobs_of("noma_semcom_env:NomaSemComUnpruned-v0") == {"prune": False}
    assert knobs_of("NomaSemCom-v0") == {}


def test_seeds_of_trainings_in_a_row_lie_far_apart() -> None:
    seeds = np.sort([spread(seed) for seed in range(20)])
    assert np.diff(seeds).min() > 10_000
    assert seeds.max() < 2**31


def test_regret_of_a_worthless_objective_has_no_share(table_paths: dict[str, Path]) -> None:
    free = Validation({"lpips_weight": 0.0}, str(table_paths["validation"]), episodes=2)
    assert np.isnan(free.regret(free.reward(NoSelection())))


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
    assert (tmp_path / "checkpoint").is_dir()


@pytest.mark.slow
def test_tune_knows_the_algorithm_by_name_and_keeps_its_defaults(table_paths: dict[str, Path], tmp_path: Path) -> None:
    from ray import tune

    from noma_semcom_agents.imppo import register
    from noma_semcom_agents.training import start_ray

    start_ray()
    register()
    space = small_config(table_paths["policy"])
    settings = tune.RunConfig(name="one", storage_path=str(tmp_path), stop={"training_iteration": 1}, verbose=0)
    (result,) = tune.Tuner("IM-PPO", param_space=space, run_config=settings).fit()
    assert result.error is None
    assert result.config["gamma"] == 0.0
    assert np.isfinite(result.metrics["env_runners"]["selection_share"])


@pytest.mark.slow
def test_demo_leaves_everything_that_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = run_demo(tmp_path / "demo", steps=4096, seconds=None, episodes=8, progress=False)
    said = capsys.readouterr().out
    for name in ("results.csv", "results.json", "learning_curve.png", "transmission.png", "checkpoint"):
        assert (tmp_path / "demo" / name).exists()
        assert name in said
    assert list(evaluation.records) == [
        "IM-PPO", "ALL-Selection", "Random-Selection", "Location-Decoding", "Oracle", "Oracle (pruned)",
    ]  # fmt: skip
    record = json.loads((tmp_path / "demo" / "run.json").read_text())
    assert record["scenario"]["images"] == "street-policy"
    assert json.loads((tmp_path / "demo" / "results.json").read_text())["configuration"]["evaluation"]["images"] == (
        "street-test"
    )


@pytest.mark.slow
def test_train_and_evaluate_from_the_command_line(table_paths: dict[str, Path], tmp_path: Path) -> None:
    run_folder = str(tmp_path / "run")
    knobs = ["--set", f"images={table_paths['policy']}", "--set", "num_users=2"]
    options = ["--output", run_folder, "--steps", "2048", "--validation", str(table_paths["validation"])]
    result = CliRunner().invoke(app, ["train", *options, *knobs], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    command = ["evaluate", run_folder, "--images", str(table_paths["test"]), "--episodes", "4"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "run" / "evaluation" / "results.json").read_text())
    assert content["configuration"]["evaluation"]["scenario"]["num_users"] == 2
    assert content["subject"] == "IM-PPO"
