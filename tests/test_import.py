from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "PIL",
    "cvxpy",
    "diffusers",
    "lpips",
    "matplotlib",
    "numba",
    "pandas",
    "pygame",
    "ray",
    "scipy",
    "torch",
    "torchvision",
    "transformers",
)


def printed_by(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout


def loaded_by(code: str) -> set[str]:
    """Those heavy packages that a fresh interpreter has loaded after running ``code``."""
    return set(printed_by(f"{code}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))").split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import noma_semcom_env") == set()


def test_stepping_a_table_driven_environment_loads_nothing_heavy(table_path: str) -> None:
    code = (
        "import gymnasium, noma_semcom_env\n"
        f"env = gymnasium.make('NomaSemCom-v0', images={table_path!r})\n"
        "env.reset(seed=0)\n"
        "env.step(env.action_space.sample())\n"
        f"envs = gymnasium.make_vec('NomaSemCom-v0', num_envs=2, images={table_path!r}, transmission='distance')\n"
        "envs.reset(seed=0)\n"
        "envs.step(envs.action_space.sample())\n"
    )
    # Numba, where it is installed, compiles the joint optimum and looks for SciPy.
    assert loaded_by(code) <= {"numba", "scipy"}


def test_importing_costs_little_beyond_gymnasium() -> None:
    """Processor time, as a ratio to what the package stands on: the best of three runs of each, taken in turn."""
    names = ("noma_semcom_env", "gymnasium")
    runs = [[float(printed_by(f"import time, {name}; print(time.process_time())")) for name in names] for _ in range(3)]
    ours, gymnasiums = (min(column) for column in zip(*runs, strict=True))
    assert ours < 2.0 * gymnasiums
