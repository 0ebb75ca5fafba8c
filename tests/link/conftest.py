"""Random instances of the uplink, each as the keyword arguments that every solver takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noma_semcom_env.link.channel import drop_distances, path_gain


class Uplinks:
    """Draws instances in the default regime: 50-200 m, 23 dBm, 1 MHz of thermal noise, demands within a factor of 8."""

    bandwidth_hz = 1e6
    noise_power_w = 10 ** (-174 / 10) * 1e-3 * 1e6

    def draw(
        self, rng: np.random.Generator, batch: tuple[int, ...], users: int, antennas: int, silent: float = 0.0
    ) -> dict[str, Any]:
        """``silent`` is the share of users that have nothing to send."""
        gain = path_gain(drop_distances(rng.random((*batch, users)), 50.0, 200.0))
        fading = rng.standard_normal((*batch, users, antennas, 2)).view(complex)[..., 0] / np.sqrt(2.0)
        demand = rng.uniform(100.0, 800.0, (*batch, users)) * (rng.random((*batch, users)) >= silent)
        return {
            "channel": np.sqrt(gain)[..., None] * fading,
            "power_w": 0.2 * rng.uniform(0.25, 1.0, (*batch, users)),
            "noise_power_w": self.noise_power_w,
            "bandwidth_hz": self.bandwidth_hz,
            "demand_bits": demand,
        }


@pytest.fixture(scope="session")
def uplinks() -> Uplinks:
    return Uplinks()
