"""Orders where users send analogue symbols besides bits: the exact rule against searches that share nothing with it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.link.beamforming import worst_case_beams
from noma_semcom_env.link.decoding_order import exhaustive_latency_order, minimize_latency_order
from noma_semcom_env.link.sic import transmit


def draw_airtime(rng: np.random.Generator, case: dict[str, Any]) -> np.ndarray:
    """As long as the bits take, give or take; a fifth of the users has none, some of whom have no bits either."""
    alone = case["demand_bits"].max() / case["bandwidth_hz"]
    return rng.uniform(0.0, alone, case["demand_bits"].shape) * (rng.random(case["demand_bits"].shape) < 0.8)


@pytest.mark.parametrize("options", [{}, {"error_probability": 1e-3}, {"sic_residual": 0.05}], ids=str)
@pytest.mark.parametrize("form", ["joint", "fixed"])
@pytest.mark.parametrize("users", [2, 3, 5])
def test_exact_rule_equals_exhaustive_search(users: int, form: str, options: dict[str, float], uplinks: Any) -> None:
    rng = np.random.default_rng([users, len(form)])
    for antennas in (1, 2, 4):
        case = uplinks.draw(rng, (60,), users, antennas, silent=0.3)
        airtime = draw_airtime(rng, case)
        active = (case["demand_bits"] > 0) | (airtime > 0)
        args = (case["channel"], case["power_w"], case["noise_power_w"])
        beams = worst_case_beams(*args, active) if form == "fixed" else None
        exact = minimize_latency_order(**case, beams=beams, airtime_s=airtime, **options)
        search = exhaustive_latency_order(**case, beams=beams, airtime_s=airtime, **options)
        np.testing.assert_allclose(exact.latency_s, search.latency_s, rtol=1e-9)
        assert (exact.latency_s >= airtime.max(axis=-1) * (1 - 1e-12)).all()


@pytest.mark.parametrize("form", ["joint", "fixed"])
def test_exhaustive_search_equals_a_plain_brute_force(form: str, uplinks: Any) -> None:
    rng = np.random.default_rng(7)
    case = uplinks.draw(rng, (60,), 4, 2, silent=0.3)
    airtime = draw_airtime(rng, case)
    active = (case["demand_bits"] > 0) | (airtime > 0)
    beams = None
    if form == "fixed":
        beams = worst_case_beams(case["channel"], case["power_w"], case["noise_power_w"], active)
    found = exhaustive_latency_order(**case, beams=beams, airtime_s=airtime).latency_s
    for b in range(60):
        h = np.sqrt(case["power_w"][b] / case["noise_power_w"])[:, None] * case["channel"][b]
        sending = np.flatnonzero(active[b])
        best = np.inf if len(sending) else 0.0
        for order in permutations(sending):
            worst = 0.0
            for place, k in enumerate(order):
                covariance = sum((np.outer(h[j], h[j].conj()) for j in order[place + 1 :]), start=np.eye(2))
                w = np.linalg.solve(covariance, h[k]) if beams is None else beams[b, k]
                ratio = abs(w.conj() @ h[k]) ** 2 / (w.conj() @ covariance @ w).real
                bits = case["demand_bits"][b, k]
                worst = max(worst, airtime[b, k] + bits / (case["bandwidth_hz"] * np.log2(1 + ratio)))
            best = min(best, worst)
        assert found[b] == pytest.approx(best, rel=1e-9)


def test_no_airtime_changes_nothing(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(8), (40,), 4, 2, silent=0.2)
    for solve in (minimize_latency_order, exhaustive_latency_order):
        plain, zero = solve(**case), solve(**case, airtime_s=np.zeros(4))
        np.testing.assert_array_equal(plain.order, zero.order)
        np.testing.assert_array_equal(plain.latency_s, zero.latency_s)


def test_a_user_without_bits_interferes_and_has_a_rate_while_it_sends(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(9), (20,), 3, 1, silent=0.0)
    case["demand_bits"][:, 1] = 0.0
    airtime = np.array([0.0, 1.0, 0.0])
    sent = minimize_latency_order(**case, airtime_s=airtime)
    true = transmit(
        **(case | {"demand_bits": np.maximum(case["demand_bits"], 1e-9)}), beams=sent.beams, order=sent.order
    )
    np.testing.assert_allclose(sent.rate_bps, true.rate_bps, rtol=1e-9)
    assert (sent.rate_bps > 0).all()
    np.testing.assert_allclose(sent.latency_s, np.maximum(1.0, true.latency_s), rtol=1e-9)


def test_long_airtimes_are_heard_without_interference_first_or_last_alike(uplinks: Any) -> None:
    """What the bits cost decides where airtimes are equal; a user whose airtime is long is decoded when it is alone."""
    case = uplinks.draw(np.random.default_rng(10), (50,), 4, 2, silent=0.0)
    equal = minimize_latency_order(**case, airtime_s=np.full(4, 0.3))
    plain = minimize_latency_order(**case)
    np.testing.assert_array_equal(equal.order, plain.order)
    np.testing.assert_allclose(equal.latency_s, 0.3 + plain.latency_s, rtol=1e-9)
    long = minimize_latency_order(**case, airtime_s=np.array([0.0, 0.0, 1e3, 0.0]))
    assert (long.order[:, -1] == 2).all()


def test_bad_airtimes_are_refused(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(11), (2,), 3, 1)
    for bad, message in (
        (-1.0, r"airtime_s holds -1\.0.*\[0, inf\)"),
        (np.inf, r"airtime_s holds inf"),
        (np.zeros((3, 3)), r"airtime_s \(3,\)"),
        (np.zeros(2), r"airtime_s has shape \(2,\); one number or 3 on its last axis"),
    ):
        for solve in (minimize_latency_order, exhaustive_latency_order):
            with pytest.raises(ValueError, match=message):
                solve(**case, airtime_s=bad)
