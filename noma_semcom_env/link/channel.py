"""Channels of the uplink: geometry, path loss, and small-scale fading over time.

A channel model is any object with :meth:`ChannelModel.sample`. It draws from the generator that it is given and from
nothing else, as many variates as users, antennas and steps ask for, so that every policy faces the same channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from noma_semcom_env.link.sic import ComplexArray, FloatArray, checked


class ChannelModel(Protocol):
    """What the dynamics need of a channel."""

    def sample(self, rng: np.random.Generator, distances_m: FloatArray, num_antennas: int, steps: int) -> ComplexArray:
        """Draw a trajectory.

        Args:
            rng: The environment's own generator.
            distances_m: (K,) distances between users and access point in m.
            num_antennas: N.
            steps: Number of consecutive channels.

        Returns:
            (steps, K, N) complex128 channels, path gain included. The number and order of draws depend on K, N and
            steps alone.
        """
        ...


@runtime_checkable
class BatchChannelModel(ChannelModel, Protocol):
    """A channel model that draws many environments' trajectories with fewer array operations."""

    def sample_batch(
        self, generators: Sequence[np.random.Generator], distances_m: FloatArray, num_antennas: int, steps: int
    ) -> ComplexArray:
        """Draw a trajectory from each generator, the same as :meth:`ChannelModel.sample` does.

        Args:
            generators: B, each environment's own.
            distances_m: (B, K) in m.
            num_antennas: N.
            steps: Number of consecutive channels.

        Returns:
            (B, steps, K, N) complex128.
        """
        ...


def sample_trajectories(
    model: ChannelModel,
    generators: Sequence[np.random.Generator],
    distances_m: FloatArray,
    num_antennas: int,
    steps: int,
) -> ComplexArray:
    """Draw a trajectory (B, steps, K, N) from each generator, in one go where the model can."""
    if isinstance(model, BatchChannelModel) and _batch_is_its_own(model):
        return model.sample_batch(generators, distances_m, num_antennas, steps)
    drawn = zip(generators, distances_m, strict=True)
    return np.stack([model.sample(rng, distances, num_antennas, steps) for rng, distances in drawn])


def _batch_is_its_own(model: ChannelModel) -> bool:
    """Whether ``sample_batch`` says what ``sample`` does: a subclass may have replaced ``sample`` alone."""
    for one in type(model).__mro__:
        if "sample_batch" in vars(one):
            return True
        if "sample" in vars(one):
            return False
    return False


@dataclass(frozen=True)
class RayleighChannel:
    """Rayleigh fading: every antenna of every user sees an independent CN(0, 1) times the path's amplitude.

    Over time a first-order Gauss-Markov process, g_t = rho g_{t-1} + sqrt(1 - rho^2) e_t, stationary from the start.

    Attributes:
        correlation: rho in [-1, 1] between consecutive steps, see :func:`gauss_markov_correlation`; 0 is block fading,
            a new channel at each step, and 1 a channel that stands still.
        path_loss_intercept_db: Path loss at 1 km in dB.
        path_loss_slope_db: dB a decade of distance.
    """

    correlation: float = 0.0
    path_loss_intercept_db: float = 128.1
    path_loss_slope_db: float = 37.6

    def __post_init__(self) -> None:
        _check_correlation(self.correlation)

    def sample(self, rng: np.random.Generator, distances_m: FloatArray, num_antennas: int, steps: int) -> ComplexArray:
        """Draw a trajectory, see :meth:`ChannelModel.sample`: 2 steps K N normal variates."""
        channel: ComplexArray = self.sample_batch([rng], np.asarray(distances_m)[None], num_antennas, steps)[0]
        return channel

    def sample_batch(
        self, generators: Sequence[np.random.Generator], distances_m: FloatArray, num_antennas: int, steps: int
    ) -> ComplexArray:
        """Draw a trajectory from each generator, see :meth:`BatchChannelModel.sample_batch`."""
        amplitude = np.sqrt(path_gain(distances_m, self.path_loss_intercept_db, self.path_loss_slope_db))
        channel = _gauss_markov(generators, (steps, amplitude.shape[1], num_antennas), self.correlation)
        channel *= amplitude[:, None, :, None]
        return channel


