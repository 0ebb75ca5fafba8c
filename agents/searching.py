"""Policies that predict what each selection is worth and then search as the oracle does."""

from __future__ import annotations

from typing import Final

import numpy as np

from noma_semcom_agents.observed import read_images, read_links
from noma_semcom_agents.policies import Info, Observation
from noma_semcom_agents.quality import QualityModel, bank_rows, joined_banks
from noma_semcom_agents.search import StepSearch, check_searchable
from noma_semcom_env.features import FeatureBank
from noma_semcom_env.scenario import Scenario

_MOST_IMAGES: Final = 4096


class SearchingPolicy:
    """Sends what is best if its model of LPIPS is right.

    Reads the observation alone. It knows the physics: from SNR and direction it computes every transmission with the
    link's own code, as the access point could, and searches over all selections and orders exactly. What it does not
    know is the LPIPS of the images before it, which the model predicts; all its regret comes from there.

    Args:
        model: Predicts LPIPS.
        scenario: Gives the objective, and access and length of messages.
        name: How tables call it.

    Raises:
        ValueError: If the scenario is one that the search does not cover.
    """

    def __init__(self, model: QualityModel, scenario: Scenario, name: str) -> None:
        check_searchable(scenario)
        self.name = name
        self.model = model
        self._scenario = scenario
        self._known: dict[bytes, int] = {}
        self._banks: list[FeatureBank] = []
        self._predicted: list[np.ndarray] = []
        self._search: StepSearch | None = None

    def act(self, observation: Observation, info: Info, rng: np.random.Generator) -> np.ndarray:
        """(B, K * F) int8; draws nothing. Images that were seen before are not predicted again."""
        bank, index, seen = read_images(observation, self.model.labels)
        rows = self._rows(bank, [one.tobytes() for one in seen])
        assert self._search is not None
        found = self._search.search(read_links(observation), rows[index])
        return found.selection.reshape(len(index), -1).astype(np.int8)

    def _rows(self, bank: FeatureBank, names: list[bytes]) -> np.ndarray:
        """(I,) where each image stands in the search, which learns of those that are new."""
        if len(self._known) > _MOST_IMAGES or (self._search is not None and self._search.width != bank.width):
            self._forget()
        new = np.array([i for i, name in enumerate(names) if name not in self._known], dtype=np.int64)
        if len(new):
            fresh = bank_rows(bank, new)
            self._banks.append(fresh)
            self._predicted.append(self.model.predict(fresh))
            self._known |= {names[i]: len(self._known) + place for place, i in enumerate(new)}
            everything, lpips = joined_banks(self._banks), np.concatenate(self._predicted)
            self._search = StepSearch(self._scenario, lpips, everything, everything.kept)
        return np.array([self._known[name] for name in names], dtype=np.int64)

    def _forget(self) -> None:
        self._known, self._banks, self._predicted, self._search = {}, [], [], None
