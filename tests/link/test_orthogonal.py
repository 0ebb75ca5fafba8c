"""TDMA and FDMA: optimal against brute force, exact at any SNR, and right at their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize

from noma_semcom_env.link.blocklength import channel_uses
from noma_semcom_env.link.decoding_order import minimize_latency_order
from noma_semcom_env.link.orthogonal import band_shares, frequency_division, time_division
from noma_semcom_env.link.sic import latency_s

SCHEMES = [time_division, frequency_division]


def alone(case: dict[str, Any]) -> np.ndarray:
    """Received power over noise of each user, (..., K)."""
    gain: np.ndarray = case["power_w"] * (np.abs(case["channel"]) ** 2).sum(axis=-1) / case["noise_power_w"]
    return gain


@pytest.mark.parametrize("gain_db", [-80.0, -40.0, 0.0])
def test_no_shares_on_a_fine_grid_are_faster(gain_db: float, uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(30), (30,), 3, 2)
    case["power_w"] = case["power_w"] * 10 ** (gain_db / 10)
    steps = np.arange(1, 200) / 200
    first, second = np.meshgrid(steps, steps)
    shares = np.stack([first, second, 1 - first - second], axis=-1)[first + second < 1 - 1e-9]
    gain, demand = alone(case)[:, None], case["demand_bits"][:, None]
    rates = {
        time_division: shares * np.log2(1 + gain),
        frequency_division: shares * np.log2(1 + gain / shares),
    }
    for solve, rate in rates.items():
        grid = (demand / (case["bandwidth_hz"] * rate)).max(axis=-1).min(axis=-1)
        best = solve(**case).latency_s
        assert (best <= grid).all()
        np.testing.assert_allclose(best, grid, rtol=0.06)


def test_time_division_is_the_sum_of_the_times_alone(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(31), (200,), 4, 2, silent=0.2)
    for error_probability in (None, 1e-3):
        sent = time_division(**case, error_probability=error_probability)
        uses = channel_uses(case["demand_bits"], alone(case), error_probability)
        np.testing.assert_allclose(sent.latency_s, uses.sum(axis=-1) / case["bandwidth_hz"], rtol=1e-12)
        active = case["demand_bits"] > 0
        each = np.divide(case["demand_bits"], sent.rate_bps, out=np.zeros(active.shape), where=active)
        np.testing.assert_allclose(each, sent.latency_s[:, None] * active, rtol=1e-12)


@pytest.mark.parametrize("snr_db", [-150.0, -40.0, 0.0, 40.0, 100.0, 140.0])
@pytest.mark.parametrize("users", [1, 2, 10])
def test_sub_bands_end_together_at_any_snr(snr_db: float, users: int) -> None:
    rng = np.random.default_rng(32)
    gain = 10 ** (snr_db / 10) * 10 ** rng.uniform(-2, 2, (500, users))
    demand = rng.uniform(10, 2000, (500, users)) * (rng.random((500, users)) > 0.2)
    share = band_shares(demand, gain)
    active = demand > 0
    assert (share[~active] == 0.0).all()
    np.testing.assert_allclose(share.sum(axis=-1), active.any(axis=-1), rtol=1e-12)
    wide = np.where(active, share, 1.0)
    time = demand / (wide * np.log1p(gain / wide))
    slowest = time.max(axis=-1, keepdims=True)
    np.testing.assert_allclose(time[active], np.broadcast_to(slowest, time.shape)[active], rtol=1e-12)


@pytest.mark.parametrize("snr_db", [-40, 0, 100])
def test_sub_bands_against_high_precision(snr_db: int) -> None:
    mpmath = pytest.importorskip("mpmath")
    gain, demand = 10 ** (snr_db / 10) * np.array([0.2, 3.0]), np.array([700.0, 150.0])
    with mpmath.workdps(60):
        g, d = [mpmath.mpf(x) for x in gain], [mpmath.mpf(x) for x in demand]

        def gap(b: Any) -> Any:
            return d[0] / (b * mpmath.log(1 + g[0] / b)) - d[1] / ((1 - b) * mpmath.log(1 + g[1] / (1 - b)))

        edge = mpmath.mpf(10) ** -12
        exact = float(mpmath.findroot(gap, (edge, 1 - edge), solver="anderson", tol=1e-50, maxsteps=500))
    np.testing.assert_allclose(band_shares(demand, gain), [exact, 1 - exact], rtol=1e-9)


def test_sub_bands_against_a_root_of_another_kind(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(33), (10,), 5, 2)
    found = frequency_division(**case).latency_s
    for row in range(10):
        gain, demand = alone(case)[row], case["demand_bits"][row] / case["bandwidth_hz"]

        def need(k: int, tau: float, gain: np.ndarray = gain, demand: np.ndarray = demand) -> float:
            return float(scipy.optimize.brentq(lambda b: b * np.log2(1 + gain[k] / b) * tau - demand[k], 1e-12, 1.0))

        low, high = (demand / np.log2(1 + gain)).max() * (1 + 1e-9), (demand / np.log2(1 + gain)).sum()
        tau = scipy.optimize.brentq(lambda t, need=need: sum(need(k, t) for k in range(5)) - 1, low, high, xtol=1e-16)
        assert found[row] == pytest.approx(tau, rel=1e-8)


def test_fdma_is_never_slower_than_tdma_and_one_user_has_all(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(34), (500,), 4, 2, silent=0.3)
    tdma, fdma = time_division(**case).latency_s, frequency_division(**case).latency_s
    assert (fdma <= tdma * (1 + 1e-12)).all()
    one = case | {"demand_bits": case["demand_bits"] * np.array([0, 1, 0, 0])}
    for solve in SCHEMES:
        np.testing.assert_allclose(solve(**one).latency_s, minimize_latency_order(**one).latency_s, rtol=1e-12)


@pytest.mark.parametrize("solve", SCHEMES)
def test_a_transmission_like_any_other(solve: Any, uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(35), (3, 4), 4, 2, silent=0.4)
    sent = solve(**case)
    active = case["demand_bits"] > 0
    np.testing.assert_array_equal(sent.latency_s, latency_s(case["demand_bits"], sent.rate_bps))
    np.testing.assert_array_equal(sent.order, np.argsort(~active, axis=-1, kind="stable"))
    np.testing.assert_array_equal(sent.rate_bps > 0, active)
    np.testing.assert_allclose(np.linalg.norm(sent.beams, axis=-1), 1.0, rtol=1e-14)
    assert not sent.fallback.any()
    scaled = solve(**(case | {"power_w": 1e7 * case["power_w"], "noise_power_w": 1e7 * case["noise_power_w"]}))
    np.testing.assert_allclose(scaled.latency_s, sent.latency_s, rtol=1e-9)
    moved = [2, 0, 3, 1]
    named = ("channel", "power_w", "demand_bits")
    shuffled = solve(**(case | {name: np.take(case[name], moved, axis=2) for name in named}))
    np.testing.assert_allclose(shuffled.rate_bps, sent.rate_bps[..., moved], rtol=1e-9)
    one = solve(**(case | {name: case[name][1, 2] for name in named}))
    np.testing.assert_allclose(one.rate_bps, sent.rate_bps[1, 2], rtol=1e-12)


@pytest.mark.parametrize("solve", SCHEMES)
def test_silent_and_unheard_users(solve: Any) -> None:
    link = (np.array([[1.0], [0.0], [1j]]), 1.0, 1.0, 1.0)
    nobody = solve(*link, [0.0, 0.0, 0.0])
    assert nobody.latency_s == 0.0
    assert nobody.order.tolist() == [0, 1, 2]
    deaf = solve(*link, [1.0, 1.0, 1.0])
    assert np.isinf(deaf.latency_s)
    assert (deaf.rate_bps > 0).tolist() == [True, False, True]
    quiet = solve(*link, [1.0, 0.0, 1.0])
    assert np.isfinite(quiet.latency_s)
    assert quiet.order.tolist() == [0, 2, 1]


@pytest.mark.parametrize("solve", SCHEMES)
def test_shares_chosen_from_estimates_deliver_no_more(solve: Any, uplinks: Any) -> None:
    rng = np.random.default_rng(36)
    case = uplinks.draw(rng, (300,), 3, 2)
    noise = rng.standard_normal((300, 3, 2, 2)).view(complex)[..., 0]
    known = solve(**case)
    np.testing.assert_allclose(solve(**case, estimate=case["channel"]).latency_s, known.latency_s, rtol=1e-12)
    guessed = solve(**case, estimate=case["channel"] * (1 + 0.5 * noise))
    assert (guessed.latency_s >= known.latency_s * (1 - 1e-12)).all()
    assert np.isfinite(guessed.latency_s).all()


def test_errors_name_argument_value_and_range() -> None:
    good: dict[str, Any] = {
        "channel": np.eye(3, 2),
        "power_w": 1.0,
        "noise_power_w": 1.0,
        "bandwidth_hz": 1.0,
        "demand_bits": [1, 2, 3],
    }
    for solve in SCHEMES:
        for change, message in (
            ({"bandwidth_hz": 0.0}, r"bandwidth_hz holds 0\.0.*\(0, inf\)"),
            ({"demand_bits": [1, -2, 3]}, r"demand_bits holds -2\.0.*\[0, inf\)"),
            ({"estimate": np.full((3, 2), np.nan)}, r"channel holds .*nan.*finite"),
        ):
            with pytest.raises(ValueError, match=message):
                solve(**(good | change))
