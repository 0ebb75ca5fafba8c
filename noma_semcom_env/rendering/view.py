"""What one frame shows, gathered from states and transitions, and the same as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from noma_semcom_env.features import TEXTUAL
from noma_semcom_env.link.channel import steering_vector
from noma_semcom_env.link.sic import squared_magnitude

if TYPE_CHECKING:
    from noma_semcom_env.dynamics import Dynamics, Transition

_SCANNED: Final = 720
"""Directions around the access point among which a user's own is looked for."""

_AS_GOOD: Final = 0.9
"""Share of the strongest direction's gain from which a direction counts as good as it."""


@dataclass(frozen=True, eq=False)
class Episode:
    """What stays the same in an episode.

    Attributes:
        image_index: (K,) rows of the bank.
        distances_m: (K,).
        channels: (T + 1, K, N) complex128.
        spacing: Distance between neighbouring antennas in wavelengths.
    """

    image_index: np.ndarray
    distances_m: np.ndarray
    channels: np.ndarray
    spacing: float

    @cached_property
    def angles(self) -> np.ndarray:
        """(K,) rad from broadside, where each user is shown.

        An episode has distances and channels, no directions. Each user stands where its channel comes from: in one of
        the directions in which the mean gain of its channels is about the largest, which under a line of sight is the
        true one or its mirror image behind the array, and under Rayleigh fading is as good as any. Among those it
        takes the one that is farthest from the users before it.
        """
        theta = np.linspace(-np.pi, np.pi, _SCANNED, endpoint=False)
        response = steering_vector(theta, self.channels.shape[-1], self.spacing).conj()
        gains = np.zeros((self.channels.shape[1], _SCANNED))
        for channel in self.channels:
            gains += squared_magnitude(channel @ response.T)
        angles: list[float] = []
        for one in gains:
            good = theta[one >= _AS_GOOD * one.max()]
            apart = [np.abs(np.angle(np.exp(1j * (good - other)))) for other in angles]
            angles.append(float(good[np.min(apart, axis=0).argmax() if apart else np.abs(good).argmin()]))
        return np.array(angles)


@dataclass(frozen=True, eq=False)
class Sent:
    """One transmission.

    Attributes:
        selection: (K, F) bool, features that were sent.
        order: (K,) users, first decoded first; None under orthogonal access, where nobody waits for anybody.
        demand_bits: (K,), 0 for a silent user.
        delay_s: (K,) each user's D_k / R_k in s; 0 for a silent user, inf where the rate is 0.
        lpips: (K,).
        latency_s: The reward's latency in s.
        violated: Whether that exceeds the maximal latency.
        beams: (K, N) receive beams.
    """

    selection: np.ndarray
    order: np.ndarray | None
    demand_bits: np.ndarray
    delay_s: np.ndarray
    lpips: np.ndarray
    latency_s: float
    violated: bool
    beams: np.ndarray

    @cached_property
    def places(self) -> tuple[str, ...]:
        """K places in the decoding order, ``"1st"`` and so on; empty for users that have none."""
        if self.order is None:
            return ("",) * len(self.demand_bits)
        place = np.argsort(self.order) + 1
        return tuple(ordinal(int(p)) if bits > 0 else "" for p, bits in zip(place, self.demand_bits, strict=True))


@dataclass(frozen=True, eq=False)
class View:
    """What one frame shows.

    Attributes:
        episode: The episode.
        step: Steps taken.
        rewards: One a step that was seen.
        sent: The last transmission, None before the first.
    """

    episode: Episode
    step: int
    rewards: tuple[float, ...] = ()
    sent: Sent | None = None

    @property
    def channel(self) -> np.ndarray:
        """(K, N) complex, what the transmission used, or before the first one what it will use."""
        current: np.ndarray = self.episode.channels[self.step - (self.sent is not None)]
        return current


def to_text(view: View, dynamics: Dynamics) -> str:
    """A table, one line a user."""
    sent, index = view.sent, view.episode.image_index
    head = f"step {view.step}/{dynamics.scenario.episode_length}"
    if sent is not None:
        late = " (above the maximum)" if sent.violated else ""
        head += f"  reward {view.rewards[-1]:.4f}  latency {seconds(sent.latency_s)}{late}"
        head += f"  mean LPIPS {sent.lpips.mean():.3f}  return {sum(view.rewards):.4f}"
    rows = [("user", "image", "distance", "SNR", "order", "bits", "latency", "LPIPS", "sent")]
    for user, snr in enumerate(snr_db(view, dynamics)):
        distance = f"{view.episode.distances_m[user]:.0f} m"
        outcome = ("-", "-", "-", "-", "-") if sent is None else _outcome(sent, user, dynamics, int(index[user]))
        rows.append((f"SU {user + 1}", dynamics.bank.image_ids[index[user]], distance, f"{snr:.1f} dB", *outcome))
    return table(head, rows, right_from=2)


def table(head: str, rows: Sequence[tuple[str, ...]], right_from: int) -> str:
    """A line and a table beneath it; columns from ``right_from`` on stand to the right, but for the last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = range(right_from, len(widths) - 1)
    lines = [
        "  ".join(c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in (head, *lines))


def _outcome(sent: Sent, user: int, dynamics: Dynamics, image: int) -> tuple[str, ...]:
    texts = feature_texts(dynamics, image)
    chosen = [text for text, on in zip(texts, sent.selection[user], strict=False) if on]
    return (
        sent.places[user] or "-",
        f"{sent.demand_bits[user]:.0f}",
        seconds(sent.delay_s[user]) if sent.demand_bits[user] > 0 else "-",
        f"{sent.lpips[user]:.3f}",
        ", ".join(chosen) or "nothing",
    )


def feature_texts(dynamics: Dynamics, image: int) -> list[str]:
    """What each feature of an image is called: the class of a mask, the phrase in quotes (without texts, its word)."""
    features = getattr(dynamics.recovery, "features", None)
    if features is not None:
        one = features[image]
        return [*one.mask_labels, *(f'"{phrase}"' for phrase in one.phrases)]
    bank = dynamics.bank
    pairs = zip(bank.label[image][bank.exists[image]], bank.modality[image][bank.exists[image]], strict=True)
    return [f'"{bank.labels[label]}"' if kind == TEXTUAL else bank.labels[label] for label, kind in pairs]


def snr_db(view: View, dynamics: Dynamics) -> np.ndarray:
    """(K,) p_k ||h_k||^2 / sigma^2 in dB; -inf for a user that is not heard."""
    with np.errstate(divide="ignore"):
        snr = dynamics.power_w * squared_magnitude(view.channel).sum(axis=-1) / dynamics.noise_power_w
        decibel: np.ndarray = 10.0 * np.log10(snr)
    return decibel


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if not np.isfinite(value):
        return "never"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"


def ordinal(number: int) -> str:
    """``"1st"`` and so on."""
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def sent_of(transition: Transition, place: int, ordered: bool) -> Sent:
    """The transmission of one environment of a batch; ``ordered`` tells whether users are decoded in turn."""
    info = transition.info
    demand, rate = info["demand_bits"][place], info["rate_bps"][place]
    with np.errstate(divide="ignore", invalid="ignore"):
        delay = np.where(demand > 0, demand / rate, 0.0)
    return Sent(
        selection=info["selection"][place],
        order=info["decoding_order"][place] if ordered else None,
        demand_bits=demand,
        delay_s=delay,
        lpips=info["lpips"][place],
        latency_s=float(info["latency_s"][place]),
        violated=bool(info["violations"][place]),
        beams=transition.beams[place],
    )
