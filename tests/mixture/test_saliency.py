"""Spectral residual saliency, and the importance of regions that follows from it."""

from __future__ import annotations

import numpy as np
import pytest

from noma_semcom_env.mixture.saliency import roi_importance, spectral_residual


def picture(side: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on faint stripes, and its mask."""
    rows, columns = np.mgrid[:side, :side]
    disc = np.hypot(rows - 0.3 * side, columns - 0.6 * side) < side / 12
    image = np.full((side, side, 3), 90, dtype=np.uint8)
    image[:, ::8] += 6
    image[disc] = (250, 60, 40)
    return image, disc


def test_what_stands_out_is_important() -> None:
    image, disc = picture()
    elsewhere = np.roll(disc, (40, -50), axis=(0, 1))
    assert not (disc & elsewhere).any()
    assert roi_importance(image, disc) > 0.8
    assert roi_importance(image, elsewhere) < 0.5
    assert roi_importance(image, disc) + roi_importance(image, ~disc) == pytest.approx(1.0)


def test_the_map_has_mean_1_and_is_reduced() -> None:
    image, _ = picture()
    saliency = spectral_residual(image)
    assert saliency.shape == (64, 64)
    assert saliency.mean() == pytest.approx(1.0)
    assert (saliency >= 0).all()


def test_empty_whole_and_flat_regions_are_defined() -> None:
    image, disc = picture()
    assert roi_importance(image, np.zeros_like(disc)) == 0.0
    assert roi_importance(image, np.ones_like(disc)) == 1.0
    assert roi_importance(np.full_like(image, 7), disc) == pytest.approx(0.5)


@pytest.mark.parametrize("side", [3, 17, 65, 129, 191])
def test_odd_sides(side: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (side, side + 2, 3)).astype(np.uint8)
    roi = np.zeros((side, side + 2), dtype=bool)
    roi[-1:, -1:] = True
    assert 0.0 <= roi_importance(image, roi) <= 1.0


def test_what_is_no_image_is_refused() -> None:
    image, disc = picture()
    with pytest.raises(ValueError, match=r"roi has shape \(64, 128\)"):
        roi_importance(image, disc[:64])
    for bad in (image[..., 0], image / 255, image[:2]):
        with pytest.raises(ValueError, match="image has shape"):
            spectral_residual(bad)
