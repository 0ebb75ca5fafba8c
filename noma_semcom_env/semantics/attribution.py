r"""Captions of images, and which image regions each word speaks of (Grad-CAM, equation (18)). Needs torch.

:math:`V^i` is the image encoder's last feature at region i, after its final normalization: what the text decoder
attends to. :math:`y_m` is the decoder's score of word m under teacher forcing on the caption that it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AttributedCaption:
    r"""A caption with the gradient of each word's score.

    Attributes:
        text: The caption as the tokenizer writes it.
        words: M words of letters or digits, in order; sub-word tokens are merged, punctuation is left out.
        gradients: (M, h * w, D) float32, :math:`a_{m,i} = \partial y_m / \partial V^i`, mean over a word's tokens.
        regions: (h * w, D) float32, the features V.
        grid: (h, w), the regions' rows and columns.
    """

    text: str
    words: tuple[str, ...]
    gradients: np.ndarray
    regions: np.ndarray
    grid: tuple[int, int]


def attribute_captions(
    model: Any, processor: Any, images: Sequence[np.ndarray], max_new_tokens: int = 28
) -> list[AttributedCaption]:
    """Let BLIP caption images greedily, and take the gradients of its words.

    Args:
        model: A ``BlipForConditionalGeneration`` in evaluation mode.
        processor: Its ``BlipProcessor``.
        images: (H, W, 3) uint8 each.
        max_new_tokens: Longest caption in tokens.

    Returns:
        One caption an image.
    """
    import torch

    if not len(images):
        return []
    # Callers may be inside inference_mode, whose tensors carry no gradients.
    with torch.inference_mode(False), torch.no_grad():
        pixels = processor(images=list(images), return_tensors="pt").pixel_values.to(model.device, model.dtype)
        ids = model.generate(pixel_values=pixels, max_new_tokens=max_new_tokens, num_beams=1, do_sample=False)
        regions = model.vision_model(pixel_values=pixels).last_hidden_state
        gradients = _score_gradients(model.text_decoder, ids, regions)
    patch = model.config.vision_config.patch_size
    grid = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
    captions = []
    for row, tokens in enumerate(ids):
        words, owner = group_tokens(processor.tokenizer, tokens.tolist())
        weights = np.zeros((len(words), len(owner) - 1), dtype=np.float32)
        for token, word in enumerate(owner[1:]):
            if word is not None:
                weights[word, token] = 1
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
        captions.append(
            AttributedCaption(
                text=processor.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
                words=tuple(words),
                gradients=np.einsum("ml,lrd->mrd", weights, gradients[:, row, 1:].float().cpu().numpy()),
                regions=regions[row, 1:].float().cpu().numpy(),
                grid=grid,
            )
        )
    return captions


def _score_gradients(decoder: Any, ids: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Gradients of the scores of tokens 1.. with respect to the regions.

    Args:
        decoder: BLIP's text decoder.
        ids: (B, L) token ids, the start token first.
        regions: (B, 1 + R, D) image features, the class token first.

    Returns:
        (L - 1, B, 1 + R, D). One backward pass serves a token of every image, since images do not mix.
    """
    import torch

    with torch.enable_grad():
        leaf = regions.clone().requires_grad_()
        logits = decoder(input_ids=ids[:, :-1], encoder_hidden_states=leaf, use_cache=False).logits
        scores = logits.gather(2, ids[:, 1:, None])[..., 0].sum(0)
        gradients: torch.Tensor
        (gradients,) = torch.autograd.grad(
            scores, leaf, torch.eye(len(scores), dtype=scores.dtype, device=scores.device), is_grads_batched=True
        )
    return gradients


def group_tokens(tokenizer: Any, ids: Sequence[int]) -> tuple[list[str], list[int | None]]:
    """Merge WordPiece tokens (``##x``) to words.

    Tokens are merged, not the decoded text encoded anew: a generated sequence need not be the tokenizer's own cut.

    Args:
        tokenizer: BLIP's tokenizer.
        ids: Token ids, special tokens included.

    Returns:
        The words, and for each token the index of its word; None for special tokens and punctuation.
    """
    special = set(tokenizer.all_special_ids)
    words: list[str] = []
    owner: list[int | None] = []
    for index, token in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        if index in special or not any(c.isalnum() for c in token):
            owner.append(None)
        elif token.startswith("##") and owner and owner[-1] is not None:
            words[-1] += token[2:]
            owner.append(len(words) - 1)
        else:
            words.append(token.removeprefix("##"))
            owner.append(len(words) - 1)
    return words, owner
