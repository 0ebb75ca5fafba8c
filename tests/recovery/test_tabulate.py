"""Tabulation: nothing that was computed is lost or computed twice, and the bundled entries come out again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.evaluation import make_oracle
from noma_semcom_agents.tabulation import tabulate_images
from noma_semcom_env.recovery import tabulate as module
from noma_semcom_env.recovery.live import SampledRecovery
from noma_semcom_env.recovery.subsets import sample_subsets, subset_members
from noma_semcom_env.recovery.table import RecoveryTable, TableError, load_table
from noma_semcom_env.recovery.tabulate import Recipe, _entry_digest, tabulate
from noma_semcom_env.recovery.workers import Job
from noma_semcom_env.zoo.presets import load_preset


@pytest.fixture(scope="module")
def smallest() -> tuple[RecoveryTable, np.ndarray]:
    """The validation images with the fewest features."""
    table = load_table("street-validation")
    return table, np.argsort([one.count for one in table.features], kind="stable")[:2]


def recipe_of(table: RecoveryTable) -> Recipe:
    return Recipe("street", table.provenance["denoising_steps"], table.provenance["diffusion_seeds"])


def write_entries(parts: Path, value: float, table: RecoveryTable, rows: np.ndarray, recipe: Recipe) -> None:
    """What an earlier run that was stopped would have left, had every recovery had this LPIPS."""
    parts.mkdir(exist_ok=True)
    for row in rows:
        one = table.features[row]
        name = _entry_digest(table.images[row], one, table.subsets_of(row), recipe.origin())
        for seed in recipe.seeds:
            np.save(parts / f"{name}-{seed}.npy", np.full(1 << one.count, value, dtype=np.float32))


def test_finished_entries_are_taken_up_and_leavings_removed(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path
) -> None:
    table, rows = smallest
    recipe, output, parts = recipe_of(table), tmp_path / "small.npz", tmp_path / "small.parts"
    features = [table.features[row] for row in rows]
    write_entries(parts, 0.125, table, rows, recipe)
    made = tabulate(table.images[rows], features, output, recipe)
    assert np.nanmin(made.lpips_by_seed) == np.nanmax(made.lpips_by_seed) == 0.125
    assert not parts.exists()
    pruned = [replace(one, kept=~one.kept) for one in features[::-1]]
    again = tabulate(table.images[rows[::-1]], pruned, output, recipe)
    assert np.array_equal(again.lpips_by_seed, made.lpips_by_seed[::-1], equal_nan=True)
    assert np.array_equal(load_table(output).bank.kept, again.bank.kept)
    assert not np.array_equal(again.bank.kept, made.bank.kept)
    pairs = len(recipe.seeds)
    with pytest.raises(ValueError, match=rf"small\.npz holds {pairs} pairs of image and diffusion seed that this run"):
        tabulate(table.images[rows[:1]], features[:1], output, recipe)
    with pytest.raises(ValueError, match=r"small\.npz holds 2 pairs of image and diffusion seed"):
        tabulate(table.images[rows], features, output, replace(recipe, seeds=recipe.seeds[1:]))
    with pytest.raises(ValueError, match=r"small\.npz was made by another recipe"):
        tabulate(table.images[rows], features, output, replace(recipe, steps=7))


def test_what_another_run_on_the_same_output_has_computed_stays(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path
) -> None:
    table, rows = smallest
    recipe, parts = recipe_of(table), tmp_path / "small.parts"
    write_entries(parts, 0.125, table, rows, recipe)
    few = replace(recipe, seeds=recipe.seeds[:1])
    tabulate(table.images[rows[:1]], [table.features[rows[0]]], tmp_path / "small.npz", few)
    assert len(list(parts.iterdir())) == len(rows) * len(recipe.seeds) - 1
    made = tabulate(table.images[rows], [table.features[row] for row in rows], tmp_path / "small.npz", recipe)
    assert np.nanmin(made.lpips_by_seed) == np.nanmax(made.lpips_by_seed) == 0.125
    assert not parts.exists()


@pytest.mark.parametrize("kept", [0, 60, 200])
def test_a_damaged_file_of_an_earlier_run_is_computed_anew(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, rows = smallest
    recipe, parts = replace(recipe_of(table), seeds=(0,)), tmp_path / "small.parts"
    write_entries(parts, 0.125, table, rows, recipe)
    first = sorted(parts.iterdir())[0]
    first.write_bytes(first.read_bytes()[:kept])
    monkeypatch.setattr(module, "compute_here", lambda compute, jobs, processes: computed_at_once(jobs, 0.25))
    made = tabulate(table.images[rows], [table.features[row] for row in rows], tmp_path / "small.npz", recipe)
    assert {0.125, 0.25} == {float(values[0, 0]) for values in made.lpips_by_seed}


def computed_at_once(jobs: list[Job], value: float) -> Generator[tuple[Job, np.ndarray], None, None]:
    for job in jobs:
        yield job, np.full(len(job.subsets), value, dtype=np.float32)


def test_a_disk_that_is_full_ends_the_run_at_once(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, rows = smallest
    closed = []

    def computing(*_: object) -> Generator[tuple[Job, np.ndarray], None, None]:
        try:
            yield from computed_at_once(jobs, 0.25)
        finally:
            closed.append(True)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    jobs = [Job(0, table.images[rows[0]], table.features[rows[0]], 0, np.arange(4), 0)]
    monkeypatch.setattr(module, "compute_here", computing)
    monkeypatch.setattr(module._Shards, "add", full)
    with pytest.raises(OSError, match="no space left"):
        tabulate(table.images[rows[:1]], [table.features[rows[0]]], tmp_path / "x.npz", recipe_of(table))
    assert closed


def test_two_images_of_one_id_are_refused(smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path) -> None:
    table, rows = smallest
    twice = rows[[0, 0]]
    with pytest.raises(ValueError, match=rf"'{table.features[rows[0]].image_id}'.* more than once"):
        tabulate(table.images[twice], [table.features[row] for row in twice], tmp_path / "x.npz", Recipe())


def test_a_cluster_that_is_not_there_is_told_of_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # trainings in this process leave a connection
    with pytest.raises(ConnectionError, match="no Ray cluster at '127.0.0.1:9'.*'ray start --head', or give 'local'"):
        tabulate_images("street:validation", tmp_path / "x.npz", count=1, ray_address="127.0.0.1:9")


def test_a_table_grows_by_seeds_without_computing_its_entries_again(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path
) -> None:
    table, rows = smallest
    output, first = tmp_path / "small.npz", replace(recipe_of(table), seeds=(3,))
    features = [table.features[row] for row in rows]
    write_entries(tmp_path / "small.parts", 0.125, table, rows, first)
    tabulate(table.images[rows], features, output, first)
    both = replace(first, seeds=(5, 3))
    write_entries(tmp_path / "small.parts", 0.25, table, rows, replace(first, seeds=(5,)))
    made = tabulate(table.images[rows], features, output, both)
    assert np.nanmax(made.lpips_by_seed[:, 0]) == 0.25
    assert np.nanmax(made.lpips_by_seed[:, 1]) == 0.125
    assert made.provenance["diffusion_seeds"] == [5, 3]


@pytest.fixture(scope="module")
def sampled(smallest: tuple[RecoveryTable, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> RecoveryTable:
    """A table of one image with 24 of its subsets, computed in a process of its own."""
    table, rows = smallest
    output, row = tmp_path_factory.mktemp("sampled") / "sampled.npz", int(rows[0])
    return tabulate(
        table.images[[row]], [table.features[row]], output, recipe_of(table), processes=1, max_table_entries=24
    )


@pytest.mark.slow
def test_where_subsets_are_too_many_a_declared_sample_is_tabulated(
    smallest: tuple[RecoveryTable, np.ndarray], sampled: RecoveryTable
) -> None:
    table, row = smallest[0], int(smallest[1][0])
    one = table.features[row]
    assert not sampled.is_full
    assert sampled.width == table.width
    assert np.array_equal(sampled.subsets_of(0), sample_subsets(one, 24))
    assert sampled.provenance["max_table_entries"] == 24
    assert "each feature alone" in sampled.provenance["sample"]
    assert np.abs(sampled.lpips_by_seed[0] - table.lpips_by_seed[row][:, sampled.subsets_of(0)]).max() < 1e-3


@pytest.mark.slow
def test_a_sample_falls_back_on_the_live_pipeline(
    smallest: tuple[RecoveryTable, np.ndarray], sampled: RecoveryTable
) -> None:
    table, row = smallest[0], int(smallest[1][0])
    env = gymnasium.make("NomaSemCom-v0", images=str(sampled.path), num_users=1, episode_length=3, prune=False)
    _, info = env.reset(seed=0)
    held = set(sampled.subsets_of(0).tolist())
    missing = next(i for i in range(1 << table.features[row].count) if i not in held)
    for subset in (missing, 0):
        action = subset_members(np.array(subset), table.width).astype(np.int8)
        *_, info = env.step(action)
        assert info["lpips"][0] == pytest.approx(table.mean[row, subset], abs=1e-3)
    with pytest.raises(TableError, match="models_sha256.*tabulate the images again"):
        SampledRecovery(replace(sampled, provenance={**sampled.provenance, "models_sha256": "0"}))
    with pytest.raises(TableError, match="savings need all"):
        sampled.savings(0, 1.0)
    with pytest.raises(ValueError, match="the LPIPS of every subset"):
        make_oracle({"images": str(sampled.path)})


def test_bad_recipes_are_refused() -> None:
    for seeds in ((), (1, 1), (-1,)):
        with pytest.raises(ValueError, match="seeds=.* must be distinct whole numbers"):
            Recipe(seeds=seeds)
    with pytest.raises(ValueError, match="steps=0"):
        Recipe(steps=0)
    assert Recipe().steps == load_preset("street").denoising_steps


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_and_replaces_a_lost_worker(
    smallest: tuple[RecoveryTable, np.ndarray], tmp_path: Path
) -> None:
    """In a process of its own: Ray leaves threads behind."""
    table, rows = smallest
    output = tmp_path / "small.npz"
    script = tmp_path / "run.py"
    script.write_text(ON_RAY.format(row=int(rows[0])))
    subprocess.run([sys.executable, str(script), str(output)], stdout=subprocess.DEVNULL, check=True, timeout=300)
    made = load_table(output)
    bundled = table.lpips_by_seed[rows[0], :2][:, made.subsets_of(0)]
    assert np.abs(made.lpips_by_seed[0] - bundled).max() < 1e-3


ON_RAY = """
import sys, threading, time
from pathlib import Path

