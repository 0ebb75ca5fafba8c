"""The figures of Mixture of Semantics: intervals, verdicts, the ledger, and that every program runs."""

from __future__ import annotations

import csv
import importlib
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noma_semcom_agents.evaluation import Interval
from noma_semcom_benchmarks import mos_checks, mos_fig02, mos_fig03, mos_fig04, mos_ledger, mos_table1, pages
from noma_semcom_benchmarks.mos_curves import Curves, Point, claim_gain
from noma_semcom_benchmarks.mos_ledger import Ledger
from noma_semcom_benchmarks.mos_report import (
    AGREES,
    CANNOT_TELL,
    DOES_NOT,
    Claim,
    above,
    interval,
    make_parser,
    parse,
    report,
    save,
)
from noma_semcom_benchmarks.mos_scenes import CBR, SAMPLES, SETTING, ask
from noma_semcom_benchmarks.mos_schemes import MEASURED, MOS, SWIN, Condition
from noma_semcom_benchmarks.mos_threshold import find_edge, halves

FIGURES = ("fig02", "fig03", "fig04", "fig05", "fig06", "fig07", "table1", "table2", "checks")


def scene(number: int, tokens: int = 10) -> Any:
    return SimpleNamespace(name=f"scene {number}", number=number, tokens=tokens, fade=0.5)


def test_an_interval_holds_the_mean_and_leaves_out_nan() -> None:
    values = np.array([1.0, 2.0, 3.0, np.nan])
    found = interval(values)
    assert found.value == 2.0
    # Student's t of 2 degrees of freedom; a bootstrap never leaves the values and gives [1, 3].
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-6)
    assert interval(np.full(3, 5.0)) == Interval(5.0, 5.0, 5.0)
    assert interval(np.array([1.0])).low == -np.inf
    assert np.isnan(interval(np.array([np.nan])).value)


def test_intervals_of_few_scenes_are_as_wide_as_they_must_be() -> None:
    rng = np.random.default_rng(0)
    for count in (4, 16):
        draws = rng.normal(0.0, 1.0, (300, count))
        missed = np.mean([not one.low <= 0.0 <= one.high for one in map(interval, draws)])
        assert missed < 0.1, count


def test_a_verdict_needs_every_interval_on_its_side() -> None:
    plus, minus, unsure = Interval(1, 0.5, 1.5), Interval(-1, -1.5, -0.5), Interval(0.1, -0.5, 0.7)
    assert above([plus, plus]) == AGREES
    assert above([plus, minus]) == DOES_NOT
    assert above([plus, unsure]) == CANNOT_TELL
    assert above([]) == CANNOT_TELL


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


def test_the_ledger_keeps_every_scene_and_forgets_those_of_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def measure(condition: Condition, asked: Any) -> dict[str, float]:
        seen.append(asked.number)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return dict.fromkeys(MEASURED, 1.0)

    ledger = Ledger(tmp_path, measure, lambda scheme: {})
    asked, condition = [scene(n) for n in range(4)], Condition(SWIN, "awgn", CBR, 10.0)
    with pytest.raises(KeyboardInterrupt):
        ledger.gather([condition], asked)
    ledger.gather([condition], asked)
    assert seen == [0, 1, 2, 2, 3], "those before the third were kept at once"
    monkeypatch.setattr(mos_ledger, "VERSION", mos_ledger.VERSION + 1)
    ledger.gather([condition], asked[:1])
    assert seen[5:] == [0]


def test_what_scores_of_table_i_depend_on_is_in_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"models_sha256": "a", "denoising_steps": 4}
    monkeypatch.setattr(mos_table1, "load_transceiver", lambda: SimpleNamespace(origin=origin))

    def name() -> str:
        return mos_table1.key_of("awgn", 0.0, 0.03, 2)

    names = [name()]
    for knob, value in (("TRIED", (0, 5)), ("MIDDLING", 8), ("_SHIFT", 0.5)):
        with monkeypatch.context() as patch:
            patch.setattr(mos_table1, knob, value)
            names.append(name())
    monkeypatch.setitem(origin, "denoising_steps", 8)
    names.append(name())
    monkeypatch.setattr(mos_ledger, "VERSION", mos_ledger.VERSION + 1)
    names.append(name())
    assert len(set(names)) == 6


