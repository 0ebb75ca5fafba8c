"""Receive beams: the paper's worst-case beams (11)-(12) and the MMSE beams of a decoding order.

Both are w_k ~ (sum_{j in S_k} p_j h_j h_j^H + sigma^2 I)^-1 h_k and differ in the set S_k that interferes. The
matrix is never formed: with R the triangular factor of the stacked rows [sqrt(p_j) h_j^H / sigma (j in S_k); I] it is
sigma^2 R^H R, and R loses half as many digits as R^H R. Every set is factored afresh.

The loops run over antennas alone; arrays are laid out with the batch last, where NumPy is fast.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.link.sic import (
    BoolArray,
    ComplexArray,
    FloatArray,
    IntArray,
    checked_order,
    interference_share,
    scaled_channel,
    squared_magnitude,
    unit_beams,
)


def worst_case_beams(
    channel: ArrayLike, power_w: ArrayLike, noise_power_w: ArrayLike, active: ArrayLike
) -> ComplexArray:
    """The paper's beams (11)-(12): every other active user interferes, as if each user were decoded first.

    The generalized eigenvector of (p_k h_k h_k^H, sum_{j != k} p_j h_j h_j^H + sigma^2 I) with the largest eigenvalue;
    the first matrix has rank one, so that it is (sum_{j != k} p_j h_j h_j^H + sigma^2 I)^-1 h_k up to a factor.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        active: (..., K) bool; a silent user interferes with nobody, and its own beam is matched to its channel.

    Returns:
        (..., K, N) complex beams of unit norm; the first antenna alone for a user whose channel or power is 0.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    scaled = scaled_channel(channel, power_w, noise_power_w)
    sending = np.asarray(active, dtype=np.bool_)
    others = sending[..., :, None] & sending[..., None, :] & ~np.eye(scaled.shape[-2], dtype=np.bool_)
    return beams_against(scaled, others)


def mmse_beams(
    channel: ArrayLike,
    power_w: ArrayLike,
    noise_power_w: ArrayLike,
    order: ArrayLike,
    active: ArrayLike,
    sic_residual: float = 0.0,
) -> ComplexArray:
    """The best beams of a decoding order: each user's MMSE receiver against the active users decoded after it.

    Args:
        channel: (..., K, N) complex channels h_k, path gain included.
        power_w: transmit powers in W, one number, (K,) or (..., K).
        noise_power_w: sigma^2 in W, one number or (...,).
        order: (..., K), user indices, first decoded first.
        active: (..., K) bool; a silent user interferes with nobody, and its own beam is matched to its channel.
        sic_residual: Share of a decoded user's power that stays as interference for those decoded after it.

    Returns:
        (..., K, N) complex beams of unit norm; the first antenna alone for a user whose channel or power is 0.

    Raises:
        ValueError: naming the argument that does not fit.
    """
    scaled = scaled_channel(channel, power_w, noise_power_w)
    sending = np.asarray(active, dtype=np.bool_)
    return beams_against(scaled, interference_share(checked_order(order, scaled.shape[-2]), sending, sic_residual))


def beams_against(scaled: ComplexArray, interferes: BoolArray | FloatArray) -> ComplexArray:
    """MMSE beams against given users, or shares of their power.

    Args:
        scaled: (..., K, N), from :func:`~noma_semcom_env.link.sic.scaled_channel`.
        interferes: (..., K, K) bool or float, [k, j] the share of j's power that interferes with k; the diagonal is not
            read.

    Returns:
        (..., K, N) beams of unit norm.
    """
    num_users, num_antennas = scaled.shape[-2:]
    lead = np.broadcast_shapes(scaled.shape[:-2], interferes.shape[:-2])
    h = np.broadcast_to(scaled, (*lead, num_users, num_antennas)).reshape(-1, num_users, num_antennas)
    share = np.sqrt(interferes, dtype=np.float64)
    share = np.broadcast_to(share, (*lead, num_users, num_users)).reshape(-1, num_users, num_users)
    basis, reduced = signal_subspace(h)
    own = np.ascontiguousarray(reduced.transpose(2, 1, 0))  # (N, K, batch)
    rest = others_of(num_users)
    rows = own.conj()[:, rest] * np.take_along_axis(share, rest[None], axis=2).transpose(1, 2, 0)  # (N, K, K-1, batch)
    factor = triangular_factor(rows.transpose(2, 0, 1, 3))
    w = back_substitution(factor, forward_substitution(factor, own)).transpose(2, 1, 0)
    if basis is not None:
        w = w @ np.swapaxes(basis, -1, -2)
    received = squared_magnitude(h).sum(axis=-1, keepdims=True) > 0.0
    if not received.all():
        w = np.where(received, w, np.eye(1, num_antennas))
    return unit_beams(w, num_users, num_antennas).reshape(*lead, num_users, num_antennas)


