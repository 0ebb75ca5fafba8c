"""Trains the street preset's UperNet, which finds the classes' masks.

    python -m noma_semcom_env.zoo.train.segmenter --steps 1600

The script takes up a checkpoint in the build folder and ends by writing float16 weights into the package, with their
SHA-256 sums, and a card of what was measured on held-out scenes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import ConvNextConfig, SegformerImageProcessor, UperNetConfig, UperNetForSemanticSegmentation

from noma_semcom_env.scenes.street import CLASSES
from noma_semcom_env.zoo.train.data import Scenes, held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit
from noma_semcom_env.zoo.train.package import WEIGHTS, package_model

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def build() -> UperNetForSemanticSegmentation:
    """The untrained segmenter: 64 x 64 x 3 to 12 classes, decided on a grid of 32 x 32."""
    backbone = ConvNextConfig(
        patch_size=2,
        hidden_sizes=[24, 40, 64, 96],
        depths=[1, 1, 2, 1],
        image_size=64,
        drop_path_rate=0.0,
        layer_scale_init_value=0.1,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=32,
        pool_scales=[1, 2, 3, 6],
        use_auxiliary_head=False,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: i for i, name in enumerate(CLASSES)},
    )
    return UperNetForSemanticSegmentation(config)


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 as the image processor makes it, channels last in memory."""
    scaled = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    normalized = (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return normalized.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def settle(model: UperNetForSemanticSegmentation, images: np.ndarray, batch: int = 50) -> None:
    """Measure the batch normalizations' statistics anew: averaged weights do not fit those gathered during training."""
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    for start in range(0, len(images), batch):
        model(to_tensor(images[start : start + batch]))
    for layer in layers:
        layer.momentum = 0.1
    model.eval()


@torch.no_grad()
def score(model: UperNetForSemanticSegmentation, scenes: Scenes, batch: int = 50) -> dict[str, object]:
    """Intersection over union of each class over all scenes, its mean, and the share of right pixels."""
    count = len(CLASSES)
    confusion = np.zeros((count, count), dtype=np.int64)
    for start in range(0, len(scenes.images), batch):
        logits = model(to_tensor(scenes.images[start : start + batch])).logits
        pairs = scenes.labels[start : start + batch].astype(np.int64) * count + logits.argmax(1).numpy()
        confusion += np.bincount(pairs.ravel(), minlength=count * count).reshape(count, count)
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    iou = hits / np.maximum(union, 1)
    return {
        "mean_iou": round(float(iou.mean()), 4),
        "pixel_accuracy": round(float(hits.sum() / confusion.sum()), 4),
        "iou": {name: round(float(value), 4) for name, value in zip(CLASSES, iou, strict=True)},
    }


def train(steps: int, scenes: int, folder: Path, batch: int = 32) -> None:
    """Train, settle, measure and package the segmenter."""
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last).train()
    data = training_scenes(scenes, folder)

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        index = torch.randint(len(data.images), (batch,), generator=generator).sort().values.numpy()
        logits = model(to_tensor(data.images[index])).logits
        labels = torch.from_numpy(data.labels[index]).long()
        entropy = F.cross_entropy(logits, labels, label_smoothing=0.01)
        # The overlap of each class over the batch counts small classes as much as the sky.
        shares = logits.softmax(1)
        truth = F.one_hot(labels, len(CLASSES)).permute(0, 3, 1, 2).float()
        common = (shares * truth).sum((0, 2, 3))
        union = (shares + truth).sum((0, 2, 3)) - common
        overlap = (1 - (common + 1) / (union + 1)).mean()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": entropy + 0.5 * overlap, "entropy": entropy.detach(), "accuracy": accuracy}

    target = folder / "segmenter"
    seconds = fit(
        "segmenter", [model], loss, Schedule(steps, 3e-3, averaging=0.995, hold=0.2), target, data=f"{scenes} scenes"
    )
    settle(model, data.images[:1500])
    figures = score(model, held_out(500))
    processor = SegformerImageProcessor(
        size={"height": 64, "width": 64}, do_reduce_labels=False, do_convert_rgb=True, image_mean=MEAN, image_std=STD
    )
    card = {
        "class": "transformers.UperNetForSemanticSegmentation",
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": f"{scenes} scenes of the model split",
        "steps": steps,
        "batch": batch,
        "seconds": round(seconds),
        "held_out_scenes": 500,
        **figures,
    }
    package_model(model, processor, card, WEIGHTS / "segmenter")
    print(json.dumps(card, indent=2))


def main() -> None:
    arguments = make_parser(__doc__, steps=1600).parse_args()
    train(arguments.steps, arguments.scenes, arguments.folder)


if __name__ == "__main__":
    main()
