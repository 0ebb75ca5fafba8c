"""The two pictures of a training: its learning curve, and one transmission from raw to recovered image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gymnasium as gym
import numpy as np

from noma_semcom_agents.evaluation import ENVIRONMENT, Contender, Knobs
from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.scenes.street import CLASSES, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from noma_semcom_agents.training import CurvePoint

_UNSENT: Final = 0.75
"""How far the colour of a mask that was not sent is moved towards white."""


@dataclass(frozen=True)
class Step:
    """One transmission of K users.

    Attributes:
        features: K images' features, valued and pruned as the scenario says.
        images: (K, H, W, 3) uint8 raw images.
        selection: (K, F) bool, what was sent.
        available: (K, F) bool, what could have been sent.
        decoding_order: (K,) users, first decoded first.
        rate_bps: (K,) rates.
        demand_bits: (K,) demands.
        lpips: (K,) LPIPS as the reward counts it.
        latency_s: Latency of the slowest user.
        reward: The step's reward.
    """

    features: tuple[SemanticFeatures, ...]
    images: np.ndarray
    selection: np.ndarray
    available: np.ndarray
    decoding_order: np.ndarray
    rate_bps: np.ndarray
    demand_bits: np.ndarray
    lpips: np.ndarray
    latency_s: float
    reward: float


def capture_step(contender: Contender, knobs: Knobs, seed: int) -> Step:
    """The first step of an episode as a contender plays it; the recovery must hold ``features`` and ``images``."""
    env: Any = gym.make_vec(
        ENVIRONMENT, num_envs=1, vectorization_mode="vector_entry_point", **{**knobs, **contender.knobs}
    )
    try:
        observation, info = env.reset(seed=seed)
        action = contender.policy.act(observation, info, np.random.default_rng(seed))
        _, reward, _, _, info = env.step(action)
        dynamics = env.unwrapped.dynamics
    finally:
        env.close()
    index, bank = info["privileged"]["image_index"][0], dynamics.bank
    first = {key: info[key][0] for key in ("selection", "decoding_order", "rate_bps", "demand_bits", "lpips")}
    return Step(
        features=tuple(_valued(dynamics.recovery.features[i], bank.importance[i], bank.kept[i]) for i in index),
        images=dynamics.recovery.images[index],
        available=dynamics.available[index],
        latency_s=float(info["latency_s"][0]),
        reward=float(reward[0]),
        **first,
    )


def _valued(one: SemanticFeatures, importance: np.ndarray, kept: np.ndarray) -> SemanticFeatures:
    """Features with the importance and pruning of the scenario, (F,) each."""
    return replace(one, importance=importance[: one.count], kept=kept[: one.count])


def draw_learning_curve(
    curve: Sequence[CurvePoint], levels: Mapping[str, float], path: Path, name: str = "IM-PPO"
) -> None:
    """Draw the mean validation reward over the steps of a training.

    Args:
        curve: Looks at the training.
        levels: Mean reward of each reference on the same episodes, drawn as a level.
        path: The picture to write.
        name: Of the agent.
    """
    figure = _figure(8.0, 4.6)
    axes = figure.subplots()
    steps = [point.steps for point in curve]
    axes.plot(steps, [point.validation_reward for point in curve], color="C0", linewidth=2, label=f"{name}, greedy")
    axes.plot(
        steps,
        [point.reward for point in curve],
        color="C0",
        alpha=0.4,
        label=f"{name}, while sampling (training images)",
    )
    for number, (reference, level) in enumerate(levels.items(), start=1):
        axes.axhline(level, color=f"C{number}", linestyle="--", linewidth=1.2, label=f"{reference} ({level:.4f})")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean reward of a step")
    axes.set_title("Learning curve on validation images")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    _save(figure, path)


def draw_transmission(step: Step, recovered: np.ndarray, path: Path, title: str = "One transmission") -> None:
    """Draw what each user had, what it sent, and what arrived; users in the order in which they are decoded.

    Args:
        step: The transmission.
        recovered: (K, H, W, 3) uint8 recovered images.
        path: The picture to write.
        title: Its first words.
    """
    users = len(step.features)
    figure = _figure(13.0, 3.2 * users + 0.9)
    grid = figure.subplots(users, 4, squeeze=False, width_ratios=[1, 1, 1.9, 1])
    chain = " > ".join(f"SU {user + 1}" for user in step.decoding_order if step.demand_bits[user] > 0) or "nobody sends"
    figure.suptitle(
        f"{title}: decoding order {chain}; latency {step.latency_s * 1e3:.3f} ms, "
        f"mean LPIPS {step.lpips.mean():.3f}, reward {step.reward:.4f}"
    )
    for place, user in enumerate(step.decoding_order):
        raw, masks, listing, arrived = grid[place]
        _show(raw, step.images[user], f"SU {user + 1}: raw image")
        _show(masks, _mask_picture(step.features[user], step.selection[user]), "masks (pale: not sent)")
        _list_features(listing, step.features[user], step.selection[user], step.available[user])
        listing.set_title(_link_line(step, user, place), fontsize=9, loc="left")
        _show(arrived, recovered[user], f"recovered (one seed); mean LPIPS {step.lpips[user]:.3f}")
    _save(figure, path)


def _link_line(step: Step, user: int, place: int) -> str:
    demand, rate = step.demand_bits[user], step.rate_bps[user]
    if demand == 0:
        return "sends nothing"
    if rate == 0:
        return f"decoded as no. {place + 1}: {demand:.0f} bit cannot be delivered"
    return f"decoded as no. {place + 1}: {demand:.0f} bit at {rate / 1e6:.2f} Mbit/s = {demand / rate * 1e3:.3f} ms"


def _mask_picture(features: SemanticFeatures, selection: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: masks in their colours, pale where not sent, white where there is none."""
    picture = np.full((*features.masks.shape[1:], 3), 255.0)
    for mask, label, sent in zip(features.masks, features.mask_labels, selection, strict=False):
        colour = _colour(label)
        picture[mask] = colour if sent else colour + (255.0 - colour) * _UNSENT
    return picture.astype(np.uint8)


