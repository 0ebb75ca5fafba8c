"""The compiled joint optimum is the NumPy one: the same orders, and the same SINRs and beams to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from noma_semcom_env.link import decoding_order
from noma_semcom_env.link.decoding_order import minimize_latency_order

joint_optimum = pytest.importorskip("noma_semcom_env.link.kernels").joint_optimum


@pytest.fixture
def numpy_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_order, "_compiled_joint_optimum", lambda: None)


@pytest.mark.parametrize(("users", "antennas"), [(1, 1), (2, 1), (3, 2), (4, 4), (3, 7), (8, 3)])
@pytest.mark.parametrize("snr_db", [-40.0, 20.0, 60.0, 100.0])
def test_it_equals_the_numpy_form(users: int, antennas: int, snr_db: float, numpy_form: None) -> None:
    rng = np.random.default_rng([users, antennas])
    channel = rng.standard_normal((200, users, antennas)) + 1j * rng.standard_normal((200, users, antennas))
    demand = rng.uniform(10.0, 2000.0, (200, users)) * (rng.random((200, users)) < 0.8)
    order, ratio, beams = joint_optimum(channel * 10 ** (snr_db / 20), demand)
    expected = minimize_latency_order(channel, 10 ** (snr_db / 10), 1.0, 1.0, demand)
    np.testing.assert_array_equal(order, expected.order)
    np.testing.assert_allclose(np.log1p(ratio) / np.log(2.0), expected.rate_bps, rtol=1e-9)
    np.testing.assert_allclose(beams, expected.beams, atol=1e-9)


def test_collinear_and_zero_channels_keep_their_order(numpy_form: None) -> None:
    channel = 1e3 * np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0]] * 3], dtype=np.complex128)
    demand = np.array([[5.0, 5.0, 5.0], [1.0, 0.0, 2.0]])
    order, ratio, beams = joint_optimum(channel, demand)
    expected = minimize_latency_order(channel, 1.0, 1.0, 1.0, demand)
    np.testing.assert_array_equal(order, expected.order)
    np.testing.assert_allclose(np.log1p(ratio) / np.log(2.0), expected.rate_bps)
    np.testing.assert_allclose(beams, expected.beams)


def test_the_solver_takes_it_where_numba_is(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def watched(scaled: np.ndarray, demand: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        called.append(len(scaled))
        result: tuple[np.ndarray, np.ndarray, np.ndarray] = joint_optimum(scaled, demand)
        return result

    monkeypatch.setattr(decoding_order, "_compiled_joint_optimum", lambda: watched)
    channel = np.ones((7, 2, 2), dtype=np.complex128)
    minimize_latency_order(channel, 1.0, 1.0, 1.0, np.ones(2))
    minimize_latency_order(channel, 1.0, 1.0, 1.0, np.ones(2), beams=channel)
    assert called == [7]
