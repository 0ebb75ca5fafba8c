"""Trains the street preset's BLIP, which writes the captions.

    python -m noma_semcom_env.zoo.train.captioner --steps 2500

Beside the caption's loss, a linear head that is thrown away afterwards learns each image patch's share of every class,
so that the vision encoder soon knows where things are. A second, short phase grounds the words: it moves the Grad-CAM
maps, equations (18)-(19), of the true captions' words and phrases towards the things that they name, and of weather and
time towards the sky. Without it a small captioner says the right word for reasons spread over the picture.

The script takes up a checkpoint in the build folder and ends by writing float16 weights into the package, with their
SHA-256 sums, and a card of what was measured on held-out scenes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from noma_semcom_env.scenes.street import CLASSES
from noma_semcom_env.semantics.phrases import FUNCTION_WORDS, group_words, head_word, split_caption
from noma_semcom_env.zoo.train.data import Scenes, held_out, make_parser, training_scenes
from noma_semcom_env.zoo.train.fit import Schedule, fit
from noma_semcom_env.zoo.train.package import WEIGHTS, package_model
from noma_semcom_env.zoo.train.tokenizers import bert_tokenizer

PATCH = 8
WIDTH = 96


def build() -> tuple[BlipForConditionalGeneration, BlipProcessor]:
    """The untrained captioner for 64 x 64 x 3, and its processor."""
    tokenizer = bert_tokenizer()
    layer: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4}
    config = BlipConfig(
        vision_config={
            **layer,
            "num_hidden_layers": 3,
            "image_size": 64,
            "patch_size": PATCH,
            "initializer_range": 0.02,  # the default leaves the position embedding at zero
        },
        text_config={
            **layer,
            "vocab_size": len(tokenizer),
            "encoder_hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "max_position_embeddings": tokenizer.model_max_length,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "bos_token_id": tokenizer.bos_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        projection_dim=32,
        image_text_hidden_size=32,
    )
    processor = BlipProcessor(BlipImageProcessor(size={"height": 64, "width": 64}), tokenizer)
    return BlipForConditionalGeneration(config), processor


def to_tensor(images: np.ndarray, processor: BlipProcessor) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 as the image processor makes it."""
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    return (torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255 - mean) / std


def encode(captions: Sequence[str], processor: BlipProcessor) -> torch.Tensor:
    """(n, L) token ids: ``[DEC]``, the words, ``[SEP]``, padding."""
    tokenizer = processor.tokenizer
    ids: torch.Tensor = tokenizer(list(captions), padding=True, return_tensors="pt").input_ids
    ids[:, 0] = tokenizer.bos_token_id
    return ids


def patch_shares(labels: np.ndarray) -> torch.Tensor:
    """(B, H, W) class indices to (B, patches, classes) shares of each patch."""
    truth = F.one_hot(torch.from_numpy(labels).long(), len(CLASSES)).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(truth, PATCH).flatten(2).transpose(1, 2)


@torch.no_grad()
def describe(
    model: BlipForConditionalGeneration, processor: BlipProcessor, images: np.ndarray, batch: int = 100
) -> list[str]:
    """The model's greedy captions."""
    texts: list[str] = []
    for start in range(0, len(images), batch):
        ids = model.generate(pixel_values=to_tensor(images[start : start + batch], processor), max_new_tokens=28)
        texts += processor.batch_decode(ids, skip_special_tokens=True)
    return texts


