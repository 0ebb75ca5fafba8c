"""Draws what an inpainting model is trained on: scenes, the regions of interest that arrive, the texts beside them.

Everything lies on the device that trains, and no draw waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from noma_semcom_env.scenes.street import ATTRIBUTES, CLASSES
from noma_semcom_env.semantics.phrases import group_words, head_word

_OBJECT_WEIGHT = 4.0
"""How much likelier a thing is the region of interest than the sky, the ground or the sun."""

# Shares of the regions that arrive; what is left of 1 is the outline of an object.
_BOX, _RECTANGLE, _ALL_BUT_A_RECTANGLE, _NOTHING = 0.12, 0.08, 0.08, 0.08
_SHAPES = ("eroded", "exact", "dilated by 2", "dilated by 6")

_EMPTY_TEXTS, _WHOLE_TEXTS, _PHRASE_LEFT_OUT = 0.1, 0.5, 0.15
_WRONG_TEXTS, _WRONG_TOKENS = 0.08, 0.25


def device_generator(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator of the device, seeded by one of the CPU."""
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


@dataclass(frozen=True)
class Texts:
    """Captions as tokens, with what is needed to leave phrases out.

    Attributes:
        tokens: (n, L) token ids without start and end; -1 behind the last.
        phrases: (n, L) index of the phrase that a token belongs to; function words belong to the one that follows.
        function: (n, L) bool, whether the token is a function word.
        classes: (n, P) class index that a phrase is about; -1 where there is none.
        bos: Id of the start.
        eos: Id of the end and of the padding.
        vocabulary: Number of ids of words.
    """

    tokens: torch.Tensor
    phrases: torch.Tensor
    function: torch.Tensor
    classes: torch.Tensor
    bos: int
    eos: int
    vocabulary: int

    @classmethod
    def of(cls, captions: list[str], words: dict[str, int], bos: int, eos: int, device: torch.device) -> Texts:
        """Cut captions into tokens.

        Args:
            captions: Sentences of known words.
            words: Token id of each word.
            bos: Id of the start.
            eos: Id of the end.
            device: Where the tensors are to lie.
        """
        split = [caption.split() for caption in captions]
        length = max(map(len, split))
        tokens = np.full((len(split), length), -1, np.int64)
        phrases = np.zeros_like(tokens)
        function = np.ones(tokens.shape, bool)
        most = max(len(group_words(sentence)) for sentence in split)
        classes = np.full((len(split), most), -1, np.int64)
        for row, sentence in enumerate(split):
            tokens[row, : len(sentence)] = [words[word] for word in sentence]
            begin = 0
            for number, group in enumerate(group_words(sentence)):
                phrases[row, begin : group[-1] + 1] = number
                function[row, group] = False
                begin = group[-1] + 1
                head = head_word(" ".join(sentence[i] for i in group))
                classes[row, number] = CLASSES.index(head) if head in CLASSES else -1
        return cls(
            tokens=torch.from_numpy(tokens).to(device),
            phrases=torch.from_numpy(phrases).to(device),
            function=torch.from_numpy(function).to(device),
            classes=torch.from_numpy(classes).to(device),
            bos=bos,
            eos=eos,
            vocabulary=max(words.values()) + 1,
        )

    def draw(
        self, index: torch.Tensor, roi_classes: torch.Tensor, length: int, generator: torch.Generator
    ) -> torch.Tensor:
        """Texts of scenes, with random phrases left out.

        The phrase of the region of interest is left out half of the time, since the region arrives as an image; other
        phrases now and then; all of them in every tenth text; function words half of the time. One text in twelve has
        words that were received wrongly.

        Args:
            index: (B,) scenes.
            roi_classes: (B,) class of each region of interest.
            length: Number of tokens to fill.
            generator: A generator of the device.

        Returns:
            (B, length) token ids with start and end.
        """
        tokens, phrases, classes = self.tokens[index], self.phrases[index], self.classes[index]
        size, device = len(tokens), tokens.device
        dice = torch.rand(size, 4, generator=generator, device=device)
        rate = torch.full((size, 1), _PHRASE_LEFT_OUT, device=device)
        rate = torch.where(dice[:, :1] < _EMPTY_TEXTS, 1.0, rate)
        rate = torch.where(dice[:, :1] >= 1 - _WHOLE_TEXTS, 0.0, rate)
        kept = torch.rand(classes.shape, generator=generator, device=device) >= rate
        kept &= ~((classes == roi_classes[:, None]) & (dice[:, 1:2] < 0.5))
        keep = torch.gather(kept, 1, phrases) & (tokens >= 0)
        keep &= ~(self.function[index] & (dice[:, 2:3] < 0.5))
        wrong = torch.rand(tokens.shape, generator=generator, device=device) < _WRONG_TOKENS
        wrong &= dice[:, 3:] < _WRONG_TEXTS
        noise = torch.randint(self.vocabulary, tokens.shape, generator=generator, device=device)
        tokens = torch.where(keep, torch.where(wrong, noise, tokens), self.eos)
        order = (~keep).int().sort(dim=1, stable=True).indices
        ids = torch.full((size, length), self.eos, device=device)
        ids[:, 0] = self.bos
        shown = min(length - 2, tokens.shape[1])
        ids[:, 1 : 1 + shown] = torch.gather(tokens, 1, order)[:, :shown]
        return ids


