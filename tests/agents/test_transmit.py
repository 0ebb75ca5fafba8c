"""One transmission of pictures of the user's own, end to end with the bundled models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from noma_semcom_agents.cli import app
from noma_semcom_env.scenes.street import render


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """A street scene, and a grey photograph of another shape."""
    Image.fromarray(render(11_000_003).image).save(tmp_path / "scene.png")
    Image.fromarray(np.linspace(0, 255, 120 * 90).reshape(90, 120).astype(np.uint8)).save(tmp_path / "grey.jpg")
    return [str(tmp_path / "scene.png"), str(tmp_path / "grey.jpg")]


@pytest.mark.slow
def test_pictures_go_through_the_whole_chain(pictures: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = ["transmit", *pictures, "--output", str(folder), "--set", "num_antennas=1"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert {Path(line).name for line in result.output.split()} == {"transmission.png", "transmission.json"}
    report = json.loads((folder / "transmission.json").read_text())
    assert [user["picture"] for user in report["users"]] == pictures
    assert report["scenario"]["num_users"] == 2
    for user in report["users"]:
        sent = [one for one in user["features"] if one["sent"]]
        assert [one["available"] for one in user["features"]] == [one["sent"] for one in user["features"]]
        assert user["demand_bits"] == sum(one["size_bits"] for one in sent) > 0
        assert user["latency_s"] == pytest.approx(user["demand_bits"] / user["rate_bps"])
        assert 0 < user["lpips"] < 1.5
    assert report["latency_s"] == pytest.approx(max(user["latency_s"] for user in report["users"]))
    assert report["users"][0]["lpips"] < report["users"][1]["lpips"]
    with Image.open(folder / "transmission.png") as picture:
        assert picture.size[0] > 1000


def test_a_selection_can_be_asked_for(pictures: list[str], tmp_path: Path) -> None:
    sent = {}
    for select in ("all", "none"):
        command = ["transmit", pictures[0], "--output", str(tmp_path / select), "--select", select]
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
        report = json.loads((tmp_path / select / "transmission.json").read_text())
        sent[select] = {one["sent"] for one in report["users"][0]["features"]}
    assert sent == {"all": {True}, "none": {False}}


@pytest.mark.slow
def test_the_report_tells_the_scenarios_importance(pictures: list[str], tmp_path: Path) -> None:
    told = {}
    for name in ("paper", "fitted"):
        command = ["transmit", pictures[0], "--output", str(tmp_path / name), "--set", f"importance={name}"]
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
        report = json.loads((tmp_path / name / "transmission.json").read_text())
        told[name] = [one["importance"] for one in report["users"][0]["features"]]
    assert told["paper"] != told["fitted"]


@pytest.mark.slow
def test_a_trained_policy_selects_in_its_own_scenario(pictures: list[str], tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    knobs = ["--set", "bandwidth_hz=5e5", "--set", "prune=false"]
    command = ["train", "--output", run, "--steps", "1024", *knobs]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    command = ["transmit", pictures[0], "--output", str(tmp_path / "out"), "--run", run, "--set", "num_antennas=1"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "transmission.json").read_text())
    assert report["policy"] == "IM-PPO"
    assert report["scenario"]["bandwidth_hz"] == 5e5
    assert report["scenario"]["num_antennas"] == 1
    assert report["scenario"]["recovery"] == "live"
    assert all(one["available"] for one in report["users"][0]["features"])


def test_drawing_and_transmitting_need_no_ray() -> None:
    code = "import sys, noma_semcom_agents.transmit, noma_semcom_agents.pictures; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_what_cannot_be_sent_is_named(pictures: list[str], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    result = CliRunner().invoke(app, ["transmit", str(tmp_path / "text.png"), "--output", str(tmp_path)])
    assert result.exit_code == 2
    assert "cannot be read as a picture" in result.output
    assert CliRunner().invoke(app, ["transmit", pictures[0], "--select", "best"]).exit_code == 2
    assert CliRunner().invoke(app, ["transmit", str(tmp_path / "absent.png")]).exit_code == 2
    assert CliRunner().invoke(app, ["transmit", pictures[0], "--run", str(tmp_path)]).exit_code == 2
    taken = CliRunner().invoke(app, ["transmit", pictures[0], "--set", "num_users=3"])
    assert taken.exit_code == 2
    assert "num_users" in taken.output