def signal_subspace(scaled: ComplexArray) -> tuple[ComplexArray | None, ComplexArray]:
    """Channels in coordinates of the space that they span: with N > K antennas, K coordinates hold all there is.

    Args:
        scaled: (batch, K, N).

    Returns:
        (batch, N, K) orthonormal columns and (batch, K, K) coordinates; None and the channels as they are if N <= K.
    """
    if scaled.shape[-1] <= scaled.shape[-2]:
        return None, scaled
    basis, coordinates = np.linalg.qr(np.swapaxes(scaled, -1, -2))
    return basis, np.swapaxes(coordinates, -1, -2)


@lru_cache(maxsize=64)
def others_of(num_users: int) -> IntArray:
    """(K, K-1) int64, read-only: row k lists every index but k, ascending."""
    others = np.array([[j for j in range(num_users) if j != k] for k in range(num_users)], dtype=np.int64)
    others.flags.writeable = False
    return others


def triangular_factor(rows: ComplexArray) -> ComplexArray:
    """R with R^H R = rows^H rows + I, by modified Gram-Schmidt on [rows; I] (its R is as good as Householder's).

    Args:
        rows: (m, N, ...) complex, batch axes last; m may be 0.

    Returns:
        (N, N, ...) upper triangular, the diagonal real and at least 1 (below the diagonal 0).
    """
    count, size, *batch = rows.shape
    stack = np.zeros((count + size, size, *batch), dtype=np.complex128)
    stack[:count] = rows
    stack[count + np.arange(size), np.arange(size)] = 1.0
    factor = np.zeros((size, size, *batch), dtype=np.complex128)
    for i in range(size):
        column = stack[: count + i + 1, i]  # the identity's later rows are still 0 here
        norm = np.sqrt(squared_magnitude(column).sum(axis=0))
        factor[i, i] = norm
        if i + 1 < size:
            direction = column / norm
            later = stack[: count + i + 1, i + 1 :]
            factor[i, i + 1 :] = (direction.conj()[:, None] * later).sum(axis=0)
            later -= direction[:, None] * factor[i, i + 1 :]
    return factor


def forward_substitution(factor: ComplexArray, vectors: ComplexArray) -> ComplexArray:
    """R^-H v: the whitened vector, whose squared norm is v^H (R^H R)^-1 v.

    Args:
        factor: (N, N, ...) upper triangular, batch axes last.
        vectors: (N, ...), its batch axes broadcasting against the factor's.

    Returns:
        (N, ...).
    """
    solved = np.empty((len(vectors), *np.broadcast_shapes(factor.shape[2:], vectors.shape[1:])), dtype=np.complex128)
    for i in range(len(vectors)):
        known = (factor[:i, i].conj() * solved[:i]).sum(axis=0) if i else 0.0
        solved[i] = (vectors[i] - known) / factor[i, i].real
    return solved


def back_substitution(factor: ComplexArray, vectors: ComplexArray) -> ComplexArray:
    """R^-1 v, arguments and result as in :func:`forward_substitution`."""
    size = len(vectors)
    solved = np.empty((size, *np.broadcast_shapes(factor.shape[2:], vectors.shape[1:])), dtype=np.complex128)
    for i in reversed(range(size)):
        known = (factor[i, i + 1 :] * solved[i + 1 :]).sum(axis=0) if i + 1 < size else 0.0
        solved[i] = (vectors[i] - known) / factor[i, i].real
    return solved
