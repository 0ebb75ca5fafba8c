"""PPO of other libraries beside IM-PPO and references, on the same test episodes.

    python -m noma_semcom_benchmarks.elsewhere --page docs/training-elsewhere.md

Stable-Baselines3's PPO, sb3-contrib's MaskablePPO and a plain script in the manner of CleanRL learn on NomaSemCom-v0
from the policy-training images, with the settings of docs/training-elsewhere.md, over the budget of the protocol.
IM-PPO is that of the campaign "main". Finished trainings are kept, as weights alone, and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
from rich.progress import track

from noma_semcom_agents.evaluation import ENVIRONMENT, Contender
from noma_semcom_agents.policies import Info, Observation
from noma_semcom_agents.roster import find_agent, spread
from noma_semcom_benchmarks.pages import columns, make_parser, publish, run_figure
from noma_semcom_benchmarks.sweeps import ALL, ORACLE, RANDOM, Measured, Scheme, learned, measure, reference
from noma_semcom_benchmarks.trainings import QUICK_STEPS, SEEDS, STEPS, Point
from noma_semcom_env.wrappers import FlatObservation, MaskableBits

FOLDER: Final = "elsewhere"
ENVS: Final = 8
KNOBS: Final = {"gamma": 0.0, "learning_rate": 1e-3, "n_steps": 128, "batch_size": 256, "n_epochs": 5}
"""Settings of both algorithms of Stable-Baselines3."""

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Weight (outputs, inputs) and bias of each layer."""


