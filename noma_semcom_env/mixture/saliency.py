"""How much an eye is drawn to a region: spectral residual saliency. NumPy alone.

After Hou and Zhang, "Saliency detection: a spectral residual approach" (CVPR 2007): what the logarithm of an image's
spectrum has beyond its local mean is what is unexpected in it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

_WORKING_SIDE: Final = 64
"""Side that images are reduced to, as in the paper: saliency is a matter of coarse scales."""

_BLUR: Final = 2.5
"""Standard deviation in pixels of the final smoothing."""


def spectral_residual(image: np.ndarray) -> np.ndarray:
    """Saliency map of an image.

    Args:
        image: (H, W, 3) uint8, each side at least 3.

    Returns:
        (h, w) float64 of at least 0, mean 1; the sides are those of the image divided by a whole number. An image
        without any contrast is salient nowhere more than elsewhere: all ones.

    Raises:
        ValueError: If the image is none.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape[:2]) < 3:
        raise ValueError(
            f"image has shape {image.shape} and dtype {image.dtype}; (H, W, 3) of uint8 is needed, each side at least 3"
        )
    factor = _factor(image.shape)
    grey = _shrink(image.mean(axis=-1) / 255, factor)
    if np.ptp(grey) < 1e-6:
        return np.ones(grey.shape)
    spectrum = np.fft.fft2(grey)
    magnitude = np.log(np.abs(spectrum) + 1e-9)
    neighbours = [np.roll(magnitude, (i, j), axis=(0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    residual = magnitude - np.mean(neighbours, axis=0)
    unexpected = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    rows, columns = (np.fft.fftfreq(side) for side in grey.shape)
    kernel = np.exp(-2 * (np.pi * _BLUR) ** 2 * (rows[:, None] ** 2 + columns[None] ** 2))
    smooth = np.maximum(np.fft.ifft2(np.fft.fft2(unexpected) * kernel).real, 0.0)
    return np.asarray(smooth / smooth.mean())


def roi_importance(image: np.ndarray, roi: np.ndarray) -> float:
    """Importance of a region: its mean saliency over the sum of its own and the rest's, in [0, 1].

    1/2 says that the region draws the eye no more than the rest of the image does. An empty region has importance 0,
    one that is the whole image 1.

    Args:
        image: (H, W, 3) uint8.
        roi: (H, W) bool.

    Raises:
        ValueError: If the arguments do not fit one another.
    """
    if roi.shape != image.shape[:2] or roi.dtype != np.bool_:
        raise ValueError(f"roi has shape {roi.shape} and dtype {roi.dtype}; {image.shape[:2]} of bool is needed")
    if not roi.any() or roi.all():
        return float(roi.any())
    saliency = spectral_residual(image)
    share = _shrink(roi.astype(np.float64), _factor(image.shape))
    inside = (saliency * share).sum() / share.sum() if share.any() else 0.0
    outside = (saliency * (1 - share)).sum() / (1 - share).sum() if (share < 1).any() else 0.0
    return float(inside / (inside + outside))


def _factor(shape: tuple[int, ...]) -> int:
    return max(1, min(shape[:2]) // _WORKING_SIDE)


def _shrink(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks; rows and columns that do not fill a block are left out."""
    height, width = (side // factor for side in values.shape)
    blocks = values[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.asarray(blocks.mean(axis=(1, 3)))
