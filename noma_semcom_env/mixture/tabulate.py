"""Builds mixture tables: qualities over symbols and SNR, by the real transceiver, resumable. Needs torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from noma_semcom_env.mixture.items import MixtureItems
from noma_semcom_env.mixture.live import LiveMixture
from noma_semcom_env.mixture.metrics import psnr_roi
from noma_semcom_env.mixture.sending import GREY, send_regions, send_texts, token_errors
from noma_semcom_env.mixture.table import QUALITIES, MixtureTable, load_mixture_table
from noma_semcom_env.mixture.text_codec import to_captions
from noma_semcom_env.mixture.transceiver import Prepared, Transceiver

SNR_DB: Final = (-10.0, -7.5, -5.0, -2.5, 0.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0)
ROI_SYMBOLS: Final = (64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144)
TOKEN_SYMBOLS: Final = (0, 5, 6, 8, 11, 16, 22, 32)


@dataclass(frozen=True)
class MixtureRecipe:
    """What the entries of a table depend on besides items and models.

    Attributes:
        snr_db: Effective SNRs in dB, ascending.
        roi_symbols: Complex symbols of the ROI, ascending, at least 1.
        token_symbols: Complex symbols a token, ascending, the first 0.
        seeds: Seeds, each of the noise and of the painting, common to all entries.
        undecodable_above: Token error above which a text cannot be decoded.
        painted_symbols: ROI symbols of the region that the rest is painted around; one of ``roi_symbols``.

    Raises:
        ValueError: If the grids or seeds are not like that.
    """

    snr_db: tuple[float, ...] = SNR_DB
    roi_symbols: tuple[int, ...] = ROI_SYMBOLS
    token_symbols: tuple[int, ...] = TOKEN_SYMBOLS
    seeds: tuple[int, ...] = (0, 1)
    undecodable_above: float = 0.25
    painted_symbols: int = 1024

    def __post_init__(self) -> None:
        for name, least in (("snr_db", -100), ("roi_symbols", 1), ("token_symbols", 0)):
            grid = getattr(self, name)
            if not grid or (np.diff(grid) <= 0).any() or grid[0] < least:
                raise ValueError(f"{name}={grid} must ascend from at least {least}")
        if self.token_symbols[0] != 0:
            raise ValueError(f"token_symbols={self.token_symbols} must begin with 0, no text at all")
        if self.painted_symbols not in self.roi_symbols:
            raise ValueError(f"painted_symbols={self.painted_symbols} must be one of roi_symbols={self.roi_symbols}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds={self.seeds} must be distinct whole numbers of at least 0, one or more")
        if not 0 <= self.undecodable_above < 1:
            raise ValueError(f"undecodable_above={self.undecodable_above} must lie in [0, 1)")

    def provenance(self) -> dict[str, Any]:
        """Record for the table."""
        return {
            "snr_db": list(self.snr_db),
            "roi_symbols": list(self.roi_symbols),
            "token_symbols": list(self.token_symbols),
            "seeds": list(self.seeds),
            "undecodable_above": self.undecodable_above,
            "painted_symbols": self.painted_symbols,
        }


def tabulate_mixtures(
    items: MixtureItems,
    transceiver: Transceiver,
    output: Path,
    recipe: MixtureRecipe | None = None,
    record: Mapping[str, Any] | None = None,
    off_grid: int = 64,
) -> MixtureTable:
    """Compute and save a table; what an interrupted run has finished is taken up again.

    Each item is written beside ``output`` as soon as it is there, under a name that holds a hash of all that it depends
    on, and removed once the table is saved. At last the error of the interpolation is measured at random points off the
    grid and stored with the table.

    Args:
        items: From :func:`~noma_semcom_env.mixture.offering.make_items`.
        transceiver: The one that made them.
        output: The ``.npz`` to write.
        recipe: Grids and seeds; None is the default.
        record: More provenance to store.
        off_grid: Number of random points over either channel at which the interpolation is measured.

    Returns:
        The finished table.

    Raises:
        ValueError: If ``off_grid`` is below 1.
    """
    if off_grid < 1:
        raise ValueError(f"off_grid={off_grid!r} must be at least 1")
    recipe = recipe or MixtureRecipe()
    folder = output.with_name(output.stem + ".parts")
    folder.mkdir(parents=True, exist_ok=True)
    base = {**recipe.provenance(), "origin": transceiver.origin}
    rows: list[dict[str, np.ndarray]] = []
    with _progress() as bar:
        task = bar.add_task("items", total=len(items))
        for row in range(len(items)):
            path = folder / f"{_digest(items, row, base)}.npz"
            known = _read_part(path)
            if known is None:
                known = _tabulate(items, row, transceiver, recipe)
                part = path.with_suffix(f".{os.getpid()}.part")
                with part.open("wb") as file:
                    np.savez(file, **known)  # type: ignore[arg-type]  # the stub takes names for flags
                os.replace(part, path)
            rows.append(known)
            bar.advance(task)
            if not bar.console.is_terminal:  # there a bar shows at its end alone
                left = bar.tasks[0].time_remaining
                bar.console.print(f"{row + 1} of {len(items)} items" + (f", {left:.0f} s left" if left else ""))
    qualities: dict[str, Any] = {name: np.stack([one[name] for one in rows]) for name in QUALITIES}
    table = MixtureTable(
        items=items,
        snr_db=np.array(recipe.snr_db),
        roi_symbols=np.array(recipe.roi_symbols, dtype=np.int64),
        token_symbols=np.array(recipe.token_symbols, dtype=np.int64),
        provenance={**(record or {}), **base},
        **qualities,
    )
    errors = interpolation_errors(table, transceiver, off_grid)
    replace(table, provenance={**table.provenance, "interpolation_error": errors}).save(output)
    shutil.rmtree(folder, ignore_errors=True)
    return load_mixture_table(output)


def _tabulate(items: MixtureItems, row: int, transceiver: Transceiver, recipe: MixtureRecipe) -> dict[str, np.ndarray]:
    """The entries of one item."""
    captions, error = _send_texts(items, row, transceiver, recipe)
    grown = [_prepared(items, row, margin, transceiver) for margin in range(len(items.margins))]
    psnr, clip, grey = [], [], []
    for prepared in grown:
        received, found = _send_regions(prepared, transceiver, recipe)
        lost = np.full(prepared.images.shape, GREY, dtype=np.uint8)
        grey.append(psnr_roi(lost, prepared.images, prepared.targets)[0])
        psnr.append(found.mean(axis=0))
        clip.append(_paint(prepared, received, captions, transceiver, recipe))
    return {
        "grey_psnr_db": np.array(grey, dtype=np.float32),
        "psnr_roi_db": np.stack(psnr).astype(np.float32),
        "clip_roni": np.stack(clip).astype(np.float32),
        "clip_lost": _paint_all(grown, captions, transceiver, recipe).astype(np.float32),
        "token_error": error.mean(axis=0).astype(np.float32),
        "undecodable": (error > recipe.undecodable_above).mean(axis=0).astype(np.float32),
    }


def _prepared(items: MixtureItems, row: int, margin: int, transceiver: Transceiver) -> Prepared:
    return transceiver.of(
        items.pictures[items.picture[row : row + 1]],
        items.region(row, margin)[None],
        items.targets[row : row + 1],
        [items.captions[row]],
        items.mask_bits[row : row + 1, margin],
    )


def _send_texts(
    items: MixtureItems, row: int, transceiver: Transceiver, recipe: MixtureRecipe
) -> tuple[np.ndarray, np.ndarray]:
    """Captions as received, (J, T, S) of str, and token errors (J, T, S)."""
    prepared = _prepared(items, row, 0, transceiver)
    shape = len(recipe.seeds), len(recipe.token_symbols), len(recipe.snr_db)
    seeds, symbols, snr_db = _grid(recipe.seeds, recipe.token_symbols, recipe.snr_db)
    sent = np.repeat(prepared.ids, len(seeds), axis=0)
    tokens = np.repeat(prepared.tokens, len(seeds))
    received = send_texts(transceiver.text_codec, sent, tokens, symbols, snr_db, snr_db, seeds)
    error = token_errors(received, sent, tokens, symbols)
    captions = np.array(to_captions(transceiver.tokenizer, _tensor(received)), dtype=object)
    return captions.reshape(shape), error.reshape(shape)


def _send_regions(prepared: Prepared, transceiver: Transceiver, recipe: MixtureRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Regions received with ``painted_symbols`` (J, S, H, W, 3), and PSNR-ROI (J, R, S)."""
    seeds, symbols, snr_db = _grid(recipe.seeds, recipe.roi_symbols, recipe.snr_db)
    images, regions, targets = (
        np.repeat(values, len(seeds), axis=0) for values in (prepared.images, prepared.regions, prepared.targets)
    )
    received = send_regions(transceiver.image_codec, images, regions, symbols, snr_db, snr_db, seeds)
    found = psnr_roi(received, images, targets)
    shape = len(recipe.seeds), len(recipe.roi_symbols), len(recipe.snr_db)
    middle = recipe.roi_symbols.index(recipe.painted_symbols)
    return received.reshape(*shape, *images.shape[1:])[:, middle], found.reshape(shape)


