"""LinUCB: a contextual bandit without reinforcement learning, as a reference for what a policy's training is worth.

Combinatorial, with semi-bandit feedback (Qin, Chen and Zhu, 2014): LPIPS is taken to be linear in a description of the
subset that a user sends and of its image; the LPIPS of each user's own recovery, which the environment reports, is the
only thing it learns from, so that it must try subsets to learn of them. It sends what is best if every subset is as
good as the confidence ellipsoid of ridge regression allows (optimism), searched exactly over the joint selections of
all users. As for every searching policy the physics is known, unlike to PPO, which learns from rewards alone what a
bit costs.

The libraries at hand keep one regression an arm, or list the arms of each decision; here 2^F subsets a user and their
combinations are the arms, and they share one regression. Its coefficients change between batches of steps alone, which
grow geometrically.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gymnasium as gym
import numpy as np

import noma_semcom_env  # noqa: F401  (registers the environments)
from noma_semcom_agents.evaluation import ENVIRONMENT, Knobs
from noma_semcom_agents.observed import read_images
from noma_semcom_agents.quality import relabelled
from noma_semcom_agents.searching import SearchingPolicy
from noma_semcom_env.features import TEXTUAL, VISUAL, FeatureBank
from noma_semcom_env.recovery.subsets import subset_numbers, subset_selections

if TYPE_CHECKING:
    from noma_semcom_env.scenario import Scenario

STEPS: Final = 20_000
OPTIMISM: Final = 0.2
RIDGE: Final = 1.0
"""The protocol's LinUCB: environment steps, radii of the confidence ellipsoid, ridge of the regression."""

_GROWTH: Final = 1.3
_ENVIRONMENTS: Final = 32