@dataclass(eq=False)
class FlatPolicy:
    """The most likely action of a perceptron over the flat observation, whoever trained it.

    Attributes:
        name: How tables call it.
        layers: tanh follows each but the last; a bit is set where its output is above 0.
        keys: Entries of the observation, in the order in which they are read.
    """

    name: str
    layers: Layers
    keys: tuple[str, ...]

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8; draws nothing."""
        x = np.concatenate([observation[key] for key in self.keys], axis=-1, dtype=np.float32)
        for weight, bias in self.layers[:-1]:
            x = np.tanh(x @ weight.T + bias)
        weight, bias = self.layers[-1]
        bits: np.ndarray = (x @ weight.T + bias > 0.0).astype(np.int8)
        return bits


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        policy: At its end.
        budget: Environment steps that were asked for.
        steps: Those that were taken, whole batches.
        seconds: What it took.
    """

    policy: FlatPolicy
    budget: int
    steps: int
    seconds: float

    def save(self, path: Path) -> None:
        """Write an ``.npz``, by a temporary file that is renamed."""
        arrays = {f"{part}{i}": one[part == "bias"] for i, one in enumerate(self.policy.layers) for part in _PARTS}
        record = {"name": self.policy.name, "keys": self.policy.keys}
        record |= {name: getattr(self, name) for name in ("budget", "steps", "seconds")}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with part.open("wb") as file:
            # The stub takes names for flags.
            np.savez(file, **arrays, record=np.array(json.dumps(record)))  # type: ignore[arg-type]
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Trained:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            record = json.loads(str(file["record"]))
            layers = [(file[f"weight{i}"], file[f"bias{i}"]) for i in range(len(file.files) // 2)]
        policy = FlatPolicy(record["name"], layers, tuple(record["keys"]))
        return cls(policy, record["budget"], record["steps"], record["seconds"])


_PARTS: Final = ("weight", "bias")


def stable_baselines3(steps: int, seed: int) -> tuple[Layers, int]:
    """PPO of Stable-Baselines3; its layers, and the steps that were taken."""
    model = train_sb3("stable_baselines3", "PPO", steps, seed)
    return layers_of(model), model.num_timesteps


def maskable(steps: int, seed: int) -> tuple[Layers, int]:
    """MaskablePPO of sb3-contrib, whose outputs are two logits a bit; a bit's own is their difference."""
    model = train_sb3("sb3_contrib", "MaskablePPO", steps, seed, MaskableBits)
    *hidden, (weight, bias) = layers_of(model)
    return [*hidden, (weight[1::2] - weight[::2], bias[1::2] - bias[::2])], model.num_timesteps


def cleanrl(steps: int, seed: int) -> tuple[Layers, int]:
    """The script of docs/training-elsewhere.md."""
    from noma_semcom_benchmarks.cleanrl_ppo import train

    num_envs, length = 64, 16
    updates = -(-steps // (num_envs * length))
    actor, _ = train(updates, num_envs, length, seed=seed)
    return _linear(actor), updates * num_envs * length


TRAINERS: Final[Mapping[str, Callable[[int, int], tuple[Layers, int]]]] = {
    "Stable-Baselines3, PPO": stable_baselines3,
    "sb3-contrib, MaskablePPO": maskable,
    "CleanRL-style script": cleanrl,
}
"""Title to what trains over some steps with a seed."""


def train_sb3(module: str, algorithm: str, steps: int, seed: int, wrapper: Callable[[Any], Any] | None = None) -> Any:
    """A model of Stable-Baselines3 or of sb3-contrib, trained.

    Args:
        module: Package.
        algorithm: Class in it.
        steps: Environment steps, rounded up to whole batches.
        seed: Of environments and algorithm.
        wrapper: Around each environment.

    Raises:
        ImportError: If the package is missing.
    """
    from importlib import import_module

    try:
        from stable_baselines3.common.env_util import make_vec_env

        make = getattr(import_module(module), algorithm)
    except ImportError as error:
        raise ImportError(f"{algorithm} needs {module}: pip install stable-baselines3 sb3-contrib") from error

    def make_env() -> Any:
        env = FlatObservation(gym.make(ENVIRONMENT))
        return env if wrapper is None else wrapper(env)

    envs = make_vec_env(make_env, n_envs=ENVS, seed=seed)
    try:
        return make("MlpPolicy", envs, **KNOBS, seed=seed, device="cpu").learn(steps)
    finally:
        envs.close()


def layers_of(model: Any) -> Layers:
    """The actor's layers of a model of Stable-Baselines3 with an ``MlpPolicy``."""
    return _linear(model.policy.mlp_extractor.policy_net) + _linear([model.policy.action_net])


def _linear(modules: Any) -> Layers:
    return [
        (one.weight.numpy(force=True).copy(), one.bias.numpy(force=True).copy())
        for one in modules
        if hasattr(one, "weight")
    ]


def trained(title: str, steps: int, seed: int, path: Path) -> Trained:
    """The training that a file holds, or one anew if it holds none over this budget.

    Args:
        title: Of :data:`TRAINERS`.
        steps: Environment steps.
        seed: Of the training; the library is given one far from its neighbours', as sub-environments count up from it.
        path: Of the file.
    """
    if path.is_file() and (kept := Trained.load(path)).budget == steps:
        return kept
    started = time.perf_counter()
    layers, taken = TRAINERS[title](steps, spread(seed))
    keys = tuple(FlatObservation(gym.make(ENVIRONMENT)).slices)
    made = Trained(FlatPolicy(title, layers, keys), steps, taken, time.perf_counter() - started)
    made.save(path)
    return made


def row_of(measured: Measured, name: str, steps: int | None = None, seconds: float | None = None) -> dict[str, Any]:
    """A row of the table."""
    runs = len(measured.schemes[name].seeds) if name in measured.schemes else 0
    row: dict[str, Any] = {"who": name, "runs": runs or None} | columns("regret", measured.regret(name))
    for measure_, factor in (("reward", 1.0), ("lpips", 1.0), ("latency_s", 1e3)):
        row |= columns(measure_.replace("_s", "_ms"), (measured.sample(name, measure_) * factor).mean())
    return row | {"training_steps": steps, "training_s": None if seconds is None else round(seconds, 1)}


def make(arguments: argparse.Namespace) -> None:
    """Train what is not there, evaluate and publish."""
    quick = arguments.quick
    ours = learned(find_agent("im-ppo").title, Point("im-ppo"), arguments.root, "main", quick)
    steps, seeds = (QUICK_STEPS, 1) if quick else (arguments.steps, arguments.seeds)
    found: dict[str, dict[int, Trained]] = {title: {} for title in TRAINERS}
    for title, seed in track([(title, seed) for title in TRAINERS for seed in range(seeds)], "trainings"):
        place = arguments.root / FOLDER / TRAINERS[title].__name__ / f"seed-{seed}.npz"
        found[title][seed] = trained(title, steps, seed, place)
    schemes = [
        ours,
        *(
            Scheme(title, {s: Contender(one.policy, {}, f"{title}, seed {s}") for s, one in runs.items()}, {})
            for title, runs in found.items()
        ),
        reference("random", RANDOM),
        reference("all", ALL),
    ]
    measured = measure(schemes, {"images": arguments.images}, arguments.episodes)
    ended = [run.record["ended"] for run in ours.runs.values()]
    spent = {ours.name: (int(ended[0]["steps"]), float(np.median([one["seconds"] for one in ended])))}
    for title, runs in found.items():
        spent[title] = (runs[0].steps, float(np.median([one.seconds for one in runs.values()])))
    names = [*measured.schemes, ORACLE, "Oracle (pruned)"]
    rows = sorted((row_of(measured, name, *spent.get(name, ())) for name in names), key=lambda row: row["regret"])
    publish("elsewhere", arguments, rows, runs=min(row["runs"] for row in rows if row["runs"]))


def main() -> None:
    """Train, evaluate and publish."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of each training")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of each library")
    run_figure(make, parser)


if __name__ == "__main__":
    main()