def presence(labels: torch.Tensor) -> torch.Tensor:
    """(n, classes) float weights with which each class of a scene is drawn as the region of interest."""
    counts = torch.stack([(labels == number).flatten(1).sum(1) for number in range(len(CLASSES))], 1)
    least = max(4, labels[0].numel() // 512)
    weights = torch.tensor([_OBJECT_WEIGHT if name in ATTRIBUTES else 1.0 for name in CLASSES], device=labels.device)
    # Every scene has sky or ground, so no row is empty.
    return (counts >= least) * weights


def draw_known(labels: torch.Tensor, classes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Regions that arrive as images: the rest is painted.

    Args:
        labels: (B, H, W) class of every pixel.
        classes: (B,) class of the region of interest.
        generator: A generator of the labels' device.

    Returns:
        (B, 1, H, W) float, 1 where a pixel is known: the object's outline as a segmenter may give it (eroded, exact
        or dilated), its box, a random rectangle, all but a random rectangle, or nothing.
    """
    size, device = len(labels), labels.device
    exact = (labels == classes[:, None, None]).unsqueeze(1).float()
    shapes = torch.stack(
        [-F.max_pool2d(-exact, 3, 1, 1), exact, F.max_pool2d(exact, 5, 1, 2), F.max_pool2d(exact, 13, 1, 6)]
    )
    pick = torch.randint(len(_SHAPES), (size,), generator=generator, device=device)
    outline = shapes[pick, torch.arange(size, device=device)]
    box = _between(exact.amax(3, keepdim=True), 2) * _between(exact.amax(2, keepdim=True), 3)
    rectangle = _draw_rectangles(size, labels.shape[1], labels.shape[2], generator, device)
    dice = torch.rand(size, 1, 1, 1, generator=generator, device=device)
    known = torch.where(dice < _BOX, box, outline)
    edge = _BOX
    for share, region in (
        (_RECTANGLE, rectangle),
        (_ALL_BUT_A_RECTANGLE, 1 - rectangle),
        (_NOTHING, torch.zeros_like(rectangle)),
    ):
        known = torch.where((dice >= edge) & (dice < edge + share), region, known)
        edge += share
    return known


def _between(line: torch.Tensor, axis: int) -> torch.Tensor:
    """1 from the first 1 to the last along an axis."""
    after = line.cummax(axis).values
    before = line.flip(axis).cummax(axis).values.flip(axis)
    return after * before


def _draw_rectangles(
    size: int, height: int, width: int, generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    edges = torch.rand(size, 4, 1, generator=generator, device=device)
    sides = []
    for number, length in enumerate((height, width)):
        place = (torch.arange(length, device=device) + 0.5) / length
        extent = 0.15 + 0.6 * edges[:, 2 * number]
        begin = edges[:, 2 * number + 1] * (1 - extent)
        sides.append(((place >= begin) & (place < begin + extent)).float())
    return (sides[0][:, :, None] * sides[1][:, None, :]).unsqueeze(1)


def disturb(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images as an analogue codec may deliver them: half of them blurred, with noise of two grain sizes.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        generator: A generator of the images' device.
    """
    size, device = len(images), images.device
    dice = torch.rand(3, size, 1, 1, 1, generator=generator, device=device)
    blurred = torch.lerp(images, F.avg_pool2d(images, 5, 1, 2, count_include_pad=False), (2 * dice[0] - 1).clamp_min(0))
    fine = torch.randn(images.shape, generator=generator, device=device)
    coarse = F.interpolate(torch.randn(size, 3, 16, 16, generator=generator, device=device), images.shape[-2:])
    noise = 0.12 * dice[1].square() * fine + 0.12 * dice[2].square() * coarse
    return (blurred + noise).clamp(-1, 1)
