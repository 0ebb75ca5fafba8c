"""Trains the Swin JSCC codecs of 128 x 128 street scenes, from scratch or, by ``--start``, from a codec that is there.

    python -m noma_semcom_env.zoo.train.mixture.image_codec --kind roi --device cuda

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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.progress import track

from noma_semcom_env.mixture.channel import AWGN, RAYLEIGH, symbols_of
from noma_semcom_env.mixture.image_codec import ImageCodec, count_multiply_adds, count_parameters, keep_region
from noma_semcom_env.mixture.swin_jscc import STREET, STREET_REGION_GATE, SwinJSCC
from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES
from noma_semcom_env.zoo.loading import models_digest
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.data import Scenes, held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, earlier_training, fit, steps_done

SIDE: Final = 128
SNR_DB: Final = (0.0, 20.0)
CBR: Final = (0.02, 0.12)
ROI_SYMBOLS: Final = (64, 6144)
"""Least and most complex symbols of a region, the ends of the tables' grid."""

DEFAULT_CBR: Final = (0.032, 0.048, 0.064, 0.08, 0.096)
REPORTED_SNR_DB: Final = (0.0, 5.0, 10.0, 15.0, 20.0)
KINDS: Final = ("roi", "whole", "roi-jscc")
REGION_CLASSES: Final = tuple(CLASSES.index(kind) for kind in ATTRIBUTES if kind != "mountain")
"""Classes of which an object can be a region of interest."""

LEAST_REGION: Final = SIDE * SIDE // 256
"""Pixels of the smallest region."""

REGION_WEIGHT: Final = 0.5
"""Share of the region of interest in the loss of ``roi-jscc``, however small it is."""

TARGET: Final = WEIGHTS / "street_mixture"
_LEAST_ERROR: Final = 1e-4
"""Added to a region's error before the logarithm: beyond 40 dB there is little left to gain."""

_EVALUATED: Final = 256


