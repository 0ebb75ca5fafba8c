"""3GPP channels by Sionna, where it is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.link.sionna import SionnaChannel

DISTANCES = np.array([60.0, 120.0, 190.0])
installed = pytest.mark.skipif(importlib.util.find_spec("sionna") is None, reason="sionna-no-rt is not installed")


@installed
@pytest.mark.parametrize("cell", ["UMa", "UMi"])
def test_trajectories_follow_from_the_generator_alone(cell: str) -> None:
    model = SionnaChannel(cell)
    one, same, other = (np.random.default_rng(seed) for seed in (0, 0, 1))
    first = model.sample(one, DISTANCES, 2, 21)
    assert first.shape == (21, 3, 2)
    assert first.dtype == np.complex128
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(model.sample(same, DISTANCES, 2, 21), first)
    assert not np.array_equal(model.sample(other, DISTANCES, 2, 21), first)
    same.bit_generator.state = one.bit_generator.state
    model.sample(one, 2 * DISTANCES, 2, 21)
    model.sample(same, DISTANCES, 4, 5)
    assert one.bit_generator.state == same.bit_generator.state


@installed
def test_path_loss_is_of_the_order_of_tr_38901() -> None:
    rng = np.random.default_rng(2)
    drops = np.stack([SionnaChannel().sample(rng, DISTANCES, 4, 1)[0] for _ in range(200)])
    loss_db = -10 * np.log10((np.abs(drops) ** 2).mean(axis=2))
    # Line of sight 28 + 22 log10(d) + 20 log10(3.5) is the least; without, 13.54 + 39.08 log10(d) + 20 log10(3.5).
    slant = np.hypot(DISTANCES, 23.5)
    sight = 28.0 + 22 * np.log10(slant) + 20 * np.log10(3.5)
    hidden = 13.54 + 39.08 * np.log10(slant) + 20 * np.log10(3.5)
    median = np.median(loss_db, axis=0)
    assert (median > sight - 3).all()
    assert (median < hidden + 3).all()
    assert (np.diff(median) > 0).all()


@installed
def test_users_that_stand_keep_their_channel_and_walking_ones_do_not() -> None:
    still = SionnaChannel(speed_m_s=0.0).sample(np.random.default_rng(3), DISTANCES, 2, 5)
    np.testing.assert_allclose(still, np.broadcast_to(still[:1], still.shape), rtol=1e-9)
    moving = SionnaChannel(speed_m_s=1.0).sample(np.random.default_rng(3), DISTANCES, 2, 5)
    assert (np.abs(moving[1:] - moving[:1]) > 1e-3 * np.abs(moving[:1])).all()


@pytest.mark.skipif(importlib.util.find_spec("sionna") is not None, reason="sionna-no-rt is installed")
def test_without_sionna_the_error_says_what_to_install() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"noma-semcom-env\[sionna\]"):
        SionnaChannel().sample(np.random.default_rng(0), DISTANCES, 2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "RMa"}, "cell is 'RMa'; one of"),
        ({"carrier_hz": 1e6}, r"carrier_hz is 1000000\.0; a number in \[5e\+08, 1e\+11\] Hz"),
        ({"step_period_s": 0.0}, "step_period_s holds 0"),
        ({"speed_m_s": -1.0}, "speed_m_s holds -1"),
        ({"antenna_spacing_wavelengths": 0.0}, "antenna_spacing_wavelengths holds 0"),
    ],
)
def test_errors_name_argument_value_and_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SionnaChannel(**change)
