"""The house itself: what loads when, what is shipped, and that names and versions agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCES = [path for home in ("noma_semcom_env", "agents", "benchmarks") for path in sorted((ROOT / home).rglob("*.py"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOMES = {"noma_semcom_env": "noma_semcom_env", "noma_semcom_agents": "agents", "noma_semcom_benchmarks": "benchmarks"}

LIGHT = (
    "noma_semcom_env",
    "noma_semcom_env.dynamics",
    "noma_semcom_env.envs.single",
    "noma_semcom_env.envs.vector",
    "noma_semcom_env.importance",
    "noma_semcom_env.link.beamforming",
    "noma_semcom_env.link.channel",
    "noma_semcom_env.link.convex_order",
    "noma_semcom_env.link.decoding_order",
    "noma_semcom_env.link.orthogonal",
    "noma_semcom_env.link.sionna",
    "noma_semcom_env.link.traces",
    "noma_semcom_env.mixture.allocation",
    "noma_semcom_env.mixture.captions",
    "noma_semcom_env.mixture.saliency",
    "noma_semcom_env.mixture.table",
    "noma_semcom_env.mixture_dynamics",
    "noma_semcom_env.mixture_models",
    "noma_semcom_env.mixture_noma_dynamics",
    "noma_semcom_env.mixture_scenario",
    "noma_semcom_env.recovery.table",
    "noma_semcom_env.rendering",
    "noma_semcom_env.scenario",
    "noma_semcom_env.transmission",
    "noma_semcom_env.wrappers",
    "noma_semcom_agents",
    "noma_semcom_agents.bandit",
    "noma_semcom_agents.boosting",
    "noma_semcom_agents.mixture_references",
    "noma_semcom_agents.oracle",
    "noma_semcom_agents.references",
    "noma_semcom_agents.schemes",
    "noma_semcom_agents.searching",
    "noma_semcom_agents.statistics",
)
# NumPy, Gymnasium and what they require.
CORE = {"cloudpickle", "farama_notifications", "gymnasium", "numpy", "typing_extensions"}


def test_light_modules_load_nothing_but_the_core() -> None:
    code = f"import sys; old = set(sys.modules); import {', '.join(LIGHT)}; print(*set(sys.modules) - old)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    foreign = loaded & packages_distributions().keys() - CORE - HOMES.keys()
    assert not foreign, f"one of {LIGHT} loads {sorted(foreign)}"


def test_messages_name_extras_that_exist() -> None:
    extras = PROJECT["optional-dependencies"].keys()
    for path in [*SOURCES, ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for group in re.findall(r"noma-semcom-env\[([\w,-]+)\]", path.read_text()):
            unknown = set(group.split(",")) - extras
            assert not unknown, f"{path.relative_to(ROOT)} names the extra {unknown}; there are {sorted(extras)}"


def test_every_requirement_is_pinned_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        name = canonicalize_name(requirement.name)
        if name != PROJECT["name"]:
            assert name in pins, f"{name} is not pinned in constraints.txt"
            assert requirement.specifier.contains(pins[name]), f"{requirement} does not admit the pinned {pins[name]}"


def test_versions_agree() -> None:
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    ruff = next(text for text in PROJECT["optional-dependencies"]["dev"] if text.startswith("ruff"))
    assert f'"{ruff}"' in (ROOT / ".pre-commit-config.yaml").read_text()


def test_no_file_outgrows_its_room() -> None:
    for path in [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]:
        lines = len(path.read_text().splitlines())
        assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines; give it a second room"


@pytest.mark.parametrize(
    ("budget_mb", "paths"),
    [
        (18, ("zoo/weights/street/diffusion", "zoo/weights/street/controlnet")),
        (5, ("zoo/weights/street/captioner", "zoo/weights/street/segmenter")),
        (5, ("zoo/weights/lpips",)),
        (12, ("recovery/tables", "mixture/tables")),
    ],
)
def test_what_is_shipped_keeps_its_byte_budget(budget_mb: int, paths: tuple[str, ...]) -> None:
    files = [file for path in paths for file in (ROOT / "noma_semcom_env" / path).rglob("*") if file.is_file()]
    assert files
    assert sum(file.stat().st_size for file in files) <= budget_mb * 1e6


@pytest.mark.parametrize("home", HOMES.values())
def test_every_folder_with_sources_is_a_typed_package(home: str) -> None:
    assert (ROOT / home / "py.typed").is_file()
    for path in SOURCES:
        if path.is_relative_to(ROOT / home):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent.relative_to(ROOT)} has no __init__.py"


@pytest.mark.slow
def test_wheel_holds_every_source_and_all_data(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        tree.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree)
    for home in HOMES.values():
        shutil.copytree(ROOT / home, tree / home, ignore=shutil.ignore_patterns("__pycache__", "*.part"))
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tree)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for installed, home in HOMES.items():
        for path in (tree / home).rglob("*"):
            if path.is_file() and ".egg-info" not in path.as_posix():
                assert f"{installed}/{path.relative_to(tree / home).as_posix()}" in held
    assert any(name.endswith("licenses/NOTICE") for name in held)
