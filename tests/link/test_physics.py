"""What must hold of every transmission, whoever chose it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noma_semcom_env.link.beamforming import mmse_beams, worst_case_beams
from noma_semcom_env.link.channel import drop_distances
from noma_semcom_env.link.decoding_order import minimize_latency_order
from noma_semcom_env.link.sic import transmit
from noma_semcom_env.transmission import SOLVERS

BATCH = 1_250  # times 4 numbers of users, 4 of antennas and 5 ways to transmit: 100 000 transmissions
OPTIONS: list[dict[str, float]] = [{}, {"error_probability": 1e-3}, {"sic_residual": 0.01}]
NOMA = [name for name in SOLVERS if name != "paper"]


@pytest.mark.parametrize("antennas", [1, 2, 3, 4])
@pytest.mark.parametrize("users", [2, 3, 4, 5])
def test_nothing_is_faster_than_the_joint_optimum(users: int, antennas: int, uplinks: Any) -> None:
    rng = np.random.default_rng([40, users, antennas])
    case = uplinks.draw(rng, (BATCH,), users, antennas, silent=0.1)
    case["power_w"] = case["power_w"] * 10 ** rng.uniform(-8, 5, (BATCH, 1))  # SNRs from -40 to over 100 dB
    toward = rng.random((BATCH, 1, 1))  # from independent channels to collinear ones
    case["channel"] = (1 - toward) * case["channel"] + toward * case["channel"][:, :1]
    channel, active = (case["channel"], case["power_w"], case["noise_power_w"]), case["demand_bits"] > 0
    distances = drop_distances(rng.random((BATCH, users)), 50.0, 200.0)
    shuffled = rng.permuted(np.tile(np.arange(users), (BATCH, 1)), axis=1)
    anything = rng.standard_normal((BATCH, users, antennas, 2)).view(complex)[..., 0]
    optimum = minimize_latency_order(**case).latency_s
    for sent in (
        SOLVERS["distance"](**case, distances_m=distances),
        SOLVERS["strength"](**case, distances_m=distances),
        transmit(**case, beams=mmse_beams(*channel, shuffled, active), order=shuffled),
        transmit(**case, beams=anything, order=shuffled),
        minimize_latency_order(**case, beams=worst_case_beams(*channel, active)),
    ):
        assert (sent.latency_s >= optimum * (1 - 1e-9)).all()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", NOMA)
def test_permuting_users_permutes_results(name: str, options: dict[str, float], uplinks: Any) -> None:
    rng = np.random.default_rng(41)
    case = uplinks.draw(rng, (40,), 5, 3)
    distances = drop_distances(rng.random((40, 5)), 50.0, 200.0)
    solve: Any = SOLVERS[name]
    plain = solve(**case, distances_m=distances, **options)
    moved = rng.permutation(5)
    other = case | {key: case[key][:, moved] for key in ("channel", "power_w", "demand_bits")}
    sent = solve(**other, distances_m=distances[:, moved], **options)
    np.testing.assert_allclose(sent.latency_s, plain.latency_s, rtol=1e-9)
    if name != "exhaustive":  # among orders of equal latency its first one depends on the numbering
        np.testing.assert_allclose(sent.rate_bps, plain.rate_bps[:, moved], rtol=1e-9)
        np.testing.assert_array_equal(moved[sent.order], plain.order)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", NOMA)
def test_scaling_power_and_noise_together_changes_nothing(name: str, options: dict[str, float], uplinks: Any) -> None:
    rng = np.random.default_rng(42)
    case = uplinks.draw(rng, (40,), 4, 2, silent=0.2)
    distances = drop_distances(rng.random((40, 4)), 50.0, 200.0)
    solve: Any = SOLVERS[name]
    plain = solve(**case, distances_m=distances, **options)
    louder = case | {key: 2.0**20 * case[key] for key in ("power_w", "noise_power_w")}
    sent = solve(**louder, distances_m=distances, **options)
    np.testing.assert_array_equal(sent.order, plain.order)
    np.testing.assert_allclose(sent.rate_bps, plain.rate_bps, rtol=1e-9)


def test_two_users_and_one_antenna_in_closed_form(uplinks: Any) -> None:
    """Beams do nothing; the better of the two orders, each written out."""
    case = uplinks.draw(np.random.default_rng(43), (2_000,), 2, 1)
    gain = case["power_w"] * np.abs(case["channel"][..., 0]) ** 2 / case["noise_power_w"]
    time = case["demand_bits"] / case["bandwidth_hz"]
    first = time / np.log2(1 + gain / (gain[:, ::-1] + 1))
    last = time / np.log2(1 + gain)
    by_hand = np.minimum(np.maximum(first[:, 0], last[:, 1]), np.maximum(first[:, 1], last[:, 0]))
    np.testing.assert_allclose(minimize_latency_order(**case).latency_s, by_hand, rtol=1e-9)


@pytest.mark.parametrize("snr_db", [-40, 20, 60, 100])
@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-4, 1.0])
def test_rates_of_the_optimum_against_high_precision(snr_db: int, apart: float) -> None:
    """``apart`` leads from collinear channels to independent ones, with as many antennas as users."""
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(44)
    draw = rng.standard_normal((3, 3, 2)).view(complex)[..., 0]
    channel = draw[:1] * np.array([[1.0], [0.5], [2.0]]) + apart * draw
    sent = minimize_latency_order(channel, 10 ** (snr_db / 10), 1.0, 1e6, [300.0, 200.0, 500.0])
    with mpmath.workdps(60):
        exact = mpmath.matrix(channel.tolist()) * mpmath.sqrt(mpmath.mpf(10 ** (snr_db / 10)))
        h = [exact[k, :].T for k in range(3)]
        for place, k in enumerate(sent.order):
            covariance = mpmath.eye(3)
            for j in sent.order[place + 1 :]:
                covariance += h[j] * h[j].H
            ratio = mpmath.re((h[k].H * mpmath.lu_solve(covariance, h[k]))[0])
            assert sent.rate_bps[k] == pytest.approx(float(1e6 * mpmath.log(1 + ratio, 2)), rel=1e-9)


def test_orthogonal_channels_need_no_order_and_collinear_ones_gain_nothing_by_antennas() -> None:
    demand = [300.0, 200.0, 500.0]
    for power in (1e-4, 1.0, 1e10):
        apart = minimize_latency_order(np.diag([1.0, 2.0, 0.5]), power, 1.0, 1e6, demand)
        alone = 1e6 * np.log2(1 + power * np.array([1.0, 4.0, 0.25]))
        np.testing.assert_allclose(apart.rate_bps, alone, rtol=1e-9)
        strength = np.array([1.0, 2.0, 0.5])
        together = minimize_latency_order(np.outer(strength, [0.6, 0.8j]), power, 1.0, 1e6, demand)
        single = minimize_latency_order(strength[:, None], power, 1.0, 1e6, demand)
        np.testing.assert_allclose(together.rate_bps, single.rate_bps, rtol=1e-9)
