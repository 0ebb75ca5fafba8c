"""The fitted predictor of the protocol: gradient boosting of LPIPS on what an observation tells (scikit-learn).

One class of models, fixed: histogram gradient boosting with squared loss, on :func:`describe_subsets`. Each image's
mean over its subsets is taken off first, since no choice depends on it and trees would spend their splits on it. The
number of leaves is chosen by cross-validation by image on the policy-training images, by the regret of the search,
which is what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from noma_semcom_agents.evaluation import Knobs
from noma_semcom_agents.quality import TabulatedImages, Trial, held_out, relabelled
from noma_semcom_env.features import TEXTUAL, VISUAL, FeatureBank
from noma_semcom_env.recovery.subsets import subset_selections

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

LEAVES: Final = (8, 16, 32)
"""Numbers of leaves a tree that :func:`fit_boosted` chooses from."""


def describe_subsets(bank: FeatureBank, row: int, numbers: np.ndarray) -> np.ndarray:
    """What an observation tells of subsets of an image's features.

    Args:
        bank: The images.
        row: Which of them.
        numbers: (n,) int64 numbers of subsets.

    Returns:
        (n, p) float64. For masks and then for words, by label: how many are sent, how many there are, their bits and
        their importance; then, of those sent and of all, count, sum of importance and sum of bits.
    """
    vocabulary, width = len(bank.labels), bank.width
    selected = (numbers[:, None] >> np.arange(width) & 1).astype(np.float64)
    columns = []
    for kind in (VISUAL, TEXTUAL):
        here = bank.modality[row] == kind
        by_label = np.zeros((width, vocabulary))
        by_label[here, bank.label[row, here]] = 1.0
        sizes = np.stack([np.ones(width), bank.importance[row], bank.size_bits[row]], axis=1)
        sent, there = (selected * here) @ sizes, here @ sizes
        fixed = np.concatenate([(by_label * sizes[:, i : i + 1]).sum(axis=0) for i in range(3)] + [there])
        columns += [selected @ by_label, sent, np.broadcast_to(fixed, (len(numbers), len(fixed)))]
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True)
class BoostedQuality:
    """Gradient boosting as a model of LPIPS; each image's mean is missing from its predictions.

    Attributes:
        labels: The label vocabulary.
        columns: (q,) those of :func:`describe_subsets` that vary.
        trees: What was fitted to them.
    """

    labels: tuple[str, ...]
    columns: np.ndarray
    trees: HistGradientBoostingRegressor

    @classmethod
    def fit(
        cls, images: TabulatedImages, leaves: int = 16, iterations: int = 400, subsets: int = 128, seed: int = 0
    ) -> BoostedQuality:
        """Fit to tabulated images.

        Args:
            images: At least one.
            leaves: Leaves a tree.
            iterations: Trees, at a learning rate of 0.05.
            subsets: Subsets an image to fit to, drawn by chance; more images tell more than more subsets.
            seed: Of the draw and of the trees.
        """
        try:
            from sklearn.ensemble import HistGradientBoostingRegressor
        except ImportError as error:
            raise ImportError(
                "the fitted predictor needs scikit-learn: pip install 'noma-semcom-env[references]'"
            ) from error

        rng = np.random.default_rng(seed)
        inputs, targets = [], []
        for row, lpips in enumerate(images.lpips):
            known = np.flatnonzero(np.isfinite(lpips))
            drawn = rng.permutation(known)[:subsets]
            inputs.append(describe_subsets(images.bank, row, drawn))
            targets.append(lpips[drawn] - lpips[known].mean())
        settings: dict[str, Any] = {"learning_rate": 0.05, "min_samples_leaf": 50, "early_stopping": False}
        trees = HistGradientBoostingRegressor(max_iter=iterations, max_leaf_nodes=leaves, random_state=seed, **settings)
        described = np.concatenate(inputs)
        columns = np.flatnonzero(np.ptp(described, axis=0) > 0.0)
        return cls(images.bank.labels, columns, trees.fit(described[:, columns], np.concatenate(targets)))

    def predict(self, bank: FeatureBank) -> np.ndarray:
        """See :meth:`~noma_semcom_agents.quality.QualityModel.predict`."""
        bank = relabelled(bank, self.labels)
        predicted = np.full((len(bank), 1 << bank.width), np.nan)
        missing = (~bank.exists) @ subset_selections(bank.width, bank.width).T
        for row in range(len(bank)):
            possible = np.flatnonzero(~missing[row])
            predicted[row, possible] = self.trees.predict(describe_subsets(bank, row, possible)[:, self.columns])
        return predicted


def fit_boosted(
    knobs: Knobs, leaves: Sequence[int] = LEAVES, folds: int = 4, seed: int = 0
) -> tuple[BoostedQuality, dict[int, float]]:
    """Choose the number of leaves by cross-validation by image, and fit to all images.

    Args:
        knobs: Keywords of the environment whose images are learned from.
        leaves: Numbers to choose from.
        folds: Parts of the images.
        seed: Of everything that is drawn.

    Returns:
        The model, and the regret of the search on held-out images by number of leaves.
    """
    trial = Trial(knobs, seed=seed)
    regrets = {
        count: trial.regret(held_out(partial(BoostedQuality.fit, leaves=count, seed=seed), trial.images, folds))
        for count in leaves
    }
    return BoostedQuality.fit(trial.images, min(regrets, key=regrets.__getitem__), seed=seed), regrets
