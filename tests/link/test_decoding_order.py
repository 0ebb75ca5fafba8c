"""The exact rule against exhaustive search, both against a plain brute force, and their invariances."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noma_semcom_env.link.beamforming import mmse_beams, worst_case_beams
from noma_semcom_env.link.decoding_order import (
    distance_order,
    exhaustive_latency_order,
    minimize_latency_order,
    set_sinr,
)
from noma_semcom_env.link.sic import sinr, transmit

CASES_EACH = 180  # times 5 numbers of users, 6 of antennas, 2 forms: 10 800 cases


def fixed_beams(case: dict[str, Any]) -> np.ndarray:
    return worst_case_beams(case["channel"], case["power_w"], case["noise_power_w"], case["demand_bits"] > 0)


@pytest.mark.parametrize("form", ["joint", "fixed"])
@pytest.mark.parametrize("users", [2, 3, 4, 5, 6])
def test_exact_rule_equals_exhaustive_search(users: int, form: str, uplinks: Any) -> None:
    rng = np.random.default_rng([users, len(form)])
    for antennas in range(1, 7):
        case = uplinks.draw(rng, (CASES_EACH,), users, antennas, silent=0.2)
        beams = fixed_beams(case) if form == "fixed" else None
        exact = minimize_latency_order(**case, beams=beams)
        search = exhaustive_latency_order(**case, beams=beams)
        np.testing.assert_allclose(exact.latency_s, search.latency_s, rtol=1e-9)
        np.testing.assert_array_equal(np.sort(exact.order), np.broadcast_to(np.arange(users), exact.order.shape))
        for result in (exact, search):  # what they claim is what their beams and order give
            true = transmit(**case, beams=result.beams, order=result.order)
            np.testing.assert_array_equal(true.order, result.order)
            np.testing.assert_allclose(true.rate_bps, result.rate_bps, rtol=1e-9)
            np.testing.assert_allclose(true.latency_s, result.latency_s, rtol=1e-9)


@pytest.mark.parametrize("form", ["joint", "fixed"])
def test_exhaustive_search_equals_a_plain_brute_force(form: str, uplinks: Any) -> None:
    """Every order on its own, MMSE receivers by a direct solve: nothing shared with the code under test."""
    case = uplinks.draw(np.random.default_rng(7), (60,), 4, 2, silent=0.2)
    beams = fixed_beams(case) if form == "fixed" else None
    found = exhaustive_latency_order(**case, beams=beams).latency_s
    for b in range(60):
        h = np.sqrt(case["power_w"][b] / case["noise_power_w"])[:, None] * case["channel"][b]
        demand = case["demand_bits"][b]
        active = np.flatnonzero(demand)
        best = np.inf if len(active) else 0.0
        for order in permutations(active):
            worst = 0.0
            for place, k in enumerate(order):
                covariance = sum((np.outer(h[j], h[j].conj()) for j in order[place + 1 :]), start=np.eye(2))
                w = np.linalg.solve(covariance, h[k]) if beams is None else beams[b, k]
                ratio = abs(w.conj() @ h[k]) ** 2 / (w.conj() @ covariance @ w).real
                worst = max(worst, demand[k] / (case["bandwidth_hz"] * np.log2(1 + ratio)))
            best = min(best, worst)
        assert found[b] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("snr_db", [-40.0, 0.0, 100.0])
@pytest.mark.parametrize("form", ["joint", "fixed"])
@pytest.mark.parametrize("collinear", [0.0, 1e-6, 1.0])
def test_exact_rule_at_extreme_snrs_and_with_collinear_channels(snr_db: float, form: str, collinear: float) -> None:
    """``collinear`` is how far the users' directions are apart; at 0 they coincide."""
    rng = np.random.default_rng(8)
    draw = rng.standard_normal((50, 4, 3, 2)).view(complex)[..., 0]
    channel = draw[:, :1] * rng.uniform(0.2, 2.0, (50, 4, 1)) + collinear * draw
    case: dict[str, Any] = {
        "channel": channel,
        "power_w": 10 ** (snr_db / 10),
        "noise_power_w": 1.0,
        "bandwidth_hz": 1e6,
        "demand_bits": rng.uniform(1, 8, (50, 4)),
    }
    beams = fixed_beams(case) if form == "fixed" else None
    exact = minimize_latency_order(**case, beams=beams)
    np.testing.assert_allclose(exact.latency_s, exhaustive_latency_order(**case, beams=beams).latency_s, rtol=1e-9)
    true = transmit(**case, beams=exact.beams, order=exact.order)
    np.testing.assert_allclose(true.rate_bps, exact.rate_bps, rtol=1e-9)
    assert np.isfinite(exact.latency_s).all()


