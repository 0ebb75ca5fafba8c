"""Tabulation: nothing that was computed is lost or computed twice, and the bundled entries come out again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noma_semcom_env.recovery.table import RecoveryTable, load_table
from noma_semcom_env.recovery.tabulate import Recipe, _entry_digest, tabulate


@pytest.fixture(scope="module")
def smallest() -> tuple[RecoveryTable, np.ndarray]:
    """The test images with the fewest features."""
    table = load_table("street-test")
    return table, np.argsort([one.count for one in table.features], kind="stable")[:2]


def recipe_of(table: RecoveryTable) -> Recipe:
    return Recipe("street", table.provenance["denoising_steps"], tuple(table.provenance["diffusion_seeds"]))


def test_finished_images_are_taken_up_and_leavings_removed(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path
) -> None:
    table, rows = smallest
    recipe, output = recipe_of(table), tmp_path / "small.npz"
    features = [table.features[row] for row in rows]
    parts = tmp_path / "small.parts"
    parts.mkdir()
    (parts / "of-another-run.npy").write_bytes(b"")
    for image, one in zip(table.images[rows], features, strict=True):
        entries = np.full((len(recipe.seeds), 1 << one.count), 0.125, dtype=np.float32)
        np.save(parts / f"{_entry_digest(image, one, recipe.provenance())}.npy", entries)
    made = tabulate(table.images[rows], features, output, recipe)
    assert np.nanmin(made.lpips_by_seed) == np.nanmax(made.lpips_by_seed) == 0.125
    assert not parts.exists()
    pruned = [replace(one, kept=~one.kept) for one in features[::-1]]
    again = tabulate(table.images[rows[::-1]], pruned, output, recipe)
    assert np.array_equal(again.lpips_by_seed, made.lpips_by_seed[::-1], equal_nan=True)
    assert np.array_equal(load_table(output).bank.kept, again.bank.kept)
    assert not np.array_equal(again.bank.kept, made.bank.kept)
    with pytest.raises(ValueError, match=r"small\.npz holds 1 images that this run would drop"):
        tabulate(table.images[rows[:1]], features[:1], output, recipe)
    with pytest.raises(ValueError, match=r"small\.npz was made by another recipe"):
        tabulate(table.images[rows], features, output, replace(recipe, seeds=(7,)))


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker_and_goes_on_where_it_was(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path
) -> None:
    table, rows = smallest
    output, parts = tmp_path / "small.npz", tmp_path / "small.parts"
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from noma_semcom_env.recovery.table import load_table\n"
        "from noma_semcom_env.recovery.tabulate import Recipe, tabulate\n"
        "if __name__ == '__main__':\n"
        "    table = load_table('street-test')\n"
        f"    rows = {rows.tolist()}\n"
        "    made_by = table.provenance\n"
        "    recipe = Recipe('street', made_by['denoising_steps'], tuple(made_by['diffusion_seeds']))\n"
        "    tabulate(table.images[rows], [table.features[i] for i in rows], Path(sys.argv[1]), recipe, processes=1)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    run = subprocess.Popen([sys.executable, str(script), str(output)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(parts.glob("*.npy")):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = children_of(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert workers
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (first,) = parts.glob("*.npy")
    np.save(first, np.full_like(np.load(first), 0.125))  # computed twice, it would have its true values
    subprocess.run([sys.executable, str(script), str(output)], stdout=subprocess.DEVNULL, check=True)
    made, bundled = load_table(output), table.lpips_by_seed[rows]
    assert np.nanmax(np.abs(made.lpips_by_seed[0] - 0.125)) == 0
    assert np.nanmax(np.abs(made.lpips_by_seed[1] - bundled[1])) < 1e-3
    assert not parts.exists()


def children_of(parent: int) -> list[int]:
    """Processes whose parent is ``parent`` (Linux)."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry))
    return found