def score(predicted: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """How much of the true captions is said, and how much of what is said is false.

    ``words_named`` is the share of the true captions' content words (things, attributes, weather, time) that the
    predicted caption has, counted with their number; ``words_false`` the share of predicted content words that the true
    one lacks. ``phrases_named`` and ``phrases_false`` count whole phrases: an attribute must stand with its thing.
    """
    figures: dict[str, float] = {}
    for name, cut in (("words", _content_words), ("phrases", split_caption)):
        said = [Counter(cut(text)) for text in predicted]
        true = [Counter(cut(text)) for text in truth]
        right = sum((a & b).total() for a, b in zip(said, true, strict=True))
        figures[f"{name}_named"] = round(right / sum(c.total() for c in true), 4)
        figures[f"{name}_false"] = round(1 - right / max(1, sum(c.total() for c in said)), 4)
    figures["captions_exact"] = round(float(np.mean([a == b for a, b in zip(predicted, truth, strict=True)])), 4)
    return figures


def _content_words(text: str) -> list[str]:
    return [word for word in text.split() if word not in FUNCTION_WORDS]


@dataclass(frozen=True)
class Lessons:
    """Training captions as tensors.

    Attributes:
        ids: (n, L) token ids; see :func:`encode`.
        things: (n, L - 1) class index that the token after each position speaks of, -1 where none: function words.
        phrases: (n, L - 1) index of the phrase that token belongs to, -1 where none.
    """

    ids: torch.Tensor
    things: torch.Tensor
    phrases: torch.Tensor


def lessons(captions: Sequence[str], processor: BlipProcessor) -> Lessons:
    """Encode captions, each word one token, with what every word speaks of."""
    ids = encode(captions, processor)
    things = torch.full((len(ids), ids.shape[1] - 1), -1)
    phrases = things.clone()
    for row, caption in enumerate(captions):
        words = caption.split()
        for phrase, group in enumerate(group_words(words)):
            head = head_word(" ".join(words[i] for i in group))
            things[row, group] = CLASSES.index(head if head in CLASSES else "sky")
            phrases[row, group] = phrase
    return Lessons(ids, things, phrases)


def grounding_loss(
    scores: torch.Tensor,
    regions: torch.Tensor,
    shares: torch.Tensor,
    things: torch.Tensor,
    phrases: torch.Tensor,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the Grad-CAM map of one random word or phrase an image is from the thing that it names.

    Args:
        scores: (B, T) the decoder's scores of the true tokens, a differentiable function of ``regions``.
        regions: (B, 1 + R, D) image features, the class token first.
        shares: (B, R, classes) of :func:`patch_shares`.
        things: (B, T) of :class:`Lessons`.
        phrases: (B, T) of :class:`Lessons`.
        generator: Draws the word or phrase.

    Returns:
        The mean divergence, and the share of maps that peak in a patch with the thing.
    """
    named = things >= 0
    drawn = torch.multinomial(named.float(), 1, generator=generator)
    alone = torch.arange(things.shape[1]) == drawn
    together = phrases == phrases.gather(1, drawn)
    chosen = torch.where(torch.rand(len(drawn), 1, generator=generator) < 0.5, alone, together) & named
    (gradients,) = torch.autograd.grad((scores * chosen).sum(), regions, create_graph=True)
    relevance = (gradients[:, 1:] * regions[:, 1:]).sum(-1)
    # Sharp enough that a thing of two patches can hold all the weight.
    sharpness = 2 / (relevance.square().mean(1, keepdim=True) + 1e-12).sqrt()
    target = shares.gather(2, things.gather(1, drawn)[:, :, None].expand(-1, shares.shape[1], 1))[..., 0]
    visible = target.sum(1) > 0.05
    target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
    divergence = F.kl_div((sharpness * relevance).log_softmax(1), target, reduction="none").sum(1)
    right = target.gather(1, relevance.argmax(1, keepdim=True))[:, 0] > 0
    return divergence[visible].mean(), right[visible].float().mean()


def train(steps: int, grounding_steps: int, scenes: int, folder: Path, batch: int = 32) -> None:
    """Train both phases, measure and package the captioner."""
    torch.manual_seed(0)
    model, processor = build()
    head = torch.nn.Linear(WIDTH, len(CLASSES))
    data = training_scenes(scenes, folder)
    taught = lessons(data.captions, processor)
    padding = processor.tokenizer.pad_token_id

    def loss(generator: torch.Generator, grounded: bool) -> dict[str, torch.Tensor]:
        index = torch.randint(len(data.images), (batch,), generator=generator).sort().values
        ids = taught.ids[index]
        length = int((ids != padding).sum(1).max())
        ids = ids[:, :length]
        regions = model.vision_model(to_tensor(data.images[index.numpy()], processor)).last_hidden_state
        logits = model.text_decoder(
            ids[:, :-1], attention_mask=(ids[:, :-1] != padding).long(), encoder_hidden_states=regions, use_cache=False
        ).logits
        caption = F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], ignore_index=padding)
        shares = patch_shares(data.labels[index.numpy()])
        layout = -(shares * head(regions[:, 1:]).log_softmax(-1)).sum(-1).mean()
        losses = {"loss": caption + 0.5 * layout, "caption": caption.detach(), "layout": layout.detach()}
        if grounded:
            scores = logits.gather(2, ids[:, 1:, None])[..., 0]
            things, phrases = taught.things[index, : length - 1], taught.phrases[index, : length - 1]
            divergence, right = grounding_loss(scores, regions, shares, things, phrases, generator)
            losses["loss"] = losses["loss"] + 0.1 * divergence
            losses |= {"grounding": divergence.detach(), "peak": right}
        return losses

    target, origin = folder / "captioner", f"{scenes} scenes"
    model.train()
    reading = Schedule(steps, 2e-3, warmup=200, hold=0.3, averaging=0.998, weight_decay=0.01)
    seconds = fit("captioner", [model, head], lambda draw, _: loss(draw, False), reading, target, data=origin)
    grounding = Schedule(grounding_steps, 5e-4, warmup=50, hold=0.0, averaging=0.99, weight_decay=0.01)
    read = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()[:12]
    origin = f"{origin}, after {read}"
    grounded = [model, head]
    seconds += fit(
        "grounding", grounded, lambda draw, _: loss(draw, True), grounding, target / "grounding", data=origin
    )
    model.eval()
    scenes_held_out: Scenes = held_out(500)
    figures = score(describe(model, processor, scenes_held_out.images), scenes_held_out.captions)
    card = {
        "class": "transformers.BlipForConditionalGeneration",
        "parameters": sum(p.numel() for p in model.parameters()),
        "data": f"{scenes} scenes of the model split",
        "steps": steps,
        "grounding_steps": grounding_steps,
        "batch": batch,
        "seconds": round(seconds),
        "held_out_scenes": 500,
        **figures,
    }
    package_model(model, processor, card, WEIGHTS / "captioner")
    print(json.dumps(card, indent=2))


def main() -> None:
    parser = make_parser(__doc__, steps=2500)
    parser.add_argument("--grounding-steps", type=int, default=700)
    arguments = parser.parse_args()
    train(arguments.steps, arguments.grounding_steps, arguments.scenes, arguments.folder)


if __name__ == "__main__":
    main()
