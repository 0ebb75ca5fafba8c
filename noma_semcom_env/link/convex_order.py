"""The paper's decoding order (13)-(17): a fractional program solved as a series of convex ones, by cvxpy and Clarabel.

Over pi (who is decoded before whom), priorities q and t = 1 / tau, with the worst-case beams (11)-(12) fixed:

    maximize t - w sum_{k != j} s_kj / 2, subject to, for each k and each j != k,
    log(1 + 2 y_k sqrt(g_kk) - y_k^2 (sum_j pi_kj g_kj + 1)) >= t d_k                  (14), the quadratic transform
    pi_kj + pi_jk = 1,  0 <= pi_kj <= 1                                                (4a), (16a)
    q_j >= q_k + 1 - K (1 - pi_kj),  0 <= q_k <= K - 1                                 (4b) with M = K
    pi_kj (1 - 2 z_kj) + z_kj^2 <= s_kj,  s_kj >= 0                                    (17): (16b) linearized at z

with gains g_kj = p_j |w_k^H h_j|^2 / sigma^2 and demands d_k. After each solution z becomes pi, and
y_k = sqrt(g_kk) / (sum_j z_kj g_kj + 1) is renewed by (15).

The paper leaves open, and this module fixes:

* Scaling: noise is 1, demands are in a unit that makes t = 1 at the start, and (14) is divided by 1 + SINR_k at the
  point where y was renewed, so that its logarithm starts at 0 at any SNR.
* Start: z = 1/2 for every pair.
* Slack: its weight w is :data:`SLACK_WEIGHT`, times :data:`SLACK_GROWTH` after every iteration. Starting small keeps
  (17) from freezing the first guess. Of the weights tried, 0.001 to 10, fixed and growing, this one found the optimum
  most often at K = 8 and, within chance, as often as any at K = 3 and 5.
* Stop: when neither t (relatively) nor any pi moves by more than :data:`TOLERANCE`, or after :data:`MAX_ITERATIONS`.
* Rounding: the last pi need not be binary. Users are sorted by q, ties by index, and rates and latency are the true
  ones of that order; the relaxed t is never reported.
* Silent users, and users without any received power, take no part.
* Failure: if Clarabel reports anything but an optimum (an inaccurate one will do, since only the order is read), the
  exact order for the same beams takes over, and ``Transmission.fallback`` says so.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.link.beamforming import worst_case_beams
from noma_semcom_env.link.decoding_order import minimize_latency_order
from noma_semcom_env.link.sic import (
    FloatArray,
    IntArray,
    Transmission,
    broadcast_lead,
    checked_demand,
    pairwise_gain,
    scaled_channel,
    transmit,
)

SLACK_WEIGHT: Final = 1e-3
SLACK_GROWTH: Final = 2.0
MAX_ITERATIONS: Final = 20
TOLERANCE: Final = 1e-3


def fractional_program_order(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    bandwidth_hz: ArrayLike,
    demand_bits: ArrayLike,
) -> Transmission:
    """The paper's transmission: worst-case beams (11)-(12), and the order of the fractional program (13)-(17).

    A reference, not a tool: the order is optimal for these beams only most of the time, and instances are solved one
    after the other, each by a series of convex programs. ``decoding_order.minimize_latency_order`` is exact and faster.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        bandwidth_hz: B in Hz, one number or (...,).
        demand_bits: (..., K) bits, at least 0; 0 makes a user silent.

    Returns:
        The transmission, its leading axes those of all arguments broadcast together; ``fallback`` is True where the
        solver failed and the exact order for the same beams stands in.

    Raises:
        ValueError: naming the argument that does not fit.
        ModuleNotFoundError: if cvxpy is not installed.
    """
    scaled = scaled_channel(channel, power_w, noise_power_w)
    num_users = scaled.shape[-2]
    demand = checked_demand(demand_bits, num_users)
    beams = worst_case_beams(channel, power_w, noise_power_w, demand > 0.0)
    gain = pairwise_gain(scaled, beams)
    lead = broadcast_lead(channel=gain.shape[:-2], bandwidth_hz=np.shape(bandwidth_hz), demand_bits=demand.shape[:-1])
    gains = np.broadcast_to(gain, (*lead, num_users, num_users)).reshape(-1, num_users, num_users)
    demands = np.broadcast_to(demand, (*lead, num_users)).reshape(-1, num_users)
    orders = np.tile(np.arange(num_users), (len(demands), 1))
    failed = np.zeros(len(demands), dtype=np.bool_)
    for row, (g, d) in enumerate(zip(gains, demands, strict=True)):
        taking_part = np.flatnonzero((d > 0.0) & (np.diagonal(g) > 0.0))
        if len(taking_part) < 2:
            continue
        ranked = _program(len(taking_part)).order(g[np.ix_(taking_part, taking_part)], d[taking_part])
        if ranked is None:
            failed[row] = True
        else:
            rest = np.setdiff1d(orders[row], taking_part)
            orders[row] = np.concatenate([taking_part[ranked], rest])
    fallback = failed.reshape(lead)
    link = (channel, power_w, noise_power_w, bandwidth_hz, demand_bits, beams)
    order = orders.reshape(*lead, num_users)
    if failed.any():
        order = np.where(fallback[..., None], minimize_latency_order(*link).order, order)
    result = transmit(*link, order)
    return Transmission(result.order, result.rate_bps, result.latency_s, result.beams, fallback)


class _Program:
    """The convex program of one iteration for K users, compiled once; gains, demands and z are parameters."""

    def __init__(self, num_users: int) -> None:
        self._cvxpy: Any = _import_cvxpy()
        cp = self._cvxpy
        self._lock = threading.Lock()  # parameters are state
        self._pairs = 1.0 - np.eye(num_users)
        pair_shape = (num_users, num_users)
        self._before = cp.Variable(pair_shape)  # pi
        self._priority = cp.Variable(num_users)  # q
        self._speed = cp.Variable()  # t
        slack = cp.Variable(pair_shape, nonneg=True)
        # (14) with its parameters folded: log(constant - interference . pi) + start >= t demand.
        self._start = cp.Parameter(num_users)
        self._constant = cp.Parameter(num_users)
        self._interference = cp.Parameter(pair_shape)
        self._demand = cp.Parameter(num_users)
        # (17): slope * pi + offset <= slack.
        self._slope = cp.Parameter(pair_shape)
        self._offset = cp.Parameter(pair_shape)
        self._weight = cp.Parameter()
        ones = np.ones((1, num_users))
        column = cp.reshape(self._priority, (num_users, 1), order="C")
        lead = (column @ ones).T - column @ ones  # [k, j] = q_j - q_k
        bracket = self._constant - cp.sum(cp.multiply(self._interference, self._before), axis=1)
        self._problem = cp.Problem(
            cp.Maximize(self._speed - self._weight * cp.sum(slack) / 2.0),
            [
                cp.log(bracket) + self._start >= self._speed * self._demand,
                self._before >= 0.0,
                self._before + self._before.T == self._pairs,
                self._priority >= 0.0,
                self._priority <= num_users - 1.0,
                cp.multiply(self._pairs, lead - 1.0 + num_users * (1.0 - self._before)) >= 0.0,
                cp.multiply(self._slope, self._before) + self._offset <= slack,
            ],
        )

    def order(self, gain: FloatArray, demand: FloatArray) -> IntArray | None:
        """Users by ascending q after the last iteration, None if the solver failed.

        Args:
            gain: (K, K) received powers over noise, gain[k, j] of user j at user k's beam; the diagonal above 0.
            demand: (K,) in bits, above 0.
        """
        with self._lock:
            own = np.diagonal(gain)
            point = 0.5 * self._pairs
            weight, speed = SLACK_WEIGHT, 1.0
            self._demand.value = demand * (np.log1p(own / ((point * gain).sum(axis=1) + 1.0)) / demand).min()
            for _ in range(MAX_ITERATIONS):
                noise = (point * gain).sum(axis=1) + 1.0
                ratio = own / noise
                scale = own / noise**2 / (1.0 + ratio)  # y^2 / (1 + SINR)
                self._start.value = np.log1p(ratio)
                self._constant.value = (1.0 + 2.0 * ratio) / (1.0 + ratio) - scale
                self._interference.value = scale[:, None] * gain * self._pairs
                self._slope.value = (1.0 - 2.0 * point) * self._pairs
                self._offset.value = point**2
                self._weight.value = weight
                if not self._solved():
                    return None
                previous, last_speed = point, speed
                point = np.clip(self._before.value, 0.0, 1.0) * self._pairs
                speed = float(self._speed.value)
                if max(np.abs(point - previous).max(), abs(speed / last_speed - 1.0)) < TOLERANCE:
                    break
                weight *= SLACK_GROWTH
            return np.argsort(self._priority.value, kind="stable")

    def _solved(self) -> bool:
        cp = self._cvxpy
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate", category=UserWarning)
            try:
                self._problem.solve(solver=cp.CLARABEL)
            except cp.error.SolverError:
                return False
        return self._problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)


@lru_cache(maxsize=16)
def _program(num_users: int) -> _Program:
    return _Program(num_users)


def _import_cvxpy() -> Any:
    try:
        return importlib.import_module("cvxpy")
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            'The paper\'s decoding order needs cvxpy: pip install "noma-semcom-env[paper]"; the exact order does not'
        ) from missing