def test_joint_form_is_never_slower_than_fixed_beams(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(9), (300,), 3, 2, silent=0.1)
    joint = minimize_latency_order(**case).latency_s
    fixed = minimize_latency_order(**case, beams=fixed_beams(case)).latency_s
    assert (joint <= fixed * (1 + 1e-12)).all()
    assert (fixed / np.where(joint > 0, joint, 1.0)).mean() > 1.5  # with N < K the worst-case beams cost much


@pytest.mark.parametrize("form", ["joint", "fixed"])
def test_users_may_come_in_any_sequence(form: str, uplinks: Any) -> None:
    rng = np.random.default_rng(10)
    case = uplinks.draw(rng, (40,), 5, 3)
    beams = fixed_beams(case) if form == "fixed" else None
    plain = minimize_latency_order(**case, beams=beams)
    moved = rng.permutation(5)
    shuffled = case | {name: case[name][:, moved] for name in ("channel", "power_w", "demand_bits")}
    result = minimize_latency_order(**shuffled, beams=None if beams is None else beams[:, moved])
    np.testing.assert_array_equal(moved[result.order], plain.order)
    np.testing.assert_allclose(result.rate_bps, plain.rate_bps[:, moved], rtol=1e-9)
    np.testing.assert_allclose(result.latency_s, plain.latency_s, rtol=1e-9)


def test_scaling_power_and_noise_or_demand_and_bandwidth_changes_nothing(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(11), (40,), 4, 2, silent=0.1)
    plain = minimize_latency_order(**case)
    for first, second in (("power_w", "noise_power_w"), ("demand_bits", "bandwidth_hz")):
        scaled = minimize_latency_order(**(case | {first: 1e6 * case[first], second: 1e6 * case[second]}))
        np.testing.assert_array_equal(scaled.order, plain.order)
        np.testing.assert_allclose(scaled.latency_s, plain.latency_s, rtol=1e-9)


def test_a_batch_is_its_rows(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(12), (3, 4), 3, 2, silent=0.2)
    many = minimize_latency_order(**case)
    for index in np.ndindex(3, 4):
        one = minimize_latency_order(
            **(case | {name: case[name][index] for name in ("channel", "power_w", "demand_bits")})
        )
        np.testing.assert_array_equal(one.order, many.order[index])
        np.testing.assert_allclose(one.rate_bps, many.rate_bps[index], rtol=1e-12)
        np.testing.assert_allclose(one.beams, many.beams[index], rtol=1e-9, atol=1e-12)
        assert one.latency_s == pytest.approx(float(many.latency_s[index]), rel=1e-12)


def test_arguments_broadcast(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(13), (), 3, 2)
    demand = np.random.default_rng(14).uniform(0, 9, (6, 5, 3))
    many = minimize_latency_order(**(case | {"demand_bits": demand}))
    assert many.order.shape == (6, 5, 3)
    assert many.beams.shape == (6, 5, 3, 2)
    assert many.latency_s.shape == many.fallback.shape == (6, 5)
    one = minimize_latency_order(**(case | {"demand_bits": demand[4, 2]}))
    assert one.latency_s == pytest.approx(float(many.latency_s[4, 2]), rel=1e-12)


def test_silent_users(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(15), (), 4, 2)
    for solve in (minimize_latency_order, exhaustive_latency_order):
        nobody = solve(**(case | {"demand_bits": np.zeros(4)}))
        assert nobody.order.tolist() == [0, 1, 2, 3]
        assert nobody.latency_s == 0.0
        assert (nobody.rate_bps == 0.0).all()
        np.testing.assert_allclose(np.linalg.norm(nobody.beams, axis=-1), 1.0)
        two = solve(**(case | {"demand_bits": np.array([0.0, 50.0, 0.0, 70.0])}))
        assert two.order[2:].tolist() == [0, 2]
        assert (two.rate_bps > 0.0).tolist() == [False, True, False, True]


@pytest.mark.parametrize("form", ["joint", "fixed"])
def test_users_that_cannot_be_heard_make_the_latency_infinite(form: str, uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(16), (3,), 4, 2, silent=0.0)
    case["channel"][0, 1] = 0.0
    case["power_w"][1, 2] = 0.0
    case["demand_bits"][2] = [5.0, 0.0, 5.0, 0.0]
    case["channel"][2, 1] = 0.0
    beams = fixed_beams(case) if form == "fixed" else None
    for solve in (minimize_latency_order, exhaustive_latency_order):
        result = solve(**case, beams=beams)
        assert np.isinf(result.latency_s).tolist() == [True, True, False]
        assert not np.isnan(result.rate_bps).any()
        assert result.rate_bps[0, 1] == result.rate_bps[1, 2] == 0.0
    assert minimize_latency_order(**case, beams=beams).order[2].tolist()[2:] == [1, 3]


