"""The region of interest (ROI): what a user's prompt points at in an image, as a mask.

SAM turns a box or a point into a mask. A text is resolved to a box first: by a list of expressions and boxes, as the
street world and RefCOCO have them, or by GroundingDINO. A mask is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any

import numpy as np

from noma_semcom_env.mixture.items import grow

Prompt = str | np.ndarray | Sequence[float]
"""A referring expression, a point (x, y), a box (left, top, right, bottom), or an (H, W) bool mask."""

NamedBoxes = Sequence[tuple[str, Sequence[float]]]
"""Expressions and the boxes of what they mean."""


class RegionError(RuntimeError):
    """Nothing was found where a prompt points; the message names the prompt and the remedy."""


class RegionFinder:
    """Finds the masks of what prompts point at.

    Boxes are in pixels, right and bottom exclusive; points are pixels, x to the right and y downwards.

    Args:
        segmenter: A ``SamModel`` and its ``SamProcessor``.
        detector: A ``GroundingDinoForObjectDetection`` and its ``GroundingDinoProcessor``; None knows no text beyond
            the expressions that come with an image.
        least_confidence: Detections of a lower score do not count, in [0, 1].

    Raises:
        ValueError: If ``least_confidence`` is out of range.
    """

    def __init__(
        self, segmenter: tuple[Any, Any], detector: tuple[Any, Any] | None = None, least_confidence: float = 0.25
    ) -> None:
        if not 0 <= least_confidence <= 1:
            raise ValueError(f"least_confidence={least_confidence!r} must lie in [0, 1]")
        self._model, self._processor = segmenter
        self._detector = detector
        self._least_confidence = least_confidence

    def find(self, image: np.ndarray, prompts: Sequence[Prompt], named: NamedBoxes = (), margin: int = 0) -> np.ndarray:
        """The regions that prompts point at in one image, which is looked at once for all of them.

        Args:
            image: (H, W, 3) uint8.
            prompts: n prompts, each of any kind. Of a box that reaches beyond the image, the part inside counts.
            named: Expressions known of this image and their boxes; a prompt matches one whatever its case and blanks.
            margin: Pixels by which every region is grown.

        Returns:
            (n, H, W) bool; none is empty, and one may be the whole image.

        Raises:
            ValueError: If the image is none, or a prompt is of no kind, empty, or outside the image; or a text is not
                among ``named`` and there is no detector.
            RegionError: If the models find nothing.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"image is {image.dtype} of shape {image.shape}; (H, W, 3) of uint8 is needed")
        size = image.shape[1], image.shape[0]
        regions = np.zeros((len(prompts), *image.shape[:2]), dtype=np.bool_)
        boxes: list[tuple[int, np.ndarray]] = []
        points: list[tuple[int, np.ndarray]] = []
        for row, prompt in enumerate(prompts):
            if isinstance(prompt, str):
                boxes.append((row, self._locate(image, prompt, named)))
                continue
            value = np.asarray(prompt)
            if value.ndim == 2:
                regions[row] = _checked_mask(value, image.shape[:2])
            elif value.shape == (4,):
                boxes.append((row, check_box(value, size)))
            elif value.shape == (2,):
                points.append((row, _checked_point(value, size)))
            else:
                raise ValueError(
                    f"prompt {prompt!r} is of no kind; give a text, a point (x, y), a box (left, top, right, bottom), "
                    f"or a bool mask of shape {image.shape[:2]}"
                )
        self._segment(image, boxes, points, regions)
        for prompt, region in zip(prompts, regions, strict=True):
            if not region.any():
                raise RegionError(
                    f"the segmentation model finds nothing at prompt {prompt!r}; point elsewhere, or give a mask"
                )
        return np.stack([grow(region, margin) for region in regions]) if len(regions) else regions

    def _segment(
        self,
        image: np.ndarray,
        boxes: list[tuple[int, np.ndarray]],
        points: list[tuple[int, np.ndarray]],
        regions: np.ndarray,
    ) -> None:
        """Write the masks of boxes and points into their rows of ``regions``."""
        import torch

        if not boxes and not points:
            return
        model, device = self._model, self._model.device
        sizes: dict[str, Any] = {"input_data_format": "channels_last", "return_tensors": "pt"}
        with torch.inference_mode():
            pixels = self._processor(images=image, **sizes).pixel_values.to(device)
            embeddings = model.get_image_embeddings(pixels)
            for key, asked in (("input_boxes", boxes), ("input_points", points)):
                if not asked:
                    continue
                # SAM's corners are the box's outermost pixels. A box leaves no doubt what it means and gets one mask;
                # of a point's three the likeliest is taken.
                inclusive = (0, 0, 1, 1) if key == "input_boxes" else (0, 0)
                prompts = [(value - inclusive).tolist() for _, value in asked]
                nested = [prompts] if key == "input_boxes" else [[[point] for point in prompts]]
                inputs = self._processor(images=image, **{key: nested}, **sizes)
                given = {key: inputs[key].to(device=device, dtype=torch.float32)}
                found = model(image_embeddings=embeddings, multimask_output=key == "input_points", **given)
                (masks,) = self._processor.post_process_masks(
                    found.pred_masks.cpu(), inputs.original_sizes, inputs.reshaped_input_sizes
                )
                best = found.iou_scores[0].argmax(dim=1).tolist()
                for (row, _), mask, choice in zip(asked, masks, best, strict=True):
                    regions[row] = mask[choice].numpy()

    def _locate(self, image: np.ndarray, text: str, named: NamedBoxes) -> np.ndarray:
        """The box of what a text means."""
        wanted = _plain(text)
        if not wanted:
            raise ValueError(f"prompt {text!r} is an empty text; say what is of interest")
        size = image.shape[1], image.shape[0]
        for expression, box in named:
            if _plain(expression) == wanted:
                return check_box(np.asarray(box), size)
        if self._detector is None:
            known = ", ".join(repr(expression) for expression, _ in named) or "none"
            raise ValueError(
                f"prompt {text!r} is not among the expressions of this image ({known}), and there is no detector for "
                "others; use one of them, a box or a point, or load a detector, IDEA-Research/grounding-dino-tiny"
            )
        found = self._detect(image, wanted)
        if found is None:
            raise RegionError(
                f"the detector finds nothing that is {text!r} with a confidence of at least {self._least_confidence}; "
                "say it in other words, or give a box or a point"
            )
        return check_box(found, size)

    def _detect(self, image: np.ndarray, text: str) -> np.ndarray | None:
        """The detector's most confident box; None if there is none."""
        import torch

        assert self._detector is not None
        model, processor = self._detector
        # It was trained on lower-case texts that end in a full stop.
        inputs = processor(images=image, text=f"{text}.", return_tensors="pt").to(model.device)
        with torch.inference_mode():
            outputs = model(**inputs)
        (found,) = processor.post_process_grounded_object_detection(
            outputs,
            inputs.input_ids,
            threshold=self._least_confidence,
            text_threshold=self._least_confidence,
            target_sizes=[image.shape[:2]],
        )
        if not len(found["scores"]):
            return None
        return np.asarray(found["boxes"][int(found["scores"].argmax())].cpu().numpy(), dtype=np.float64)


