r"""Trains the Swin JSCC codecs, from scratch or, by ``--start``, from a codec that is there.

    python -m noma_semcom_env.zoo.train.mixture.image_codec --kind roi --device cuda
    python -m noma_semcom_env.zoo.train.mixture.image_codec --kind roi --config paper --images refcoco:ROOT:train \
        --target FOLDER --device cuda

The first command trains the bundled codec of 128 x 128 street scenes; the second one the paper's, of 256 x 256, on the
objects that RefCOCO's references point at. ``--images`` takes any source with annotated objects, see
:func:`~noma_semcom_env.zoo.train.mixture.annotated.read_annotated`.

``roi`` sends a region of interest alone, the rest greyed out, and its loss counts the region; ``whole`` sends whole
images (SwinJSCC, the baseline); ``roi-jscc`` sends whole images too, but its encoder is told the region and its loss
weighs it higher (after ROI-JSCC, the other baseline). SNR and rate are drawn for each image, the channel for each
batch. Rates of whole images are drawn uniformly from the bandwidth ratios of the environment. What text and mask leave
of them for a region reaches down to a few symbols, so that those of ``roi`` are drawn log-uniformly over the grid of
the tables, and its loss is the logarithm of the error, as PSNR-ROI is: the errors of few symbols, fifty times those of
many, would leave the latter nothing to say.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.progress import track

from noma_semcom_env.mixture.allocation import PAPER_CBR
from noma_semcom_env.mixture.channel import AWGN, RAYLEIGH, symbols_of
from noma_semcom_env.mixture.image_codec import ImageCodec, count_multiply_adds, count_parameters, keep_region
from noma_semcom_env.mixture.swin_jscc import PAPER, STREET, SwinConfig, SwinJSCC
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.data import Scenes, held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, earlier_training, fit, steps_done
from noma_semcom_env.zoo.train.mixture.annotated import LEAST_SHARE, read_annotated
from noma_semcom_env.zoo.train.mixture.regions import Objects, RegionData, Regions

SNR_DB: Final = (0.0, 20.0)
REPORTED_SNR_DB: Final = (0.0, 5.0, 10.0, 15.0, 20.0)
KINDS: Final = ("roi", "whole", "roi-jscc")


@dataclass(frozen=True)
class Setting:
    """A codec's size with what it is trained for.

    Attributes:
        config: Its size.
        cbr: Least and most bandwidth ratio, complex symbols / (3HW), of whole images.
        roi_symbols: Least and most complex symbols of a region, the ends of the tables' grid.
        reported_cbr: Bandwidth ratios at which it is measured.
        steps: Default length of a training.
        batch: Default number of images a step.
        rate: Default learning rate.
    """

    config: SwinConfig
    cbr: tuple[float, float]
    roi_symbols: tuple[int, int]
    reported_cbr: tuple[float, ...]
    steps: int
    batch: int
    rate: float


SETTINGS: Final[dict[str, Setting]] = {
    "street": Setting(STREET, (0.02, 0.12), (64, 6144), (0.032, 0.048, 0.064, 0.08, 0.096), 4000, 256, 2e-3),
    # 200 epochs of the paper's 15 786 objects; SwinJSCC's learning rate, since the paper's is lost.
    "paper": Setting(PAPER, (0.01, 0.05), (64, 12288), PAPER_CBR, 200_000, 16, 1e-4),
}

REGION_WEIGHT: Final = 0.5
"""Share of the region of interest in the loss of ``roi-jscc``, however small it is."""

TARGET: Final = WEIGHTS / "street_mixture"
_LEAST_ERROR: Final = 1e-4
"""Added to a region's error before the logarithm: beyond 40 dB there is little left to gain."""

_EVALUATED: Final = 256


