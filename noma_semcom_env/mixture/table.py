"""Tabulated mixtures: what arrives of an image and a text, by symbols and signal-to-noise ratio. NumPy alone.

After equalization a known block fade h is white noise at SNR + 10 log10 abs(h)^2, so that a table over that effective
SNR serves AWGN and Rayleigh fading alike. (What a table cannot know is that an encoder in a fade was told the mean SNR
instead; how much that matters is measured with the interpolation error and stored beside it.)

A table is one ``.npz`` without objects, with a JSON record of what made it and a SHA-256 sum over all of it.

Interpolation is bilinear in log2 of the symbols and in dB of the effective SNR. Beyond the grid the nearest grid point
holds, and where nothing arrives there is no interpolation:

* fewer ROI symbols than the least of the grid: linear in the number of symbols, from the grey region that 0 leaves;
* no mask, or an effective SNR of minus infinity: a grey region, whatever its symbols;
* no mask, no ROI symbols, or an effective SNR of minus infinity: CLIP-RONI of an image painted from the text alone;
* no text symbols, or an effective SNR of minus infinity: an empty caption, which counts as wholly wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_env.archives import ArchiveKind
from noma_semcom_env.mixture.items import MixtureItems

FORMAT: Final = 2
BUNDLED: Final = Path(__file__).parent / "tables"
CEILING_TABLE: Final = "street-policy"
"""Bundled table whose CLIP-RONI is worth 1 in all tables by the same models."""

QUALITIES: Final = ("grey_psnr_db", "psnr_roi_db", "clip_roni", "clip_lost", "token_error", "undecodable")
"""Arrays of a table that are measured, an entry of each for every item."""

_GRIDS: Final = ("snr_db", "roi_symbols", "token_symbols")


class MixtureTableError(ValueError):
    """A mixture table is missing, damaged, or does not say what it must."""


_KIND: Final = ArchiveKind(
    "mixture table",
    BUNDLED,
    FORMAT,
    frozenset({"format", "provenance", *_GRIDS, *QUALITIES, *(field.name for field in fields(MixtureItems))}),
    "noma_semcom_env.mixture.tabulate",
    MixtureTableError,
)


@dataclass(frozen=True, eq=False)
class Quality:
    """What mixtures are worth, arrays (...,) float64, each the mean over the seeds.

    Attributes:
        psnr_roi_db: PSNR in dB over the object, of the region as it was received; grey where nothing was.
        clip_roni: CLIP-RONI (3), the cosine between the painted rest and the caption that was sent; of an image that is
            wholly painted where nothing of the region arrived.
        token_error: Share of the caption's tokens received as others; 1 where no text was sent.
        undecodable: Share of the seeds whose token error exceeds the threshold; 1 where no text was sent.
    """

    psnr_roi_db: np.ndarray
    clip_roni: np.ndarray
    token_error: np.ndarray
    undecodable: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class MixtureTable:
    """Qualities of items over grids of symbols and effective SNR.

    Attributes:
        items: I items with M margins.
        snr_db: (S,) float64 effective SNRs in dB, ascending.
        roi_symbols: (R,) int64 complex symbols of the ROI, ascending, at least 1.
        token_symbols: (T,) int64 complex symbols a token, ascending, the first 0.
        grey_psnr_db: (I, M) float32 PSNR-ROI of a grey region.
        psnr_roi_db: (I, M, R, S) float32.
        clip_roni: (I, M, T, S) float32; painted around the region that a middling number of ROI symbols gives.
        clip_lost: (I, M, T, S) float32; CLIP-RONI where nothing of the region arrives and the whole image is painted
            from the text. Margins differ in what is scored alone.
        token_error: (I, T, S) float32.
        undecodable: (I, T, S) float32.
        provenance: What made the table: models' hashes, seeds, denoising steps, threshold of undecodable texts, errors
            of the interpolation.
        path: The file that it was read from, or None.
    """

    items: MixtureItems
    snr_db: np.ndarray
    roi_symbols: np.ndarray
    token_symbols: np.ndarray
    grey_psnr_db: np.ndarray
    psnr_roi_db: np.ndarray
    clip_roni: np.ndarray
    clip_lost: np.ndarray
    token_error: np.ndarray
    undecodable: np.ndarray
    provenance: Mapping[str, Any]
    path: Path | None = None

    def __post_init__(self) -> None:
        count, grown = len(self.items), len(self.items.margins)
        snrs, rois, texts = len(self.snr_db), len(self.roi_symbols), len(self.token_symbols)
        shapes = {
            "grey_psnr_db": (count, grown),
            "psnr_roi_db": (count, grown, rois, snrs),
            "clip_roni": (count, grown, texts, snrs),
            "clip_lost": (count, grown, texts, snrs),
            "token_error": (count, texts, snrs),
            "undecodable": (count, texts, snrs),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if np.shape(value) != shape or not np.isfinite(value).all():
                raise MixtureTableError(
                    f"{name} has shape {np.shape(value)}; {shape} is needed, every entry finite: tabulate it again"
                )
        for name, least in (("snr_db", -np.inf), ("roi_symbols", 1), ("token_symbols", 0)):
            grid = getattr(self, name)
            if not len(grid) or (np.diff(grid) <= 0).any() or grid[0] < least:
                raise MixtureTableError(f"{name}={grid.tolist()} must ascend from at least {least}; tabulate it again")
        if self.token_symbols[0] != 0:
            raise MixtureTableError(f"token_symbols={self.token_symbols.tolist()} must begin with 0, no text at all")

    def __repr__(self) -> str:
        return f"MixtureTable({self.items!r}, path={str(self.path) if self.path else None!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> MixtureTable:
        """Itself: nothing in it changes, and Gymnasium copies a spec's keywords at every look."""
        return self

    @cached_property
    def saturated_clip(self) -> float:
        """CLIP-RONI where text costs nothing: the mean over items at margin 0, most symbols and highest SNR."""
        return float(self.clip_roni[:, 0, -1, -1].mean(dtype=np.float64))

    @property
    def clip_ceiling(self) -> float:
        """CLIP-RONI that is worth 1 in a reward, one number for all tables by the same models.

        It is the :attr:`saturated_clip` of the bundled policy items, so that agents are tested by the reward that they
        were trained for, which owes nothing to the test items. A table by other models, whose CLIP may have another
        scale, has its own.
        """
        policy = self if "origin" not in self.provenance else load_mixture_table(CEILING_TABLE)
        same = policy.provenance.get("origin") == self.provenance.get("origin")
        return policy.saturated_clip if same else self.saturated_clip

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
        """Look up.

        Args:
            rows: (...) int64 items.
            margin: (...) int64 indices of the margins.
            roi_symbols: (...) int64 complex symbols of the ROI, at least 0.
            token_symbols: (...) int64 complex symbols a token; 0 where no text is sent.
            snr_db: (...) mean SNR in dB, which a table does not need.
            effective_db: (...) SNR in dB after equalization; ``-inf`` where nothing arrives.
            mask_received: (...) bool; a region without its mask is lost.

        Returns:
            Arrays (...).
        """
        lost = np.isneginf(effective_db)
        snr = _place(np.where(lost, self.snr_db[0], effective_db), self.snr_db)
        sent = np.where(mask_received & ~lost, roi_symbols, 0)
        texts = np.where(lost, 0, token_symbols)
        return Quality(
            self._psnr(rows, margin, sent, snr),
            self._text(self._clip, ((sent > 0).astype(np.int64), rows, margin), texts, snr),
            self._text(self.token_error, (rows,), texts, snr),
            self._text(self.undecodable, (rows,), texts, snr),
        )

    @cached_property
    def _clip(self) -> np.ndarray:
        """(2, I, M, T, S) CLIP-RONI without and with a region, for one look-up."""
        return np.stack([self.clip_lost, self.clip_roni])

    def _psnr(self, rows: np.ndarray, margin: np.ndarray, sent: np.ndarray, snr: _Place) -> np.ndarray:
        least = int(self.roi_symbols[0])
        counts = _place(np.log2(np.maximum(sent, least)), np.log2(self.roi_symbols))
        value = _bilinear(self.psnr_roi_db, (rows, margin), counts, snr)
        grey = self.grey_psnr_db[rows, margin].astype(np.float64)
        return np.asarray(grey + np.minimum(sent / least, 1.0) * (value - grey))

    def _text(self, values: np.ndarray, index: tuple[np.ndarray, ...], texts: np.ndarray, snr: _Place) -> np.ndarray:
        silent = _at(values, (*index, 0), snr)
        if len(self.token_symbols) == 1:
            return silent
        grid = np.log2(self.token_symbols[1:])
        low, share = _place(np.log2(np.maximum(texts, self.token_symbols[1])), grid)
        spoken = _bilinear(values, index, (low + 1, share), snr)
        return np.asarray(np.where(texts > 0, spoken, silent))

    def save(self, path: Path) -> None:
        """Write the table with its sum, by a temporary file that is renamed."""
        _KIND.write(path, _to_arrays(self))


