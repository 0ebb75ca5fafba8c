"""Receive beams against the generalized eigenproblem, against other beams, and at extreme SNRs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.linalg

from noma_semcom_env.link.beamforming import mmse_beams, triangular_factor, worst_case_beams
from noma_semcom_env.link.sic import sinr


def test_worst_case_beams_solve_the_generalized_eigenproblem(uplinks: Any) -> None:
    """(11)-(12): the largest eigenvalue's vector of (p_k h_k h_k^H, sum_{j != k} p_j h_j h_j^H + sigma^2 I)."""
    case = uplinks.draw(np.random.default_rng(0), (20,), 4, 3, silent=0.25)
    active = case["demand_bits"] > 0
    beams = worst_case_beams(case["channel"], case["power_w"], case["noise_power_w"], active)
    np.testing.assert_allclose(np.linalg.norm(beams, axis=-1), 1.0, rtol=1e-13)
    for b in range(20):
        outer = [
            p / case["noise_power_w"] * np.outer(h, h.conj())
            for p, h in zip(case["power_w"][b], case["channel"][b], strict=True)
        ]
        for k in np.flatnonzero(active[b]):
            others = sum(outer[j] for j in np.flatnonzero(active[b]) if j != k) + np.eye(3)
            vector = scipy.linalg.eigh(outer[k], others)[1][:, -1]
            alignment = abs(vector.conj() @ beams[b, k]) / np.linalg.norm(vector)
            assert alignment == pytest.approx(1.0, abs=1e-7)


def test_no_other_beam_beats_mmse(uplinks: Any) -> None:
    rng = np.random.default_rng(1)
    case = uplinks.draw(rng, (200,), 4, 3, silent=0.2)
    args = (case["channel"], case["power_w"], case["noise_power_w"])
    active = case["demand_bits"] > 0
    order = rng.permuted(np.tile(np.arange(4), (200, 1)), axis=1)
    beams = mmse_beams(*args, order, active)
    best = sinr(*args, beams, order, active)
    for size in (1e-6, 1e-3, 1.0):
        noise = rng.standard_normal((200, 4, 3, 2)).view(complex)[..., 0]
        assert (sinr(*args, beams + size * noise, order, active) <= best * (1 + 1e-12)).all()
    assert (sinr(*args, worst_case_beams(*args, active), order, active) <= best * (1 + 1e-12)).all()


def test_the_user_decoded_first_has_its_worst_case_beam(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(2), (10,), 3, 2)
    args = (case["channel"], case["power_w"], case["noise_power_w"])
    active = np.ones(3, dtype=bool)
    np.testing.assert_allclose(
        mmse_beams(*args, [1, 2, 0], active)[:, 1], worst_case_beams(*args, active)[:, 1], rtol=1e-12
    )


def exact_sinr(rows: np.ndarray, vector: np.ndarray) -> float:
    """h^H (rows^T rows + I)^-1 h for real integers, in rational arithmetic."""
    size = len(vector)
    matrix = [[Fraction(int(i == j)) for j in range(size)] for i in range(size)]
    for row in rows.astype(int).tolist():
        for i in range(size):
            for j in range(size):
                matrix[i][j] += row[i] * row[j]
    solution = [Fraction(int(v)) for v in vector]
    for i in range(size):
        for k in range(i + 1, size):
            factor = matrix[k][i] / matrix[i][i]
            solution[k] -= factor * solution[i]
            for j in range(i, size):
                matrix[k][j] -= factor * matrix[i][j]
    for i in reversed(range(size)):
        solution[i] = (solution[i] - sum(matrix[i][j] * solution[j] for j in range(i + 1, size))) / matrix[i][i]
    return float(sum(Fraction(int(v)) * s for v, s in zip(vector, solution, strict=True)))


@pytest.mark.parametrize("largest", [10, 1_000, 100_000])
def test_sinr_keeps_its_digits_at_any_snr(largest: int) -> None:
    """At 100 dB (amplitudes of 1e5 over the noise) a solve with the covariance is off by 1e-7, the factor by 1e-14."""
    rng = np.random.default_rng(3)
    for users, antennas in ((3, 2), (4, 4), (5, 3), (3, 5)):
        channel = rng.integers(-largest, largest + 1, (users, antennas)).astype(float)
        order = np.arange(users)
        active = np.ones(users, dtype=bool)
        beams = mmse_beams(channel, 1.0, 1.0, order, active)
        measured = sinr(channel, 1.0, 1.0, beams, order, active)
        exact = [exact_sinr(channel[k + 1 :], channel[k]) for k in range(users)]
        np.testing.assert_allclose(measured, exact, rtol=1e-12)


def test_triangular_factor_is_the_cholesky_factor() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((4, 3, 7, 2)).view(complex)[..., 0]
    factor = triangular_factor(rows)
    for b in range(7):
        covariance = rows[..., b].conj().T @ rows[..., b] + np.eye(3)
        np.testing.assert_allclose(factor[..., b], np.linalg.cholesky(covariance).conj().T, rtol=1e-12, atol=1e-14)
    empty = triangular_factor(np.empty((0, 3, 5), dtype=complex))
    np.testing.assert_array_equal(empty, np.broadcast_to(np.eye(3)[..., None], (3, 3, 5)))


@pytest.mark.parametrize("antennas", [1, 2, 6])
def test_zero_channels_and_zero_powers_give_no_nan(antennas: int, uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(5), (6,), 3, antennas)
    case["channel"][0] = 0.0
    case["channel"][1, 2] = 0.0
    case["power_w"][2, 1] = 0.0
    args = (case["channel"], case["power_w"], case["noise_power_w"])
    for beams in (worst_case_beams(*args, [True] * 3), mmse_beams(*args, [2, 1, 0], [True, True, False])):
        np.testing.assert_allclose(np.linalg.norm(beams, axis=-1), 1.0, rtol=1e-13)
        np.testing.assert_array_equal(beams[1, 2], np.eye(antennas)[0])
        assert np.isfinite(sinr(*args, beams, [2, 1, 0], [True] * 3)).all()


def test_many_antennas_null_all_interference(uplinks: Any) -> None:
    case = uplinks.draw(np.random.default_rng(6), (4,), 3, 64)
    args = (case["channel"], case["power_w"], case["noise_power_w"])
    active = np.ones(3, dtype=bool)
    measured = sinr(*args, worst_case_beams(*args, active), [0, 1, 2], active)
    matched = case["power_w"] * (np.abs(case["channel"]) ** 2).sum(axis=-1) / case["noise_power_w"]
    assert (measured > 0.7 * matched).all()
    assert (measured <= matched).all()


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"noise_power_w holds -1\.0"):
        worst_case_beams(np.eye(2), 1.0, -1.0, [True, True])
    with pytest.raises(ValueError, match=r"order \[0, 2\] must hold each user 0 \.\.\. 1"):
        mmse_beams(np.eye(2), 1.0, 1.0, [0, 2], [True, True])
