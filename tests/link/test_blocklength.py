"""Short messages: the root against high precision, its monotony, its limit, and the orders that it leaves optimal."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import scipy.stats

from noma_semcom_env.link.beamforming import mmse_beams, worst_case_beams
from noma_semcom_env.link.blocklength import channel_uses, quantile
from noma_semcom_env.link.decoding_order import exhaustive_latency_order, minimize_latency_order
from noma_semcom_env.link.sic import transmit


def carried_bits(uses: float, sinr: float, error_probability: float) -> float:
    capacity = np.log1p(sinr) / np.log(2)
    dispersion = (1 - (1 + sinr) ** -2.0) / np.log(2) ** 2
    return float(
        uses * capacity - np.sqrt(uses * dispersion) * scipy.stats.norm.isf(error_probability) + np.log2(uses) / 2
    )


@pytest.mark.parametrize("error_probability", [1e-9, 1e-3, 0.5])
def test_the_uses_carry_the_bits_and_no_fewer_do(error_probability: float) -> None:
    for bits in (10.0, 100.0, 2000.0):
        for snr_db in (-20.0, -5.0, 0.0, 10.0, 30.0):
            sinr = 10 ** (snr_db / 10)
            uses = float(channel_uses(bits, sinr, error_probability))
            assert uses > 1.0
            assert carried_bits(uses, sinr, error_probability) == pytest.approx(bits, rel=1e-9)
            assert carried_bits(0.999 * uses, sinr, error_probability) < bits


def test_uses_fall_with_the_sinr_and_rise_with_bits_and_reliability() -> None:
    sinr = 10 ** np.linspace(-18, 10, 4001)
    for bits in (1.0, 10.0, 300.0, 1e5):
        for error_probability in (1e-9, 1e-3, 0.5):
            uses = channel_uses(bits, sinr, error_probability)
            assert (np.diff(uses) <= 1e-12 * uses[:-1]).all()
            assert (uses <= channel_uses(1.5 * bits, sinr, error_probability)).all()
            assert (uses <= channel_uses(bits, sinr, error_probability / 10) * (1 + 1e-12)).all()
            assert (uses >= 1.0).all()


def test_long_messages_come_to_capacity() -> None:
    sinr = np.array([1e-4, 1.0, 1e5])
    excess = [channel_uses(bits, sinr, 1e-3) / channel_uses(bits, sinr) - 1 for bits in (1e3, 1e5, 1e7, 1e9)]
    assert (np.diff(excess, axis=0) < 0).all()
    # The excess falls with the square root of the bits, down to the quantile's share.
    np.testing.assert_allclose(excess[-1], excess[-2] / 10, rtol=0.02)
    assert (excess[-1] < 3e-4).all()


def test_edges_of_channel_uses() -> None:
    assert channel_uses([0.0, 5.0, 0.0], [0.0, 0.0, 3.0], 1e-3).tolist() == [0.0, np.inf, 0.0]
    assert channel_uses([0.0, 6.0], [0.0, 3.0]).tolist() == [0.0, 3.0]
    assert channel_uses(1.0, 1e12, 1e-3) == 1.0  # no message takes less than one use
    assert np.isfinite(channel_uses(10.0, 1e-30, 1e-3))
    assert quantile(1e-12) == pytest.approx(scipy.stats.norm.isf(1e-12), rel=1e-12)
    for bad in (0.0, 0.6, np.nan):
        with pytest.raises(ValueError, match=rf"error_probability is {bad}; a number in \(0, 0\.5\]"):
            channel_uses(1.0, 1.0, bad)


@pytest.mark.parametrize("form", ["joint", "fixed"])
@pytest.mark.parametrize("options", [{"error_probability": 1e-5}, {"sic_residual": 0.03}, {"sic_residual": 1.0}])
@pytest.mark.parametrize("gain_db", [-60.0, 0.0])
def test_the_exact_rule_stays_exact(form: str, options: dict[str, float], gain_db: float, uplinks: Any) -> None:
    """Against all orders, each priced by ``transmit``, which shares nothing with the search."""
    for users, antennas in ((2, 1), (3, 2), (4, 2), (4, 6)):
        case = uplinks.draw(np.random.default_rng([20, users]), (60,), users, antennas, silent=0.15)
        case["power_w"] = case["power_w"] * 10 ** (gain_db / 10)
        channel, active = (case["channel"], case["power_w"], case["noise_power_w"]), case["demand_bits"] > 0
        fixed = worst_case_beams(*channel, active) if form == "fixed" else None
        exact = minimize_latency_order(**case, beams=fixed, **options)
        search = exhaustive_latency_order(**case, beams=fixed, **options)
        np.testing.assert_allclose(exact.latency_s, search.latency_s, rtol=1e-9)
        best = np.full(60, np.inf)
        for order in permutations(range(users)):
            order_beams = fixed
            if order_beams is None:
                order_beams = mmse_beams(*channel, order, active, options.get("sic_residual", 0.0))
            best = np.minimum(best, transmit(**case, beams=order_beams, order=order, **options).latency_s)
        np.testing.assert_allclose(exact.latency_s, best, rtol=1e-9)
        true = transmit(**case, beams=exact.beams, order=exact.order, **options)
        np.testing.assert_allclose(true.rate_bps, exact.rate_bps, rtol=1e-9)


def test_short_messages_over_the_link(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(21), (200,), 3, 2, silent=0.2)
    capacity, short = (minimize_latency_order(**case, error_probability=e) for e in (None, 1e-3))
    assert (short.latency_s >= capacity.latency_s).all()
    assert (short.rate_bps[case["demand_bits"] == 0] == 0.0).all()
    many = case | {"demand_bits": 1e9 * case["demand_bits"]}
    long, limit = (minimize_latency_order(**many, error_probability=e).latency_s for e in (1e-3, None))
    np.testing.assert_allclose(long, limit, rtol=1e-3)


def test_residual_interference_by_hand() -> None:
    """Received powers 6 and 2 over noise 1, a tenth of the first remains: 6 / (2 + 1), then 2 / (0.6 + 1)."""
    channel = np.array([[np.sqrt(3.0) * 1j], [-1.0]])
    link = (channel, 2.0, 1.0, 1e3, [300.0, 100.0])
    sent = transmit(*link, np.ones((2, 1)), [0, 1], sic_residual=0.1)
    np.testing.assert_allclose(sent.rate_bps, 1e3 * np.log2([3.0, 2.25]), rtol=1e-14)
    silent = transmit(*link[:4], [0.0, 100.0], np.ones((2, 1)), [0, 1], sic_residual=0.1)
    np.testing.assert_allclose(silent.rate_bps, [0.0, 1e3 * np.log2(3.0)], rtol=1e-14)
    with pytest.raises(ValueError, match=r"sic_residual is 1\.5; a number in \[0, 1\]"):
        transmit(*link, np.ones((2, 1)), [0, 1], sic_residual=1.5)
    for solve in (minimize_latency_order, exhaustive_latency_order):
        with pytest.raises(ValueError, match=r"sic_residual is -1"):
            solve(*link, sic_residual=-1)


def test_with_all_of_its_power_left_nobody_gains_by_being_late(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(22), (20,), 3, 2)
    channel, active = (case["channel"], case["power_w"], case["noise_power_w"]), np.ones((20, 3), dtype=bool)
    beams = worst_case_beams(*channel, active)
    rates = [transmit(**case, beams=beams, order=o, sic_residual=1.0).rate_bps for o in permutations(range(3))]
    for rate in rates[1:]:
        np.testing.assert_allclose(rate, rates[0], rtol=1e-12)
