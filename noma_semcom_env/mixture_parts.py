"""What the Mixture of Semantics dynamics share: recovery, episodes, reward, and the look of an item. NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Protocol, Self, cast

import numpy as np

from noma_semcom_env.mixture.items import MixtureItems
from noma_semcom_env.mixture.table import Quality, load_mixture_table
from noma_semcom_env.mixture_scenario import MixtureBase
from noma_semcom_env.observation import scaled

Info = dict[str, Any]
"""Name to array with a leading batch axis, or to a nested dict of the same."""

LEAST_ROI_SHARE: Final = 1e-3
"""Share of the picture that -1 stands for, on a logarithmic scale; 1 is the whole picture."""

MOST_MASK_BITS: Final = 2**14 - 1
"""Bits of a mask that 1 stands for, on a logarithmic scale; -1 is none."""

MOST_TOKENS: Final = 64
"""Tokens of a caption that 1 stands for, on a logarithmic scale; -1 is the end token alone."""


class MixtureRecovery(Protocol):
    """What mixtures are worth: a table, the live transceiver, or an object of one's own."""

    @property
    def items(self) -> MixtureItems:
        """What can be sent."""
        ...

    @property
    def clip_ceiling(self) -> float:
        """CLIP-RONI that is worth 1; it should not depend on the items, lest training and testing differ in reward."""
        ...

    def quality(
        self,
        rows: np.ndarray,
        margin: np.ndarray,
        roi_symbols: np.ndarray,
        token_symbols: np.ndarray,
        snr_db: np.ndarray,
        effective_db: np.ndarray,
        mask_received: np.ndarray,
    ) -> Quality:
        """Value mixtures, see :meth:`~noma_semcom_env.mixture.table.MixtureTable.quality`."""
        ...


@dataclass(frozen=True, eq=False)
class Episodes:
    """B episodes under way; every field is an array with a leading batch axis.

    Attributes:
        elapsed: (B,) int64, steps taken.
    """

    elapsed: np.ndarray

    def rows(self, index: np.ndarray) -> Self:
        """The episodes at ``index``, (n,) int."""
        return type(self)(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def with_rows(self, index: np.ndarray, other: Self) -> Self:
        """These episodes with those at ``index``, (n,) int, replaced by ``other``."""
        if np.array_equal(index, np.arange(len(self.elapsed))):
            return other
        merged = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, value in merged.items():
            value[index] = getattr(other, name)
        return type(self)(**merged)

    def now(self, values: np.ndarray) -> np.ndarray:
        """What the next step uses of (B, T + 1, ...)."""
        current: np.ndarray = values[np.arange(len(self.elapsed)), self.elapsed]
        return current


@dataclass(frozen=True, eq=False)
class MixtureTransition:
    """What B actions led to.

    Attributes:
        state: The state afterwards.
        reward: (B,) float64.
        info: Every term.
    """

    state: Any
    reward: np.ndarray
    info: Info


class MixtureParts:
    """What the single user's and the uplink's dynamics share: items, recovery, reward, and the look of an item.

    Args:
        scenario: Every knob.

    Raises:
        ValueError: If the image set is missing or damaged, or an item is unknown.
    """

    def __init__(self, scenario: MixtureBase) -> None:
        self.recovery = open_recovery(scenario)
        self.items = self.recovery.items
        known = scenario.image_ids
        self._pool = np.arange(len(self.items)) if known is None else self.items.rows_of(known)
        self._ceiling = self.recovery.clip_ceiling if scenario.clip_ceiling is None else scenario.clip_ceiling
        self._by_item = {
            "roi_size": scaled(np.log10(np.maximum(self.items.roi_share, 1e-300)), np.log10(LEAST_ROI_SHARE), 0.0),
            "mask_bits": scaled(np.log1p(self.items.mask_bits), 0.0, np.log1p(MOST_MASK_BITS)),
            "caption_tokens": scaled(np.log(self.items.tokens), 0.0, np.log(MOST_TOKENS))[:, None],
            "importance": scaled(self.items.importance, 0.0, 1.0)[:, None],
        }
        self._weights = (scenario.psnr_weight / scenario.psnr_ref_db, (1 - scenario.psnr_weight) / self._ceiling)
        self._penalty = scenario.undecodable_penalty

    def draw_items(self, uniforms: np.ndarray) -> np.ndarray:
        """Rows, int64, that numbers in [0, 1) stand for."""
        place = np.minimum((uniforms * len(self._pool)).astype(np.int64), len(self._pool) - 1)
        return np.asarray(self._pool[place])

    def worth(self, quality: Quality) -> np.ndarray:
        """(...,) w PSNR-ROI / reference + (1 - w) CLIP-RONI / ceiling - penalty * undecodable."""
        psnr, clip, penalty = self.worth_terms(quality.psnr_roi_db, quality.clip_roni, quality.undecodable)
        return np.asarray(psnr + clip + penalty)

    def worth_terms(
        self, psnr_roi_db: np.ndarray, clip_roni: np.ndarray, undecodable: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What PSNR-ROI, CLIP-RONI and undecodable texts, (...,) each, add to the worth."""
        return self._weights[0] * psnr_roi_db, self._weights[1] * clip_roni, -self._penalty * undecodable

    def look(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Observed entries of items, (..., length) float64 in [-1, 1]."""
        return {name: values[rows] for name, values in self._by_item.items()}

    @property
    def looks(self) -> dict[str, int]:
        """Length of each entry of :meth:`look`."""
        return {name: values.shape[1] for name, values in self._by_item.items()}


def open_recovery(scenario: MixtureBase) -> MixtureRecovery:
    """The recovery that a scenario names or holds."""
    if not isinstance(scenario.recovery, str):
        return cast(MixtureRecovery, scenario.recovery)
    table = load_mixture_table(scenario.images)
    if scenario.recovery == "live":
        from noma_semcom_env.mixture.live import LiveMixture
        from noma_semcom_env.mixture_models import load_transceiver

        return LiveMixture.from_table(table, load_transceiver(scenario.models))
    return table


def checked_action(action: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """An action as float64, clipped to [-1, 1].

    Raises:
        TypeError: If it holds no numbers.
        ValueError: If its shape is wrong or an entry is not finite.
    """
    values = np.asarray(action)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"action has entries of type {values.dtype}; numbers in [-1, 1] are needed")
    if values.shape != shape:
        raise ValueError(f"action has shape {values.shape}; {shape} is needed: {what}")
    if not np.isfinite(values).all():
        raise ValueError(f"action={values.tolist()} holds what is not finite; numbers in [-1, 1] are needed")
    return np.clip(values.astype(np.float64), -1.0, 1.0)
