"""What a feature costs: our code against raw bitmap, PNG and COCO's RLE for masks, against plain ASCII for phrases.

    python -m noma_semcom_benchmarks.feature_sizes --scenes 200

Extracts the features of validation scenes with the bundled models. A PNG counts whole, container included, since it
would have to be sent so; of RLE its counts alone. PNG and RLE do not say which class a mask is of, nor ASCII where a
phrase stands.
"""

from __future__ import annotations

import argparse
import io
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.scenes.street import render, split_seeds
from noma_semcom_env.semantics.extraction import load_extractor


@dataclass(frozen=True)
class Sizes:
    """Bits of every feature of a kind under several codes, each an int array of one length.

    Attributes:
        kind: What is coded.
        bits: Name of a code to (n,) bits; ours comes first.
    """

    kind: str
    bits: dict[str, np.ndarray]


def measure(features: list[SemanticFeatures]) -> list[Sizes]:
    """Sizes of all masks and of all phrases."""
    masks = [mask for one in features for mask in one.masks]
    phrases = [phrase for one in features for phrase in one.phrases]
    visual = np.concatenate([one.size_bits[: len(one.masks)] for one in features])
    textual = np.concatenate([one.size_bits[len(one.masks) :] for one in features])
    return [
        Sizes(
            "mask",
            {
                "ours": visual,
                "raw": np.array([mask.size for mask in masks]),
                "PNG": np.array([png_bits(mask) for mask in masks]),
                "COCO RLE": np.array([rle_bits(mask) for mask in masks]),
            },
        ),
        Sizes("phrase", {"ours": textual, "ASCII": np.array([8 * len(phrase) for phrase in phrases])}),
    ]


def png_bits(mask: np.ndarray) -> int:
    """Bits of a (H, W) bool mask as an optimized PNG of one bit a pixel."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(mask).save(file, "png", optimize=True)
    return 8 * len(file.getvalue())


def rle_bits(mask: np.ndarray) -> int:
    """Bits of a (H, W) bool mask as COCO's compressed run lengths, without the two sides that go with them.

    Raises:
        ImportError: If pycocotools is missing.
    """
    try:
        from pycocotools.mask import encode
    except ImportError as error:
        raise ImportError("COCO's RLE needs pycocotools: pip install 'noma-semcom-env[data]'") from error

    return 8 * len(encode(np.asfortranarray(mask, dtype=np.uint8))["counts"])


def main() -> None:
    """Print mean, median and 95th percentile of each code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    arguments = parser.parse_args()
    seeds = split_seeds("validation", arguments.scenes)
    images = np.stack([render(seed).image for seed in seeds])
    features = load_extractor("street").extract(images, [f"validation:{seed}" for seed in seeds])
    table = Table(title=f"Bits a feature, {arguments.scenes} validation scenes of 64 x 64")
    for heading in ("feature", "n", "code", "mean", "median", "95th pct."):
        table.add_column(heading, justify="left" if heading in ("feature", "code") else "right")
    for sizes in measure(features):
        for code, bits in sizes.bits.items():
            median, high = np.quantile(bits, (0.5, 0.95))
            table.add_row(sizes.kind, str(len(bits)), code, f"{bits.mean():.0f}", f"{median:.0f}", f"{high:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