import psutil

from noma_semcom_env.recovery.table import load_table
from noma_semcom_env.recovery.tabulate import Recipe, tabulate

killed = []


def kill_one():
    while not killed:
        for child in psutil.Process().children(recursive=True):
            try:
                if child.name().startswith("ray::_compute"):
                    child.kill()
                    killed.append(child.pid)
                    return
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.02)


table = load_table("street-validation")
threading.Thread(target=kill_one, daemon=True).start()
recipe = Recipe("street", table.provenance["denoising_steps"], table.provenance["diffusion_seeds"][:2])
tabulate(
    table.images[[{row}]], [table.features[{row}]], Path(sys.argv[1]), recipe, ray_address="local", max_table_entries=24
)
assert killed
"""


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
        "    table = load_table('street-validation')\n"
        f"    rows = {rows.tolist()}\n"
        "    made_by = table.provenance\n"
        "    recipe = Recipe('street', made_by['denoising_steps'], made_by['diffusion_seeds'][:1])\n"
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
    entries = np.load(first)
    done = np.isfinite(entries)
    assert done.any()
    entries[done] = 0.125
    np.save(first, entries)  # computed twice, they would have their true values
    subprocess.run([sys.executable, str(script), str(output)], stdout=subprocess.DEVNULL, check=True)
    made, bundled = load_table(output), table.lpips_by_seed[rows][:, :1]
    entries = made.lpips_by_seed[0, 0, : len(done)]
    assert (entries[done] == 0.125).all()
    assert not (entries[~done] == 0.125).any()
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
