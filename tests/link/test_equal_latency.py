"""Among orders of least latency strong users go first, and no latency is lost by it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.link.decoding_order import minimize_latency_order
from noma_semcom_env.link.equal_latency import strongest_first

BANDWIDTH_HZ = 1e6


def sinrs(h: np.ndarray, order: tuple[int, ...], residual: float = 0.0) -> np.ndarray:
    """By a direct solve."""
    found = np.zeros(len(h))
    for place, k in enumerate(order):
        share = dict.fromkeys(order[place + 1 :], 1.0) | dict.fromkeys(order[:place], residual)
        covariance = sum((s * np.outer(h[j], h[j].conj()) for j, s in share.items()), start=np.eye(h.shape[1]) + 0j)
        found[k] = (h[k].conj() @ np.linalg.solve(covariance, h[k])).real
    return found


def draw(seed: int, count: int = 60, users: int = 4) -> Any:
    rng = np.random.default_rng(seed)
    gain = 10 ** rng.uniform(-0.5, 2.0, (count, users, 1))
    h = gain * (rng.standard_normal((count, users, 2)) + 1j * rng.standard_normal((count, users, 2)))
    return rng, h


def test_without_bits_the_order_follows_the_link_and_not_the_airtimes() -> None:
    rng, h = draw(0)
    airtime = rng.uniform(1e-3, 5e-3, (60, 4))
    link = (h, 1.0, 1.0, BANDWIDTH_HZ, np.zeros(4))
    by_airtime = minimize_latency_order(*link, airtime_s=airtime)
    np.testing.assert_array_equal(by_airtime.order, np.argsort(airtime, axis=-1))
    sent = strongest_first(*link, airtime, by_airtime.latency_s)
    np.testing.assert_allclose(sent.latency_s, airtime.max(axis=-1), rtol=1e-12)
    for b in range(60):
        waiting = [0, 1, 2, 3]
        for k in sent.order[b].tolist():
            first = [sinrs(h[b], (one, *(j for j in waiting if j != one)))[one] for one in waiting]
            assert k == waiting[int(np.argmax(first))]
            waiting.remove(k)


@pytest.mark.parametrize("residual", [0.0, 0.05])
def test_no_order_within_the_latency_puts_a_stronger_user_first(residual: float) -> None:
    rng, h = draw(1)
    airtime, bits = rng.uniform(0, 3e-3, (60, 4)), rng.uniform(0, 3e3, (60, 4))
    link = (h, 1.0, 1.0, BANDWIDTH_HZ, bits)
    least = minimize_latency_order(*link, airtime_s=airtime, sic_residual=residual)
    sent = strongest_first(*link, airtime, least.latency_s, residual)
    np.testing.assert_allclose(sent.latency_s, least.latency_s, rtol=1e-9)
    assert (sent.order != least.order).any(axis=-1).mean() > 0.3
    for b in range(60):
        order = tuple(sent.order[b].tolist())
        ratio = sinrs(h[b], order, residual)
        np.testing.assert_allclose(sent.rate_bps[b], BANDWIDTH_HZ * np.log2(1 + ratio), rtol=1e-8)
        first = {}
        for other in permutations(range(4)):
            found = sinrs(h[b], other, residual)
            late = (airtime[b] + bits[b] / (BANDWIDTH_HZ * np.log2(1 + found))).max()
            if late <= least.latency_s[b] * (1 + 1e-9):
                first[other[0]] = found[other[0]]
        assert order[0] == max(first, key=lambda k: first[k])


def test_silent_users_stand_last_and_one_that_is_never_heard_breaks_nothing() -> None:
    _, h = draw(2, count=1, users=3)
    h[0, 1] = 0.0
    sent = strongest_first(h, 1.0, 1.0, BANDWIDTH_HZ, np.array([0.0, 5.0, 0.0]), np.array([0.0, 0.0, 1e-3]), np.inf)
    assert sent.order.tolist() == [[2, 1, 0]]
    assert np.isposinf(sent.latency_s).all()
    assert sent.rate_bps[0, 1] == 0.0
    assert np.isfinite(sent.beams).all()


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="sic_residual is 2"):
        strongest_first(np.ones((3, 2)), 1.0, 1.0, 1e6, np.ones(3), 0.0, 1.0, 2.0)
    with pytest.raises(ValueError, match="airtime_s"):
        strongest_first(np.ones((3, 2)), 1.0, 1.0, 1e6, np.ones(3), np.full(3, -1.0), 1.0)