def _colour(label: str) -> np.ndarray:
    """(3,) float64 in [0, 255]: a class's own colour, grey for a label that has none."""
    return PALETTE[CLASSES.index(label)].astype(np.float64) if label in CLASSES else np.full(3, 128.0)


def _list_features(axes: Axes, features: SemanticFeatures, selection: np.ndarray, available: np.ndarray) -> None:
    """One line a feature: kind, what it says, bits, importance, and whether it was sent."""
    texts = [*features.mask_labels, *(f'"{phrase}"' for phrase in features.phrases)]
    height = 1.0 / max(len(texts) + 1, 11)
    for text, x in (("feature", 0.06), ("bits", 0.68), ("importance", 0.86)):
        axes.text(x, 1.0 - 0.7 * height, text, fontsize=8, color="0.4", ha="left" if x < 0.5 else "right", va="center")
    for row, text in enumerate(texts):
        y = 1.0 - (row + 1.7) * height
        sent, pruned = bool(selection[row]), not available[row]
        ink, weight = ("black", "bold") if sent else ("0.6", "normal")
        style: dict[str, Any] = {"fontsize": 8, "color": ink, "va": "center", "fontweight": weight}
        if row < len(features.mask_labels):
            shade = _colour(text) / 255.0
            axes.plot([0.025], [y], marker="s", markersize=7, color=shade, alpha=1.0 if sent else 1.0 - _UNSENT)
        axes.text(0.06, y, text, **style)
        axes.text(0.68, y, str(int(features.size_bits[row])), ha="right", **style)
        axes.text(0.86, y, f"{features.importance[row]:.2f}", ha="right", **style)
        axes.text(0.89, y, "sent" if sent else "pruned" if pruned else "not sent", **style)
    axes.set_xlim(0.0, 1.05)
    axes.set_ylim(0.0, 1.0)
    axes.axis("off")


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])


def _figure(width: float, height: float) -> Figure:
    """A figure in inches that needs no display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'noma-semcom-env[render]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
