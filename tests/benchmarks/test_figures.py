"""The figures' programs run: one seed, few steps, few episodes; trainings are shared among them."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks import fig04
from noma_semcom_benchmarks.pages import AGREES, DIFFERS, UNDECIDED

PROGRAMS = {
    "fig04": ("fig04a", "fig04b", "fig04c"),
    "fig05a": ("fig05a",),
    "fig05b": ("fig05b",),
    "fig05c": ("fig05c",),
    "fig06": ("fig06",),
    "transfer": ("transfer",),
    "pareto": ("pareto",),
    "beyond": ("beyond",),
    "knowledge": ("knowledge-noise", "knowledge"),
    "leaderboard": ("leaderboard",),
    "elsewhere": ("elsewhere",),
}
MORE = {"transfer": ["--no-crayon"], "leaderboard": ["--families", "K3N2"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("campaign")


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_quick_form_leaves_picture_data_and_verdicts(
    program: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [program, "--quick", "--root", str(root), "--output", str(tmp_path), *MORE.get(program, [])]
    monkeypatch.setattr("sys.argv", words)
    import_module(f"noma_semcom_benchmarks.{program}").main()
    printed = capsys.readouterr().out
    assert "its numbers mean nothing" in printed
    for name in PROGRAMS[program]:
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            assert list(csv.DictReader(file))
        claims = tmp_path / f"{name}-claims.csv"
        if claims.is_file():
            with claims.open(newline="") as file:
                assert {row["verdict"] for row in csv.DictReader(file)} <= {AGREES, DIFFERS, UNDECIDED}
    if program not in ("leaderboard", "elsewhere"):
        with Image.open(tmp_path / f"{PROGRAMS[program][-1]}.png") as picture:
            assert picture.size[0] > 500


@pytest.mark.parametrize("program", ["fig04", "fig05a", "fig05b", "fig05c", "fig06", "transfer", "elsewhere"])
def test_missing_trainings_end_a_figure_with_the_command_that_trains_them(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [program, "--root", str(tmp_path), "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="python -m noma_semcom_benchmarks.campaign"):
        import_module(f"noma_semcom_benchmarks.{program}").main()
    assert not list(tmp_path.iterdir())


def curve(steps: list[int], regret: list[float], **others: list[float]) -> dict[str, np.ndarray]:
    return {"steps": np.array(steps, float), "regret": np.array(regret), **{k: np.array(v) for k, v in others.items()}}


def test_who_converges_sooner_is_told_by_one_threshold() -> None:
    steps = [0, 100, 200, 300, 400]
    quick, slow = [1.0, 0.1, 0.1, 0.1, 0.1], [1.0, 0.9, 0.5, 0.12, 0.11]
    never = [1.0, 0.9, 0.9, 0.8, 0.8]
    curves = {
        fig04.IM: {seed: curve(steps, quick) for seed in range(5)},
        fig04.M: {seed: curve(steps, slow) for seed in range(5)},
        fig04.PLAIN: {seed: curve(steps, never) for seed in range(5)},
    }
    threshold, reached, claims = fig04.convergence_claims(curves, random=1.0, budget=400)
    assert threshold == pytest.approx(0.19)
    assert [reached[name][0] for name in curves] == [100, 300, np.inf]
    assert [one.verdict for one in claims] == [AGREES, AGREES]
    assert claims[0].numbers.startswith("sooner by: 50 % of the budget")
    assert "0 and 5 never got there" in claims[1].numbers
    nothing = fig04.convergence_claims(curves, random=0.05, budget=400)
    assert np.isnan(nothing[0])
    assert [one.verdict for one in nothing[2]] == [UNDECIDED, UNDECIDED]


def test_a_curve_that_stands_still_at_the_end_has_settled() -> None:
    steps = list(range(0, 1001, 50))
    still: Any = [1.0 / (1 + x / 20) for x in steps]
    moving: Any = [1.0 - x / 1000 for x in steps]
    flat = {"lpips": still, "latency_s": moving}
    curves = {name: {s: curve(steps, still, **flat) for s in range(2)} for name in (fig04.IM, fig04.M)}
    assert [one.verdict for one in fig04.settling_claims(curves, 1000)] == [AGREES, DIFFERS]
    assert isinstance(fig04.Sample(np.ones((1, 2))).mean(), Interval)
