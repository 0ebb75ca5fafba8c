"""Live mixtures: the transceiver runs inside ``step()``. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noma_semcom_env.mixture.budget import Split
from noma_semcom_env.mixture.items import MixtureItems
from noma_semcom_env.mixture.table import MixtureTable, MixtureTableError, Quality
from noma_semcom_env.mixture.transceiver import Prepared, Reception, Transceiver


class LiveMixture:
    """Sends items and measures what arrives, by the mean over a few seeds of noise and painting.

    Args:
        items: What can be sent.
        transceiver: Sends it.
        clip_ceiling: CLIP-RONI where text costs nothing.
        seeds: Seeds of noise and painting, common to all mixtures.
        undecodable_above: Token error above which a text cannot be decoded.

    Raises:
        ValueError: If there is no seed.
    """

    def __init__(
        self,
        items: MixtureItems,
        transceiver: Transceiver,
        clip_ceiling: float,
        seeds: Sequence[int] = (0,),
        undecodable_above: float = 0.25,
    ) -> None:
        if not seeds:
            raise ValueError(f"seeds={seeds!r} is empty; at least one is needed")
        self.items = items
        self.transceiver = transceiver
        self.clip_ceiling = clip_ceiling
        self.seeds = tuple(int(seed) for seed in seeds)
        self.undecodable_above = undecodable_above

    @classmethod
    def from_table(cls, table: MixtureTable, transceiver: Transceiver) -> LiveMixture:
        """The live counterpart of a table, on its items, with its seeds.

        At a grid point its PSNR-ROI and token errors equal the table's; its CLIP-RONI is painted around the region that
        really arrives, where the table's is painted around that of a middling number of symbols. Where nothing of the
        region arrives they are equal too.

        Args:
            table: Made by the same models. Those that only look at images before anything is sent (segmentation,
                captioner, detector) may be others, since the table holds what they made of its items.
            transceiver: Of these models.

        Raises:
            MixtureTableError: If the table does not say what made it, or other codecs, painter or CLIP made it.
        """
        made_by, where = table.provenance, f"mixture table {table.path or '(in memory)'}"
        for key in ("seeds", "undecodable_above", "origin"):
            if key not in made_by:
                raise MixtureTableError(f"{where} does not say its {key}; recovery='live' needs it. Tabulate it again")
        if made_by["origin"] not in (transceiver.origin, transceiver.receiving):
            raise MixtureTableError(
                f"{where} was made by {made_by['origin']} but recovery='live' would run {transceiver.origin}, so the "
                "two would not agree. Name the models that made the table, or tabulate the items again"
            )
        return cls(table.items, transceiver, table.clip_ceiling, made_by["seeds"], float(made_by["undecodable_above"]))

    def __deepcopy__(self, memo: dict[int, Any]) -> LiveMixture:
        """Itself: the models are not changed by use, and Gymnasium copies a spec's keywords at every look."""
        return self

    def __repr__(self) -> str:
        return f"LiveMixture({self.items!r}, seeds={self.seeds})"

    def prepared(self, rows: np.ndarray, margin: np.ndarray) -> Prepared:
        """Items as they are sent; arguments (B,)."""
        items = self.items
        return self.transceiver.of(
            items.pictures[items.picture[rows]],
            np.stack([items.region(int(row), int(m)) for row, m in zip(rows, margin, strict=True)]),
            items.targets[rows],
            [items.captions[row] for row in rows],
            items.mask_bits[rows, margin],
        )

    def receive(
        self,
        rows: np.ndarray,
        margin: np.ndarray,
        roi_symbols: np.ndarray,
        token_symbols: np.ndarray,
        snr_db: np.ndarray,
        effective_db: np.ndarray,
        mask_received: np.ndarray,
    ) -> list[Reception]:
        """What arrives with each seed; arguments (B,), as :meth:`quality` takes them."""
        prepared = self.prepared(rows, margin)
        text = token_symbols * prepared.tokens
        none = np.zeros_like(text)
        split = Split(text + roi_symbols, text, none, roi_symbols, mask_received)
        return [
            self.transceiver.receive(prepared, split, token_symbols, snr_db, effective_db, mask_received, seed)
            for seed in self.seeds
        ]

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
        """Send and measure, see :meth:`~noma_semcom_env.mixture.table.MixtureTable.quality`."""
        shape = np.shape(rows)
        flat = [
            np.ravel(np.broadcast_to(values, shape))
            for values in (rows, margin, roi_symbols, token_symbols, snr_db, effective_db, mask_received)
        ]
        received = self.receive(*flat)
        errors = np.stack([one.token_error for one in received])
        found = {
            "psnr_roi_db": np.stack([one.psnr_roi_db for one in received]),
            "clip_roni": np.stack([one.clip_roni for one in received]),
            "token_error": errors,
            "undecodable": (errors > self.undecodable_above).astype(np.float64),
        }
        return Quality(**{name: values.mean(axis=0).reshape(shape) for name, values in found.items()})