_Place = tuple[np.ndarray, np.ndarray]
"""Index of the grid point below, and the share of the way to the next; both (...)."""


def _place(value: np.ndarray, grid: np.ndarray) -> _Place:
    """Where values lie on an ascending grid; those beyond it at its ends."""
    if len(grid) == 1:
        return np.zeros(np.shape(value), dtype=np.int64), np.zeros(np.shape(value))
    low = np.clip(np.searchsorted(grid, value, side="right") - 1, 0, len(grid) - 2)
    share = (value - grid[low]) / (grid[low + 1] - grid[low])
    return low, np.clip(share, 0.0, 1.0)


def _at(values: np.ndarray, index: tuple[Any, ...], place: _Place) -> np.ndarray:
    """Interpolate along the last axis."""
    low, share = place
    high = np.minimum(low + 1, values.shape[-1] - 1)
    return np.asarray((1 - share) * values[(*index, low)] + share * values[(*index, high)])


def _bilinear(values: np.ndarray, index: tuple[np.ndarray, ...], counts: _Place, snr: _Place) -> np.ndarray:
    low, share = counts
    high = np.minimum(low + 1, values.shape[-2] - 1)
    below, above = (_at(values, (*index, place), snr) for place in (low, high))
    return np.asarray((1 - share) * below + share * above)


def load_mixture_table(source: str | Path) -> MixtureTable:
    """Read and verify a table; one that has not changed since is not read twice.

    Args:
        source: Name of a bundled table such as ``"street-policy"``, or the path of an ``.npz`` file.

    Raises:
        MixtureTableError: If there is no such table, the file is damaged, or its sum does not fit.
    """
    path = _KIND.find(source)
    state = path.stat()
    return _read(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int, size: int) -> MixtureTable:
    """Read and verify a file; its time of change and size tell the cache when it is another one."""
    return _from_arrays(_KIND.read(path), path)


def _to_arrays(table: MixtureTable) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(getattr(table, name)) for name in (*_GRIDS, *QUALITIES)} | table.items.to_arrays()
    arrays["provenance"] = np.array(json.dumps(dict(table.provenance), sort_keys=True))
    return arrays


def _from_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> MixtureTable:
    return MixtureTable(
        items=MixtureItems.from_arrays(arrays),
        provenance=json.loads(str(arrays["provenance"])),
        path=path,
        **{name: arrays[name] for name in (*_GRIDS, *QUALITIES)},
    )