def _paint(
    prepared: Prepared, received: np.ndarray, captions: np.ndarray, transceiver: Transceiver, recipe: MixtureRecipe
) -> np.ndarray:
    """CLIP-RONI (T, S), the mean over the seeds; equal captions around equal regions are painted once."""
    shape = captions.shape
    clip = np.empty(shape)
    for j, seed in enumerate(recipe.seeds):
        jobs = sorted({(s, captions[j, t, s]) for t in range(shape[1]) for s in range(shape[2])})
        snr = [s for s, _ in jobs]
        known = np.repeat(prepared.regions, len(jobs), axis=0)
        painted = transceiver.paint(received[j, snr], known, [caption for _, caption in jobs], seed)
        scores = transceiver.clip_roni(painted, known, list(prepared.captions) * len(jobs))
        found = dict(zip(jobs, scores.tolist(), strict=True))
        clip[j] = [[found[s, captions[j, t, s]] for s in range(shape[2])] for t in range(shape[1])]
    return np.asarray(clip.mean(axis=0))


def _paint_all(
    grown: Sequence[Prepared], captions: np.ndarray, transceiver: Transceiver, recipe: MixtureRecipe
) -> np.ndarray:
    """CLIP-RONI (M, T, S) of whole images painted, the mean over the seeds; equal captions are painted once."""
    clip = np.empty((len(grown), *captions.shape))
    for j, seed in enumerate(recipe.seeds):
        said, place = np.unique(captions[j], return_inverse=True)
        nothing = np.full((len(said), *grown[0].images.shape[1:]), GREY, dtype=np.uint8)
        painted = transceiver.paint(nothing, np.zeros(nothing.shape[:3], dtype=bool), said.tolist(), seed)
        for margin, prepared in enumerate(grown):
            regions = np.repeat(prepared.regions, len(said), axis=0)
            scores = transceiver.clip_roni(painted, regions, list(prepared.captions) * len(said))
            clip[margin, j] = scores[place.reshape(captions.shape[1:])]
    return np.asarray(clip.mean(axis=1))