def test_scores_and_grids_are_kept_scene_by_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def killed_at_the_third(what: Any) -> None:
        seen.append(what.name)
        if len(seen) == 3:
            raise KeyboardInterrupt

    def scores(asked: Any, *rest: Any) -> np.ndarray:
        killed_at_the_third(asked)
        return np.full(8, float(asked.number))

    def grid(asked: Any, snrs: Any, cbrs: Any) -> dict[str, np.ndarray]:
        killed_at_the_third(asked[0])
        return {"SwinJSCC": np.full((len(snrs), len(cbrs), 1), float(asked[0].number))}

    asked = [scene(n) for n in range(4)]
    monkeypatch.setattr(mos_table1, "load_transceiver", lambda: SimpleNamespace(origin={}))
    monkeypatch.setattr(mos_table1, "clip_over_symbols", scores)
    monkeypatch.setattr(mos_checks, "origin", lambda scheme: {})
    monkeypatch.setattr(mos_checks, "measure_grid", grid)

    def kept_scores() -> np.ndarray:
        return mos_table1.scores_of(asked, "awgn", 0.0, 0.03, 1, tmp_path)[:, 0]

    def kept_grid() -> np.ndarray:
        return mos_checks.keep_grid(tmp_path, asked, (0.0, 5.0), (0.03,))["SwinJSCC"][1, 0]

    for kept in (kept_scores, kept_grid):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            kept()
        assert kept().tolist() == [0.0, 1.0, 2.0, 3.0]
        assert [int(name[-1]) for name in seen] == [0, 1, 2, 2, 3]


def test_gains_are_paired_and_leave_out_scenes_that_were_not_measured() -> None:
    point = Point(CBR, 0.0)
    first = {"psnr_roi_db": np.array([20.0, 30.0, 40.0])}
    second = {"psnr_roi_db": np.array([18.0, 28.0, np.nan])}
    curves = Curves([point], {("awgn", MOS, point): first, ("awgn", SWIN, point): second})
    assert curves.gain("awgn", MOS, SWIN, point, "psnr_roi_db") == Interval(2.0, 2.0, 2.0)
    assert claim_gain(curves, "above", "awgn", SWIN, "psnr_roi_db", "snr_db").verdict == AGREES
    assert claim_gain(curves, "below", "awgn", SWIN, "psnr_roi_db", "snr_db", sign=-1).verdict == DOES_NOT


def test_the_threshold_effect_is_told_from_its_absence() -> None:
    alphas = (0.0, 0.02, 0.1, 0.3, 0.5)

    def verdicts(curve: Any) -> tuple[str, ...]:
        rng = np.random.default_rng(0)
        points = [
            {"clip_roni": curve(a) + rng.normal(0, 0.01, 24), "psnr_roi_db": 30 - 9 * a + rng.normal(0, 0.1, 24)}
            for a in alphas
        ]
        return tuple(one.verdict for one in mos_fig02.judge({("awgn", 0.0): points}, alphas))

    assert verdicts(lambda a: 0.5 if a else 0.1) == (AGREES, AGREES, AGREES)
    assert verdicts(lambda a: 0.5) == (DOES_NOT, CANNOT_TELL, AGREES)
    # Without the last step, or nearly, in which a line reaches its end nothing is known beyond the threshold.
    assert verdicts(lambda a: 0.1 + 0.8 * a)[:2] == (CANNOT_TELL, CANNOT_TELL)
    assert verdicts(lambda a: 0.1 + 0.8 * max(a - 0.25, 0))[:2] == (CANNOT_TELL, CANNOT_TELL)


