"""Memory: a table-driven environment is small, and tabulation fits a laptop."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ENVIRONMENT = """
import gymnasium
import psutil
import noma_semcom_env
env = gymnasium.make_vec("NomaSemCom-v0", num_envs=64, vectorization_mode="vector_entry_point", images="street-policy")
env.reset(seed=0)
for _ in range(25):
    env.step(env.action_space.sample())
print(psutil.Process().memory_info().rss)
"""


def test_a_table_driven_environment_stays_under_300_mb() -> None:
    done = subprocess.run([sys.executable, "-c", ENVIRONMENT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300e6


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
