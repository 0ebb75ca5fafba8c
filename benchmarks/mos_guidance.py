"""CLIP-RONI and LPIPS of the painter by its classifier-free guidance and denoising steps, on validation items.

    python -m noma_semcom_benchmarks.mos_guidance

The preset's guidance is chosen from this table. Nothing is sent: the painter gets the caption without an error and the
region exactly, so that what differs is the painting alone. Intervals are 95 % bootstrap intervals over pictures with
all their items; gains over the preset are paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rich.progress import track
from rich.table import Table

from noma_semcom_agents.report import make_console, write_rows
from noma_semcom_benchmarks.mos_report import add_output, columns, parse_output
from noma_semcom_benchmarks.mos_resampling import Resampling
from noma_semcom_env.mixture.table import load_mixture_table
from noma_semcom_env.mixture_models import load_transceiver

STEM: Final = "mos_guidance"
GUIDANCE: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
STEPS: Final = (4, 8)
QUALITIES: Final = ("clip_roni", "lpips")
_QUICK_ITEMS: Final = 3


@dataclass(frozen=True, eq=False)
class Scenes:
    """What is painted.

    Attributes:
        images: (n, H, W, 3) uint8.
        regions: (n, H, W) bool, none of them a whole image.
        captions: n captions of the rest.
        pictures: (n,) which picture each is of.
    """

    images: np.ndarray
    regions: np.ndarray
    captions: tuple[str, ...]
    pictures: np.ndarray


def scenes_of(images: str, count: int | None = None) -> Scenes:
    """The first items of an image set that have a rest, by default all."""
    items = load_mixture_table(images).items
    rows = np.flatnonzero(~items.rois.all(axis=(1, 2)))[:count]
    captions = tuple(items.captions[int(row)] for row in rows)
    return Scenes(items.pictures[items.picture[rows]], items.rois[rows], captions, items.picture[rows])


def measure(transceiver: Any, scenes: Scenes, guidance: float, steps: int, seeds: Sequence[int]) -> dict[str, Any]:
    """(n,) of each of :data:`QUALITIES`, the mean over diffusion seeds.

    Args:
        transceiver: Whose painter, CLIP and LPIPS are used.
        scenes: What is painted.
        guidance: Scale of classifier-free guidance, at least 1.
        steps: Denoising steps.
        seeds: Of the diffusion.
    """
    import torch

    from noma_semcom_env.mixture.inpainting import Inpainting

    usual = transceiver.painter
    painter = Inpainting(usual.pipeline, steps, guidance=guidance, side=usual.side)
    painted = painter.paint(scenes.images, scenes.regions, scenes.captions, seeds)
    found: dict[str, list[np.ndarray]] = {name: [] for name in QUALITIES}
    raw = torch.from_numpy(scenes.images).permute(0, 3, 1, 2).float() / 255
    for images in painted.transpose(1, 0, 2, 3, 4):
        found["clip_roni"].append(transceiver.clip_roni(images, scenes.regions, scenes.captions))
        shown = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            found["lpips"].append(transceiver.perceptual(raw, shown).double().cpu().numpy())
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def rows_of(
    found: dict[tuple[int, float], dict[str, np.ndarray]], pictures: np.ndarray, usual: tuple[int, float]
) -> list[dict[str, Any]]:
    """A row for each number of steps and guidance, with gains over the usual one if that is among them.

    Args:
        found: Steps and guidance to (n,) of each of :data:`QUALITIES`.
        pictures: (n,) which picture each value is of.
        usual: Steps and guidance of the preset.
    """
    over, rows = Resampling(pictures), []
    for (steps, guidance), values in found.items():
        row: dict[str, Any] = {"steps": steps, "guidance": guidance}
        for name in QUALITIES:
            row |= columns(name, over.interval(values[name]))
            if usual in found:
                row |= columns(f"{name}_less_preset", over.interval(values[name] - found[usual][name]))
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Paint, print the table, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="street_mixture", help="a preset's name, or a JSON object that swaps parts")
    parser.add_argument("--images", default="street-validation", help="image set, by name or file")
    parser.add_argument("--guidance", type=float, nargs="+", default=list(GUIDANCE))
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--seeds", type=int, default=1, help="number of diffusion seeds")
    add_output(parser)
    given = parse_output(parser, arguments)
    transceiver = load_transceiver(given.models)
    usual = transceiver.painter.steps, transceiver.painter.guidance
    scenes = scenes_of(given.images, _QUICK_ITEMS if given.quick else None)
    jobs = [(steps, scale) for steps in given.steps for scale in given.guidance]
    if given.quick:
        jobs = [usual, (usual[0], 2 * usual[1])]
    found = {
        (steps, scale): measure(transceiver, scenes, scale, steps, range(given.seeds))
        for steps, scale in track(jobs, "guidance")
    }
    rows = rows_of(found, scenes.pictures, usual)
    caption = f"in brackets 95 % bootstrap intervals over {len(set(scenes.pictures.tolist()))} pictures"
    table = Table(title=f"Painting {len(scenes.images)} items of {given.images}", caption=caption)
    shown = [name for name in rows[0] if not name.endswith(("_low", "_high"))]
    for name in shown:
        table.add_column(name.replace("_", " "), justify="right")
    for row, job in zip(rows, found, strict=True):
        table.add_row(*(_cell(row, name) for name in shown), style="bold" if job == usual else "")
    console = make_console()
    console.print(table)
    given.output.mkdir(parents=True, exist_ok=True)
    write_rows(rows, given.output / f"{STEM}.csv")
    console.print(str(given.output / f"{STEM}.csv"), highlight=False, soft_wrap=True)


def _cell(row: dict[str, Any], name: str) -> str:
    if f"{name}_low" not in row:
        return f"{row[name]:g}"
    bounds = f"[{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
    return f"{row[name]:.3f} {bounds}"


if __name__ == "__main__":
    main()