def region_error(error: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """(B,) mean of a (B, 3, H, W) squared error over each image's (B, H, W) region."""
    inside = (error.mean(1) * region).sum((1, 2))
    return inside / region.sum((1, 2)).clamp_min(1)


def draw_symbols(kind: str, uniforms: torch.Tensor, setting: Setting = SETTINGS["street"]) -> torch.Tensor:
    """Complex symbols, int64, that numbers in [0, 1) stand for."""
    if kind == "roi":
        least, most = setting.roi_symbols
        return (least * (most / least) ** uniforms).round().long()
    low, high = setting.cbr
    return ((low + (high - low) * uniforms) * 3 * setting.config.side * setting.config.side).round().long()


def psnr_db(error: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of mean squared errors of images in [0, 1]."""
    return -10 * error.clamp_min(1e-12).log10()


@dataclass(frozen=True)
class Lessons:
    """What a codec is trained on.

    Attributes:
        data: For the training.
        held_out: For the figures.
        origin: Names them, for the checkpoint.
        said: Describes them, for the card.
    """

    data: RegionData
    held_out: RegionData
    origin: str
    said: str


def open_lessons(arguments: argparse.Namespace, side: int) -> Lessons:
    """The street scenes or photographs that the options ask for, of ``side`` x ``side``.

    Raises:
        ValueError: If a source is missing, broken or too small.
    """
    device, scenes = arguments.device, arguments.scenes
    # A tiny set is a trial of the script; its figures need be no larger.
    evaluated = min(_EVALUATED, -(-scenes // 8))
    if arguments.images is None:
        least = side * side // LEAST_SHARE
        return Lessons(
            Regions.on(device, training_scenes(scenes, arguments.folder, side), least),
            Regions.on(device, held_out(evaluated, side), least),
            f"{scenes} scenes",
            f"{scenes} street scenes of {side} x {side} of the model split",
        )
    known = read_annotated(arguments.images, side, scenes, arguments.folder)
    if arguments.test is not None:
        test = read_annotated(arguments.test, side, evaluated, arguments.folder)
    elif len(known) > evaluated:
        test = known.part(len(known) - evaluated, len(known))
        known = known.part(0, len(known) - evaluated)
    else:
        raise ValueError(
            f"--images {arguments.images} has {len(known)} pictures with objects, of which {evaluated} would be held "
            "out; give more of them, or others for the figures by --test"
        )
    said = f"{len(known.picture)} objects in {len(known)} pictures of {arguments.images}"
    return Lessons(Objects.on(device, known), Objects.on(device, test), said, f"{said}, {side} x {side}")


def fit_codec(
    name: str, codec: ImageCodec, kind: str, arguments: argparse.Namespace, setting: Setting = SETTINGS["street"]
) -> None:
    """Train a codec, measure it on held-out pictures and write it to ``arguments.target``/``name``.

    Args:
        name: Of the codec.
        codec: Untrained; takes the weights of ``arguments.start`` if that is given.
        kind: One of :data:`KINDS`.
        arguments: Of :func:`parse_codec_options`.
        setting: What it is trained for.
    """
    device = arguments.device
    batch = min(arguments.batch, -(-arguments.scenes // 4))
    torch.backends.cudnn.benchmark = True
    lessons = open_lessons(arguments, codec.side)
    data = lessons.data
    earlier = take_up(codec, arguments.start) if arguments.start else {}
    codec.to(device).train()
    forward = torch.compile(codec) if arguments.compile else codec

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        channel = RAYLEIGH if float(torch.rand((), generator=generator)) < 0.5 else AWGN
        dice = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        image, region = data.draw(batch, dice)
        snr_db, rate = torch.rand(2, batch, generator=dice, device=device)
        snr_db = SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * snr_db
        symbols = draw_symbols(kind, rate, setting).clamp_max(codec.max_symbols)
        sent = keep_region(image, region) if kind == "roi" else image
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            received = forward(sent, snr_db, symbols, channel, dice, region if codec.takes_region else None)
        error = (received - image).square()
        if kind == "whole":
            return {"loss": error.mean()}
        of_region = region_error(error, region)
        if kind == "roi":
            return {"loss": (of_region + _LEAST_ERROR).log().mean(), "psnr_roi_db": psnr_db(of_region.detach()).mean()}
        inside = of_region.mean()
        outside = region_error(error, ~region).mean()
        return {"loss": REGION_WEIGHT * inside + (1 - REGION_WEIGHT) * outside, "inside": inside, "outside": outside}

    schedule = Schedule(arguments.steps, arguments.rate, hold=0.1, averaging=0.997, limit_s=arguments.seconds)
    folder = arguments.folder / name
    origin = f"{lessons.origin}, batches of {batch}, {codec.config}"
    if arguments.start:
        origin += f", from {models_digest([arguments.start])}"
    seconds = fit(name, [codec], loss, schedule, folder, data=origin)
    codec.eval()
    card = {
        "class": type(codec).__name__,
        "kind": kind,
        "parameters": count_parameters(codec),
        "multiply_adds": count_multiply_adds(codec),
        "data": lessons.said,
        "snr_db": list(SNR_DB),
        **({"roi_symbols": list(setting.roi_symbols)} if kind == "roi" else {"cbr": list(setting.cbr)}),
        "steps": steps_done(folder),
        "batch": batch,
        "seconds": round(seconds),
        **earlier,
        **measure(codec, kind, lessons.held_out, device, cbrs=setting.reported_cbr),
    }
    codec.save(arguments.target / name, card)
    print(json.dumps(card, indent=2))


def take_up(codec: ImageCodec, folder: Path) -> dict[str, object]:
    """Give a codec the weights of another of its configuration; returns what the card is to tell of it.

    Raises:
        ValueError: If the other one is of another configuration.
    """
    start = type(codec).load(folder)
    if start.config != codec.config:
        raise ValueError(f"--start {folder} holds a codec of {start.config}; one of {codec.config} is needed")
    codec.load_state_dict(start.state_dict())
    return {"began_from": earlier_training(folder)}


@torch.no_grad()
def measure(
    codec: ImageCodec,
    kind: str,
    scenes: Scenes | RegionData,
    device: str,
    snrs_db: tuple[float, ...] = REPORTED_SNR_DB,
    cbrs: tuple[float, ...] = SETTINGS["street"].reported_cbr,
    batch: int = 64,
) -> dict[str, object]:
    """Mean PSNR in dB over pictures with a region, of the whole image and of the region, over AWGN.

    Returns:
        Tables by SNR (rows) and CBR, their axes, and whether they rise in both.
    """
    data = scenes if isinstance(scenes, RegionData) else Regions.on(device, scenes)
    tables: dict[str, list[list[float]]] = {"psnr_roi_db": [], **({} if kind == "roi" else {"psnr_db": []})}
    for snr_db in track(snrs_db, "measuring"):
        rows: dict[str, list[float]] = {name: [] for name in tables}
        for cbr in cbrs:
            # Common noise and regions for all cells, so that they differ by SNR and rate alone.
            generator = torch.Generator(device).manual_seed(0)
            found: dict[str, list[torch.Tensor]] = {name: [] for name in tables}
            for index in torch.arange(len(data), device=device).split(batch):
                image, region = data.take(index, generator)
                received = codec.transmit(
                    keep_region(image, region) if kind == "roi" else image,
                    torch.full((len(index),), snr_db, device=device),
                    torch.full((len(index),), symbols_of(cbr, codec.side, codec.side), device=device),
                    AWGN,
                    generator,
                    region if codec.takes_region else None,
                )
                error = (received - image).square()
                found["psnr_roi_db"].append(psnr_db(region_error(error, region)))
                if "psnr_db" in found:
                    found["psnr_db"].append(psnr_db(error.mean((1, 2, 3))))
            for name, values in found.items():
                rows[name].append(round(float(torch.cat(values).mean()), 3))
        for name, row in rows.items():
            tables[name].append(row)
    main = tables["psnr_roi_db" if kind == "roi" else "psnr_db"]
    return {
        f"held_out_{data.unit}": len(data),
        "reported_snr_db": list(snrs_db),
        "reported_cbr": list(cbrs),
        **tables,
        "rises_with_snr": bool((np.diff(main, axis=0) > 0).all()),
        "rises_with_cbr": bool((np.diff(main, axis=1) > 0).all()),
    }


def codec_parser(description: str | None, steps: int, rate: float) -> argparse.ArgumentParser:
    """Options of the scripts that train image codecs."""
    parser = make_parser(description, steps)
    parser.add_argument("--images", metavar="SOURCE", help="photographs instead of scenes, at most --scenes of them")
    parser.add_argument("--test", metavar="SOURCE", help="photographs for the figures; the last of --images by default")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="limit of the training's time")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--start", type=Path, help="folder of a codec of the same configuration to go on from")
    parser.add_argument("--compile", action="store_true", help="compile the codec first; twice as fast on a CPU")
    parser.add_argument("--target", type=Path, help="folder that gets the weights; that of the package by default")
    return parser


def parse_codec_options(parser: argparse.ArgumentParser, bundled: bool = True) -> argparse.Namespace:
    """The options of a command line; ends it where they do not fit.

    Args:
        parser: Of :func:`codec_parser`.
        bundled: Whether the codec is one of those that the package holds if it is trained on street scenes.
    """
    arguments = parser.parse_args()
    if arguments.test is not None and arguments.images is None:
        parser.error("--test without --images has no effect; street scenes have held-out ones")
    if arguments.target is None:
        if not bundled or arguments.images is not None:
            parser.error("--target is needed: without it the package's weights for street scenes would be replaced")
        arguments.target = TARGET
    return arguments


def main() -> None:
    street = SETTINGS["street"]
    parser = codec_parser(__doc__, street.steps, street.rate)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--config", choices=[*SETTINGS], default="street", help="its size and what goes with it")
    name = parser.parse_known_args()[0].config
    setting = SETTINGS[name]
    parser.set_defaults(steps=setting.steps, batch=setting.batch, rate=setting.rate)
    arguments = parse_codec_options(parser, bundled=name == "street")
    torch.manual_seed(0)
    codec = SwinJSCC(replace(setting.config, region_gate=arguments.kind == "roi-jscc"))
    fit_codec(f"image_{arguments.kind.replace('-', '_')}", codec, arguments.kind, arguments, setting)


if __name__ == "__main__":
    main()
