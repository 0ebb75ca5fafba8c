"""Observation layouts beside the default one of :mod:`~noma_semcom_env.observation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from gymnasium import spaces

from noma_semcom_env.features import FeatureBank
from noma_semcom_env.observation import SNR_RANGE_DB, FeatureObservation, ObservationLayout, order_position
from noma_semcom_env.scenario import Scenario

if TYPE_CHECKING:
    from noma_semcom_env.state import State


class PaperObservation:
    """The paper's exact state: the channels of all users and the last decoding order, no word of the images.

    * ``channel`` (K * 2N): user by user N real parts, then N imaginary parts of sqrt(p_k) h_k / sigma, scaled so that 1
      is the amplitude at the upper end of :data:`~noma_semcom_env.observation.SNR_RANGE_DB`, clipped to [-1, 1];
      unlike ``direction`` of the default layout it keeps the phase.
    * ``last_order`` (K): position in the last decoding order, -1 decoded first, 1 last; all 0 before the first step.
    * ``action_mask`` (K * F, int8): 1 for features that may be selected. It belongs to the actions rather than to the
      state: pruning, in the paper, takes them away.

    Args:
        scenario: Every knob.
        bank: Features of all images.
        available: (I, F) bool, features that an action may select.
    """

    def __init__(self, scenario: Scenario, bank: FeatureBank, available: np.ndarray) -> None:
        users, antennas = scenario.num_users, scenario.num_antennas
        self.space = spaces.Dict(
            {
                "channel": spaces.Box(-1.0, 1.0, (users * 2 * antennas,), np.float32),
                "last_order": spaces.Box(-1.0, 1.0, (users,), np.float32),
                "action_mask": spaces.MultiBinary(users * bank.width),
            }
        )
        full = 10 ** (SNR_RANGE_DB[1] / 10)
        self._scale = np.sqrt(scenario.power_w / (scenario.noise_power_w * full))[:, None]
        self._masks = available.astype(np.int8)

    def observe(self, state: State) -> dict[str, np.ndarray]:
        """Arrays of ``space`` with a leading batch axis."""
        batch = len(state.elapsed)
        scaled = state.channel * self._scale
        parts = np.concatenate([scaled.real, scaled.imag], axis=-1).reshape(batch, -1)
        return {
            "channel": np.clip(parts, -1.0, 1.0).astype(np.float32),
            "last_order": order_position(state.last_order),
            "action_mask": self._masks[state.image_index].reshape(batch, -1),
        }


LAYOUTS: Final[dict[str, type[ObservationLayout]]] = {"features": FeatureObservation, "paper": PaperObservation}