def check_box(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of a box that lies inside an image.

    Args:
        box: (4,) left, top, right, bottom in pixels, right and bottom exclusive.
        size: (width, height) of the image.

    Returns:
        (4,) float64.

    Raises:
        ValueError: If the box is not finite, holds no pixel or lies outside the image.
    """
    corners = np.asarray(box, dtype=np.float64)
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise ValueError(f"box {box!r} must be four finite numbers: left, top, right, bottom")
    if not (corners[:2] < corners[2:]).all():
        raise ValueError(f"box {corners.tolist()} holds no pixel; right must exceed left, and bottom top")
    inside = np.clip(corners, 0, [*size, *size])
    if not (inside[:2] < inside[2:]).all():
        raise ValueError(f"box {corners.tolist()} lies outside the image of {size[0]} x {size[1]} pixels")
    return inside


def _checked_point(point: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    place = np.asarray(point, dtype=np.float64)
    # NaN fails the comparison as well.
    if not bool(((place >= 0) & (place < size)).all()):
        raise ValueError(f"point {place.tolist()} lies outside the image of {size[0]} x {size[1]} pixels")
    return place


def _checked_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if mask.shape != shape or mask.dtype != np.bool_:
        raise ValueError(f"mask is {mask.dtype} of shape {mask.shape}; bool of {shape} is needed")
    if not mask.any():
        raise ValueError("mask is an empty region of interest: it holds no pixel; mark at least one")
    return mask


def _plain(text: str) -> str:
    return " ".join(text.lower().strip(" .").split())


def mask_bits(regions: np.ndarray, encode: Callable[[np.ndarray], Sized]) -> np.ndarray:
    """Bits that the masks of regions cost, of which :func:`~noma_semcom_env.mixture.budget.mask_cost` makes symbols.

    Args:
        regions: (n, H, W) bool.
        encode: A lossless code of one (H, W) bool mask, whose length is its bits, such as
            ``partial(codebook.encode_mask, label)`` of :class:`noma_semcom_env.semantics.coding.Codebook`.

    Returns:
        (n,) int64.

    Raises:
        ValueError: If ``regions`` is not of that shape and type.
    """
    if regions.ndim != 3 or regions.dtype != np.bool_:
        raise ValueError(f"regions is {regions.dtype} of shape {regions.shape}; bool of (n, H, W) is needed")
    return np.array([len(encode(region)) for region in regions], dtype=np.int64)