@dataclass(frozen=True)
class Regions:
    """Scenes with a region of interest, wholly on a device.

    Attributes:
        images: (n, H, W, 3) uint8.
        labels: (n, H, W) uint8.
        classes: (c,) uint8, :data:`REGION_CLASSES`.
        valid: (n, c) bool: whether an object of the class is there and large enough; at least one of each scene.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: torch.Tensor
    valid: torch.Tensor

    @classmethod
    def on(cls, device: str, data: Scenes) -> Regions:
        """Those of the scenes that have one."""
        labels = torch.from_numpy(np.array(data.labels)).to(device)
        classes = torch.tensor(REGION_CLASSES, dtype=torch.uint8, device=device)
        areas = torch.stack([(labels == one).sum((1, 2)) for one in classes], dim=1)
        valid = areas >= LEAST_REGION
        chosen = valid.any(1)
        images = torch.from_numpy(np.array(data.images)).to(device)
        if not bool(chosen.all()):
            images, labels, valid = images[chosen], labels[chosen], valid[chosen]
        return cls(images, labels, classes, valid)

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Random images and a random region of each, half of them flipped.

        Returns:
            (size, 3, H, W) float in [0, 1] and (size, H, W) bool.
        """
        device = generator.device
        index = torch.randint(len(self.images), (size,), generator=generator, device=device)
        image, region = self.take(index, generator)
        flipped = torch.rand(size, generator=generator, device=device) < 0.5
        image = torch.where(flipped[:, None, None, None], image.flip(3), image)
        return image, torch.where(flipped[:, None, None], region.flip(2), region)

    def take(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The scenes of an index and a random region of each."""
        valid = self.valid[index]
        lots = torch.rand(valid.shape, generator=generator, device=generator.device)
        chosen = self.classes[torch.where(valid, lots, -1).argmax(1)]
        image = self.images[index].permute(0, 3, 1, 2).float() / 255
        return image, self.labels[index] == chosen[:, None, None]


def region_error(error: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """(B,) mean of a (B, 3, H, W) squared error over each image's (B, H, W) region."""
    inside = (error.mean(1) * region).sum((1, 2))
    return inside / region.sum((1, 2)).clamp_min(1)


def draw_symbols(kind: str, uniforms: torch.Tensor) -> torch.Tensor:
    """Complex symbols, int64, that numbers in [0, 1) stand for: see the ranges above."""
    if kind == "roi":
        least, most = ROI_SYMBOLS
        return (least * (most / least) ** uniforms).round().long()
    return ((CBR[0] + (CBR[1] - CBR[0]) * uniforms) * 3 * SIDE * SIDE).round().long()


def psnr_db(error: torch.Tensor) -> torch.Tensor:
    """PSNR in dB of mean squared errors of images in [0, 1]."""
    return -10 * error.clamp_min(1e-12).log10()


def fit_codec(name: str, codec: ImageCodec, kind: str, arguments: argparse.Namespace) -> None:
    """Train a codec, measure it on held-out scenes and write it to ``arguments.target``/``name``.

    Args:
        name: Of the codec.
        codec: Untrained; takes the weights of ``arguments.start`` if that is given.
        kind: One of :data:`KINDS`.
        arguments: Of :func:`codec_parser`.
    """
    device, scenes = arguments.device, arguments.scenes
    # A tiny set is a trial of the script; its batches and figures need be no larger.
    batch, evaluated = min(arguments.batch, -(-scenes // 4)), min(_EVALUATED, -(-scenes // 8))
    torch.backends.cudnn.benchmark = True
    data = Regions.on(device, training_scenes(scenes, arguments.folder, SIDE))
    earlier = _take_up(codec, arguments.start) if arguments.start else {}
    codec.to(device).train()
    forward = torch.compile(codec) if arguments.compile else codec

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        channel = RAYLEIGH if float(torch.rand((), generator=generator)) < 0.5 else AWGN
        dice = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        image, region = data.draw(batch, dice)
        snr_db, rate = torch.rand(2, batch, generator=dice, device=device)
        snr_db = SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * snr_db
        symbols = draw_symbols(kind, rate).clamp_max(codec.max_symbols)
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
    origin = f"{scenes} scenes, batches of {batch}, {codec.config}"
    if arguments.start:
        origin += f", from {models_digest([arguments.start])}"
    seconds = fit(name, [codec], loss, schedule, folder, data=origin)
    codec.eval()
    card = {
        "class": type(codec).__name__,
        "kind": kind,
        "parameters": count_parameters(codec),
        "multiply_adds": count_multiply_adds(codec),
        "data": f"{scenes} street scenes of {SIDE} x {SIDE} of the model split",
        "snr_db": list(SNR_DB),
        **({"roi_symbols": list(ROI_SYMBOLS)} if kind == "roi" else {"cbr": list(CBR)}),
        "steps": steps_done(folder),
        "batch": batch,
        "seconds": round(seconds),
        **earlier,
        **measure(codec, kind, held_out(evaluated, SIDE), device),
    }
    codec.save(arguments.target / name, card)
    print(json.dumps(card, indent=2))


def _take_up(codec: ImageCodec, folder: Path) -> dict[str, object]:
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
    scenes: Scenes,
    device: str,
    snrs_db: tuple[float, ...] = REPORTED_SNR_DB,
    cbrs: tuple[float, ...] = DEFAULT_CBR,
    batch: int = 64,
) -> dict[str, object]:
    """Mean PSNR in dB over scenes with a region, of the whole image and of the region, over AWGN.

    Returns:
        Tables by SNR (rows) and CBR, their axes, and whether they rise in both.
    """
    data = Regions.on(device, scenes)
    tables: dict[str, list[list[float]]] = {"psnr_roi_db": [], **({} if kind == "roi" else {"psnr_db": []})}
    for snr_db in track(snrs_db, "measuring"):
        rows: dict[str, list[float]] = {name: [] for name in tables}
        for cbr in cbrs:
            # Common noise and regions for all cells, so that they differ by SNR and rate alone.
            generator = torch.Generator(device).manual_seed(0)
            found: dict[str, list[torch.Tensor]] = {name: [] for name in tables}
            for index in torch.arange(len(data.images), device=device).split(batch):
                image, region = data.take(index, generator)
                received = codec.transmit(
                    keep_region(image, region) if kind == "roi" else image,
                    torch.full((len(index),), snr_db, device=device),
                    torch.full((len(index),), symbols_of(cbr, SIDE, SIDE), device=device),
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
        "held_out_scenes": len(data.images),
        "reported_snr_db": list(snrs_db),
        "reported_cbr": list(cbrs),
        **tables,
        "rises_with_snr": bool((np.diff(main, axis=0) > 0).all()),
        "rises_with_cbr": bool((np.diff(main, axis=1) > 0).all()),
    }


def codec_parser(description: str | None, steps: int, rate: float) -> argparse.ArgumentParser:
    """Options of the scripts that train image codecs."""
    parser = make_parser(description, steps)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="limit of the training's time")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--start", type=Path, help="folder of a codec of the same configuration to go on from")
    parser.add_argument("--compile", action="store_true", help="compile the codec first; twice as fast on a CPU")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder of the package that gets the weights")
    return parser


def main() -> None:
    parser = codec_parser(__doc__, steps=4000, rate=2e-3)
    parser.add_argument("--kind", choices=KINDS, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    codec = SwinJSCC(STREET_REGION_GATE if arguments.kind == "roi-jscc" else STREET)
    fit_codec(f"image_{arguments.kind.replace('-', '_')}", codec, arguments.kind, arguments)


if __name__ == "__main__":
    main()
