"""Compiled form of the joint optimum over beams and order (Numba, extra ``fast``), equal to the NumPy one to rounding.

The rule is that of :mod:`noma_semcom_env.link.decoding_order`, one problem after the other instead of one array
operation for all: without temporary arrays, and for few problems without the cost of starting array operations. Every
set is factored afresh, by modified Gram-Schmidt on the stacked rows [sqrt(p_j) h_j^H / sigma (j in S); I]. The first
call compiles for some seconds; later processes find the result in Numba's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from noma_semcom_env.link.sic import ComplexArray, FloatArray, IntArray

_compiled: Any = numba.njit(cache=True, error_model="numpy")


@_compiled  # type: ignore[untyped-decorator]
def joint_optimum(scaled: ComplexArray, demand: FloatArray) -> tuple[IntArray, FloatArray, ComplexArray]:
    """Order, SINRs and beams of least latency.

    Args:
        scaled: (B, K, N) complex128, from :func:`~noma_semcom_env.link.sic.scaled_channel`.
        demand: (B, K) float64 in bits, 0 for a silent user.

    Returns:
        The order (B, K) int64, first decoded first, silent users last by index; the SINRs (B, K) float64 in the users'
        order, 0 for silent ones; and MMSE beams (B, K, N) complex128 of unit norm. Ties go to the lower index.
    """
    batch, users, antennas = scaled.shape
    order = np.empty((batch, users), dtype=np.int64)
    ratio = np.zeros((batch, users), dtype=np.float64)
    beams = np.zeros((batch, users, antennas), dtype=np.complex128)
    rows = np.empty((users + antennas, antennas), dtype=np.complex128)
    factor = np.empty((antennas, antennas), dtype=np.complex128)
    solved = np.empty(antennas, dtype=np.complex128)
    remaining = np.empty(users, dtype=np.int64)
    for problem in range(batch):
        channel = scaled[problem]
        left = 0
        for user in range(users):
            if demand[problem, user] > 0.0:
                remaining[left] = user
                left += 1
        active = left
        for user in range(users):
            if not demand[problem, user] > 0.0:
                order[problem, left] = user
                left += 1
                _factorize(channel, remaining, 0, -1, rows, factor)
                _whiten(channel[user], factor, solved)
                _write_beam(factor, solved, beams[problem, user])
        for place in range(active):
            count = active - place
            best, least, found = -1, np.inf, 0.0
            for candidate in range(count):
                user = remaining[candidate]
                _factorize(channel, remaining, count, candidate, rows, factor)
                energy = _whiten(channel[user], factor, solved)
                nats = np.log1p(energy)
                cost = demand[problem, user] / nats if nats > 0.0 else np.inf
                if best < 0 or cost < least:
                    best, least, found = candidate, cost, energy
            user = remaining[best]
            order[problem, place] = user
            ratio[problem, user] = found
            _factorize(channel, remaining, count, best, rows, factor)
            _whiten(channel[user], factor, solved)
            _write_beam(factor, solved, beams[problem, user])
            for later in range(best, count - 1):
                remaining[later] = remaining[later + 1]
    return order, ratio, beams


@_compiled  # type: ignore[untyped-decorator]
def _factorize(
    channel: ComplexArray, remaining: IntArray, count: int, candidate: int, rows: ComplexArray, factor: ComplexArray
) -> None:
    """R of the rows h_j^H of the first ``count`` remaining users but the candidate, and I, into ``factor`` (N, N)."""
    antennas = channel.shape[1]
    height = 0
    for other in range(count):
        if other != candidate:
            for column in range(antennas):
                rows[height, column] = channel[remaining[other], column].conjugate()
            height += 1
    for line in range(antennas):
        for column in range(antennas):
            rows[height + line, column] = 1.0 if line == column else 0.0
    height += antennas
    for column in range(antennas):
        squared = 0.0
        for line in range(height):
            value = rows[line, column]
            squared += value.real * value.real + value.imag * value.imag
        norm = np.sqrt(squared)
        factor[column, column] = norm
        for later in range(column + 1, antennas):
            product = 0.0 + 0.0j
            for line in range(height):
                product += rows[line, column].conjugate() * rows[line, later]
            product /= norm
            factor[column, later] = product
            for line in range(height):
                rows[line, later] -= rows[line, column] * (product / norm)


@_compiled  # type: ignore[untyped-decorator]
def _whiten(own: ComplexArray, factor: ComplexArray, solved: ComplexArray) -> float:
    """R^-H h into ``solved`` (N,), and its squared norm, the SINR of the MMSE receiver."""
    energy = 0.0
    for i in range(len(own)):
        value = own[i]
        for j in range(i):
            value -= factor[j, i].conjugate() * solved[j]
        value /= factor[i, i].real
        solved[i] = value
        energy += value.real * value.real + value.imag * value.imag
    return energy


@_compiled  # type: ignore[untyped-decorator]
def _write_beam(factor: ComplexArray, solved: ComplexArray, beam: ComplexArray) -> None:
    """R^-1 R^-H h of unit norm into ``beam`` (N,); the first antenna alone where h is 0."""
    largest = 0.0
    for i in range(len(solved) - 1, -1, -1):
        value = solved[i]
        for j in range(i + 1, len(solved)):
            value -= factor[i, j] * solved[j]
        solved[i] = value / factor[i, i].real
        largest = max(largest, abs(solved[i]))
    if largest == 0.0:
        beam[0] = 1.0
        return
    # Dividing by the largest entry first keeps the squares of very small beams from leaving the range.
    total = 0.0
    for i in range(len(solved)):
        solved[i] /= largest
        total += solved[i].real * solved[i].real + solved[i].imag * solved[i].imag
    for i in range(len(solved)):
        beam[i] = solved[i] / np.sqrt(total)