@dataclass(frozen=True)
class RicianChannel:
    """Rician fading: a fixed line-of-sight part along a uniform linear array's steering vector, and Rayleigh scatter.

    h = sqrt(gain) (sqrt(kappa / (kappa + 1)) a(theta) + sqrt(1 / (kappa + 1)) g_t). Only the scatter g_t moves in time.
    Each user's angle is drawn uniformly over the circle; the line of sight's common phase stays 0, no SINR depends on
    it.

    Attributes:
        k_factor_db: Rician factor kappa in dB, line-of-sight power over scattered power.
        correlation: rho in [-1, 1] of the scatter, as in :class:`RayleighChannel`.
        antenna_spacing_wavelengths: Distance between neighbouring antennas in wavelengths, above 0.
        path_loss_intercept_db: Path loss at 1 km in dB.
        path_loss_slope_db: dB a decade of distance.
    """

    k_factor_db: float
    correlation: float = 0.0
    antenna_spacing_wavelengths: float = 0.5
    path_loss_intercept_db: float = 128.1
    path_loss_slope_db: float = 37.6

    def __post_init__(self) -> None:
        _check_correlation(self.correlation)
        if not np.isfinite(self.k_factor_db):
            raise ValueError(
                f"k_factor_db is {self.k_factor_db}; a finite number of dB is needed (Rayleigh has its own class)"
            )
        checked("antenna_spacing_wavelengths", self.antenna_spacing_wavelengths, "(0, inf)")

    def sample(self, rng: np.random.Generator, distances_m: FloatArray, num_antennas: int, steps: int) -> ComplexArray:
        """Draw a trajectory, see :meth:`ChannelModel.sample`: K uniform variates (angles), 2 steps K N normal."""
        channel: ComplexArray = self.sample_batch([rng], np.asarray(distances_m)[None], num_antennas, steps)[0]
        return channel

    def sample_batch(
        self, generators: Sequence[np.random.Generator], distances_m: FloatArray, num_antennas: int, steps: int
    ) -> ComplexArray:
        """Draw a trajectory from each generator, see :meth:`BatchChannelModel.sample_batch`."""
        amplitude = np.sqrt(path_gain(distances_m, self.path_loss_intercept_db, self.path_loss_slope_db))
        angles = 2.0 * np.pi * np.stack([rng.random(amplitude.shape[1]) for rng in generators])
        sight = steering_vector(angles, num_antennas, self.antenna_spacing_wavelengths)[:, None]
        scatter = _gauss_markov(generators, (steps, amplitude.shape[1], num_antennas), self.correlation)
        factor = 10.0 ** (self.k_factor_db / 10.0)
        fading: ComplexArray = np.sqrt(factor / (factor + 1.0)) * sight + np.sqrt(1.0 / (factor + 1.0)) * scatter
        return amplitude[:, None, :, None] * fading


def sample_estimates(rng: np.random.Generator, channel: ComplexArray, csi_error: float) -> ComplexArray:
    """Draw what the access point believes of a channel.

    Args:
        rng: The environment's own generator.
        channel: (..., K, N) complex, path gain included.
        csi_error: As in :func:`channel_estimates`.

    Returns:
        (..., K, N): the channel itself, and nothing drawn, if the error is 0; else its estimates from two normal
        variates an entry.
    """
    if csi_error == 0.0:
        return channel
    innovations = rng.standard_normal((*channel.shape, 2)).view(np.complex128)[..., 0] * np.sqrt(0.5)
    return channel_estimates(channel, innovations, csi_error)


def channel_estimates(channel: ComplexArray, innovations: ComplexArray, csi_error: float) -> ComplexArray:
    """Estimates h_k + sqrt(e ||h_k||^2 / N) z_k: the error's mean power is the share e of the channel's own.

    Args:
        channel: (..., K, N) complex, path gain included.
        innovations: (..., K, N) complex z_k, entries CN(0, 1).
        csi_error: Relative error variance e, in [0, 1].

    Returns:
        (..., K, N) complex128.

    Raises:
        ValueError: if the error is out of range.
    """
    if not 0.0 <= csi_error <= 1.0:
        raise ValueError(f"csi_error is {csi_error}; a number in [0, 1] is needed")
    power = (channel.real**2 + channel.imag**2).mean(axis=-1, keepdims=True)
    estimates: ComplexArray = channel + np.sqrt(csi_error * power) * innovations
    return estimates


def path_loss_db(distance_m: ArrayLike, intercept_db: float = 128.1, slope_db: float = 37.6) -> FloatArray:
    """Path loss in dB: intercept + slope log10(d / km), by default the 3GPP urban macro law 128.1 + 37.6 log10(d / km).

    Args:
        distance_m: Distances in m, above 0.
        intercept_db: Loss at 1 km in dB.
        slope_db: dB a decade of distance.

    Raises:
        ValueError: if a distance is not finite and positive.
    """
    loss: FloatArray = intercept_db + slope_db * np.log10(checked("distance_m", distance_m, "(0, inf)") / 1e3)
    return loss


