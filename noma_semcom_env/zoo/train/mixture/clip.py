"""Trains the small CLIP that judges how well a street picture fits its text.

    python -m noma_semcom_env.zoo.train.mixture.clip --steps 6000 --device cuda

Contrastive learning on scenes and captions, as CLIP is trained. Half of the pictures have a random item painted grey,
which is what CLIP-RONI looks at, and their captions do not name it. Captions say random subsets of what is to be seen.
In a world of so few words a caption fits more than its own picture; such pairs are left out of the comparison instead
of being pushed apart. Blur and noise stand for the flaws of generated pictures.

Two linear heads that are thrown away afterwards, each patch's share of every class and the phrases that fit the
picture, let the vision tower learn where and what things are within few steps.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES
from noma_semcom_env.zoo.train.data import Scenes, held_out, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit, steps_done
from noma_semcom_env.zoo.train.mixture.text_codec import (
    MAX_PHRASES,
    TOKENIZER,
    Sentences,
    draw_subsets,
    mixture_parser,
    move,
    write_sentences,
)
from noma_semcom_env.zoo.train.package import package_model

SIDE = 64
PATCH = 8
STRIDE = 4
"""Every how many pixels of a scene of twice :data:`SIDE` the class map is looked at."""

GREY = 0.5
"""What masked pixels become."""


def build(tokenizer: CLIPTokenizer) -> tuple[CLIPModel, CLIPProcessor]:
    """The untrained model, of 64 x 64 pixels, and its processor."""
    vision = {"hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 4}
    text = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config={**vision, "image_size": SIDE, "patch_size": PATCH, "projection_dim": 64},
        text_config={
            **text,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length,
            "projection_dim": 64,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.eos_token_id,
        },
        projection_dim=64,
    )
    processor = CLIPProcessor(
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}), tokenizer
    )
    return CLIPModel(config), processor


def prepare(images: torch.Tensor, processor: CLIPProcessor) -> torch.Tensor:
    """(B, 3, H, W) in [0, 1] to the model's normalized (B, 3, SIDE, SIDE)."""
    if images.shape[-1] != SIDE:
        images = F.interpolate(images, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (
        torch.tensor(values, device=images.device).view(3, 1, 1)
        for values in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    return (images - mean) / std


@dataclass(frozen=True)
class Lessons:
    """Scenes and their sentences on a device.

    Attributes:
        images: (n, H, W, 3) uint8.
        labels: (n, H, W) uint8.
        sentences: What subsets of their phrases make.
        start: Id of the start token.
    """

    images: torch.Tensor
    labels: torch.Tensor
    sentences: Sentences
    start: int

    @classmethod
    def on(cls, device: str, data: Scenes, tokenizer: CLIPTokenizer) -> Lessons:
        """Those of rendered scenes."""
        images, labels = (torch.from_numpy(np.array(part)).to(device) for part in (data.images, data.labels))
        return cls(images, labels, move(write_sentences(data.captions, tokenizer), device), tokenizer.bos_token_id)

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """A batch.

        Returns:
            images: (B, 3, H, W) float in [0, 1], some with an item painted grey.
            shares: (B, patches, classes + 1) share of each class in a patch, the last one of what is painted.
            ids: (B, T) token ids.
            said: (B, P) float: which phrases the captions say.
            seen: (B, P) float: which phrases are true of the pictures.
        """
        device, sentences = generator.device, self.sentences
        scene = torch.randint(len(self.images), (size,), generator=generator, device=device)
        paint, flip, boxed = torch.rand(3, size, generator=generator, device=device) < 0.5
        kinds = sentences.kinds[scene]
        lots = torch.rand(size, MAX_PHRASES, generator=generator, device=device).masked_fill(kinds < 0, -1.0)
        slot = lots.argmax(1, keepdim=True)
        kind = kinds.gather(1, slot)[:, 0]
        paint &= kind >= 0
        labels = self.labels[scene].long()
        region = self._grow(labels == kind[:, None, None], boxed, generator) & paint[:, None, None]
        images = self.images[scene].permute(0, 3, 1, 2).float() / 255
        images = self._worsen(torch.where(region[:, None], GREY, images), generator)
        # What is masked for the metric is masked after generation, so its grey is clean.
        images = torch.where(region[:, None], GREY, images)
        labels = torch.where(region, len(CLASSES), labels)
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        labels = torch.where(flip[:, None, None], labels.flip(2), labels)[:, ::STRIDE, ::STRIDE]
        truth = F.one_hot(labels, len(CLASSES) + 1).permute(0, 3, 1, 2).float()
        shares = F.avg_pool2d(truth, labels.shape[1] * PATCH // SIDE).flatten(2).transpose(1, 2)
        visible = ((1 << sentences.counts[scene]) - 1) & ~(paint.long() << slot[:, 0])
        chosen = draw_subsets(sentences, scene, generator) & visible
        chosen = torch.where(chosen == 0, visible, chosen)
        row = sentences.rows[scene, chosen]
        ids = torch.cat([torch.full_like(row, self.start)[:, None], sentences.ids[row, :-1]], dim=1)
        seen = sentences.holds[sentences.rows[scene, visible]]
        return images, shares, ids, sentences.holds[row].float(), seen.float()

    def _grow(self, region: torch.Tensor, boxed: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Masks dilated by a margin common to the batch, or their bounding boxes."""
        margin = int(torch.randint(5, (), generator=torch.Generator().manual_seed(generator.initial_seed() % 2**32)))
        grown = F.max_pool2d(region[:, None].float(), 2 * margin + 1, 1, margin)[:, 0] > 0
        box = _between(grown.any(2))[:, :, None] & _between(grown.any(1))[:, None]
        return torch.where(boxed[:, None, None], box, grown)

    def _worsen(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Blur of a random strength and noise of a standard deviation of at most 0.06."""
        blur, noise = torch.rand(2, len(images), 1, 1, 1, generator=generator, device=images.device)
        soft = F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), 5, 1)
        images = torch.lerp(images, soft, (1.5 * blur - 0.5).clamp_min(0))
        grain = torch.randn(images.shape, generator=generator, device=images.device)
        worse: torch.Tensor = images + 0.06 * noise.square() * grain
        return worse.clamp(0, 1)


def _between(any_there: torch.Tensor) -> torch.Tensor:
    """(B, L) bool: from the first to the last True of each row."""
    return (any_there.cumsum(1) > 0) & (any_there.flip(1).cumsum(1) > 0).flip(1)


def contrast(logits: torch.Tensor, fits: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each picture's caption among the captions and the reverse.

    Args:
        logits: (B, B) of each picture (row) and caption.
        fits: (B, B) bool: which captions are true of which pictures; besides the diagonal these are left out.
    """
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(fits & ~own, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def measure(model: CLIPModel, processor: CLIPProcessor, scenes: Scenes, device: str) -> dict[str, float]:
    """How the model tells true captions of whole pictures from false ones.

    Retrieval among scenes of unlike captions, cosines of true captions and of all others, and how much naming one item
    in another colour, or leaving one out of the picture, lowers the cosine.
    """
    images = torch.from_numpy(np.array(scenes.images)).to(device).permute(0, 3, 1, 2).float() / 255
    pictures = _image_embeddings(model, prepare(images, processor))
    texts = embed_texts(model, processor, scenes.captions, device)
    cosines = pictures @ texts.T
    unlike = torch.tensor([[a != b for a in scenes.captions] for b in scenes.captions], device=device)
    own = cosines.diagonal()
    best = cosines.masked_fill(~unlike, -1.0).amax(1)
    best_picture = cosines.masked_fill(~unlike, -1.0).amax(0)
    false = [_recolour(caption) for caption in scenes.captions]
    changed = torch.tensor([a != b for a, b in zip(false, scenes.captions, strict=True)], device=device)
    recoloured = (pictures * embed_texts(model, processor, false, device)).sum(1)
    return {
        "caption_retrieved": round(float((own > best).float().mean()), 4),
        "picture_retrieved": round(float((own > best_picture).float().mean()), 4),
        "cosine_true": round(float(own.mean()), 4),
        "cosine_false": round(float(cosines[unlike].mean()), 4) if bool(unlike.any()) else float("nan"),
        "cosine_one_colour_false": round(float(recoloured[changed].mean()), 4),
        "one_colour_false_told": round(float((own > recoloured)[changed].float().mean()), 4),
    }


@torch.no_grad()
def measure_masked(model: CLIPModel, processor: CLIPProcessor, scenes: Scenes, device: str) -> dict[str, float]:
    """Cosines of pictures with their first item masked out: with the caption of the rest, with all, with others'."""
    tokenizer = processor.tokenizer
    lessons = Lessons.on(device, scenes, tokenizer)
    sentences, everyone = lessons.sentences, torch.arange(len(scenes.captions), device=device)
    slot = (sentences.kinds >= 0).long().argmax(1)
    kind = sentences.kinds.gather(1, slot[:, None])[:, 0]
    there = kind >= 0
    region = lessons.labels == kind[:, None, None]
    images = torch.where(region[:, None], GREY, lessons.images.permute(0, 3, 1, 2).float() / 255)
    pictures = _image_embeddings(model, prepare(images, processor))
    full = (1 << sentences.counts) - 1
    rest = [sentences.texts[row] for row in sentences.rows[everyone, full & ~(there.long() << slot)].tolist()]
    others = rest[1:] + rest[:1]
    names = {"cosine_rest": rest, "cosine_all": scenes.captions, "cosine_rest_of_another": others}
    return {
        f"masked_{name}": round(
            float((pictures * embed_texts(model, processor, texts, device)).sum(1)[there].mean()), 4
        )
        for name, texts in names.items()
    }


@torch.no_grad()
def embed_texts(model: CLIPModel, processor: CLIPProcessor, texts: list[str], device: str) -> torch.Tensor:
    """(n, D) unit embeddings."""
    inputs = processor.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").to(device)
    return F.normalize(model.get_text_features(**inputs).pooler_output.float(), dim=1)


def _image_embeddings(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    parts = [model.get_image_features(pixel_values=part).pooler_output for part in pixels.split(64)]
    return F.normalize(torch.cat(parts).float(), dim=1)


def _recolour(caption: str) -> str:
    """The caption with the colour of its first item changed to the next one of its kind; itself without any item."""
    words = caption.split()
    for i, word in enumerate(words):
        for kind, colours in ATTRIBUTES.items():
            near = words[i + 1] == kind if i + 1 < len(words) else False
            if word in colours and (near or (kind == "person" and words[i - 1] == "in")):
                words[i] = colours[(colours.index(word) + 1) % len(colours)]
                return " ".join(words)
    return caption


def train(arguments: argparse.Namespace) -> None:
    """Train, measure and package the model."""
    torch.manual_seed(0)
    device, scenes, steps = arguments.device, arguments.scenes, arguments.steps
    # A tiny set is a trial of the script; its batches and figures need be no larger.
    batch, tested = min(arguments.batch, -(-scenes // 2)), min(256, -(-scenes // 4))
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    model, processor = build(tokenizer)
    lessons = Lessons.on(device, training_scenes(scenes, arguments.folder, 2 * SIDE), tokenizer)
    width = model.config.vision_config.hidden_size
    classes, phrases = torch.nn.Linear(width, len(CLASSES) + 1), torch.nn.Linear(width, len(lessons.sentences.phrases))
    model.to(device).train()
    modules = [model, classes.to(device), phrases.to(device)]
    fast = torch.device(device).type == "cuda"

    def loss(generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
        dice = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
        with torch.no_grad():
            images, shares, ids, said, seen = lessons.draw(batch, dice)
            pixels = prepare(images, processor)
            # A caption fits a picture if none of its phrases is false there.
            fits = (1 - seen) @ said.T == 0
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast):
            vision = model.vision_model(pixel_values=pixels)
            text = model.text_model(input_ids=ids)
            pictures = F.normalize(model.visual_projection(vision.pooler_output).float(), dim=1)
            texts = F.normalize(model.text_projection(text.pooler_output).float(), dim=1)
            layout = -(shares * classes(vision.last_hidden_state[:, 1:]).float().log_softmax(-1)).sum(-1).mean()
            named = F.binary_cross_entropy_with_logits(phrases(vision.pooler_output).float(), seen)
        logits = pictures @ texts.T * model.logit_scale.clamp(max=4.6052).exp()
        pairs = contrast(logits, fits)
        return {"loss": pairs + 0.5 * layout + 2 * named, "pairs": pairs, "layout": layout, "named": named}

    schedule = Schedule(
        steps, 1.5e-3, warmup=300, hold=0.2, averaging=0.998, weight_decay=0.02, limit_s=arguments.seconds
    )
    folder = arguments.folder / "clip"
    seconds = fit("clip", modules, loss, schedule, folder, data=f"{scenes} scenes, batches of {batch}")
    model.eval()
    with torch.no_grad():
        model.logit_scale.clamp_(max=4.6052)
    test = held_out(tested, 2 * SIDE)
    card = {
        "class": "transformers.CLIPModel",
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": f"{scenes} street scenes of the model split, rendered at {2 * SIDE} x {2 * SIDE}",
        "steps": steps_done(folder),
        "batch": batch,
        "seconds": round(seconds),
        "held_out_scenes": tested,
        **measure(model, processor, test, device),
        **measure_masked(model, processor, test, device),
    }
    package_model(model.cpu(), processor, card, arguments.target / "clip")
    print(json.dumps(card, indent=2))


def main() -> None:
    train(mixture_parser(__doc__, steps=6000, batch=512).parse_args())


if __name__ == "__main__":
    main()
