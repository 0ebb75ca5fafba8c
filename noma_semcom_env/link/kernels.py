"""Compiled form of the joint optimum over beams and order (Numba, extra ``fast``), equal to the NumPy one.

The rule is that of :mod:`noma_semcom_env.link.decoding_order`, one problem after the other instead of one array
operation for all: no temporary arrays, and for few problems no overhead of array operations. Every set is factored
afresh, by modified Gram-Schmidt on the stacked rows [sqrt(p_j) h_j^H / sigma (j in S); I].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from noma_semcom_env.link.sic import ComplexArray, FloatArray, IntArray

JointOrder = Callable[[ComplexArray, FloatArray], tuple[IntArray, FloatArray]]


@lru_cache(maxsize=1)
def compiled_joint_order() -> JointOrder | None:
    """The compiled solver, or None where Numba is not installed.

    Returns:
        A function of scaled channels (B, K, N) complex128 and demands (B, K) float64 in bits that gives the order
        (B, K) int64, first decoded first, and the SINRs (B, K) float64 in the users' order. Silent users (demand 0)
        stand last, by index, with SINR 0. Ties go to the lower index.
    """
    try:
        import numba
    except ImportError:
        return None

    compiled: Any = numba.njit(cache=True, fastmath=False, error_model="numpy")
    whiten = compiled(_whitened_energy)

    def joint_order(scaled: ComplexArray, demand: FloatArray) -> tuple[IntArray, FloatArray]:
        batch, users, antennas = scaled.shape
        order = np.empty((batch, users), dtype=np.int64)
        ratio = np.zeros((batch, users), dtype=np.float64)
        rows = np.empty((users + antennas, antennas), dtype=np.complex128)
        own = np.empty(antennas, dtype=np.complex128)
        remaining = np.empty(users, dtype=np.int64)
        for problem in range(batch):
            left = 0
            for user in range(users):
                if demand[problem, user] > 0.0:
                    remaining[left] = user
                    left += 1
            place = left
            for user in range(users):
                if not demand[problem, user] > 0.0:
                    order[problem, place] = user
                    place += 1
            for place in range(left):
                count = left - place
                best, least, found = -1, np.inf, 0.0
                for candidate in range(count):
                    user = remaining[candidate]
                    energy = whiten(scaled[problem], remaining, count, candidate, rows, own)
                    nats = np.log1p(energy)
                    cost = demand[problem, user] / nats if nats > 0.0 else np.inf
                    if best < 0 or cost < least:
                        best, least, found = candidate, cost, energy
                user = remaining[best]
                order[problem, place] = user
                ratio[problem, user] = found
                for later in range(best, count - 1):
                    remaining[later] = remaining[later + 1]
        return order, ratio

    return compiled(joint_order)  # type: ignore[no-any-return]


def _whitened_energy(
    scaled: ComplexArray, remaining: IntArray, count: int, candidate: int, rows: ComplexArray, own: ComplexArray
) -> float:
    """SINR of one of the remaining users before all others of them: ||R^-H h||^2 with R of the others' rows and I.

    Args:
        scaled: (K, N) of one problem.
        remaining: users that are not decoded yet, ``count`` of them.
        count: Their number.
        candidate: Place among them of the user that is decoded.
        rows: (K + N, N), working space.
        own: (N,), working space.
    """
    antennas = scaled.shape[1]
    height = count - 1 + antennas
    row = 0
    for other in range(count):
        if other != candidate:
            for column in range(antennas):
                rows[row, column] = scaled[remaining[other], column].conjugate()
            row += 1
    for place in range(antennas):
        for column in range(antennas):
            rows[row + place, column] = 1.0 if place == column else 0.0
    for column in range(antennas):
        own[column] = scaled[remaining[candidate], column]
    energy = 0.0
    for column in range(antennas):
        squared = 0.0
        for line in range(height):
            value = rows[line, column]
            squared += value.real * value.real + value.imag * value.imag
        norm = np.sqrt(squared)
        solved = own[column] / norm
        energy += solved.real * solved.real + solved.imag * solved.imag
        for later in range(column + 1, antennas):
            product = 0.0 + 0.0j
            for line in range(height):
                product += rows[line, column].conjugate() * rows[line, later]
            factor = product / norm
            for line in range(height):
                rows[line, later] -= rows[line, column] * (factor / norm)
            own[later] -= factor.conjugate() * solved
    return energy