def test_a_line_has_no_threshold_wherever_one_is_found() -> None:
    rng = np.random.default_rng(1)
    alphas = np.linspace(0.0, 0.7, 36)
    line = (0.1 + 0.5 * alphas)[:, None] + rng.normal(0.0, 0.005, (36, 24))
    points = [{"clip_roni": one, "psnr_roi_db": one} for one in line]
    fast, slow, _ = mos_fig02.judge({("awgn", 0.0): points}, alphas.tolist())
    assert 0 < find_edge(line, alphas.tolist(), mos_fig02.SHARE).place < 35
    assert (fast.verdict, slow.verdict) == (DOES_NOT, DOES_NOT)


def test_thresholds_are_judged_on_other_scenes_than_they_are_found_on() -> None:
    found_on, judged_on = halves(25)
    assert sorted([*found_on, *judged_on]) == list(range(25))
    assert len(found_on) == 13
    np.testing.assert_array_equal(halves(25)[0], found_on)
    assert [one.tolist() for one in halves(1)] == [[0], [0]]
    curves = np.zeros((3, 25))
    curves[1:, found_on] = 1.0
    edge = find_edge(curves, (0.0, 0.1, 0.5), 0.97)
    assert (edge.place, edge.below.value) == (1, 0.0)
    curves[1:, judged_on] = 0.5
    assert find_edge(curves, (0.0, 0.1, 0.5), 0.97).below.value == pytest.approx(5.0)


def test_a_fall_of_the_errors_needs_a_threshold_where_texts_are_sent() -> None:
    alphas = (0.005, *np.linspace(0.01, 0.2, 20).tolist())
    sent = np.array(alphas)[:, None] > np.where(np.arange(32) < 30, 0.007, 0.012)

    def verdict(curve: Any, channel: str = "rayleigh", spread: float = 0.002) -> str:
        rng = np.random.default_rng(0)
        errors = np.stack([curve(a) + rng.normal(0, spread, 32) for a in alphas])
        claims = mos_fig03.judge({("captions", channel, 0.0): np.where(sent, errors, 1.0)}, alphas, sent)
        other = "awgn" if channel == "rayleigh" else "rayleigh"
        assert {one.verdict for one in claims if one.found.startswith(other)} == {CANNOT_TELL}
        return next(one.verdict for one in claims if one.found.startswith(channel))

    assert verdict(lambda a: 0.01 + 0.4 * np.exp(-a / 0.01)) == AGREES
    assert verdict(lambda a: 0.5 - 2.0 * a) == DOES_NOT, "a line; where none is sent all errors are 1"
    assert verdict(lambda a: 0.3) != AGREES
    assert verdict(lambda a: 0.2 + 0.5 * a) == DOES_NOT
    assert verdict(lambda a: 0.0, "awgn", 0.0) == CANNOT_TELL, "no errors, no fall"


def test_a_gain_of_a_size_is_more_than_a_gain() -> None:
    size = mos_fig04.claim_size
    assert size("3.68 dB", Interval(3.8, 3.5, 4.1), 3.68, "").verdict == AGREES
    assert size("3.68 dB", Interval(8.0, 7.0, 9.0), 3.68, "").verdict == DOES_NOT
    assert size("3.68 dB", Interval(3.0, -1.0, 7.0), 3.68, "").verdict == CANNOT_TELL
    point = Point(CBR, 0.0)

    def row(psnr: float, clip: float) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {"psnr_roi_db": psnr + rng.normal(0, 0.1, 16), "clip_roni": clip + rng.normal(0, 0.001, 16)}

    values = {(channel, MOS, point): row(28.0, 0.5) for channel in ("awgn", "rayleigh")}
    values |= {
        (channel, SWIN, point): {k: v * 0 + v.mean() - 8.0 for k, v in row(28.0, 0.5).items()}
        for channel in ("awgn", "rayleigh")
    }
    claims = mos_fig04.judge(Curves([point], values))
    assert [one.verdict for one in claims[:4]] == [AGREES, DOES_NOT, AGREES, DOES_NOT]


