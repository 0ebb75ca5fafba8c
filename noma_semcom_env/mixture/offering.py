"""What can be asked of pictures: the sender looks at each picture and prompt once. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from noma_semcom_env.mixture.items import MixtureItems, grow
from noma_semcom_env.mixture.regions import NamedBoxes, Prompt, mask_bits
from noma_semcom_env.mixture.saliency import roi_importance
from noma_semcom_env.mixture.transceiver import Transceiver


def make_items(
    transceiver: Transceiver,
    item_ids: Sequence[str],
    pictures: np.ndarray,
    picture: Sequence[int],
    prompts: Sequence[Prompt],
    *,
    kinds: Sequence[str | None] | None = None,
    named: Sequence[NamedBoxes] | None = None,
    targets: np.ndarray | None = None,
    margins: Sequence[int] = (0,),
) -> MixtureItems:
    """Let the sender look at pictures and prompts.

    Args:
        transceiver: Finds the regions, says the rest and codes the masks.
        item_ids: I names.
        pictures: (P, H, W, 3) uint8.
        picture: I rows of the pictures.
        prompts: I prompts.
        kinds: See :meth:`~noma_semcom_env.mixture.transceiver.Transceiver.prepare`; likewise the next two.
        named: I lists.
        targets: (I, H, W) bool.
        margins: M pixels, ascending from 0.

    Raises:
        ValueError: If the arguments do not fit, or a region is its whole picture.
        RegionError: If nothing is found at a prompt.
    """
    place = np.asarray(picture, dtype=np.int64)
    prepared = transceiver.prepare(pictures[place], prompts, kinds=kinds, named=named, targets=targets)
    whole = np.flatnonzero([grow(region, max(margins)).all() for region in prepared.regions])
    if len(whole):
        raise ValueError(
            f"the region of {item_ids[whole[0]]!r}, grown by {max(margins)} pixels, is its whole picture, which leaves "
            "no rest to be said; leave the item out, or take smaller margins"
        )
    grown = [np.stack([grow(region, int(margin)) for region in prepared.regions]) for margin in margins]
    codec = transceiver.text_codec.config
    return MixtureItems(
        item_ids=tuple(item_ids),
        pictures=pictures,
        picture=place,
        prompts=tuple(map(describe_prompt, prompts)),
        captions=prepared.captions,
        tokens=prepared.tokens,
        rois=prepared.regions,
        targets=prepared.targets,
        margins=np.asarray(margins, dtype=np.int64),
        mask_bits=np.stack([mask_bits(regions, transceiver.encode_mask) for regions in grown], axis=1),
        roi_share=np.stack([regions.mean(axis=(1, 2)) for regions in grown], axis=1),
        importance=np.array([roi_importance(pictures[p], roi) for p, roi in zip(place, prepared.regions, strict=True)]),
        least_symbols=codec.min_symbols,
        most_symbols=codec.max_symbols,
        max_roi_symbols=transceiver.image_codec.max_symbols,
    )


def describe_prompt(prompt: Prompt) -> str:
    """A prompt in words: an expression itself, or "point (x, y)", "box (l, t, r, b)", "mask of n pixels"."""
    if isinstance(prompt, str):
        return prompt
    value = np.asarray(prompt)
    if value.ndim == 2:
        return f"mask of {int(value.sum())} pixels"
    return f"{'point' if value.size == 2 else 'box'} ({', '.join(f'{number:g}' for number in value.tolist())})"
