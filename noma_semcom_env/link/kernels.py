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
    ratio = np.empty((batch, users), dtype=np.float64)
    beams = np.empty((batch, users, antennas), dtype=np.complex128)
    rows, factors = working_memory(users, antennas)
    for problem in range(batch):
        solve_joint_optimum(
            scaled[problem], demand[problem], order[problem], ratio[problem], beams[problem], rows, factors
        )
    return order, ratio, beams


@_compiled  # type: ignore[untyped-decorator]
def working_memory(users: int, antennas: int) -> tuple[ComplexArray, ComplexArray]:
    """Scratch arrays that :func:`solve_joint_optimum` uses again and again.

    Args:
        users: K.
        antennas: N.

    Returns:
        (K + N, N) complex128 rows, and (2, N + 1, N) complex128: twice a triangular factor with a whitened channel
        below it.
    """
    return (
        np.empty((users + antennas, antennas), dtype=np.complex128),
        np.empty((2, antennas + 1, antennas), dtype=np.complex128),
    )


@_compiled  # type: ignore[untyped-decorator]
def solve_joint_optimum(
    channel: ComplexArray,
    demand: FloatArray,
    order: IntArray,
    ratio: FloatArray,
    beams: ComplexArray,
    rows: ComplexArray,
    factors: ComplexArray,
) -> None:
    """One problem of :func:`joint_optimum`, into the arrays that are given.

    Args:
        channel: (K, N) complex128 scaled channels.
        demand: (K,) float64 in bits.
        order: (K,) int64, written.
        ratio: (K,) float64, written.
        beams: (K, N) complex128, written.
        rows: Of :func:`working_memory`.
        factors: Likewise.
    """
    users = len(demand)
    # The order's own places hold the users that remain, ascending, behind those that are decoded.
    active = 0
    for user in range(users):
        if demand[user] > 0.0:
            order[active] = user
            active += 1
    silent = active
    for user in range(users):
        if not demand[user] > 0.0:
            order[silent] = user
            silent += 1
            ratio[user] = 0.0
            _factorize(channel, order[:0], -1, rows, factors[0])
            _whiten(channel[user], factors[0])
            _write_beam(factors[0], beams[user])
    for place in range(active):
        remaining = order[place:active]
        best, least, found, spare = -1, np.inf, 0.0, 0
        for candidate in range(len(remaining)):
            user = remaining[candidate]
            _factorize(channel, remaining, candidate, rows, factors[spare])
            energy = _whiten(channel[user], factors[spare])
            nats = np.log1p(energy)
            cost = demand[user] / nats if nats > 0.0 else np.inf
            if best < 0 or cost < least:
                best, least, found = candidate, cost, energy
                spare = 1 - spare
        user = remaining[best]
        for later in range(best, 0, -1):
            remaining[later] = remaining[later - 1]
        remaining[0] = user
        ratio[user] = found
        _write_beam(factors[1 - spare], beams[user])


@_compiled  # type: ignore[untyped-decorator]
def _factorize(
    channel: ComplexArray, remaining: IntArray, candidate: int, rows: ComplexArray, factor: ComplexArray
) -> None:
    """R of the rows h_j^H of the remaining users but the candidate, and I, into the first N lines of ``factor``."""
    antennas = channel.shape[1]
    height = 0
    for other in range(len(remaining)):
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
        # Times the inverse: a complex division by a real number is compiled as one by a complex number, far slower.
        inverse = 1.0 / norm
        for later in range(column + 1, antennas):
            real, imaginary = 0.0, 0.0
            for line in range(height):
                one, two = rows[line, column], rows[line, later]
                real += one.real * two.real + one.imag * two.imag
                imaginary += one.real * two.imag - one.imag * two.real
            product = complex(real * inverse, imaginary * inverse)
            factor[column, later] = product
            scaled = complex(product.real * inverse, product.imag * inverse)
            for line in range(height):
                rows[line, later] -= rows[line, column] * scaled


@_compiled  # type: ignore[untyped-decorator]
def _whiten(own: ComplexArray, factor: ComplexArray) -> float:
    """R^-H h into the last line of ``factor``, and its squared norm, the SINR of the MMSE receiver."""
    antennas = len(own)
    energy = 0.0
    for i in range(antennas):
        value = own[i]
        for j in range(i):
            value -= factor[j, i].conjugate() * factor[antennas, j]
        inverse = 1.0 / factor[i, i].real
        value = complex(value.real * inverse, value.imag * inverse)
        factor[antennas, i] = value
        energy += value.real * value.real + value.imag * value.imag
    return energy


@_compiled  # type: ignore[untyped-decorator]
def _write_beam(factor: ComplexArray, beam: ComplexArray) -> None:
    """R^-1 R^-H h of unit norm into ``beam`` (N,); the first antenna alone where h is 0."""
    antennas = len(beam)
    largest = 0.0
    for i in range(antennas - 1, -1, -1):
        value = factor[antennas, i]
        for j in range(i + 1, antennas):
            value -= factor[i, j] * beam[j]
        inverse = 1.0 / factor[i, i].real
        beam[i] = complex(value.real * inverse, value.imag * inverse)
        largest = max(largest, abs(beam[i].real), abs(beam[i].imag))
    if largest == 0.0:
        for i in range(antennas):
            beam[i] = 1.0 if i == 0 else 0.0
        return
    # Dividing by the largest entry first keeps the squares of very small beams from leaving the range.
    total = 0.0
    for i in range(antennas):
        beam[i] = complex(beam[i].real / largest, beam[i].imag / largest)
        total += beam[i].real * beam[i].real + beam[i].imag * beam[i].imag
    inverse = 1.0 / np.sqrt(total)
    for i in range(antennas):
        beam[i] = complex(beam[i].real * inverse, beam[i].imag * inverse)
