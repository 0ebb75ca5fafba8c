"""Steps a second, single and vectorized, as ratios to CartPole-v1 measured in the same run.

    python -m noma_semcom_benchmarks.throughput --figure throughput.png
    python -m noma_semcom_benchmarks.throughput --without-numba
    python -m noma_semcom_benchmarks.throughput --ids NomaSemCom-v0 --set transmission=paper --batches 64

Every NomaSemCom id (others by ``--ids``), random actions, autoreset included: channel, joint optimum over beams and
order, table, reward and observation. CartPole's own forms, made by the same calls, are the yardstick, since absolute
figures belong to a machine. Each figure is the best of a few rounds, so that other load on the machine counts less.
Besides, without ``--set``: what a reset of NomaSemCom-v0 costs in steps, how the cost of a step grows with the number
of users, and the memory of many environments.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import gymnasium
import numpy as np
from rich.table import Table

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.commands.options import read_knobs
from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_env import ENVIRONMENTS

YARDSTICK: Final = "CartPole-v1"
BATCHES: Final = (1, 4, 16, 64, 256, 1024)
_ACTIONS: Final = 64
_STYLES: Final = {"NomaSemCom": "-", "NomaSemComUnpruned": (0, (1, 1)), "NomaSemComModelFree": "-."}


def single_rate(env_id: str, seconds: float, rounds: int = 3, **knobs: Any) -> float:
    """Steps a second of ``gymnasium.make``, resets included; the best of some rounds of so many seconds each."""
    env = gymnasium.make(env_id, **knobs)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(_ACTIONS)]

    def some() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return _ACTIONS

    rate = _best(some, seconds, rounds)
    env.close()
    return rate


def vector_rate(env_id: str, num_envs: int, seconds: float, rounds: int = 3, **knobs: Any) -> float:
    """Steps a second of all sub-environments of the vector entry point, likewise."""
    env = gymnasium.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **knobs)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(4)]

    def some() -> int:
        for action in actions:
            env.step(action)
        return len(actions) * num_envs

    rate = _best(some, seconds, rounds)
    env.close()
    return rate


def reset_in_steps(env_id: str, rounds: int = 300, **knobs: Any) -> float:
    """What ``reset()`` of the single form costs, in steps of it; the best of some rounds each."""
    env = gymnasium.make(env_id, **knobs)
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    env.step(action)
    resets, steps = [], []
    for _ in range(rounds):
        start = perf_counter()
        env.reset()
        middle = perf_counter()
        env.step(action)
        resets.append(middle - start)
        steps.append(perf_counter() - middle)
    env.close()
    return min(resets) / min(steps)


def growth(users: Sequence[int], num_envs: int, seconds: float, **knobs: Any) -> tuple[list[float], float]:
    """Seconds of a step for each number of users, and the power of K with which they grow (least squares of logs)."""
    costs = []
    for count in users:
        rate = vector_rate("NomaSemCom-v0", num_envs, seconds, num_users=count, **knobs)
        costs.append(1.0 / rate)
    return costs, float(np.polyfit(np.log(users), np.log(costs), 1)[0])


def memory_mb(num_envs: int, without_numba: bool = False) -> float:
    """Peak resident memory in MB of a process that steps so many environments, imports included."""
    code = "import sys; sys.modules['numba'] = None\n" if without_numba else ""
    code += (
        "import resource, gymnasium, noma_semcom_env\n"
        f"env = gymnasium.make_vec('NomaSemCom-v0', {num_envs}, 'vector_entry_point')\n"
        "env.reset(seed=0)\n"
        "for _ in range(50): env.step(env.action_space.sample())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _best(some: Any, seconds: float, rounds: int) -> float:
    some()
    rates = []
    for _ in range(rounds):
        start, count = perf_counter(), 0
        while (passed := perf_counter() - start) < seconds:
            count += some()
        rates.append(count / passed)
    return max(rates)


def measure(ids: Sequence[str], batches: Sequence[int], seconds: float, **knobs: Any) -> list[dict[str, Any]]:
    """One row an id and form: steps a second, and the ratio to the yardstick's.

    Args:
        ids: Ids of the registry.
        batches: Numbers of sub-environments; the single form is batch 0.
        seconds: A round.
        **knobs: Fields of the scenario that differ.
    """
    yard = {0: single_rate(YARDSTICK, seconds)}
    yard |= {batch: vector_rate(YARDSTICK, batch, seconds) for batch in batches}
    rows = []
    for env_id in (YARDSTICK, *ids):
        for batch, reference in yard.items():
            if env_id == YARDSTICK:
                rate = reference
            else:
                rate = vector_rate(env_id, batch, seconds, **knobs) if batch else single_rate(env_id, seconds, **knobs)
            ratios = {"to_same_form": rate / reference, "to_single": rate / yard[0]}
            rows.append({"id": env_id, "envs": batch, "steps_per_s": rate, **ratios})
    return rows


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Steps a second over the number of sub-environments: a colour for each K and N, a line style for each task."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.4, 4.4), layout="constrained")
    sizes: list[str] = []
    for env_id in dict.fromkeys(row["id"] for row in rows):
        own = [row for row in rows if row["id"] == env_id and row["envs"]]
        task, _, size = env_id.removesuffix("-v0").partition("-")
        if size not in sizes:
            sizes.append(size)
        look = ("--", "black") if env_id == YARDSTICK else (_STYLES.get(task, "-"), f"C{sizes.index(size)}")
        points = [row["envs"] for row in own], [row["steps_per_s"] for row in own]
        axes.plot(*points, linestyle=look[0], color=look[1], marker=".", label=env_id)
    axes.set(xscale="log", yscale="log", xlabel="sub-environments", ylabel="steps/s")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Print the table, and write it as CSV and as a figure if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", default=[row.id for row in ENVIRONMENTS if row.id.startswith("NomaSemCom")])
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--seconds", type=float, default=1.0, help="a round")
    parser.add_argument("--set", dest="knobs", action="append", metavar="FIELD=VALUE", help="a field of Scenario")
    parser.add_argument("--without-numba", action="store_true", help="time the NumPy forms")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    if arguments.without_numba:
        sys.modules["numba"] = None  # type: ignore[assignment]  # importing it fails from here on
    knobs = read_knobs(arguments.knobs)
    rows = measure(arguments.ids, arguments.batches, arguments.seconds, **knobs)
    shown = Table(title="Steps a second, and ratios to CartPole-v1 in the same run")
    for heading in ("id", "form", "steps/s", "to CartPole, same form", "to CartPole, single"):
        shown.add_column(heading, justify="left" if heading in ("id", "form") else "right")
    for row in rows:
        form = f"vector, n = {row['envs']}" if row["envs"] else "single"
        ratios = [f"{row[key]:.3f}" for key in ("to_same_form", "to_single")]
        shown.add_row(row["id"], form, f"{row['steps_per_s']:,.0f}", *ratios)
    console = make_console()
    console.print(shown)
    if not knobs:
        console.print(f"reset() of NomaSemCom-v0, single: {reset_in_steps('NomaSemCom-v0'):.1f} steps")
        users, num_envs = (2, 4, 6, 8, 12, 16), 256
        costs, power = growth(users, num_envs, arguments.seconds)
        listed = ", ".join(f"{count}: {1e6 * cost:.1f}" for count, cost in zip(users, costs, strict=True))
        console.print(f"microseconds a step by K at n = {num_envs}: {listed}; grows as K^{power:.2f}")
        memory = memory_mb(1024, arguments.without_numba)
        console.print(f"peak memory of a process with n = 1024: {memory:.0f} MB")
    if arguments.csv:
        write_rows(rows, arguments.csv)
    if arguments.figure:
        draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
