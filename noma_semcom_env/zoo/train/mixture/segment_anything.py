"""Trains the small SAM that turns a box or a point into the mask of what lies there.

    python -m noma_semcom_env.zoo.train.mixture.segment_anything --steps 6000 --device cuda

Prompts are the jittered bounding box of something in the picture, or a random point on it; several are asked of every
picture, since the picture is looked at once for all of them. As with SAM itself there is a single mask and a choice of
three, of which the best is trained, and a head that predicts each one's intersection over union. A linear head that is
thrown away afterwards learns each image patch's share of every class, so that the image encoder soon knows where things
are.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES
from noma_semcom_env.zoo.train.data import Scenes, held_out, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit, steps_done
from noma_semcom_env.zoo.train.mixture.text_codec import mixture_parser
from noma_semcom_env.zoo.train.package import package_model

SIDE = 128
PATCH = 8
WIDTH = 96
PROMPT_WIDTH = 64
PROMPTS = 4
"""Prompts a picture in training."""

LEAST_PIXELS = SIDE * SIDE // 512
"""Smaller things are not asked for."""

ITEMS = tuple(CLASSES.index(kind) for kind in ATTRIBUTES)


def build() -> tuple[SamModel, SamProcessor]:
    """The untrained model, of 128 x 128 pixels, and its processor."""
    config = SamConfig(
        vision_config={
            "hidden_size": WIDTH,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "mlp_ratio": 4.0,
            "image_size": SIDE,
            "patch_size": PATCH,
            "output_channels": PROMPT_WIDTH,
            "num_pos_feats": PROMPT_WIDTH // 2,
            "window_size": 0,
            "global_attn_indexes": [],
            "use_rel_pos": False,
        },
        prompt_encoder_config={"hidden_size": PROMPT_WIDTH, "image_size": SIDE, "patch_size": PATCH},
        mask_decoder_config={
            "hidden_size": PROMPT_WIDTH,
            "mlp_dim": 4 * PROMPT_WIDTH,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": PROMPT_WIDTH,
        },
    )
    model = SamModel(config)
    # The library's start is for weights that are loaded at once: from it, products of many tiny numbers hardly learn.
    for part in model.modules():
        if isinstance(part, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            part.reset_parameters()
    for part in (*model.prompt_encoder.modules(), *model.mask_decoder.modules()):
        if isinstance(part, torch.nn.Embedding):
            part.reset_parameters()
    torch.nn.init.normal_(model.vision_encoder.pos_embed, std=0.02)
    frequencies = model.shared_image_embedding.positional_embedding
    # Of unit deviation, as in the paper; the library's start is 48 times that, where neighbouring pixels have nothing
    # in common. Exact in the half precision in which they are stored, and not trained.
    frequencies.data.copy_(torch.randn(frequencies.shape).half().float())
    frequencies.requires_grad_(False)
    low = SIDE // PATCH * 4
    processor = SamProcessor(
        SamImageProcessor(
            size={"longest_edge": SIDE},
            pad_size={"height": SIDE, "width": SIDE},
            mask_size={"longest_edge": low},
            mask_pad_size={"height": low, "width": low},
        )
    )
    return model, processor


def prepare(images: torch.Tensor, processor: SamProcessor) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) as the processor makes it."""
    mean, std = (
        torch.tensor(values, device=images.device).view(3, 1, 1)
        for values in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def bounding_boxes(masks: torch.Tensor) -> torch.Tensor:
    """(..., H, W) bool to (..., 4) float left, top, right, bottom, the latter two inclusive as SAM has them."""
    sides = []
    for axis in (-2, -1):
        there = masks.any(axis)
        last = there.shape[-1] - 1
        sides.append((there.int().argmax(-1), last - there.flip(-1).int().argmax(-1)))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], -1).float()


