"""Geometry, path loss and fading against their closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from noma_semcom_env.link.channel import (
    ChannelModel,
    RayleighChannel,
    RicianChannel,
    bessel_j0,
    channel_estimates,
    drop_distances,
    gauss_markov_correlation,
    path_gain,
    path_loss_db,
    sample_estimates,
    sample_trajectories,
    steering_vector,
)

DISTANCES = np.array([60.0, 120.0, 190.0])


def test_path_loss_follows_the_urban_macro_law() -> None:
    assert path_loss_db(1000.0) == pytest.approx(128.1, abs=1e-12)
    np.testing.assert_allclose(path_loss_db([10.0, 100.0]), [128.1 - 75.2, 128.1 - 37.6], rtol=1e-14)
    assert path_loss_db(1000.0, intercept_db=100.0, slope_db=20.0) == 100.0
    np.testing.assert_allclose(path_gain([100.0]), [10 ** (-(128.1 - 37.6) / 10)], rtol=1e-13)


def test_users_are_dropped_uniformly_over_the_area() -> None:
    distances = drop_distances(np.random.default_rng(0).random((20_000, 3)), 50.0, 200.0)
    assert distances.min() >= 50.0
    assert distances.max() <= 200.0
    # Half of the annulus' area lies within sqrt((50^2 + 200^2) / 2).
    assert (distances < np.sqrt((50.0**2 + 200.0**2) / 2)).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(60_000))
    np.testing.assert_allclose(drop_distances([0.0, 1.0], 50.0, 200.0), [50.0, 200.0])
    np.testing.assert_allclose(drop_distances([0.3], 70.0, 70.0), [70.0])


def test_bessel_function_and_correlation() -> None:
    for x in (0.0, 0.1, 1.0, 2.404825557695773, 10.0, 333.3, 9_999.0, 10_001.0, 1e6):
        assert bessel_j0(x) == pytest.approx(scipy.special.j0(x), abs=2e-11)
        assert bessel_j0(-x) == bessel_j0(x)
    assert gauss_markov_correlation(10.0, 0.01) == pytest.approx(scipy.special.j0(2 * np.pi * 0.1), abs=1e-14)
    assert gauss_markov_correlation(0.0, 1.0) == 1.0


def test_steering_vector() -> None:
    np.testing.assert_allclose(steering_vector(0.0, 4), np.ones(4), atol=1e-15)
    np.testing.assert_allclose(steering_vector(np.pi / 6, 4), [1, 1j, -1, -1j], atol=1e-15)
    np.testing.assert_allclose(steering_vector(np.pi / 2, 3, spacing_wavelengths=1.0), np.ones(3), atol=1e-14)
    assert steering_vector(np.zeros((5, 2)), 3).shape == (5, 2, 3)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95, -0.3, 1.0])
def test_gauss_markov_fading_is_stationary_with_its_autocorrelation(correlation: float) -> None:
    rng = np.random.default_rng(1)
    ones = np.full(4_000, 1000.0)
    fading = RayleighChannel(correlation, path_loss_intercept_db=0.0).sample(rng, ones, 2, 6).reshape(6, -1)
    error = 4 / np.sqrt(fading.shape[1])
    np.testing.assert_allclose((np.abs(fading) ** 2).mean(axis=1), 1.0, atol=error)
    for lag in range(6):
        measured = (fading[0].conj() * fading[lag]).mean()
        assert abs(measured - correlation**lag) < error


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 21])
def test_gauss_markov_fading_obeys_its_recursion(steps: int) -> None:
    distance = np.array([1000.0])
    white = RayleighChannel(0.0, 0.0).sample(np.random.default_rng(6), distance, 2, steps)
    moving = RayleighChannel(0.8, 0.0).sample(np.random.default_rng(6), distance, 2, steps)
    state = white[0]
    for now in range(1, steps):
        state = 0.8 * state + 0.6 * white[now]
    np.testing.assert_allclose(moving[-1], state, rtol=1e-12)


def test_rayleigh_mean_power_is_the_path_gain() -> None:
    fading = RayleighChannel().sample(np.random.default_rng(2), DISTANCES, 4, 5_000)
    assert fading.shape == (5_000, 3, 4)
    assert fading.dtype == np.complex128
    mean = (np.abs(fading) ** 2).mean(axis=(0, 2)) / path_gain(DISTANCES)
    np.testing.assert_allclose(mean, 1.0, atol=4 / np.sqrt(20_000))


@pytest.mark.parametrize("k_factor_db", [-10.0, 6.0, 20.0])
def test_rician_mean_power_and_line_of_sight(k_factor_db: float) -> None:
    many = np.full(3_000, 1000.0)
    rng = np.random.default_rng(3)
    fading = RicianChannel(k_factor_db, 0.5, path_loss_intercept_db=0.0).sample(rng, many, 3, 8)
    assert (np.abs(fading) ** 2).mean() == pytest.approx(1.0, abs=0.02)
    # The line of sight stays outside the autoregression: far-apart steps share its power and nothing else.
    factor = 10 ** (k_factor_db / 10)
    assert (fading[0].conj() * fading[-1]).mean().real == pytest.approx(
        (factor + 0.5**7) / (factor + 1), abs=4 / np.sqrt(9_000)
    )


def test_strong_line_of_sight_is_the_steering_vector() -> None:
    fading = RicianChannel(120.0).sample(np.random.default_rng(4), DISTANCES, 4, 2)
    ratios = fading[..., 1:] / fading[..., :-1]
    np.testing.assert_allclose(np.abs(fading[0]), np.sqrt(path_gain(DISTANCES))[:, None] * np.ones(4), rtol=1e-5)
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[:1, :, :1], ratios.shape), rtol=1e-5)


@pytest.mark.parametrize("model", [RayleighChannel(0.9), RayleighChannel(), RicianChannel(3.0, 0.9)])
def test_draws_depend_on_the_counts_alone(model: ChannelModel) -> None:
    one, other = np.random.default_rng(5), np.random.default_rng(5)
    first = model.sample(one, DISTANCES, 2, 7)
    second = model.sample(other, 2.0 * DISTANCES, 2, 7)
    assert one.bit_generator.state == other.bit_generator.state
    np.testing.assert_allclose(second, first * 2 ** (-37.6 / 20), rtol=1e-12)


@pytest.mark.parametrize("csi_error", [0.01, 0.3, 1.0])
def test_estimates_err_by_their_share_of_each_users_power(csi_error: float) -> None:
    channel = RayleighChannel().sample(np.random.default_rng(7), DISTANCES, 4, 4_000)
    estimates = sample_estimates(np.random.default_rng(8), channel, csi_error)
    power = (np.abs(channel) ** 2).mean(axis=2)
    error = (np.abs(estimates - channel) ** 2).mean(axis=2) / power
    np.testing.assert_allclose(error.mean(axis=0), csi_error, rtol=5 / np.sqrt(16_000))
    # The error knows nothing of the channel.
    across = ((estimates - channel) * channel.conj()).mean(axis=2) / power
    assert (np.abs(across.mean(axis=0)) < 5 * np.sqrt(csi_error / 16_000)).all()


def test_perfect_estimates_draw_nothing_and_others_by_the_counts_alone() -> None:
    channel = RayleighChannel().sample(np.random.default_rng(9), DISTANCES, 2, 5)
    rng, untouched = np.random.default_rng(10), np.random.default_rng(10)
    assert sample_estimates(rng, channel, 0.0) is channel
    assert rng.bit_generator.state == untouched.bit_generator.state
    small = sample_estimates(rng, channel, 0.01) - channel
    large = sample_estimates(untouched, channel, 0.04) - channel
    np.testing.assert_allclose(large, 2 * small, rtol=1e-9, atol=1e-20)
    assert rng.bit_generator.state == untouched.bit_generator.state


def test_errors_name_argument_value_and_range() -> None:
    with pytest.raises(ValueError, match=r"csi_error is 1\.2; a number in \[0, 1\]"):
        channel_estimates(np.ones((3, 2), complex), np.ones((3, 2), complex), 1.2)
    with pytest.raises(ValueError, match=r"distance_m holds 0\.0.*\(0, inf\)"):
        path_loss_db([10.0, 0.0])
    with pytest.raises(ValueError, match=r"distance_m holds nan"):
        RayleighChannel().sample(np.random.default_rng(0), np.array([np.nan]), 2, 1)
    with pytest.raises(ValueError, match=r"min_m is 300.* max_m 200.*min_m <= max_m"):
        drop_distances([0.5], 300.0, 200.0)
    with pytest.raises(ValueError, match=r"uniforms holds 1\.5.*\[0, 1\]"):
        drop_distances([0.5, 1.5], 50.0, 200.0)
    with pytest.raises(ValueError, match=r"correlation is 1\.2.*\[-1, 1\]"):
        RayleighChannel(1.2)
    with pytest.raises(ValueError, match=r"correlation is nan"):
        RicianChannel(6.0, correlation=float("nan"))
    with pytest.raises(ValueError, match=r"k_factor_db is inf"):
        RicianChannel(float("inf"))
    with pytest.raises(ValueError, match=r"antenna_spacing_wavelengths holds 0"):
        RicianChannel(6.0, antenna_spacing_wavelengths=0.0)
    with pytest.raises(ValueError, match=r"doppler_hz holds -1"):
        gauss_markov_correlation(-1.0, 0.1)


def test_a_subclass_that_replaces_sample_alone_is_heard() -> None:
    class Still(RayleighChannel):
        def sample(self, rng: np.random.Generator, distances_m: np.ndarray, antennas: int, steps: int) -> np.ndarray:
            return np.full((steps, len(distances_m), antennas), 2.0 + 0.0j)

    drawn = sample_trajectories(Still(), [np.random.default_rng(i) for i in range(3)], np.full((3, 2), 100.0), 1, 4)
    np.testing.assert_array_equal(drawn, np.full((3, 4, 2, 1), 2.0))


def test_a_batch_is_its_trajectories_one_by_one() -> None:
    for model in (RayleighChannel(0.9), RicianChannel(3.0, 0.5)):
        distances = np.array([[60.0, 120.0], [80.0, 199.0]])
        together = sample_trajectories(model, [np.random.default_rng(i) for i in range(2)], distances, 3, 5)
        for i in range(2):
            alone = model.sample(np.random.default_rng(i), distances[i], 3, 5)
            np.testing.assert_allclose(together[i], alone, rtol=1e-12)