def test_one_user_has_its_matched_filter(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(17), (5,), 1, 3)
    result = minimize_latency_order(**case)
    ratio = case["power_w"] * (np.abs(case["channel"]) ** 2).sum(axis=-1) / case["noise_power_w"]
    np.testing.assert_allclose(result.rate_bps, 1e6 * np.log2(1 + ratio), rtol=1e-12)
    np.testing.assert_allclose(exhaustive_latency_order(**case).rate_bps, result.rate_bps, rtol=1e-14)


@pytest.mark.parametrize("form", ["joint", "fixed"])
def test_set_sinr_is_the_sinr_before_that_set(form: str, uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(18), (3, 2), 4, 3)
    args = (case["channel"], case["power_w"], case["noise_power_w"])
    beams = fixed_beams(case) if form == "fixed" else None
    table = set_sinr(*args, beams)
    assert table.shape == (3, 2, 16, 4)
    for members in range(16):
        active = np.array([members >> j & 1 == 1 for j in range(4)])
        for k in range(4):
            order = [k, *(j for j in range(4) if j != k)]
            sending = active | (np.arange(4) == k)
            w = mmse_beams(*args, order, sending) if beams is None else beams
            np.testing.assert_allclose(table[:, :, members, k], sinr(*args, w, order, sending)[..., k], rtol=1e-9)


def test_distance_order() -> None:
    order = distance_order([[150.0, 60.0, 90.0, 60.0]] * 2, [[True] * 4, [True, False, True, True]])
    assert order.tolist() == [[1, 3, 2, 0], [3, 2, 0, 1]]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_property_no_order_beats_the_exact_rule(data: st.DataObject) -> None:
    """Small integers bring ties, zero channels, collinear channels and silent users together."""
    users = data.draw(st.integers(1, 4))
    antennas = data.draw(st.integers(1, 3))
    entries = st.integers(-2, 2)
    parts = data.draw(st.lists(entries, min_size=2 * users * antennas, max_size=2 * users * antennas))
    demand = data.draw(st.lists(st.integers(0, 3), min_size=users, max_size=users))
    real, imaginary = np.array(parts, dtype=float).reshape(2, users, antennas)
    case = (real + 1j * imaginary, 1.0, 0.1, 1.0, demand)
    exact = minimize_latency_order(*case)
    assert not np.isnan(exact.rate_bps).any()
    for order in permutations(range(users)):
        beams = mmse_beams(*case[:3], order, np.array(demand) > 0)
        assert transmit(*case, beams, order).latency_s >= exact.latency_s * (1 - 1e-9)


def test_errors_name_argument_value_and_range() -> None:
    good: dict[str, Any] = {
        "channel": np.eye(3, 2),
        "power_w": 1.0,
        "noise_power_w": 1.0,
        "bandwidth_hz": 1.0,
        "demand_bits": [1, 2, 3],
    }
    bad: list[tuple[dict[str, Any], str]] = [
        ({"bandwidth_hz": 0.0}, r"bandwidth_hz holds 0\.0.*\(0, inf\)"),
        ({"demand_bits": [1, -2, 3]}, r"demand_bits holds -2\.0.*\[0, inf\)"),
        ({"demand_bits": 3.0}, r"demand_bits has shape \(\)"),
        ({"noise_power_w": np.ones(2), "demand_bits": np.ones((3, 3))}, r"channel \(2,\).*demand_bits \(3,\)"),
        ({"beams": np.ones((2, 3))}, r"beams has shape \(2, 3\)"),
    ]
    for change, message in bad:
        for solve in (minimize_latency_order, exhaustive_latency_order):
            with pytest.raises(ValueError, match=message):
                solve(**(good | change))
    with pytest.raises(ValueError, match=r"K = 9 users; exhaustive search takes 1 to 8"):
        exhaustive_latency_order(np.ones((9, 1)), 1.0, 1.0, 1.0, np.ones(9))
    with pytest.raises(ValueError, match=r"K = 17 users; the table of 2\^K sets takes 1 to 16"):
        set_sinr(np.ones((17, 1)), 1.0, 1.0)
    with pytest.raises(ValueError, match=r"distances_m holds -5\.0"):
        distance_order([-5.0], [True])
