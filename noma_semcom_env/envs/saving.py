"""Saved states of environments, from which a search can go on as often as it likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded

from noma_semcom_env.dynamics import State
from noma_semcom_env.scenario import Scenario


@dataclass(frozen=True, eq=False)
class SavedState:
    """Where an environment stands: its episodes and its generators, so that what follows is the same bit for bit.

    Saving costs a few microseconds an environment: arrays are shared, not copied, since no step changes them in place.
    A saved state can be restored any number of times, into the same environment or another of the same form and
    scenario, and pickled. What wrappers keep (a time limit's count, statistics) is not in it.

    Attributes:
        scenario: Of the environment that was saved.
        episodes: The episodes under way, B of them.
        ended: (B,) bool, those that the next step begins anew.
        generators: State of each environment's bit generator.
    """

    scenario: Scenario
    episodes: State
    ended: np.ndarray
    generators: tuple[dict[str, Any], ...]

    @classmethod
    def of(
        cls, scenario: Scenario, episodes: State | None, ended: np.ndarray, generators: Sequence[np.random.Generator]
    ) -> SavedState:
        """Save.

        Raises:
            ResetNeeded: If no episode has begun yet.
        """
        if episodes is None:
            raise ResetNeeded("no episode is under way that could be saved; call reset() before get_state()")
        return cls(scenario, episodes, ended.copy(), tuple(dict(one.bit_generator.state) for one in generators))

    def check_fits(self, scenario: Scenario, num_envs: int) -> None:
        """Refuse another scenario or number of environments.

        Raises:
            ValueError: If one of them differs.
        """
        if len(self.generators) != num_envs:
            raise ValueError(f"the saved state is of {len(self.generators)} environments; {num_envs} are needed")
        if self.scenario != scenario:
            raise ValueError(f"the saved state is of {self.scenario}; it does not fit {scenario}")
