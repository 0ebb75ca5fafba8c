"""What an observation tells of images and links: features, sizes and channels, as the default layout shows them.

The layout of :class:`~noma_semcom_env.observation.FeatureObservation` hides nothing of the link: up to a common phase
of each user, on which no rate depends, SNR and direction are the channel, exact to float32. So a policy that knows the
physics can compute every transmission by itself, with the link's own code. Of an image it sees labels, sizes and
importance; what the image looks like, and what its LPIPS will be, it does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from noma_semcom_agents.overlap import Links
from noma_semcom_agents.policies import Observation
from noma_semcom_env.features import NONE, TEXTUAL, VISUAL, FeatureBank
from noma_semcom_env.observation import BANDWIDTH_RANGE_HZ, LARGEST_FEATURE_BITS, SNR_RANGE_DB

IMAGE_ENTRIES: Final = ("size", "importance", "modality", "label", "action_mask")
LINK_ENTRIES: Final = ("snr", "direction", "bandwidth")


def read_images(observation: Observation, labels: Sequence[str]) -> tuple[FeatureBank, np.ndarray, np.ndarray]:
    """The distinct images of a batch of observations.

    Args:
        observation: (B, ...) arrays.
        labels: The label vocabulary of the environment's images.

    Returns:
        The bank of I images, ``kept`` being what may be sent; (B, K) row of each user's image; and (I, n) float32, the
        numbers that tell one image from another.

    Raises:
        ValueError: If the observation has another layout.
    """
    _check(observation, IMAGE_ENTRIES)
    batch, users = observation["snr"].shape
    each = [np.asarray(observation[name], dtype=np.float32).reshape(batch * users, -1) for name in IMAGE_ENTRIES]
    seen, index = np.unique(np.concatenate(each, axis=1), axis=0, return_inverse=True)
    size, importance, modality, label, mask = np.split(seen.astype(np.float64), len(IMAGE_ENTRIES), axis=1)
    kind = np.where(modality > 0.0, VISUAL, np.where(modality < 0.0, TEXTUAL, NONE)).astype(np.int8)
    exists = kind != NONE
    bits = np.expm1((size + 1.0) * (0.5 * np.log1p(LARGEST_FEATURE_BITS)))
    bank = FeatureBank(
        image_ids=tuple(f"observed:{row}" for row in range(len(seen))),
        exists=exists,
        kept=exists & (mask != 0.0),
        size_bits=np.rint(np.where(exists, bits, 0.0)).astype(np.int64),
        importance=np.where(exists, (importance + 1.0) / 2.0, 0.0),
        modality=kind,
        label=np.rint((label + 1.0) * (0.5 * (len(labels) - 1))).astype(np.int64),
        labels=tuple(labels),
    )
    return bank, index.reshape(batch, users), seen.astype(np.float32)


def read_links(observation: Observation) -> Links:
    """The links of a batch of observations, at unit power and unit noise; distances are not observed.

    Args:
        observation: (B, ...) arrays.

    Raises:
        ValueError: If the observation has another layout.
    """
    _check(observation, LINK_ENTRIES)
    batch, users = observation["snr"].shape
    parts = np.asarray(observation["direction"], dtype=np.float64).reshape(batch, users, 2, -1)
    snr_db = _unscale(observation["snr"], *SNR_RANGE_DB)
    amplitude = 10.0 ** (snr_db / 20.0)
    log_bandwidth = _unscale(observation["bandwidth"][:, 0], *np.log10(BANDWIDTH_RANGE_HZ))
    return Links(
        channel=(parts[:, :, 0] + 1j * parts[:, :, 1]) * amplitude[..., None],
        power_w=np.ones((batch, users)),
        noise_power_w=np.ones(batch),
        bandwidth_hz=10.0**log_bandwidth,
    )


def _unscale(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """[-1, 1] to [low, high]."""
    result: np.ndarray = low + (np.asarray(value, dtype=np.float64) + 1.0) * (0.5 * (high - low))
    return result


def _check(observation: Observation, names: Sequence[str]) -> None:
    missing = sorted({"snr", *names} - set(observation))
    if missing:
        raise ValueError(f"the observation holds no {', '.join(missing)}; observation='features' is needed")
