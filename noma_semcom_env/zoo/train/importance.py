"""Fits the importance that stands beside the paper's: what a feature saves of LPIPS, from what is known beforehand.

    python -m noma_semcom_env.zoo.train.importance --images street-policy --check street-validation

A feature's saving is the LPIPS that it takes away when each other feature of the image arrives with probability 0.8,
about what a good agent sends. Ridge regression predicts it from the feature's label, a mask's share of the image, a
phrase's number of words, whether the other modality names the same, and the paper's importance. The penalty is chosen
by leaving images out; rank correlations within an image are printed for images that were left out and for those of
``--check``, for the paper's importance as well.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.importance import FittedImportance, describe
from noma_semcom_env.recovery.table import RecoveryTable, load_table
from noma_semcom_env.zoo.presets import WEIGHTS

PENALTIES = (0.01, 0.1, 1.0, 10.0)
FOLDS = 8
RECEIVED = 0.8


def design(one: SemanticFeatures, labels: list[str]) -> np.ndarray:
    """(n, columns): label, then whether mask or phrase and what is known of it."""
    masks, phrases = describe(one)
    named = np.array([[label == other for other in labels] for label in one.labels], dtype=np.float64)
    numbers = np.zeros((one.count, 2 + masks.shape[1] + phrases.shape[1]))
    visual = len(masks)
    numbers[:visual, 0], numbers[visual:, 1] = 1.0, 1.0
    numbers[:visual, 2 : 2 + masks.shape[1]] = masks
    numbers[visual:, 2 + masks.shape[1] :] = phrases
    return np.concatenate([named, numbers], axis=1)


def ridge(rows: list[np.ndarray], targets: list[np.ndarray], penalty: float, labels: int) -> np.ndarray:
    """Coefficients; labels alone are penalized, so that a rare one keeps near its kind."""
    design_matrix, target = np.concatenate(rows), np.concatenate(targets)
    weight = np.full(design_matrix.shape[1], 1e-6)
    weight[:labels] = penalty
    return np.linalg.solve(design_matrix.T @ design_matrix + np.diag(weight), design_matrix.T @ target)


def fit(table: RecoveryTable) -> tuple[FittedImportance, float]:
    """The fit to all images of a table, and its mean rank correlation within images that a fit was not given."""
    labels = sorted({label for one in table.features for label in one.labels})
    rows = [design(one, labels) for one in table.features]
    targets = [table.savings(row, RECEIVED) for row in range(len(rows))]
    folds = np.arange(len(rows)) % FOLDS
    scored = []
    for penalty in PENALTIES:
        errors, ranks = [], []
        for fold in range(FOLDS):
            seen = [i for i in range(len(rows)) if folds[i] != fold]
            coefficients = ridge([rows[i] for i in seen], [targets[i] for i in seen], penalty, len(labels))
            for i in np.flatnonzero(folds == fold):
                predicted = rows[i] @ coefficients
                errors.append(np.mean((predicted - targets[i]) ** 2))
                ranks.append(spearmanr(predicted, targets[i]).statistic)
        scored.append((float(np.mean(errors)), penalty, float(np.mean(ranks))))
    _, penalty, rank = min(scored)
    names = [*labels, "mask", "phrase"]
    coefficients = ridge(rows, targets, penalty, len(labels))
    split = len(names) + describe(table.features[0])[0].shape[1]
    visual, textual = tuple(coefficients[len(names) : split].tolist()), tuple(coefficients[split:].tolist())
    found = dict(zip(names, coefficients.tolist(), strict=False))
    intercept = found.pop("mask"), found.pop("phrase")
    scale = max(float((row @ coefficients).max()) for row in rows)
    return FittedImportance(found, visual, textual, intercept, scale), rank


def rank_correlation(table: RecoveryTable, importance: FittedImportance | None) -> float:
    """Mean over images of Spearman's rank correlation of an importance, None the paper's, with the savings."""
    ranks = []
    for row, one in enumerate(table.features):
        worth = one.importance if importance is None else importance.saving(one)
        if np.ptp(worth) > 0:
            ranks.append(spearmanr(worth, table.savings(row, RECEIVED)).statistic)
    return float(np.mean(ranks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="street-policy", help="table to fit, of policy-training images")
    parser.add_argument("--check", default="street-validation", help="table to score on")
    parser.add_argument("--output", type=Path, default=WEIGHTS / "street" / "importance.json")
    parser.add_argument("--text-threshold", type=float, default=0.05, help="eps_t, chosen on validation images")
    parser.add_argument("--visual-threshold", type=float, default=0.06, help="eps_v, likewise")
    arguments = parser.parse_args()
    table, check = load_table(arguments.images), load_table(arguments.check)
    fitted, left_out = fit(table)
    figures = {
        "images": len(table.features),
        "left_out": round(left_out, 3),
        "check": round(rank_correlation(check, fitted), 3),
        "check_paper": round(rank_correlation(check, None), 3),
    }
    content: dict[str, Any] = {
        "labels": {label: round(value, 6) for label, value in fitted.labels.items()},
        "visual": [round(value, 6) for value in fitted.visual],
        "textual": [round(value, 6) for value in fitted.textual],
        "intercept": [round(value, 6) for value in fitted.intercept],
        "scale": round(fitted.scale, 6),
        "thresholds": [arguments.text_threshold, arguments.visual_threshold],
        "rank_correlations": figures,
    }
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
