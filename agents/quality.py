"""What recoveries will be worth, told from what an observation shows: the interface of such models, and their trials.

A model of L gives the LPIPS of every subset of an image's features from labels, sizes and importance alone. It learns
from images whose LPIPS is tabulated, and is tried on images that it has not seen, by the regret of a search that
believes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable

import numpy as np

from noma_semcom_agents.evaluation import Contender, Knobs, full_table, rollout
from noma_semcom_agents.oracle import Oracle
from noma_semcom_agents.schemes import NoSelection
from noma_semcom_env.features import FeatureBank
from noma_semcom_env.recovery.subsets import subset_numbers
from noma_semcom_env.scenario import Scenario


@runtime_checkable
class QualityModel(Protocol):
    """Predicts LPIPS."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The label vocabulary that it knows."""
        ...

    def predict(self, bank: FeatureBank) -> np.ndarray:
        """Predict the LPIPS of every subset of the features of I images.

        Args:
            bank: Their features; what survives pruning is not read.

        Returns:
            (I, 2**F), NaN where a subset holds a feature that the image does not have. A constant an image may be
            missing: no choice depends on it.
        """
        ...


@dataclass(frozen=True, eq=False)
class TabulatedImages:
    """Images with the LPIPS of every subset of their features.

    Attributes:
        bank: I images, valued and pruned as the scenario says.
        lpips: (I, 2**F), NaN where a subset cannot be.
        scenario: That of the environment which they come from.
    """

    bank: FeatureBank
    lpips: np.ndarray
    scenario: Scenario

    @classmethod
    def of(cls, knobs: Knobs) -> TabulatedImages:
        """The images of an environment with these keywords.

        Raises:
            ValueError: If the environment's recovery is no full table.
        """
        scenario, lpips, bank = full_table(knobs)
        return cls(bank, lpips, scenario)

    def __len__(self) -> int:
        return len(self.bank)

    def rows(self, index: np.ndarray) -> TabulatedImages:
        """The images at ``index``, (n,) int."""
        return replace(self, bank=bank_rows(self.bank, index), lpips=self.lpips[index])


_PER_FEATURE: Final = ("exists", "kept", "size_bits", "importance", "modality", "label")


def bank_rows(bank: FeatureBank, index: np.ndarray) -> FeatureBank:
    """The images of a bank at ``index``, (n,) int."""
    named = {name: getattr(bank, name)[index] for name in _PER_FEATURE}
    return FeatureBank(tuple(bank.image_ids[row] for row in index), **named, labels=bank.labels)


def joined_banks(banks: Sequence[FeatureBank]) -> FeatureBank:
    """The images of banks of one width and one vocabulary, one bank after the other."""
    named = {name: np.concatenate([getattr(bank, name) for bank in banks]) for name in _PER_FEATURE}
    return FeatureBank(sum((bank.image_ids for bank in banks), ()), **named, labels=banks[0].labels)


def relabelled(bank: FeatureBank, labels: Sequence[str]) -> FeatureBank:
    """A bank with the same labels numbered as in another vocabulary; one that it lacks is number 0.

    Args:
        bank: The images.
        labels: The other vocabulary.
    """
    if bank.labels == tuple(labels):
        return bank
    number = {label: i for i, label in enumerate(labels)}
    renumbered = np.array([number.get(label, 0) for label in bank.labels], dtype=np.int64)
    return replace(bank, label=renumbered[bank.label], labels=tuple(labels))


def held_out(
    learn: Callable[[TabulatedImages], QualityModel], images: TabulatedImages, folds: int = 4, seed: int = 0
) -> np.ndarray:
    """Predictions for every image by a model that learned from the others, cross-validation by image.

    Args:
        learn: Makes a model of some images.
        images: I images.
        folds: Parts that the images are divided into; each is predicted from the others.
        seed: Of the division.

    Returns:
        (I, 2**F).

    Raises:
        ValueError: If there are not at least two parts, or fewer images than parts.
    """
    if not 2 <= folds <= len(images):
        raise ValueError(f"folds={folds!r} must lie in [2, {len(images)}], the number of images")
    predicted = np.full_like(images.lpips, np.nan)
    order = np.random.default_rng(seed).permutation(len(images))
    for part in np.array_split(order, folds):
        model = learn(images.rows(np.setdiff1d(order, part)))
        predicted[part] = model.predict(bank_rows(images.bank, part))
    return predicted


class Trial:
    """Steps of an environment on which beliefs about LPIPS are tried, each by the regret of a search that holds them.

    Args:
        knobs: Keywords of the environment.
        episodes: Episodes of one step each.
        seed: Episode i is drawn from seed + i.
    """

    def __init__(self, knobs: Knobs, episodes: int = 1000, seed: int = 0) -> None:
        self.images = TabulatedImages.of(knobs)
        _, faced = rollout(Contender(NoSelection()), {**knobs, "episode_length": 1}, episodes, seed)
        self.steps = {key: value.reshape(-1, *value.shape[2:]) for key, value in faced.items()}

    def regret(self, believed: np.ndarray, true: np.ndarray | None = None) -> float:
        """How far the search that believes falls short of the one that knows, as a share of the latter's objective.

        Args:
            believed: (I, 2**F) LPIPS; what a subset that cannot be is believed to be worth does not matter.
            true: (I, 2**F) what it really is; None is the table's.
        """
        true = self.images.lpips if true is None else true
        bank, scenario = self.images.bank, self.images.scenario
        believed = np.where(np.isfinite(true), believed, np.nan)
        chosen = Oracle(scenario, believed, bank).solve(self.steps)
        known = Oracle(scenario, true, bank)
        best = known.solve(self.steps).objective.mean()
        lpips = true[self.steps["image_index"], subset_numbers(chosen.selection)]
        return float((known.value(lpips, chosen.latency_s).mean() - best) / best)
