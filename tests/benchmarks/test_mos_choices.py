"""The measurements behind the assumptions of the mixture: what they rest on, and that they can come out either way."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from noma_semcom_benchmarks import mos_choices, mos_guidance
from noma_semcom_benchmarks.mos_choices import BEST, Effort, Measured, by_item, compare, even, play, send
from noma_semcom_benchmarks.mos_resampling import Resampling
from noma_semcom_env import MixtureScenario
from noma_semcom_env.mixture.table import load_mixture_table
from noma_semcom_env.mixture_dynamics import MixtureDynamics

EFFORT = Effort(snrs=3, fades=100, episodes=3)


def value(rows: list[Measured], value: Any, at: str, quantity: str) -> float:
    (found,) = [row.found for row in rows if (row.value, row.at, row.quantity) == (value, at, quantity)]
    return found.value


def test_values_of_a_group_are_no_more_than_one() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=40)
    alone = Resampling(np.arange(40)).interval(drawn)
    repeated = Resampling(np.repeat(np.arange(40), 5)).interval(np.repeat(drawn, 5))
    assert (repeated.low, repeated.high) == pytest.approx((alone.low, alone.high))
    taken_apart = Resampling(np.arange(200)).interval(np.repeat(drawn, 5))
    assert taken_apart.high - taken_apart.low < 0.6 * (alone.high - alone.low)
    assert alone.value == pytest.approx(drawn.mean())


def test_intervals_miss_the_mean_as_seldom_as_they_say() -> None:
    rng, groups = np.random.default_rng(1), np.repeat(np.arange(20), 3)
    found = [
        Resampling(groups, seed).interval(rng.normal(size=20)[groups] + rng.normal(0, 0.3, 60)) for seed in range(100)
    ]
    assert np.mean([not one.low <= 0.0 <= one.high for one in found]) < 0.15


def test_the_best_candidate_has_an_interval_of_candidates() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 30)
    clear = Resampling(np.arange(30)).best(np.stack([noise, noise + 1, noise + 0.5]))
    assert (clear.place, clear.low, clear.high) == (1, 1, 1)
    unsure = Resampling(np.arange(30)).best(rng.normal(0, 1, (3, 30)) + np.array([[0.0], [0.1], [0.0]]))
    assert unsure.low < unsure.high


def test_gains_over_both_ends_are_paired() -> None:
    luck = np.random.default_rng(0).normal(0, 10, 12)
    rewards = {1.0: luck + np.array([[0.0], [2.0], [1.0]]), 2.0: luck + np.array([[3.0], [2.0], [1.0]])}
    rows = list(compare("cbr_weight", rewards, (0.1, 0.2, 0.3), "CBR", Resampling(np.arange(12))))
    assert value(rows, 1.0, BEST, "CBR") == 0.2
    assert value(rows, 2.0, BEST, "CBR") == 0.1
    gains = {row.quantity: row.found for row in rows if row.value == 1.0 and "less" in row.quantity}
    for end, gain in (("0.1", 2.0), ("0.3", 1.0)):
        one = gains[f"reward less that of CBR {end}"]
        assert (one.value, one.low, one.high) == pytest.approx((gain, gain, gain))
    assert value(rows, 2.0, BEST, "reward less that of CBR 0.1") == 0.0


def test_every_item_meets_every_snr_and_fade(mixture_path: str) -> None:
    assert even(0.0, 20.0, 4).tolist() == [2.5, 7.5, 12.5, 17.5]
    knobs = {"images": mixture_path, "channel": "rayleigh"}
    done = send(knobs, 0.2, np.array([0.05, 0.1]), np.array([3.0, 9.0]), Effort(fades=10))
    items = load_mixture_table(mixture_path).items
    assert done.reward.shape == (len(items), 2, 2, 10)
    found = by_item(done)
    dynamics = MixtureDynamics(MixtureScenario(images=mixture_path))
    fade_db = 10 * np.log10(-np.log1p(-0.35))
    one = dynamics.value(*map(np.array, (4, 9.0, 9.0 + fade_db, 0.2, 0.05, 0)))
    assert done.reward[4, 1, 0, 3] == pytest.approx(float(one.reward))
    assert found["reward"][4] == pytest.approx(done.reward[4].mean())
    assert found["mask_symbols"][4] == pytest.approx(done.split.mask[4].mean())


def test_a_dearer_cbr_is_chosen_smaller(mixture_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mos_choices, "CBR_WEIGHTS", (0.0, 0.04, 5.0))
    rows = list(mos_choices.measure_cbr_weight(mixture_path, EFFORT))
    best = [value(rows, weight, BEST, "CBR") for weight in (0.0, 0.04, 5.0)]
    assert best == sorted(best, reverse=True)
    assert best[0] == mos_choices.CBRS[-1]
    assert best[-1] == mos_choices.CBRS[0]
    free, dear = (value(rows, weight, "CBR 0.08", "reward") for weight in (0.0, 0.04))
    assert free - dear == pytest.approx(0.04 * 0.08 / 0.12)


def test_the_uplinks_reward_is_its_quality_less_its_latency(mixture_path: str) -> None:
    found = play({"images": mixture_path, "latency_ref_s": 0.02}, 0.06, episodes=4, seed=5)
    assert found["reward"].shape == (4,)
    np.testing.assert_allclose(found["reward"], 0.5 * found["quality"] - 0.5 * found["latency_s"] / 0.02)
    assert len(set(found["reward"].tolist())) == 4
    again = play({"images": mixture_path, "latency_ref_s": 0.02}, 0.06, episodes=4, seed=5)
    np.testing.assert_array_equal(found["reward"], again["reward"])


def test_a_dearer_latency_is_chosen_shorter(mixture_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mos_choices, "LATENCIES_S", (1e-4, 1.0))
    monkeypatch.setattr(mos_choices, "UPLINK_CBRS", (0.02, 0.06, 0.12))
    rows = list(mos_choices.measure_latency_ref(mixture_path, EFFORT))
    assert value(rows, 1e-4, BEST, "CBR") == 0.02
    assert value(rows, 1.0, BEST, "CBR") == 0.12
    assert value(rows, 1.0, "CBR 0.02", "latency_s") < value(rows, 1.0, "CBR 0.12", "latency_s")


def test_masks_are_lost_as_often_as_their_rate_says(mixture_path: str) -> None:
    rows = list(mos_choices.measure_mask_outage(mixture_path, EFFORT))
    at = "SNR 20 dB"
    for outage in mos_choices.OUTAGES:
        assert value(rows, outage, at, "mask_not_sent") == 0.0
        assert value(rows, outage, at, "region_lost") == pytest.approx(outage)
    symbols = [value(rows, outage, at, "mask_symbols") for outage in mos_choices.OUTAGES]
    assert symbols == sorted(symbols, reverse=True)
    low = [value(rows, outage, "SNR 0 dB", "mask_not_sent") for outage in mos_choices.OUTAGES]
    assert low[0] > low[-1] == 0.0
    for place in ("SNR 0 dB", at, "SNR 0 to 20 dB"):
        best = value(rows, BEST, place, "outage")
        rewards = {outage: value(rows, outage, place, "reward") for outage in mos_choices.OUTAGES}
        assert rewards[best] == max(rewards.values())
        assert value(rows, BEST, place, "reward less that of 0.1") == pytest.approx(rewards[best] - rewards[0.1])


def test_what_a_lost_text_costs_is_weighed_as_the_reward_weighs_it(mixture_path: str) -> None:
    rows = list(mos_choices.measure_penalty(mixture_path, EFFORT))
    with_text, without = (value(rows, 0.1, f"AWGN, alpha {alpha}", "clip_roni") for alpha in ("0.05", "0"))
    fall = value(rows, 0.1, "AWGN, alpha 0.05 less 0", "clip_roni")
    assert fall == pytest.approx(with_text - without)
    ceiling = load_mixture_table(mixture_path).clip_ceiling
    worth = value(rows, 0.1, "AWGN, alpha 0.05 less 0", "reward of clip_roni")
    assert worth == pytest.approx(0.5 * fall / ceiling)
    # Without a text every seed pays the penalty.
    free, fined = (value(rows, penalty, "alpha 0", "reward") for penalty in (0.0, 0.5))
    assert free - fined == pytest.approx(0.5)


def test_psnr_is_compared_with_its_reference(mixture_path: str) -> None:
    rows, at = list(mos_choices.measure_psnr_ref(mixture_path, EFFORT)), "AWGN, alpha 0.05"
    least, largest = (value(rows, 40.0, at, f"{which} psnr_roi_db") for which in ("least", "largest"))
    assert least < value(rows, 40.0, at, "psnr_roi_db") < largest
    for reference in mos_choices.PSNR_REFS_DB:
        assert (value(rows, reference, at, "share above it") > 0) == (largest > reference)
    assert value(rows, 40.0, at, "reward of psnr_roi_db") == pytest.approx(
        0.5 * value(rows, 40.0, at, "psnr_roi_db") / 40
    )


def test_a_quick_run_writes_every_choice_and_nothing_under_docs(
    mixture_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mos_choices, "COMPARED", ())
    mos_choices.main(["--quick", "--images", mixture_path])
    assert not (tmp_path / "docs").exists()
    with (tmp_path / "runs" / "figures-quick" / "mos_choices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["choice"] for row in rows} == set(mos_choices.MEASURED)
    assert list(rows[0]) == ["choice", "value", "at", "quantity", "mean", "low", "high"]
    for row in rows:
        assert not row["low"] or float(row["low"]) <= float(row["mean"]) <= float(row["high"]) or row["at"] == BEST
    told = capsys.readouterr().out
    assert all(choice in told for choice in mos_choices.MEASURED)
    assert "3 pictures" in told


def test_gains_of_guidance_are_over_the_preset() -> None:
    pictures = np.array([0, 0, 1, 2])
    found = {
        (4, scale): {"clip_roni": np.array([0.1, 0.2, 0.3, 0.4]) + gain, "lpips": np.full(4, 0.3 - gain)}
        for scale, gain in ((1.0, 0.0), (2.0, 0.05))
    }
    first, second = mos_guidance.rows_of(found, pictures, (4, 1.0))
    assert (first["clip_roni"], first["clip_roni_less_preset"]) == (0.25, 0.0)
    assert [second[f"clip_roni_less_preset{end}"] for end in ("", "_low", "_high")] == [0.05] * 3
    assert second["lpips_less_preset"] == -0.05
    assert second["clip_roni_low"] < 0.3 < second["clip_roni_high"]
    assert "lpips_less_preset" not in mos_guidance.rows_of(found, pictures, (8, 1.0))[0]


def test_items_without_a_rest_are_not_painted(mixture_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = load_mixture_table(mixture_path)
    whole = table.items.rois.copy()
    whole[1] = True
    changed = SimpleNamespace(items=replace(table.items, rois=whole))
    monkeypatch.setattr(mos_guidance, "load_mixture_table", lambda name: changed)
    scenes = mos_guidance.scenes_of("any", 3)
    np.testing.assert_array_equal(scenes.pictures, table.items.picture[[0, 2, 3]])
    assert scenes.captions == tuple(table.items.captions[i] for i in (0, 2, 3))
    np.testing.assert_array_equal(scenes.images[1], table.items.pictures[table.items.picture[2]])


@pytest.mark.slow
def test_painting_is_measured_by_guidance_steps_and_seed(
    mixture_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transceiver = mos_guidance.load_transceiver()
    scenes = mos_guidance.scenes_of(mixture_path, 2)
    both, first, second = (mos_guidance.measure(transceiver, scenes, 2.0, 2, seeds) for seeds in ((0, 1), (0,), (1,)))
    for name in mos_guidance.QUALITIES:
        np.testing.assert_allclose(both[name], (first[name] + second[name]) / 2, rtol=1e-3)  # of rounding
        assert (first[name] != second[name]).all()
    for other in ((3.0, 2), (2.0, 3)):
        assert (mos_guidance.measure(transceiver, scenes, *other, (0,))["lpips"] != first["lpips"]).any()
    monkeypatch.chdir(tmp_path)
    mos_guidance.main(["--quick", "--images", mixture_path])
    assert not (tmp_path / "docs").exists()
    with (tmp_path / "runs" / "figures-quick" / "mos_guidance.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(-1 <= float(row["clip_roni"]) <= 1 and float(row["lpips"]) > 0 for row in rows)