def interpolation_errors(table: MixtureTable, transceiver: Transceiver, points: int, seed: int = 0) -> dict[str, Any]:
    """How far a table is from the transceiver at random points off its grid.

    Over ``awgn`` the encoder is told the SNR; over ``rayleigh`` a fade lies between the mean SNR that it is told and
    the effective one, which a table cannot tell apart. CLIP-RONI's errors include that tables paint around a region of
    a middling number of symbols, whatever arrives.

    The region's symbols are drawn over the grid on a logarithmic scale. With the mask lost, whatever the fade, the same
    points give the errors of ``clip_lost``; those of texts are then what they were, and PSNR-ROI, that of grey, has
    none. With 1 symbol up to the grid's least, between which and grey PSNR-ROI is linear, they give those of
    ``psnr_roi_few_db`` and ``clip_roni_few``.

    Args:
        table: The table.
        transceiver: What made it.
        points: Number of random points over either channel.
        seed: Of the points.

    Returns:
        Of ``awgn`` and ``rayleigh``, for each quality, the mean and the largest absolute error: of ``psnr_roi_db``,
        ``clip_roni``, ``token_error`` and ``undecodable`` where the region arrives, of ``clip_lost`` where it is lost,
        of ``psnr_roi_few_db`` and ``clip_roni_few`` where few symbols of it are sent.
    """
    made_by = table.provenance
    live = LiveMixture(
        table.items, transceiver, table.saturated_clip, made_by["seeds"], float(made_by["undecodable_above"])
    )
    rng = np.random.default_rng(seed)
    errors: dict[str, Any] = {"points": points}
    for channel in ("awgn", "rayleigh"):
        rows = rng.integers(len(table.items), size=points)
        margin = rng.integers(len(table.items.margins), size=points)
        low, high = np.log2(table.roi_symbols[[0, -1]])
        roi = np.rint(2 ** rng.uniform(low, high, points)).astype(np.int64)
        token = rng.integers(table.items.least_symbols, table.items.most_symbols + 1, points)
        snr_db = rng.uniform(max(0.0, table.snr_db[0]), min(20.0, table.snr_db[-1]), points)
        gain = rng.exponential(size=points)
        effective_db = snr_db + 10 * np.log10(gain) if channel == "rayleigh" else snr_db
        arguments = (rows, margin, roi, token, snr_db, effective_db)
        arrived, lost = np.ones(points, dtype=bool), np.zeros(points, dtype=bool)
        true, found = live.quality(*arguments, arrived), table.quality(*arguments, arrived)
        differences = {
            name: np.abs(getattr(true, name) - getattr(found, name))
            for name in ("psnr_roi_db", "clip_roni", "token_error", "undecodable")
        }
        true, found = live.quality(*arguments, lost), table.quality(*arguments, lost)
        differences["clip_lost"] = np.abs(true.clip_roni - found.clip_roni)
        few = np.random.default_rng(seed).integers(1, table.roi_symbols[0], points, endpoint=True)
        arguments = (rows, margin, few, token, snr_db, effective_db)
        true, found = live.quality(*arguments, arrived), table.quality(*arguments, arrived)
        differences["psnr_roi_few_db"] = np.abs(true.psnr_roi_db - found.psnr_roi_db)
        differences["clip_roni_few"] = np.abs(true.clip_roni - found.clip_roni)
        errors[channel] = {
            name: {"mean": round(float(values.mean()), 5), "largest": round(float(values.max()), 5)}
            for name, values in differences.items()
        }
    return errors


def _grid(*axes: Sequence[float]) -> list[np.ndarray]:
    """All combinations of some axes, the last one running fastest."""
    return [np.ravel(values) for values in np.meshgrid(*axes, indexing="ij")]


def _digest(items: MixtureItems, row: int, base: Mapping[str, Any]) -> str:
    total = hashlib.sha256(json.dumps(base, sort_keys=True).encode())
    total.update(np.ascontiguousarray(items.pictures[items.picture[row]]).tobytes())
    for values in (items.rois[row], items.targets[row], items.margins):
        total.update(np.ascontiguousarray(values).tobytes())
    total.update(json.dumps([items.item_ids[row], items.captions[row]]).encode())
    return total.hexdigest()[:32]


def _read_part(path: Path) -> dict[str, np.ndarray] | None:
    """The entries of an item that is finished; None where it is not, or its file is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except Exception:  # a file cut off by a kill raises one of a dozen
        return None
    return found if set(found) == set(QUALITIES) else None


def _progress() -> Any:
    try:
        from rich import progress
    except ImportError as error:
        raise ImportError("tabulation needs the extra 'models': pip install 'noma-semcom-env[models]'") from error
    return progress.Progress(
        progress.TextColumn("items"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(values)