def path_gain(distance_m: ArrayLike, intercept_db: float = 128.1, slope_db: float = 37.6) -> FloatArray:
    """Received over sent power, 10^(-loss / 10); arguments as in :func:`path_loss_db`."""
    gain: FloatArray = 10.0 ** (path_loss_db(distance_m, intercept_db, slope_db) / -10.0)
    return gain


def drop_distances(uniforms: ArrayLike, min_m: float, max_m: float) -> FloatArray:
    """Distances of users that are dropped uniformly over the area of an annulus around the access point.

    Args:
        uniforms: (..., K) numbers in [0, 1], one a user.
        min_m: Inner radius in m, above 0.
        max_m: Outer radius in m, at least ``min_m``.

    Returns:
        (..., K) in m.

    Raises:
        ValueError: if the radii do not fit, or a uniform lies outside [0, 1].
    """
    if not 0.0 < min_m <= max_m < np.inf:
        raise ValueError(f"min_m is {min_m} and max_m {max_m}; 0 < min_m <= max_m is needed, both finite")
    u = checked("uniforms", uniforms, "[0, inf)")
    if (u > 1.0).any():
        raise ValueError(f"uniforms holds {u.max()}; every entry must be in [0, 1]")
    distance: FloatArray = np.sqrt(min_m**2 + u * (max_m**2 - min_m**2))
    return distance


def steering_vector(angle_rad: ArrayLike, num_antennas: int, spacing_wavelengths: float = 0.5) -> ComplexArray:
    """Response of a uniform linear array, a_n = exp(2 pi i n d sin(theta)), n = 0 ... N-1.

    Args:
        angle_rad: (...,) angles of arrival from broadside in rad.
        num_antennas: N, at least 1.
        spacing_wavelengths: Distance d between neighbouring antennas in wavelengths.

    Returns:
        (..., N) complex, entries of magnitude 1.
    """
    phase = np.sin(np.asarray(angle_rad, dtype=np.float64))[..., None] * np.arange(num_antennas)
    response: ComplexArray = np.exp(2j * np.pi * spacing_wavelengths * phase)
    return response


def gauss_markov_correlation(doppler_hz: float, period_s: float) -> float:
    """Clarke's correlation of the fading between two steps, J0(2 pi f_d T).

    Args:
        doppler_hz: Largest Doppler shift f_d in Hz, at least 0.
        period_s: Time T between steps in s, at least 0.

    Returns:
        The correlation, in (-0.41, 1].

    Raises:
        ValueError: if an argument is negative or not finite.
    """
    turns = float(checked("doppler_hz", doppler_hz, "[0, inf)") * checked("period_s", period_s, "[0, inf)"))
    return bessel_j0(2.0 * np.pi * turns)


def bessel_j0(x: float) -> float:
    """The Bessel function J0(x), the mean of cos(x sin(theta)) over a turn.

    The trapezoidal rule is exact to rounding on this periodic integrand once it has a few more points than |x|; it
    spares the core a dependency. Beyond 10 000 the asymptotic form is right to 1e-11.
    """
    if abs(x) > 1e4:
        phase = abs(x) - np.pi / 4.0
        return float(np.sqrt(2.0 / (np.pi * abs(x))) * (np.cos(phase) + np.sin(phase) / (8.0 * abs(x))))
    points = 2 * int(abs(x)) + 64
    theta = np.pi * np.arange(points) / points
    return float(np.cos(x * np.sin(theta)).mean())


def _gauss_markov(
    generators: Sequence[np.random.Generator], shape: tuple[int, int, int], correlation: float
) -> ComplexArray:
    """(B, steps, K, N) stationary CN(0, 1) processes along the steps, each independent of the others."""
    variates = np.empty((len(generators), *shape, 2))
    for rng, own in zip(generators, variates, strict=True):
        rng.standard_normal(out=own)
    fading: ComplexArray = variates.view(np.complex128)[..., 0]
    fading *= np.sqrt(0.5)
    if correlation:
        fading[:, 1:] *= np.sqrt(1.0 - correlation**2)
        # The recursion by doubling: once steps up to s are summed, adding the sums s steps back reaches 2 s.
        step = 1
        while step < shape[0]:
            fading[:, step:] += correlation**step * fading[:, :-step]
            step *= 2
    return fading


def _check_correlation(correlation: float) -> None:
    if not -1.0 <= correlation <= 1.0:
        raise ValueError(f"correlation is {correlation}; a number in [-1, 1] is needed (0 is block fading)")
