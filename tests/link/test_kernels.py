"""The compiled joint optimum is the NumPy one: the same orders, and the same SINRs to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from noma_semcom_env.link.decoding_order import minimize_latency_order
from noma_semcom_env.link.kernels import compiled_joint_order

pytest.importorskip("numba")


@pytest.mark.parametrize(("users", "antennas"), [(1, 1), (2, 1), (3, 2), (4, 4), (3, 7), (8, 3)])
@pytest.mark.parametrize("snr_db", [-40.0, 20.0, 60.0, 100.0])
def test_it_equals_the_numpy_form(users: int, antennas: int, snr_db: float) -> None:
    rng = np.random.default_rng([users, antennas])
    channel = rng.standard_normal((200, users, antennas)) + 1j * rng.standard_normal((200, users, antennas))
    demand = rng.uniform(10.0, 2000.0, (200, users)) * (rng.random((200, users)) < 0.8)
    solve = compiled_joint_order()
    assert solve is not None
    order, ratio = solve(channel * 10 ** (snr_db / 20), demand)
    expected = minimize_latency_order(channel, 10 ** (snr_db / 10), 1.0, 1.0, demand)
    np.testing.assert_array_equal(order, expected.order)
    np.testing.assert_allclose(np.log2(1.0 + ratio), expected.rate_bps, rtol=1e-9)


def test_collinear_and_zero_channels_keep_their_order() -> None:
    channel = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0]] * 3], dtype=np.complex128)
    demand = np.array([[5.0, 5.0, 5.0], [1.0, 0.0, 2.0]])
    solve = compiled_joint_order()
    assert solve is not None
    order, ratio = solve(channel * 1e3, demand)
    expected = minimize_latency_order(channel * 1e3, 1.0, 1.0, 1.0, demand)
    np.testing.assert_array_equal(order, expected.order)
    np.testing.assert_allclose(np.log2(1.0 + ratio), expected.rate_bps)