@dataclass(frozen=True, eq=False)
class LinearQuality:
    """LPIPS as a linear function of :func:`describe_linearly`, with what is known of its coefficients.

    Attributes:
        labels: The label vocabulary.
        coefficients: (d,) of ridge regression.
        precision: (d, d) Gram matrix of what was observed, and the ridge.
        optimism: How many radii of the ellipsoid are taken off a prediction; 0 is the prediction itself.
    """

    labels: tuple[str, ...]
    coefficients: np.ndarray
    precision: np.ndarray
    optimism: float = 0.0

    def predict(self, bank: FeatureBank) -> np.ndarray:
        """See :meth:`~noma_semcom_agents.quality.QualityModel.predict`; lower by ``optimism`` radii."""
        bank = relabelled(bank, self.labels)
        predicted = np.full((len(bank), 1 << bank.width), np.nan)
        missing = (~bank.exists) @ subset_selections(bank.width, bank.width).T
        # |R^-T x| with precision = R^T R is the radius in the direction x.
        whiten = np.linalg.inv(np.linalg.cholesky(self.precision)).T if self.optimism else None
        for row in range(len(bank)):
            possible = np.flatnonzero(~missing[row])
            inputs = describe_linearly(bank, np.full(len(possible), row), possible)
            predicted[row, possible] = inputs @ self.coefficients
            if whiten is not None:
                predicted[row, possible] -= self.optimism * np.linalg.norm(inputs @ whiten, axis=1)
        return predicted

    def save(self, path: Path) -> None:
        """Write an ``.npz``, by a temporary file that is renamed."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(file, labels=np.array(self.labels), coefficients=self.coefficients, precision=self.precision)
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> LinearQuality:
        """Read what :meth:`save` wrote; its predictions are not optimistic."""
        with np.load(path, allow_pickle=False) as file:
            labels = tuple(str(label) for label in file["labels"])
            return cls(labels, file["coefficients"], file["precision"])


def describe_linearly(bank: FeatureBank, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """What LPIPS is taken to be linear in.

    Args:
        bank: The images.
        rows: (n,) int, which of them.
        numbers: (n,) int64, numbers of subsets of their features.

    Returns:
        (n, d) float64. By kind and label, of what is sent and of what there is: number, importance and kilobits. Then
        products of the numbers of masks and of phrases sent, since what a feature adds shrinks with what is there, and
        1.
    """
    vocabulary, width = len(bank.labels), bank.width
    selected = (numbers[:, None] >> np.arange(width) & 1).astype(np.float64)
    masks, phrases = bank.modality == VISUAL, bank.modality == TEXTUAL
    place = bank.label + vocabulary * phrases
    # A column each for number, importance and kilobits of every kind and label.
    by_label = np.zeros((*place.shape, 3, 2 * vocabulary))
    sizes = np.stack([np.ones(place.shape), bank.importance, bank.size_bits / 1000.0], axis=-1)
    np.put_along_axis(by_label, place[..., None, None], (sizes * bank.exists[..., None])[..., None], axis=-1)
    by_label = by_label.reshape(len(bank), width, -1)
    # A phrase of which the image has no mask, such as one for the weather, is about the whole picture.
    same = (bank.label[:, :, None] == bank.label[:, None]) & masks[:, None]
    kinds = np.stack([masks, phrases, phrases & ~same.any(axis=2)], axis=-1) / 4.0
    sent = np.einsum("nf,nfd->nd", selected, by_label[rows])
    mask, phrase, whole = np.einsum("nf,nfk->kn", selected, kinds[rows])
    products = np.stack([mask**2, phrase**2, mask * phrase, whole**2, whole * mask, np.ones(len(rows))], axis=1)
    return np.concatenate([sent, by_label.sum(axis=1)[rows], products], axis=1)


def learn_linucb(
    knobs: Knobs, steps: int = STEPS, optimism: float = OPTIMISM, ridge: float = RIDGE, seed: int = 0
) -> tuple[LinearQuality, list[tuple[int, float]]]:
    """Let LinUCB act in an environment and learn from what it is told.

    Args:
        knobs: Keywords of the environment.
        steps: Environment steps.
        optimism: Radii of the confidence ellipsoid.
        ridge: Of the regression.
        seed: Of the episodes.

    Returns:
        What it knows in the end, without optimism, and its learning curve: steps and mean reward of each batch.

    Raises:
        ValueError: If ``steps``, ``optimism`` or ``ridge`` is out of range.
    """
    if steps < 1 or optimism < 0.0 or not ridge > 0.0:
        raise ValueError(
            f"steps={steps!r} must be at least 1, optimism={optimism!r} at least 0, ridge={ridge!r} positive"
        )
    env: Any = gym.make_vec(ENVIRONMENT, num_envs=_ENVIRONMENTS, vectorization_mode="vector_entry_point", **knobs)
    try:
        return _learn(env, steps, optimism, ridge, seed)
    finally:
        env.close()


def _learn(
    env: Any, steps: int, optimism: float, ridge: float, seed: int
) -> tuple[LinearQuality, list[tuple[int, float]]]:
    dynamics = env.unwrapped.dynamics
    scenario: Scenario = dynamics.scenario
    labels = tuple(dynamics.bank.labels)
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    width = describe_linearly(dynamics.bank, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)).shape[1]
    precision, moment = ridge * np.eye(width), np.zeros(width)
    done, curve, policy = 0, list[tuple[int, float]](), None
    while done < steps:
        if done > 0:
            known = LinearQuality(labels, np.linalg.solve(precision, moment), precision, optimism)
            policy = SearchingPolicy(known, scenario, "LinUCB")
        rewards: list[np.ndarray] = []
        batch = min(steps, max(done + _ENVIRONMENTS, int(done * _GROWTH)))
        while done < batch:
            mask = np.asarray(observation["action_mask"])
            # Nothing is known of anything before the first batch.
            action = (rng.integers(0, 2, mask.shape) * mask) if policy is None else policy.act(observation, info, rng)
            bank, index, _ = read_images(observation, labels)
            observation, reward, _, _, info = env.step(action.astype(np.int8))
            if "lpips" not in info:
                continue  # an ended episode begins anew, and nothing is sent
            taken = info["_lpips"]
            inputs = describe_linearly(bank, index[taken].ravel(), subset_numbers(info["selection"][taken]).ravel())
            precision, moment = precision + inputs.T @ inputs, moment + inputs.T @ info["lpips"][taken].ravel()
            rewards.append(np.asarray(reward)[taken])
            done += int(taken.sum())
        curve.append((done, float(np.concatenate(rewards).mean())))
    return LinearQuality(labels, np.linalg.solve(precision, moment), precision), curve
