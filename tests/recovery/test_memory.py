"""Memory: a table-driven environment is small, and tabulation fits a laptop."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ENVIRONMENT = """
import sys
import gymnasium
import psutil
import noma_semcom_env
name, num_envs = sys.argv[1], int(sys.argv[2])
env = gymnasium.make_vec(name, num_envs=num_envs, vectorization_mode="vector_entry_point", images="street-policy")
env.reset(seed=0)
for _ in range(25):
    env.step(env.action_space.sample())
print(psutil.Process().memory_info().rss)
"""


@pytest.mark.parametrize(
    ("name", "num_envs", "most"),
    [
        ("NomaSemCom-v0", 64, 300e6),
        pytest.param("NomaSemCom-v0", 1024, 500e6, marks=pytest.mark.slow),
        pytest.param("NomaSemComModelFree-K10N4-v0", 1024, 500e6, marks=pytest.mark.slow),
    ],
)
def test_a_table_driven_environment_stays_small(name: str, num_envs: int, most: float) -> None:
    command = [sys.executable, "-c", ENVIRONMENT, name, str(num_envs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < most


@pytest.mark.slow
def test_tabulation_stays_under_3_gb(tmp_path: Path) -> None:
    """Extraction, two workers and all that they share, counted once."""
    command = "tabulate street:validation --offset 9000 --count 2 --seeds 0 --processes 2 --output".split()
    entry = [sys.executable, "-m", "noma_semcom_agents.cli"]
    run = subprocess.Popen([*entry, *command, str(tmp_path / "x.npz")], stdout=subprocess.DEVNULL)
    most, seen = 0, psutil.Process(run.pid)
    while run.poll() is None:
        try:
            family = [seen, *seen.children(recursive=True)]
            most = max(most, sum(one.memory_full_info().pss for one in family))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        time.sleep(0.2)
    assert run.returncode == 0
    assert 0.5e9 < most < 3e9