@pytest.mark.parametrize(("title", "shown"), [("Fig. 9", f"Fig. 9\n{SETTING}"), ("", SETTING)])
def test_a_figure_tells_in_what_it_differs_from_the_paper(title: str, shown: str, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    figure.subplots()
    figure.suptitle(title)
    path = save(figure, SimpleNamespace(output=tmp_path), "some")  # type: ignore[arg-type]
    assert path.is_file()
    assert figure.get_suptitle() == shown


def test_claims_are_written_with_their_verdicts_in_the_first_papers_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = SimpleNamespace(output=tmp_path / "new", scenes=3)
    claims = [Claim("it rises, always", "+1.00 [0.50, 1.50]", AGREES), Claim("it is steep", "0.1", CANNOT_TELL)]
    report("a figure", [{"snr_db": 0.0}], claims, given, "mos_fig99")  # type: ignore[arg-type]
    with (given.output / "mos_fig99-claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"text": one.text, "verdict": one.verdict, "numbers": one.found} for one in claims]
    assert list(rows[0]) == [field.name for field in fields(pages.Claim)]
    assert {path.name for path in given.output.iterdir()} == {"mos_fig99.csv", "mos_fig99-claims.csv"}
    assert "it is steep" in capsys.readouterr().out
    report("nothing claimed", [{"snr_db": 0.0}], [], given, "mos_fig98")  # type: ignore[arg-type]
    assert not (given.output / "mos_fig98-claims.csv").exists()


def test_a_quick_run_writes_elsewhere_than_a_real_one() -> None:
    def folder(*options: str) -> Path:
        found: Path = parse(make_parser("", scenes=32), options).output
        return found

    assert folder() == Path("docs/figures")
    assert Path("docs") not in folder("--quick").parents
    assert folder("--quick", "--output", "mine") == folder("--output", "mine") == Path("mine")


def test_the_law_of_table_i_is_told_from_its_breach() -> None:
    def rows(symbols: dict[float, list[float]], off: int = 0) -> list[dict[str, Any]]:
        return [
            {"channel": channel, "snr_db": snr, "cbr": cbr, "token_symbols": n, "low": n - off, "high": n + off}
            | {"symbols_for_1_percent": n}
            for channel in ("awgn", "rayleigh")
            for snr, counts in symbols.items()
            for cbr, n in zip((0.03, 0.06), counts, strict=True)
        ]

    law, fewer, *_ = mos_table1.judge(rows({0.0: [32, 32], 20.0: [5, 5]}), 10.0)
    assert (law.verdict, fewer.verdict) == (AGREES, AGREES)
    law, fewer, *_ = mos_table1.judge(rows({0.0: [5, 11], 20.0: [8, 8]}), 10.0)
    assert (law.verdict, fewer.verdict) == (DOES_NOT, DOES_NOT)
    assert mos_table1.judge(rows({0.0: [5, 5], 20.0: [8, 8]}), 10.0)[1].verdict == DOES_NOT
    assert mos_table1.judge(rows({0.0: [16, 16], 10.0: [22, 22], 20.0: [5, 5]}), 10.0)[1].verdict == DOES_NOT
    assert mos_table1.judge(rows({0.0: [8, 8], 20.0: [5, 5]}, off=2), 10.0)[1].verdict == CANNOT_TELL
    assert mos_table1.judge(rows({0.0: [16, 16], 20.0: [5, 5]}, off=2), 10.0)[1].verdict == AGREES


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
    with (tmp_path / f"mos_{name}-claims.csv").open(newline="") as file:
        assert all(one["verdict"] in (AGREES, DOES_NOT, CANNOT_TELL) for one in csv.DictReader(file))
    with Image.open(tmp_path / f"mos_{name}.png") as picture:
        assert picture.size[0] > 600
    told = capsys.readouterr().out
    assert "the paper" in told
    assert any(verdict in told for verdict in (AGREES, DOES_NOT, CANNOT_TELL))
