"""SINR, rates and latency against hand calculations, and what happens at the edges."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import scipy.special

from noma_semcom_env.link.beamforming import mmse_beams, worst_case_beams
from noma_semcom_env.link.channel import RayleighChannel
from noma_semcom_env.link.sic import latency_s, rates_bps, sinr, sort_silent_last, transmit


def test_two_users_one_antenna_by_hand() -> None:
    # Received powers 6 and 2 over noise 1: decoded first 6 / (2 + 1), then 2 / 1.
    channel = np.array([[np.sqrt(3.0) * 1j], [-1.0]])
    args = (channel, 2.0, 1.0, np.array([[5.0], [1j]]))
    np.testing.assert_allclose(sinr(*args, [0, 1], [True, True]), [2.0, 2.0], rtol=1e-14)
    np.testing.assert_allclose(sinr(*args, [1, 0], [True, True]), [6.0, 2.0 / 7.0], rtol=1e-14)
    np.testing.assert_allclose(sinr(*args, [0, 1], [True, False]), [6.0, 0.0], rtol=1e-14)
    result = transmit(channel, 2.0, 1.0, 1e3, [300.0, 100.0], args[3], [0, 1])
    np.testing.assert_allclose(result.rate_bps, 1e3 * np.log2([3.0, 3.0]), rtol=1e-14)
    assert result.latency_s == pytest.approx(0.3 / np.log2(3.0), rel=1e-14)
    assert result.latency_s.shape == result.fallback.shape == ()
    assert not result.fallback


def test_sinr_is_the_formula(uplinks: Any) -> None:
    rng = np.random.default_rng(0)
    case = uplinks.draw(rng, (40,), 4, 3, silent=0.3)
    h, p, noise, active = case["channel"], case["power_w"], case["noise_power_w"], case["demand_bits"] > 0
    beams = rng.standard_normal((40, 4, 3)) + 1j * rng.standard_normal((40, 4, 3))
    order = rng.permuted(np.tile(np.arange(4), (40, 1)), axis=1)
    measured = sinr(h, p, noise, beams, order, active)
    for b in range(40):
        rank = {user: place for place, user in enumerate(order[b])}
        for k in range(4):
            w = beams[b, k]
            interference = sum(
                p[b, j] * abs(w.conj() @ h[b, j]) ** 2 for j in range(4) if active[b, j] and rank[j] > rank[k]
            )
            expected = p[b, k] * abs(w.conj() @ h[b, k]) ** 2 / (interference + noise * (w.conj() @ w).real)
            assert measured[b, k] == pytest.approx(expected * active[b, k], rel=1e-11)


@pytest.mark.parametrize(("users", "antennas"), [(4, 3), (2, 1), (3, 8), (5, 2)])
@pytest.mark.parametrize("gain_db", [-80.0, 0.0, 50.0])
def test_mmse_sic_sum_rate_is_log_det_for_every_order(users: int, antennas: int, gain_db: float, uplinks: Any) -> None:
    """sum_k log2(1 + SINR_k) = log2 det(I + sum_k p_k h_k h_k^H / sigma^2), from -40 to over 100 dB."""
    case = uplinks.draw(np.random.default_rng(1), (50,), users, antennas, silent=0.15)
    case["power_w"] = case["power_w"] * 10 ** (gain_db / 10)
    h, p, noise = case["channel"], case["power_w"], case["noise_power_w"]
    active = case["demand_bits"] > 0
    amplitude = np.sqrt(p / noise * active)[..., None] * h
    log_det = (np.log1p(np.linalg.svd(amplitude, compute_uv=False) ** 2) / np.log(2)).sum(axis=-1)
    for order in permutations(range(users)):
        beams = mmse_beams(h, p, noise, order, active)
        total = np.log2(1 + sinr(h, p, noise, beams, order, active)).sum(axis=-1)
        np.testing.assert_allclose(total, log_det, rtol=1e-9)


def test_with_fixed_beams_the_sum_rate_depends_on_the_order(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(2), (50,), 3, 2)
    args = (case["channel"], case["power_w"], case["noise_power_w"])
    active = np.ones(3, dtype=bool)
    beams = worst_case_beams(*args, active)
    totals = np.stack([np.log2(1 + sinr(*args, beams, order, active)).sum(axis=-1) for order in permutations(range(3))])
    spread = (totals.max(axis=0) - totals.min(axis=0)) / totals.max(axis=0)
    assert np.median(spread) > 0.05


@pytest.mark.parametrize("antennas", [1, 2, 4])
@pytest.mark.parametrize("snr_db", [-5.0, 10.0])
def test_ergodic_capacity_of_one_rayleigh_user(antennas: int, snr_db: float) -> None:
    """Maximum ratio combining: E log2(1 + snr x), x ~ Gamma(N), is log2(e) exp(1/snr) sum_{m=1}^N E_m(1/snr)."""
    count = 40_000
    snr = 10 ** (snr_db / 10)
    fading = RayleighChannel(path_loss_intercept_db=0.0).sample(
        np.random.default_rng(3), np.array([1000.0]), antennas, count
    )
    beams = mmse_beams(fading, snr, 1.0, [0], [True])
    rate = rates_bps(sinr(fading, snr, 1.0, beams, [0], [True]), 1.0)[:, 0]
    closed = np.exp(1 / snr) * scipy.special.expn(np.arange(1, antennas + 1), 1 / snr).sum() / np.log(2)
    assert rate.mean() == pytest.approx(closed, abs=3 * rate.std() / np.sqrt(count))


def test_scaling_power_and_noise_together_changes_nothing(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(4), (30,), 3, 2, silent=0.2)
    order, active = [2, 0, 1], case["demand_bits"] > 0
    scaled = case | {"power_w": 1e7 * case["power_w"], "noise_power_w": 1e7 * case["noise_power_w"]}
    results = []
    for one in (case, scaled):
        beams = mmse_beams(one["channel"], one["power_w"], one["noise_power_w"], order, active)
        results.append(transmit(**one, beams=beams, order=order))
    np.testing.assert_allclose(results[1].rate_bps, results[0].rate_bps, rtol=1e-12)
    np.testing.assert_allclose(results[1].latency_s, results[0].latency_s, rtol=1e-12)


def test_beam_norms_do_not_matter_and_zero_beams_receive_nothing(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(5), (), 3, 2)
    beams = worst_case_beams(case["channel"], case["power_w"], case["noise_power_w"], [True] * 3)
    plain = transmit(**case, beams=beams, order=[0, 1, 2])
    for factor in (1e-200, 3j, 1e200):
        np.testing.assert_allclose(
            transmit(**case, beams=factor * beams, order=[0, 1, 2]).rate_bps, plain.rate_bps, rtol=1e-12
        )
    deaf = transmit(**case, beams=beams * np.array([[1.0], [0.0], [1.0]]), order=[0, 1, 2])
    assert deaf.rate_bps[1] == 0.0
    assert np.isinf(deaf.latency_s)
    np.testing.assert_allclose(np.linalg.norm(deaf.beams, axis=-1), [1, 0, 1], rtol=1e-14)
    np.testing.assert_allclose(deaf.rate_bps[[0, 2]], plain.rate_bps[[0, 2]])


def test_silent_users_stand_last_by_index_and_change_nobody(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(6), (), 5, 2)
    case["demand_bits"] = np.array([0.0, 300.0, 0.0, 200.0, 100.0])
    beams = worst_case_beams(case["channel"], case["power_w"], case["noise_power_w"], case["demand_bits"] > 0)
    result = transmit(**case, beams=beams, order=[2, 4, 0, 1, 3])
    assert result.order.tolist() == [4, 1, 3, 0, 2]
    assert (result.rate_bps[[0, 2]] == 0.0).all()
    kept = [1, 3, 4]
    alone = transmit(
        case["channel"][kept],
        case["power_w"][kept],
        case["noise_power_w"],
        case["bandwidth_hz"],
        case["demand_bits"][kept],
        beams[kept],
        [2, 0, 1],
    )
    np.testing.assert_allclose(result.rate_bps[kept], alone.rate_bps, rtol=1e-13)
    assert result.latency_s == pytest.approx(float(alone.latency_s), rel=1e-13)


def test_sort_silent_last_keeps_the_order_of_the_others() -> None:
    order = [[3, 1, 0, 2], [3, 1, 0, 2]]
    active = [[True, False, True, False], [False] * 4]
    assert sort_silent_last(order, active).tolist() == [[0, 2, 1, 3], [0, 1, 2, 3]]


def test_latency_at_its_edges() -> None:
    assert latency_s([0.0, 0.0], [0.0, 0.0]) == 0.0
    assert latency_s([0.0, 10.0], [0.0, 5.0]) == 2.0
    assert np.isinf(latency_s([1.0, 10.0], [0.0, 5.0]))
    assert latency_s([[4.0, 10.0], [0.0, 3.0]], [2.0, 10.0]).tolist() == [2.0, 0.3]


def test_rates_of_very_weak_users_keep_their_digits() -> None:
    np.testing.assert_allclose(rates_bps([1e-18], 1e6), [1e-12 / np.log(2)], rtol=1e-14)


def test_arguments_broadcast(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(7), (5,), 3, 2)
    beams = mmse_beams(case["channel"], case["power_w"], case["noise_power_w"], [0, 1, 2], [True] * 3)
    demand = np.random.default_rng(8).uniform(1, 9, (4, 1, 3))
    bandwidth = np.array([1e5, 2e5, 3e5, 4e5])[:, None]
    many = transmit(**(case | {"demand_bits": demand, "bandwidth_hz": bandwidth}), beams=beams, order=[0, 1, 2])
    assert many.latency_s.shape == (4, 5)
    assert many.order.shape == many.rate_bps.shape == (4, 5, 3)
    assert many.beams.shape == (4, 5, 3, 2)
    one = transmit(
        case["channel"][2],
        case["power_w"][2],
        case["noise_power_w"],
        3e5,
        demand[2, 0],
        beams[2],
        [0, 1, 2],
    )
    np.testing.assert_allclose(many.rate_bps[2, 2], one.rate_bps, rtol=1e-13)
    assert many.latency_s[2, 2] == pytest.approx(float(one.latency_s), rel=1e-13)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"bandwidth_hz": -1.0}, r"bandwidth_hz holds -1\.0.*\(0, inf\)"),
    ({"bandwidth_hz": np.nan}, r"bandwidth_hz holds nan"),
    ({"noise_power_w": 0.0}, r"noise_power_w holds 0\.0.*\(0, inf\)"),
    ({"power_w": [0.1, -0.2, 0.1]}, r"power_w holds -0\.2.*\[0, inf\)"),
    ({"power_w": [0.1, 0.2]}, r"power_w has shape \(2,\).*K = 3"),
    ({"demand_bits": [1.0, np.inf, 1.0]}, r"demand_bits holds inf"),
    ({"demand_bits": [1.0, 1.0]}, r"demand_bits has shape \(2,\).*K = 3"),
    (
        {"demand_bits": np.ones((2, 3)), "bandwidth_hz": np.ones(4)},
        r"bandwidth_hz \(4,\), demand_bits \(2,\).*broadcast",
    ),
    ({"channel": np.ones(3)}, r"channel has shape \(3,\).*\(\.\.\., K, N\)"),
    ({"channel": np.ones((0, 2))}, r"channel has shape \(0, 2\).*K >= 1"),
    ({"channel": np.full((3, 2), np.nan)}, r"channel holds .*nan.*finite"),
    ({"beams": np.ones((3, 3))}, r"beams has shape \(3, 3\).*\(\.\.\., 3, 2\)"),
    ({"beams": np.full((3, 2), np.inf)}, r"beams holds .*inf.*finite"),
    ({"order": [0, 1, 1]}, r"order \[0, 1, 1\].*exactly once"),
    ({"order": [0.0, 1.0, 2.0]}, r"order has shape \(3,\) and dtype float64"),
    ({"order": [0, 1]}, r"order has shape \(2,\)"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_errors_name_argument_value_and_range(change: dict[str, Any], message: str) -> None:
    good = {
        "channel": np.eye(3, 2),
        "power_w": 1.0,
        "noise_power_w": 1.0,
        "bandwidth_hz": 1.0,
        "demand_bits": np.ones(3),
        "beams": np.ones((3, 2)),
        "order": [0, 1, 2],
    }
    solve: Callable[..., Any] = transmit
    solve(**good)
    with pytest.raises(ValueError, match=message):
        solve(**(good | change))
