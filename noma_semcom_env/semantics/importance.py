r"""Importance of textual and visual features, equations (19)-(23), and pruning by it. NumPy alone.

The published text keeps the prose around (18)-(23) but not every formula; (20)-(23) are this project's reading of it.
Each equation is one function of arrays, so that another reading can take its place:

* (18), the gradient :math:`a_{m,i} = \partial y_m / \partial V^i`, is :mod:`noma_semcom_env.semantics.attribution`'s;
* (19) :func:`heatmaps`, scaled by :func:`scale_heatmaps` and cut by :func:`activated_areas`;
* (20) :func:`dependency`; (21) :func:`contribution`;
* (22) :func:`textual_importance`, or :func:`textual_importance_redundancy` where dependency is read as redundancy;
* (23) :func:`mask_word_match` and :func:`visual_importance`.

Axes: M words or phrases, K masks, R = h * w regions of the image encoder, D its width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ACTIVATION_LEVEL = 0.3
"""Share of the caption's mean maximum from which a region counts as activated."""


def heatmaps(gradients: np.ndarray, regions: np.ndarray) -> np.ndarray:
    r"""Equation (19): :math:`H_m(i) = \mathrm{ReLU}(\langle a_{m,i}, V^i \rangle)`.

    The gradient is a vector for each region. Averaging it over the regions first, as textbook Grad-CAM does, localizes
    worse on the patches of a vision transformer.

    Args:
        gradients: (M, R, D) gradients (18).
        regions: (R, D) features V of the regions.

    Returns:
        (M, R) float64, at least 0.
    """
    signed = np.einsum("mrd,rd->mr", gradients, regions, dtype=np.float64)
    positive: np.ndarray = np.maximum(signed, 0)
    return positive


def scale_heatmaps(maps: np.ndarray) -> np.ndarray:
    """Scale all maps of a caption by the mean of their maxima, and clip at 1.

    Scaled each by its own maximum, the noise of "a" and "and" would be as high as the nouns' maps.

    Args:
        maps: (M, ...) float, at least 0.

    Returns:
        Maps of the same shape in [0, 1]; all zero if every map is.
    """
    maxima = maps.max(axis=tuple(range(1, maps.ndim)), initial=0)
    mean = maxima.mean() if len(maxima) else 0.0
    return np.minimum(maps / mean, 1) if mean > 0 else np.zeros_like(maps)


def activated_areas(scaled: np.ndarray, level: float = ACTIVATION_LEVEL) -> np.ndarray:
    """The activated areas A_m = {H_m >= level}, bool, of maps in [0, 1]."""
    return (scaled >= level) & (scaled > 0)


def dependency(areas: np.ndarray) -> np.ndarray:
    r"""Equation (20): :math:`Dep_{mn} = |A_m \cap A_n| / |A_m \cup A_n|`.

    Args:
        areas: (M, R) bool.

    Returns:
        (M, M) float64 in [0, 1], symmetric; 1 on the diagonal, 0 for an empty area.
    """
    flat = areas.astype(np.float64)
    common = flat @ flat.T
    sizes = flat.sum(axis=1)
    return _share(common, sizes[:, None] + sizes[None, :] - common)


def contribution(areas: np.ndarray) -> np.ndarray:
    """Equation (21): Con_m = |A_m| / R, (M,) float64 in [0, 1], of (M, R) bool areas."""
    return areas.mean(axis=1) if areas.size else np.zeros(len(areas))


def textual_importance(dependencies: np.ndarray, contributions: np.ndarray) -> np.ndarray:
    r"""Equation (22): :math:`s = Dep \cdot Con`, scaled to a largest value of 1.

    A word counts for its own area and for what it shares with others.

    Args:
        dependencies: (M, M) of :func:`dependency`.
        contributions: (M,) of :func:`contribution`.

    Returns:
        (M,) float64 in [0, 1]; all zero if every area is empty.
    """
    return _to_one(dependencies @ contributions)


def textual_importance_redundancy(dependencies: np.ndarray, contributions: np.ndarray) -> np.ndarray:
    r"""Another reading of (22): :math:`s_m = Con_m (1 - \frac{1}{M-1} \sum_{n \ne m} Dep_{mn})`, scaled to 1.

    What a word shares with others counts against it, as redundancy. Arguments and result are those of
    :func:`textual_importance`.
    """
    others = dependencies.sum(axis=1) - np.diagonal(dependencies)
    # Rounding can lift a mean of ones above 1.
    own = np.maximum(1 - others / max(len(contributions) - 1, 1), 0.0)
    return _to_one(contributions * own)