def random_points(masks: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(..., H, W) bool to (..., 2) float: x and y of a random pixel of each."""
    lots = torch.rand(masks.shape, generator=generator, device=masks.device)
    place = torch.where(masks, lots, -1.0).flatten(-2).argmax(-1)
    return torch.stack([place % masks.shape[-1], place // masks.shape[-1]], -1).float()


@dataclass(frozen=True)
class Things:
    """Scenes on a device and what can be asked for in them.

    Attributes:
        images: (n, H, W, 3) uint8.
        labels: (n, H, W) uint8.
        weights: (n, classes) float: how often each class is asked for; 0 where it is not there.
    """

    images: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def on(cls, device: str, data: Scenes) -> Things:
        """Rendered scenes; items are asked for three times as often as sky or ground."""
        images, labels = (torch.from_numpy(np.array(part)).to(device) for part in (data.images, data.labels))
        areas = torch.stack([(labels == one).sum((1, 2)) for one in range(len(CLASSES))], dim=1)
        wanted = torch.ones(len(CLASSES), device=device)
        wanted[list(ITEMS)] = 3.0
        return cls(images, labels, (areas >= LEAST_PIXELS) * wanted)

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """A batch.

        Returns:
            images: (B, H, W, 3) uint8.
            labels: (B, H, W) uint8.
            masks: (B, P, H, W) bool, what is asked for.
            boxes: (B, P, 4) float bounding boxes, jittered.
            points: (B, P, 1, 2) float points.
        """
        device = generator.device
        scene = torch.randint(len(self.images), (size,), generator=generator, device=device)
        flip = torch.rand(size, generator=generator, device=device) < 0.5
        images, labels = self.images[scene], self.labels[scene]
        images = torch.where(flip[:, None, None, None], images.flip(2), images)
        labels = torch.where(flip[:, None, None], labels.flip(2), labels)
        kinds = torch.multinomial(self.weights[scene], PROMPTS, replacement=True, generator=generator)
        masks = labels[:, None] == kinds[:, :, None, None]
        boxes = bounding_boxes(masks)
        extent = (boxes[..., 2:] - boxes[..., :2] + 1).repeat(1, 1, 2)
        shift = torch.randn(boxes.shape, generator=generator, device=device).clamp(-2, 2)
        boxes = (boxes + 0.05 * extent * shift).clamp(0, SIDE - 1)
        return images, labels, masks, boxes, random_points(masks, generator)[:, :, None]


def patch_shares(labels: torch.Tensor) -> torch.Tensor:
    """(B, H, W) class indices to (B, classes, H / PATCH, W / PATCH) shares, from every second pixel."""
    truth = F.one_hot(labels[:, ::2, ::2].long(), len(CLASSES)).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(truth, PATCH // 2)


def mask_loss(
    logits: torch.Tensor, predicted: torch.Tensor, masks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best mask's loss, the error of the predicted IoU of all, and the best IoU.

    Args:
        logits: (N, M, h, w) of M masks each.
        predicted: (N, M) IoU as the model predicts it.
        masks: (N, H, W) bool.
    """
    logits = F.interpolate(logits.float(), size=masks.shape[-2:], mode="bilinear", align_corners=False)
    truth = masks[:, None].float().expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    share = logits.sigmoid()
    right = torch.where(masks[:, None], share, 1 - share)
    focal = ((1 - right).square() * entropy).mean((2, 3))
    common, both = (share * truth).sum((2, 3)), (share + truth).sum((2, 3))
    dice = 1 - (2 * common + 1) / (both + 1)
    with torch.no_grad():
        decided = logits > 0
        overlap = (decided & masks[:, None]).sum((2, 3))
        iou = overlap / (decided | masks[:, None]).sum((2, 3)).clamp_min(1)
    each = 20 * focal + dice + 0.5 * entropy.mean((2, 3))
    best = each.min(1)
    return best.values.mean(), (predicted.float() - iou).square().mean(), iou.gather(1, best.indices[:, None]).mean()


@torch.no_grad()
def measure(model: SamModel, processor: SamProcessor, scenes: Scenes, device: str) -> dict[str, object]:
    """Mean IoU over the items of held-out scenes, by box, by point, and with the best of a point's three masks."""
    things = Things.on(device, scenes)
    found: dict[str, list[torch.Tensor]] = {"box": [], "point": [], "point_best_of_three": []}
    kinds: list[torch.Tensor] = []
    generator = torch.Generator(device).manual_seed(0)
    for kind in range(len(CLASSES)):
        index = torch.nonzero(things.weights[:, kind])[:, 0]
        for part in index.split(64) if len(index) else ():
            mask = things.labels[part] == kind
            embeddings = model.get_image_embeddings(prepare(things.images[part], processor))
            prompts = {
                "box": {"input_boxes": bounding_boxes(mask)[:, None]},
                "point": {"input_points": random_points(mask, generator)[:, None, None]},
            }
            for prompt, given in prompts.items():
                several = model(image_embeddings=embeddings, multimask_output=prompt == "point", **given)
                logits = F.interpolate(several.pred_masks[:, 0], size=mask.shape[-2:], mode="bilinear")
                decided = logits > 0
                iou = (decided & mask[:, None]).sum((2, 3)) / (decided | mask[:, None]).sum((2, 3)).clamp_min(1)
                likeliest = several.iou_scores[:, 0].argmax(1, keepdim=True)
                found[prompt].append(iou.gather(1, likeliest)[:, 0])
                if prompt == "point":
                    found["point_best_of_three"].append(iou.amax(1))
            kinds.append(torch.full((len(part),), kind))
    which = torch.cat(kinds)
    items = torch.isin(which, torch.tensor(ITEMS))
    figures: dict[str, object] = {"held_out_items": int(items.sum())}
    for prompt, values in found.items():
        iou = torch.cat(values).cpu()
        figures[f"mean_iou_{prompt}"] = round(float(iou[items].mean()), 4)
        figures[f"iou_{prompt}"] = {
            name: round(float(iou[which == i].mean()), 4) for i, name in enumerate(CLASSES) if bool((which == i).any())
        }
    return figures


def train(arguments: argparse.Namespace) -> None:
    """Train, measure and package the model."""
    torch.manual_seed(0)
    device, scenes, steps = arguments.device, arguments.scenes, arguments.steps
    # A tiny set is a trial of the script; its batches and figures need be no larger.
    batch, tested = min(arguments.batch, -(-scenes // 8)), min(500, -(-scenes // 8))
    model, processor = build()
    layout_head = torch.nn.Conv2d(PROMPT_WIDTH, len(CLASSES), 1).to(device)
    model.to(device).train()
    things = Things.on(device, training_scenes(scenes, arguments.folder, SIDE))
    fast = torch.device(device).type == "cuda"

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        several = float(torch.rand((), generator=generator)) < 0.5
        dice = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        images, labels, masks, boxes, points = things.draw(batch, dice)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast):
            embeddings = model.vision_encoder(prepare(images, processor)).last_hidden_state
        # The rest in float32: eight bits of a coordinate would not tell neighbouring pixels apart.
        positions = model.get_image_wide_positional_embeddings().expand(batch, -1, -1, -1)
        layout = -(patch_shares(labels) * layout_head(embeddings.float()).log_softmax(1)).sum(1).mean()
        inside = torch.ones(points.shape[:3], dtype=torch.int, device=device)
        by_point, dense = model.prompt_encoder(points, inside, None, None)
        by_box, _ = model.prompt_encoder(None, None, boxes, None)
        boxed = torch.rand(by_box.shape[:2], generator=dice, device=device) < 0.5
        logits, predicted = model.mask_decoder(
            image_embeddings=embeddings.float(),
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=torch.where(boxed[..., None, None], by_box, by_point),
            dense_prompt_embeddings=dense,
            multimask_output=several,
        )
        shape, error, iou = mask_loss(logits.flatten(0, 1), predicted.flatten(0, 1), masks.flatten(0, 1))
        return {"loss": shape + error + 0.5 * layout, "masks": shape, "iou_error": error, "iou": iou, "layout": layout}

    schedule = Schedule(
        steps, 1.5e-3, warmup=300, hold=0.2, averaging=0.998, weight_decay=0.02, limit_s=arguments.seconds
    )
    folder = arguments.folder / "segment_anything"
    # Masks as prompts are not trained; without a gradient they would have no state to save.
    model.prompt_encoder.mask_embed.requires_grad_(False)
    trained = [model, layout_head]
    seconds = fit("segment anything", trained, loss, schedule, folder, data=f"{scenes} scenes, batches of {batch}")
    model.eval()
    card = {
        "class": "transformers.SamModel",
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": f"{scenes} street scenes of the model split, rendered at {SIDE} x {SIDE}",
        "steps": steps_done(folder),
        "batch": batch,
        "prompts": PROMPTS,
        "seconds": round(seconds),
        "held_out_scenes": tested,
        **measure(model, processor, held_out(tested, SIDE), device),
    }
    package_model(model.cpu(), processor, card, arguments.target / "segment_anything")
    print(json.dumps(card, indent=2))


def main() -> None:
    train(mixture_parser(__doc__, steps=6000, batch=96).parse_args())


if __name__ == "__main__":
    main()
