"""Writes the trained recovery models into the package, in float16 with SHA-256 sums.

python -m noma_semcom_env.zoo.train.export
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionPipeline

from noma_semcom_env.zoo.loading import write_sums
from noma_semcom_env.zoo.presets import load_preset
from noma_semcom_env.zoo.train.data import DEFAULT_FOLDER


def export(folder: Path) -> None:
    """Save the pipeline and the ControlNet of ``folder``/recovery as the street preset's."""
    trained = StableDiffusionControlNetPipeline.from_pretrained(
        folder / "recovery" / "model",
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        dtype=torch.float32,
    ).to(torch.float16)
    cards = [folder / part / "card.json" for part in ("autoencoder", "recovery")]
    for card in cards:
        if not card.is_file():
            raise FileNotFoundError(f"{card} is missing; train the {card.parent.name} to its end first")
    preset = load_preset("street")
    diffusion, controlnet = Path(preset.diffusion), Path(preset.controlnet)
    for target in (diffusion, controlnet):
        shutil.rmtree(target, ignore_errors=True)
    parts = {name: part for name, part in trained.components.items() if name != "controlnet"}
    StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(diffusion)
    trained.controlnet.save_pretrained(controlnet)
    for card, part in zip(cards, ("vae", "unet"), strict=True):
        shutil.copy(card, diffusion / part / "card.json")
    for target in (diffusion, controlnet):
        write_sums(target)
        size = sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
        print(f"{target.name}: {size / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    export(parser.parse_args().folder)


if __name__ == "__main__":
    main()
