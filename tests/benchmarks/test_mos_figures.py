"""The figures of Mixture of Semantics: intervals, verdicts, the ledger, and that every program runs."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks import mos_fig02, mos_table1
from noma_semcom_benchmarks.mos_curves import Curves, Point, claim_gain
from noma_semcom_benchmarks.mos_ledger import Ledger
from noma_semcom_benchmarks.mos_report import AGREES, CANNOT_TELL, DOES_NOT, above, interval
from noma_semcom_benchmarks.mos_scenes import CBR, SAMPLES, ask
from noma_semcom_benchmarks.mos_schemes import MEASURED, MOS, SWIN, Condition

FIGURES = ("fig02", "fig03", "fig04", "fig05", "fig06", "fig07", "table1", "table2", "checks")


def scene(number: int, tokens: int = 10) -> Any:
    return SimpleNamespace(name=f"scene {number}", number=number, tokens=tokens, fade=0.5)


def test_an_interval_holds_the_mean_and_leaves_out_nan() -> None:
    values = np.array([1.0, 2.0, 3.0, np.nan])
    found = interval(values)
    assert found.value == 2.0
    assert 1.0 <= found.low < 2.0 < found.high <= 3.0
    assert interval(np.full(3, 5.0)) == Interval(5.0, 5.0, 5.0)
    assert interval(np.array([1.0])).low == -np.inf


def test_a_verdict_needs_every_interval_on_its_side() -> None:
    plus, minus, unsure = Interval(1, 0.5, 1.5), Interval(-1, -1.5, -0.5), Interval(0.1, -0.5, 0.7)
    assert above([plus, plus]) == AGREES
    assert above([plus, minus]) == DOES_NOT
    assert above([plus, unsure]) == CANNOT_TELL


def test_the_share_of_the_text_follows_its_symbols() -> None:
    assert Condition(MOS, "awgn", CBR, 0.0, token_symbols=5).share(scene(0)) == 50 / round(CBR * SAMPLES)
    assert Condition(MOS, "awgn", CBR, 0.0, alpha=0.3).share(scene(0)) == 0.3
    with pytest.raises(ValueError, match="both None"):
        Condition(MOS, "awgn", CBR, 0.0).share(scene(0))
    assert Condition(MOS, "rayleigh", CBR, 7.0, alpha=0.3).effective_db(scene(0)) == pytest.approx(
        7.0 - 6.0206, abs=1e-4
    )


def test_the_ledger_measures_once_and_goes_on_where_it_was(tmp_path: Path) -> None:
    seen: list[str] = []

    def measure(condition: Condition, asked: Any) -> dict[str, float]:
        seen.append(asked.name)
        if asked.number == 2:
            raise KeyboardInterrupt
        return dict.fromkeys(MEASURED, condition.snr_db + asked.number)

    def ledger(origin: str = "a") -> Ledger:
        return Ledger(tmp_path, measure, lambda scheme: {"models": origin})

    condition = Condition(SWIN, "awgn", CBR, 10.0)
    found = ledger().gather([condition], [scene(0), scene(1)])
    assert found[condition]["psnr_roi_db"].tolist() == [10.0, 11.0]
    ledger().gather([condition], [scene(1), scene(3)])
    assert seen == ["scene 0", "scene 1", "scene 3"]
    ledger("b").gather([condition], [scene(0)])
    assert seen[3:] == ["scene 0"]
    with pytest.raises(KeyboardInterrupt):
        ledger().gather([condition], [scene(0), scene(2)])
    assert not list(tmp_path.glob("*.part"))


def test_gains_are_paired_and_leave_out_scenes_that_were_not_measured() -> None:
    point = Point(CBR, 0.0)
    first = {"psnr_roi_db": np.array([20.0, 30.0, 40.0])}
    second = {"psnr_roi_db": np.array([18.0, 28.0, np.nan])}
    curves = Curves([point], {("awgn", MOS, point): first, ("awgn", SWIN, point): second})
    assert curves.gain("awgn", MOS, SWIN, point, "psnr_roi_db") == Interval(2.0, 2.0, 2.0)
    assert claim_gain(curves, "above", "awgn", SWIN, "psnr_roi_db", "snr_db").verdict == AGREES
    assert claim_gain(curves, "below", "awgn", SWIN, "psnr_roi_db", "snr_db", sign=-1).verdict == DOES_NOT


def test_the_threshold_effect_is_told_from_its_absence() -> None:
    def points(clip: list[float]) -> list[dict[str, np.ndarray]]:
        wobble = np.linspace(-0.01, 0.01, 5)
        return [{"clip_roni": one + wobble, "psnr_roi_db": 30 - 5 * i + wobble} for i, one in enumerate(clip)]

    alphas = (0.0, 0.02, 0.1, 0.5)
    effect = mos_fig02.judge({("awgn", 0.0): points([0.1, 0.5, 0.5, 0.5])}, alphas)
    assert [one.verdict for one in effect] == [AGREES] * 3
    assert "threshold 2.0%" in effect[0].found
    none = mos_fig02.judge({("awgn", 0.0): points([0.5, 0.5, 0.5, 0.5])}, alphas)
    assert none[0].verdict == DOES_NOT


def test_the_law_of_table_i_is_told_from_its_breach() -> None:
    def rows(symbols: dict[float, list[float]]) -> list[dict[str, Any]]:
        return [
            {"channel": channel, "snr_db": snr, "cbr": cbr, "token_symbols": n, "low": n, "high": n}
            | {"symbols_for_1_percent": n}
            for channel in ("awgn", "rayleigh")
            for snr, counts in symbols.items()
            for cbr, n in zip((0.03, 0.06), counts, strict=True)
        ]

    law, fewer, *_ = mos_table1.judge(rows({0.0: [32, 32], 20.0: [5, 5]}), 10.0)
    assert (law.verdict, fewer.verdict) == (AGREES, AGREES)
    law, fewer, *_ = mos_table1.judge(rows({0.0: [5, 11], 20.0: [8, 8]}), 10.0)
    assert (law.verdict, fewer.verdict) == (DOES_NOT, DOES_NOT)


def test_the_threshold_of_table_i_is_the_first_that_saturates() -> None:
    scores = np.array([[0.1, 0.3, 0.49, 0.5, 0.5, 0.5, 0.5, 0.5]] * 3)
    assert mos_table1.threshold(scores) == 6
    assert mos_table1.spread(scores) == (6.0, 6.0)


@pytest.mark.slow
def test_scenes_hold_an_object_and_fades_cover_their_law() -> None:
    scenes = ask("validation", 3)
    for asked in scenes:
        assert asked.kind in asked.scene.caption
        assert asked.kind not in asked.prepared.captions[0].split()
        assert 0 < asked.region.mean() < 0.9
    gains = np.array([abs(complex(np.sqrt(-np.log1p(-((0.5 + n * 0.6180339887) % 1.0))))) ** 2 for n in range(64)])
    assert gains.mean() == pytest.approx(1.0, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_a_quick_run_writes_figure_and_numbers(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"noma_semcom_benchmarks.mos_{name}")
    options = ["--quick", "--output", str(tmp_path), "--measurements", str(tmp_path / "kept")]
    module.main([*options, *(["--diffcom-scenes", "0"] if name in ("fig04", "fig05") else [])])
    with (tmp_path / f"mos_{name}.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) >= 2
    with Image.open(tmp_path / f"mos_{name}.png") as picture:
        assert picture.size[0] > 600
    told = capsys.readouterr().out
    assert "the paper" in told
    assert any(verdict in told for verdict in (AGREES, DOES_NOT, CANNOT_TELL))
