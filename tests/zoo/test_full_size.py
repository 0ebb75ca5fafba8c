"""The full-size preset end to end, its classes at tiny size: COCO pictures become a table and an episode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.cli import app
from noma_semcom_agents.tabulation import tabulate_images
from noma_semcom_env.recovery.pipeline import load_recovery
from noma_semcom_env.recovery.table import RecoveryTable
from noma_semcom_env.zoo.loading import resolution_of
from noma_semcom_env.zoo.presets import load_preset


@pytest.fixture(scope="module")
def models(originals: Any) -> dict[str, Any]:
    """A mapping of four folders, as a user would give it."""
    parts = {part: str(folder) for part, folder in originals._asdict().items()}
    return {"preset": "sd15", **parts, "allow_bin": ["captioner"], "denoising_steps": 2, "max_features": 6}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's layout: two pictures with an object each."""
    root = tmp_path_factory.mktemp("coco")
    (root / "val2017").mkdir()
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (width, height) in enumerate([(96, 80), (70, 110)], start=7):
        name = f"{number:012d}.jpg"
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(root / "val2017" / name)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        outline = [[20.0, 20.0, 60.0, 20.0, 60.0, 60.0, 20.0, 60.0]]
        box = {"bbox": [20.0, 20.0, 40.0, 40.0], "area": 1600.0, "iscrowd": 0, "category_id": 3}
        annotations.append({"id": number, "image_id": number, "segmentation": outline, **box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "car"}]}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def table(models: dict[str, Any], coco: Path, tmp_path_factory: pytest.TempPathFactory) -> RecoveryTable:
    """Both pictures, a sample of 18 subsets of each."""
    output = tmp_path_factory.mktemp("table") / "coco.npz"
    return tabulate_images(f"coco:{coco}:val2017", output, models, seeds=(0,), processes=1, max_table_entries=18)


def test_the_resolution_comes_from_the_configuration(models: dict[str, Any]) -> None:
    assert resolution_of(load_preset(models)) == load_recovery(models).resolution == 64
    assert resolution_of(load_preset("street")) == 64


@pytest.mark.slow
def test_coco_pictures_become_a_table(table: RecoveryTable) -> None:
    assert [one.image_id for one in table.features] == ["coco:val2017:000000000007", "coco:val2017:000000000008"]
    assert table.images.shape == (2, 64, 64, 3)
    assert table.width == 6
    assert table.labels == load_preset("sd15").labels
    assert table.provenance["models"] == "sd15"
    assert table.provenance["denoising_steps"] == 2
    assert all(1 <= one.count <= 6 for one in table.features)


@pytest.mark.slow
def test_an_episode_on_the_table_settles_what_belongs_to_the_preset(
    table: RecoveryTable, models: dict[str, Any]
) -> None:
    env = gymnasium.make("NomaSemCom-v0", images=str(table.path), models=models, num_users=2, prune=False)
    scenario: Any = env.unwrapped.scenario  # type: ignore[attr-defined]
    assert scenario.latency_ref_s == load_preset("sd15").latency_ref_s
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        # What the sample lacks is computed live, by the same models.
        action = observation["action_mask"] * rng.integers(0, 2, observation["action_mask"].shape, dtype=np.int8)
        observation, reward, *_, info = env.step(action)
        assert np.isfinite(reward)
        assert (info["lpips"] > 0).all()


@pytest.mark.slow
def test_own_pictures_are_transmitted_by_swapped_models(models: dict[str, Any], coco: Path, tmp_path: Path) -> None:
    pictures = [str(path) for path in sorted((coco / "val2017").iterdir())]
    command = ["transmit", *pictures, "--output", str(tmp_path), "--set", f"models={json.dumps(models)}"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "transmission.json").read_text())
    assert json.loads(report["scenario"]["models"])["preset"] == "sd15"
    assert [user["picture"] for user in report["users"]] == pictures


def test_refusals_reach_the_command_line(models: dict[str, Any], coco: Path, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "x.npz")]
    refused = {**models, "allow_bin": []}
    for arguments, said in (
        ([f"coco:{coco}:val2017", "--models", json.dumps(refused)], "pytorch_model.bin"),
        ([f"coco:{coco}:train2017", "--models", json.dumps(models)], "train2017"),
        (["street:model", "--count", "2"], "trained on"),
        (["street:test", "--count", "2", "--models", "sd14"], "sd14"),
        (["street:test", "--count", "2", "--models", "{"], "no JSON object"),
        (["street:test", "--count", "2", "--ray", "local", "--processes", "2"], "no effect"),
    ):
        result = CliRunner().invoke(app, ["tabulate", *arguments, *output])
        assert result.exit_code == 2, result.output
        # The message is broken into the lines of a box.
        assert said.replace(" ", "") in "".join(result.output.replace("│", "").split())