def mask_word_match(masks: np.ndarray, areas: np.ndarray) -> np.ndarray:
    r"""The matching in (23): :math:`Imp_{km} = |mask_k \cap A_m| / |mask_k|`.

    Args:
        masks: (K, H, W) bool.
        areas: (M, h, w) bool on the encoder's grid of regions; a pixel belongs to the region it lies in.

    Returns:
        (K, M) float64 in [0, 1]; 0 for an empty mask.
    """
    if not masks.size or not areas.size:
        return np.zeros((len(masks), len(areas)))
    height, width = masks.shape[1:]
    rows = np.arange(height) * areas.shape[1] // height
    columns = np.arange(width) * areas.shape[2] // width
    fine = areas[:, rows[:, None], columns[None, :]].reshape(len(areas), -1).astype(np.float64)
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    return _share(flat @ fine.T, flat.sum(axis=1)[:, None])


def visual_importance(matches: np.ndarray, importance: np.ndarray) -> np.ndarray:
    r"""Equation (23): :math:`v_k = \sum_m s_m Imp_{km} / \sum_m s_m` over the kept words.

    Args:
        matches: (K, M) of :func:`mask_word_match`, columns of kept words.
        importance: (M,) textual importance (22) of the kept words.

    Returns:
        (K,) float64 in [0, 1]; all zero if the importance sums to 0.
    """
    total = importance.sum()
    # Rounding can lift a mean of ones above 1.
    return np.minimum(matches @ importance / total, 1.0) if total > 0 else np.zeros(len(matches))


@dataclass(frozen=True)
class Reading:
    """Which function stands for each equation; replace a field to read one otherwise.

    Attributes:
        heatmaps: Equation (19), of gradients (18) and regions.
        dependency: Equation (20), of activated areas.
        contribution: Equation (21), of activated areas.
        textual_importance: Equation (22), of dependency and contribution.
        mask_word_match: The matching of (23), of masks and areas.
        visual_importance: Equation (23), of matches and the kept words' importance.
    """

    heatmaps: Callable[[np.ndarray, np.ndarray], np.ndarray] = heatmaps
    dependency: Callable[[np.ndarray], np.ndarray] = dependency
    contribution: Callable[[np.ndarray], np.ndarray] = contribution
    textual_importance: Callable[[np.ndarray, np.ndarray], np.ndarray] = textual_importance
    mask_word_match: Callable[[np.ndarray, np.ndarray], np.ndarray] = mask_word_match
    visual_importance: Callable[[np.ndarray, np.ndarray], np.ndarray] = visual_importance


def keep_above(importance: np.ndarray, threshold: float) -> np.ndarray:
    """Features that survive pruning: those at or above the threshold, or the best one if none is.

    Args:
        importance: (M,) in [0, 1].
        threshold: eps_t or eps_v.

    Returns:
        (M,) bool, not all False unless M is 0.
    """
    kept: np.ndarray = importance >= threshold
    if len(kept) and not kept.any():
        kept[importance.argmax()] = True
    return kept


def prune(
    textual: np.ndarray,
    matches: np.ndarray,
    text_threshold: float,
    visual_threshold: float,
    visual: Callable[[np.ndarray, np.ndarray], np.ndarray] = visual_importance,
) -> tuple[np.ndarray, np.ndarray]:
    """The pruning of an image's features: phrases by (22), then masks by (23) against the phrases that stay.

    Args:
        textual: (T,) textual importance (22).
        matches: (V, T) of :func:`mask_word_match`.
        text_threshold: eps_t in [0, 1].
        visual_threshold: eps_v in [0, 1].
        visual: The function that stands for (23).

    Returns:
        (V + T,) importance in [0, 1], visual first, and (V + T,) bool, which features stay.
    """
    kept_text = keep_above(textual, text_threshold)
    worth = visual(matches[:, kept_text], textual[kept_text])
    return np.concatenate([worth, textual]), np.concatenate([keep_above(worth, visual_threshold), kept_text])


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(part, whole)
    shares: np.ndarray = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return shares


def _to_one(values: np.ndarray) -> np.ndarray:
    largest = values.max(initial=0)
    return values / largest if largest > 0 else np.zeros(len(values))
