"""What features are thought to be worth, and which of them survive pruning: by the paper, or fitted on images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from noma_semcom_env.features import FeatureBank, SemanticFeatures
from noma_semcom_env.scenario import Scenario
from noma_semcom_env.semantics.importance import keep_above, prune
from noma_semcom_env.zoo.presets import Models, load_preset


class Importance(Protocol):
    """Values the features of an image and prunes them; a plain function will do."""

    def __call__(
        self, features: SemanticFeatures, text_threshold: float, visual_threshold: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Value and prune.

        Args:
            features: V masks, then T phrases, with the paper's importance.
            text_threshold: eps_t in [0, 1].
            visual_threshold: eps_v in [0, 1].

        Returns:
            (V + T,) float64 in [0, 1], and (V + T,) bool, which features stay.
        """
        ...


VISUAL_TERMS: Final = 4
TEXTUAL_TERMS: Final = 3


def paper_importance(
    features: SemanticFeatures, text_threshold: float, visual_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Textual importance (22) and, against the phrases that stay, visual importance (23).

    Raises:
        ValueError: If the features do not hold the matching of masks and phrases.
    """
    if features.matches is None:
        raise ValueError(
            f"{features.image_id!r} does not hold the matching of its masks and phrases, which other thresholds need; "
            "extract its features again"
        )
    textual = features.importance[len(features.mask_labels) :]
    return prune(textual, features.matches, text_threshold, visual_threshold)


@dataclass(frozen=True)
class FittedImportance:
    """Predicts how much of LPIPS a feature saves, from what is known before anything is sent.

    What a feature saves when most others arrive is regressed, on policy-training images, on what it names, how large it
    is, whether the other modality names the same, and the paper's importance, beside which it stands, not for which.

    Attributes:
        labels: Label of a feature to its coefficient.
        visual: Coefficients of the share of the image that a mask covers, of that share's square root, of whether a
            phrase names the mask's class, and of (23).
        textual: Coefficients of the number of words of a phrase, of whether a mask is of what it names, and of (22).
        intercept: Of masks and of phrases, in this order.
        scale: Saving that importance 1 stands for.
        thresholds: eps_t and eps_v that suit this importance.
    """

    labels: Mapping[str, float]
    visual: tuple[float, ...]
    textual: tuple[float, ...]
    intercept: tuple[float, float]
    scale: float
    thresholds: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def load(cls, path: str | Path) -> FittedImportance:
        """Read what ``python -m noma_semcom_env.zoo.train.importance`` wrote.

        Raises:
            ValueError: If the file is missing or holds something else.
        """
        try:
            content = json.loads(Path(path).read_text())
            labels = {str(name): float(value) for name, value in content["labels"].items()}
            visual, textual = (tuple(map(float, content[name])) for name in ("visual", "textual"))
            mask, phrase = map(float, content["intercept"])
            text, mask_threshold = map(float, content["thresholds"])
            scale = float(content["scale"])
            if (len(visual), len(textual)) != (VISUAL_TERMS, TEXTUAL_TERMS):
                raise ValueError(
                    f"visual has {len(visual)} and textual {len(textual)} coefficients, {VISUAL_TERMS} and "
                    f"{TEXTUAL_TERMS} are needed"
                )
            if not np.isfinite([*labels.values(), *visual, *textual, mask, phrase]).all() or not 0 < scale < np.inf:
                raise ValueError("a coefficient is not finite, or scale is not a number above 0")
            if not (0 <= text <= 1 and 0 <= mask_threshold <= 1):
                raise ValueError(f"thresholds are {text} and {mask_threshold}, both must lie in [0, 1]")
            return cls(labels, visual, textual, (mask, phrase), scale, (text, mask_threshold))
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no fitted importance ({type(error).__name__}: {error}); make it with "
                "noma_semcom_env.zoo.train.importance"
            ) from error

    def saving(self, features: SemanticFeatures) -> np.ndarray:
        """(V + T,) float64, the LPIPS that each feature is expected to save."""
        masks, phrases = describe(features)
        saving = np.concatenate([self.intercept[0] + masks @ self.visual, self.intercept[1] + phrases @ self.textual])
        return saving + [self.labels.get(label, 0.0) for label in features.labels]

    def __call__(
        self, features: SemanticFeatures, text_threshold: float, visual_threshold: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Importance`."""
        worth = np.clip(self.saving(features) / self.scale, 0.0, 1.0)
        visual = len(features.mask_labels)
        kept = [keep_above(worth[:visual], visual_threshold), keep_above(worth[visual:], text_threshold)]
        return worth, np.concatenate(kept)


def describe(features: SemanticFeatures) -> tuple[np.ndarray, np.ndarray]:
    """What the fitted importance reads besides the label: (V, VISUAL_TERMS) and (T, TEXTUAL_TERMS)."""
    visual = len(features.mask_labels)
    share = features.masks.reshape(visual, -1).mean(axis=1) if visual else np.zeros(0)
    words = np.array([len(phrase.split()) for phrase in features.phrases], dtype=np.float64)
    named = np.isin(features.mask_labels, features.phrase_labels)
    drawn = np.isin(features.phrase_labels, features.mask_labels)
    masks = np.stack([share, np.sqrt(share), named, features.importance[:visual]], axis=1)
    return masks, np.stack([words, drawn, features.importance[visual:]], axis=1)


@lru_cache(maxsize=8)
def _load_fitted(path: str) -> FittedImportance:
    return FittedImportance.load(path)


def load_fitted(models: Models = "street") -> FittedImportance:
    """The fitted importance of a preset.

    Raises:
        ValueError: If the preset has none.
    """
    preset = load_preset(models)
    if preset.importance is None:
        raise ValueError(
            f"importance='fitted' needs a fit, which models={preset.name!r} has not; make one with "
            "noma_semcom_env.zoo.train.importance and name its file: models={'preset': ..., 'importance': FILE}"
        )
    return _load_fitted(preset.importance)


def pruned_bank(recovery: Any, scenario: Scenario) -> FeatureBank:
    """The features of a recovery as a scenario values and prunes them.

    Args:
        recovery: Its ``features`` are pruned anew where the scenario asks for it; its ``bank`` is taken otherwise.
        scenario: Gives importance and thresholds. Thresholds of None are the attribute ``thresholds`` (eps_t, eps_v)
            of the importance if it has one; for the paper's those that the recovery's features were pruned with, and
            the preset's otherwise.

    Raises:
        ValueError: If the recovery does not hold what pruning anew needs.
    """
    thresholds = scenario.text_threshold, scenario.visual_threshold
    if scenario.importance == "paper" and thresholds == (None, None):
        bank: FeatureBank = recovery.bank
        return bank
    features: Sequence[SemanticFeatures] | None = getattr(recovery, "features", None)
    if features is None:
        raise ValueError(
            f"recovery={scenario.recovery!r} has no attribute 'features', so importance={scenario.importance!r} and "
            f"thresholds {thresholds} cannot be applied; leave them out, or prune in its bank"
        )
    preset = load_preset(scenario.models)
    usual = preset.text_threshold, preset.visual_threshold
    value: Importance
    if not isinstance(scenario.importance, str):
        value = scenario.importance
        usual = getattr(value, "thresholds", usual)
    elif scenario.importance == "fitted":
        value = load_fitted(scenario.models)
        usual = value.thresholds
    else:
        value = paper_importance
        usual = getattr(recovery, "thresholds", None) or usual
    text, visual = (own if given is None else given for given, own in zip(thresholds, usual, strict=True))
    rows = []
    for one in features:
        worth, kept = _checked(value(one, text, visual), scenario.importance, one)
        rows.append(replace(one, importance=worth, kept=kept))
    return FeatureBank.stack(rows, recovery.bank.width, recovery.bank.labels)


def _checked(given: Any, importance: Any, one: SemanticFeatures) -> tuple[np.ndarray, np.ndarray]:
    """What an importance gave, refused unless it is what :class:`Importance` says."""
    wanted = (
        f"importance={importance!r} must give two arrays ({one.count},) for {one.image_id!r}, numbers in [0, 1] and "
        "bool"
    )
    if not isinstance(given, tuple) or len(given) != 2:
        raise ValueError(f"{wanted}, but gave {given!r}")
    worth, kept = np.asarray(given[0], dtype=np.float64), np.asarray(given[1])
    if worth.shape != (one.count,) or kept.shape != (one.count,) or kept.dtype != np.bool_:
        raise ValueError(f"{wanted}, but gave shapes {worth.shape} and {kept.shape}, the second of {kept.dtype}")
    if not ((worth >= 0) & (worth <= 1)).all():
        raise ValueError(f"{wanted}, but gave {worth}")
    if not kept.any():
        raise ValueError(f"{wanted}, at least one of them True")
    return worth, kept
