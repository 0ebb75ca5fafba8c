"""How good a mixture is: PSNR over the region of interest (ROI), and CLIP-RONI (3), how well the rest fits its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

GREY: Final = 128
"""What pixels of the region become before CLIP looks at the rest."""

MOST_PSNR_DB: Final = 100.0
"""What stands for a region without any error, whose PSNR is infinite; one pixel of 128 x 128 that is a level off in
one colour is at 95 dB."""


def psnr_roi(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio over regions of interest.

    Args:
        image: (..., H, W, 3) received images, uint8, or float in [0, 1].
        reference: Sent images of the same shape and type.
        mask: (..., H, W) bool, the regions; none may be empty.

    Returns:
        (...,) float64 in dB, at most :data:`MOST_PSNR_DB`, so that tables and rewards stay finite.

    Raises:
        ValueError: If shapes or types do not agree, values are out of range, or a region is empty.
    """
    if image.shape != reference.shape or image.dtype != reference.dtype:
        raise ValueError(
            f"image is {image.dtype} of shape {image.shape} but reference {reference.dtype} of shape "
            f"{reference.shape}; give both alike"
        )
    first, second = (_unit_range(name, value) for name, value in (("image", image), ("reference", reference)))
    if mask.shape != image.shape[:-1] or mask.dtype != np.bool_:
        raise ValueError(f"mask is {mask.dtype} of shape {mask.shape}; bool of {image.shape[:-1]} is needed")
    pixels = mask.sum(axis=(-2, -1))
    if not (pixels > 0).all():
        raise ValueError("mask holds an empty region of interest, over which no PSNR is defined; leave it out")
    error = ((first - second) ** 2).mean(axis=-1)
    mean = np.where(mask, error, 0.0).sum(axis=(-2, -1)) / pixels
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(-10 * np.log10(mean), MOST_PSNR_DB))


class ClipScore:
    """Cosines between CLIP's embeddings of images and of texts.

    Args:
        model: A ``CLIPModel``.
        processor: Its ``CLIPProcessor``.
        batch_size: Images and texts computed together.

    Raises:
        ValueError: If ``batch_size`` is below 1.
    """

    def __init__(self, model: Any, processor: Any, batch_size: int = 64) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r} must be at least 1")
        self._model, self._processor, self._batch_size = model, processor, batch_size

    def score(self, images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Cosines of whole images.

        Args:
            images: (B, H, W, 3) uint8, or float in [0, 1].
            texts: B sentences; of one longer than the model reads the beginning counts. An empty one is a text too.

        Returns:
            (B,) float64 in [-1, 1].

        Raises:
            ValueError: If there are not as many texts, or the images are none.
        """
        pixels = _as_bytes(images)
        if len(texts) != len(pixels):
            raise ValueError(f"{len(texts)} texts for {len(pixels)} images; give one text for each image")
        if not len(pixels):
            return np.zeros(0)
        parts = [
            (self._embed_images(pixels[i : i + self._batch_size]), self._embed_texts(texts[i : i + self._batch_size]))
            for i in range(0, len(pixels), self._batch_size)
        ]
        return np.concatenate([(pictures * sentences).sum(axis=1) for pictures, sentences in parts])

    def roni(self, images: np.ndarray, masks: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """CLIP-RONI (3): cosines of images whose regions of interest are painted grey.

        Args:
            images: (B, H, W, 3) uint8, or float in [0, 1].
            masks: (B, H, W) bool, the regions. An empty one leaves all of its image to the text.
            texts: B sentences about what is outside the regions.

        Returns:
            (B,) float64 in [-1, 1].

        Raises:
            ValueError: If shapes do not agree, or a region is the whole image.
        """
        pixels = _as_bytes(images)
        if masks.shape != pixels.shape[:3] or masks.dtype != np.bool_:
            raise ValueError(f"masks is {masks.dtype} of shape {masks.shape}; bool of {pixels.shape[:3]} is needed")
        whole = np.flatnonzero(masks.all(axis=(1, 2)))
        if len(pixels) and len(whole):
            raise ValueError(
                f"masks[{whole[0]}] is the whole image, which leaves nothing to be compared with the text; leave it out"
            )
        return self.score(np.where(masks[..., None], np.uint8(GREY), pixels), texts)

    def _embed_images(self, images: np.ndarray) -> np.ndarray:
        import torch

        inputs = self._processor.image_processor(list(images), input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            found = self._model.get_image_features(pixel_values=inputs.pixel_values.to(self._model.device))
        return _unit_rows(found.pooler_output)

    def _embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        import torch

        most = self._model.config.text_config.max_position_embeddings
        inputs = self._processor.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=most, return_tensors="pt"
        ).to(self._model.device)
        with torch.inference_mode():
            found = self._model.get_text_features(**inputs)
        return _unit_rows(found.pooler_output)


def clip_roni(image: np.ndarray, mask: np.ndarray, text: str, judge: ClipScore) -> float:
    """CLIP-RONI of one image; see :meth:`ClipScore.roni`."""
    return float(judge.roni(image[None], mask[None], [text])[0])


def _unit_range(name: str, image: np.ndarray) -> np.ndarray:
    """An image in [0, 1] as float64."""
    if image.ndim < 3 or image.shape[-1] != 3:
        raise ValueError(f"{name} has shape {image.shape}; (..., H, W, 3) is needed")
    if image.dtype == np.uint8:
        return image.astype(np.float64) / 255
    # NaN fails the comparison as well.
    if not np.issubdtype(image.dtype, np.floating) or not bool(((image >= 0) & (image <= 1)).all()):
        raise ValueError(f"{name} is {image.dtype}; uint8, or finite floats in [0, 1], are needed")
    return image.astype(np.float64)


def _as_bytes(images: np.ndarray) -> np.ndarray:
    if images.ndim != 4:
        raise ValueError(f"images has shape {images.shape}; (B, H, W, 3) is needed")
    return images if images.dtype == np.uint8 else np.round(_unit_range("images", images) * 255).astype(np.uint8)


def _unit_rows(embeddings: Any) -> np.ndarray:
    rows = embeddings.double().cpu().numpy()
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
