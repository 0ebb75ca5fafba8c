"""Extraction: images become semantic features with sizes, importance and pruning (JTSC II-A, IV-A). Needs torch.

UperNet gives the masks, one a class present; BLIP writes the caption, whose phrases (or words) are the textual
features. Their sizes come from :mod:`noma_semcom_env.semantics.coding`, what they are worth from
:mod:`noma_semcom_env.semantics.importance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.semantics import importance
from noma_semcom_env.semantics.attribution import AttributedCaption, attribute_captions
from noma_semcom_env.semantics.coding import Codebook
from noma_semcom_env.semantics.phrases import TextUnit, group_words, head_word
from noma_semcom_env.zoo.presets import Models, load_preset, models_key


@dataclass(frozen=True)
class TextualFeatures:
    """The textual features of one image before pruning.

    Attributes:
        caption: The caption.
        phrases: T texts in the caption's order.
        maps: (T, h, w) float64 in [0, 1], the scaled Grad-CAM map (19) of each.
        areas: (T, h, w) bool, the activated areas.
        dependency: (T, T) equation (20).
        contribution: (T,) equation (21).
        importance: (T,) equation (22).
    """

    caption: str
    phrases: tuple[str, ...]
    maps: np.ndarray
    areas: np.ndarray
    dependency: np.ndarray
    contribution: np.ndarray
    importance: np.ndarray


class FeatureExtractor:
    """Extracts the semantic features of images by a captioner and a segmenter.

    Args:
        captioner: BLIP model and processor, as :func:`noma_semcom_env.zoo.loading.load_model` gives them.
        segmenter: UperNet model and processor, likewise.
        codebook: The code that gives the sizes; its ``text_unit`` says whether words or phrases are features.
        text_threshold: eps_t in [0, 1]; phrases of lower textual importance are pruned.
        visual_threshold: eps_v in [0, 1]; masks of lower visual importance are pruned.
        max_features: Most features an image may have; the smallest masks are left out, then the least phrases.
        least_mask_share: Share of the image below which a mask is left out.
        batch_size: Images computed together.
        reading: The functions that stand for (19) to (23); None is this project's reading.

    Raises:
        ValueError: If an argument is out of range or the codebook lacks a class of the segmenter.
    """

    def __init__(
        self,
        captioner: tuple[Any, Any],
        segmenter: tuple[Any, Any],
        codebook: Codebook,
        *,
        text_threshold: float = 0.0,
        visual_threshold: float = 0.0,
        max_features: int = 10,
        least_mask_share: float = 1 / 512,
        batch_size: int = 32,
        reading: importance.Reading | None = None,
    ) -> None:
        shares = {
            "text_threshold": text_threshold,
            "visual_threshold": visual_threshold,
            "least_mask_share": least_mask_share,
        }
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share!r} must lie in [0, 1]")
        for name, count in {"max_features": max_features, "batch_size": batch_size}.items():
            if count < 1:
                raise ValueError(f"{name}={count!r} must be at least 1")
        self._captioner, self._caption_processor = captioner
        self._segmenter, self._segment_processor = segmenter
        self.classes = _class_names(self._segmenter)
        unknown = sorted(set(self.classes) - set(codebook.labels))
        if unknown:
            raise ValueError(
                f"codebook lacks the segmenter's classes {unknown}; make one with counts of all of them, or take the "
                "captioner's vocabulary for one: models={'codebook': None}"
            )
        self.codebook = codebook
        self.text_threshold = text_threshold
        self.visual_threshold = visual_threshold
        self.max_features = max_features
        self.least_mask_share = least_mask_share
        self.batch_size = batch_size
        self.reading = reading or importance.Reading()

    def extract(self, images: np.ndarray, image_ids: Sequence[str]) -> list[SemanticFeatures]:
        """Extract, measure and prune the features of images.

        Args:
            images: (B, H, W, 3) uint8.
            image_ids: B names.

        Returns:
            B features, masks first.

        Raises:
            ValueError: If the images are not (B, H, W, 3) of uint8 or the names are not B.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(
                f"images has shape {images.shape} and dtype {images.dtype}; (B, H, W, 3) of uint8 in 0..255 is needed"
            )
        if len(image_ids) != len(images):
            raise ValueError(
                f"image_ids has {len(image_ids)} names for {len(images)} images; one name an image is needed"
            )
        features = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            rows = zip(image_ids[start:], self.segment(batch), self.read(batch), strict=False)
            features += [self._assemble(name, labels, text) for name, labels, text in rows]
        return features

    def segment(self, images: np.ndarray) -> np.ndarray:
        """(B, H, W) int64, the segmenter's class of every pixel of (B, H, W, 3) uint8 images."""
        import torch

        with torch.inference_mode():
            inputs = self._segment_processor(images=list(images), return_tensors="pt")
            outputs = self._segmenter(**inputs.to(self._segmenter.device))
            maps = self._segment_processor.post_process_semantic_segmentation(
                outputs, target_sizes=[image.shape[:2] for image in images]
            )
        return np.stack([labels.cpu().numpy() for labels in maps])

    def read(self, images: np.ndarray) -> list[TextualFeatures]:
        """The textual features of (B, H, W, 3) uint8 images, before pruning."""
        captions = attribute_captions(self._captioner, self._caption_processor, list(images))
        return [self._textual(caption) for caption in captions]

    def _textual(self, caption: AttributedCaption) -> TextualFeatures:
        groups = group_words(list(caption.words), self.codebook.text_unit)
        shape = (len(groups), *caption.gradients.shape[1:])
        gradients = np.array([caption.gradients[group].mean(axis=0) for group in groups]).reshape(shape)
        maps = importance.scale_heatmaps(self.reading.heatmaps(gradients, caption.regions))
        areas = importance.activated_areas(maps)
        dependency, contribution = self.reading.dependency(areas), self.reading.contribution(areas)
        grid = (len(groups), *caption.grid)
        return TextualFeatures(
            caption=caption.text,
            phrases=tuple(" ".join(caption.words[i] for i in group) for group in groups),
            maps=maps.reshape(grid),
            areas=areas.reshape(grid),
            dependency=dependency,
            contribution=contribution,
            importance=self.reading.textual_importance(dependency, contribution),
        )

    def _assemble(self, image_id: str, labels: np.ndarray, text: TextualFeatures) -> SemanticFeatures:
        pixels = np.bincount(labels.ravel(), minlength=len(self.classes))
        present = np.flatnonzero(pixels >= max(1.0, self.least_mask_share * labels.size))
        room = max(self.max_features - len(text.phrases), 1)
        present = np.sort(present[np.argsort(-pixels[present], kind="stable")[:room]])
        masks = labels[None] == present[:, None, None]
        most_important = np.argsort(-text.importance, kind="stable")[: self.max_features - len(present)]
        sent = np.sort(most_important)

        matches = self.reading.mask_word_match(masks, text.areas[sent])
        worth, kept = importance.prune(
            text.importance[sent], matches, self.text_threshold, self.visual_threshold, self.reading.visual_importance
        )

        mask_labels = tuple(self.classes[i] for i in present)
        phrases = tuple(text.phrases[i] for i in sent)
        codes = [self.codebook.encode_mask(label, mask) for label, mask in zip(mask_labels, masks, strict=True)]
        codes += [self.codebook.encode_phrase(phrase, i) for i, phrase in enumerate(phrases)]
        return SemanticFeatures(
            image_id=image_id,
            caption=text.caption,
            masks=masks,
            mask_labels=mask_labels,
            phrases=phrases,
            phrase_labels=tuple(head_word(phrase) for phrase in phrases),
            size_bits=np.array([len(code) for code in codes], dtype=np.int64),
            importance=worth,
            kept=kept,
            matches=matches,
        )


def _class_names(segmenter: Any) -> tuple[str, ...]:
    names = segmenter.config.id2label
    # ADE20K's "bed" has a blank at its end in the segmenters on the hub.
    return tuple(str(names[i]).strip() for i in range(len(names)))


def load_extractor(models: Models = "street", device: str | None = None) -> FeatureExtractor:
    """The extractor of a preset, with the preset's thresholds and limits, loaded once.

    Args:
        models: Name of a preset or a mapping; see :func:`noma_semcom_env.zoo.presets.load_preset`.
        device: Where the models run; None is a GPU if there is one, except for the bundled models.

    Raises:
        ValueError: If the preset is unknown, or its codebook or palette does not fit its segmenter.
        ModelLoadError: If a model cannot be loaded or is damaged.
    """
    return _load(models_key(models), device)


@lru_cache(maxsize=4)
def _load(key: str, device: str | None) -> FeatureExtractor:
    from noma_semcom_env.zoo.devices import choose_device
    from noma_semcom_env.zoo.loading import load_model

    preset = load_preset(key)
    text_unit = cast(TextUnit, preset.text_unit)
    captioner = load_model("captioner", preset.captioner, "captioner" in preset.allow_bin)
    segmenter = load_model("segmenter", preset.segmenter, "segmenter" in preset.allow_bin)
    if preset.codebook is not None:
        codebook = Codebook.load(preset.codebook, text_unit)
    else:
        vocabulary = captioner[1].tokenizer.get_vocab()
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        codebook = Codebook.from_vocabulary(tokens, _class_names(segmenter[0]), text_unit, preset.max_features)
    extractor = FeatureExtractor(
        captioner,
        segmenter,
        codebook,
        text_threshold=preset.text_threshold,
        visual_threshold=preset.visual_threshold,
        max_features=preset.max_features,
    )
    colourless = sorted(set(extractor.classes) - set(preset.palette))
    if colourless:
        raise ValueError(
            f"the palette lacks the segmenter's classes {colourless}, which the ControlNet would see as black, as if "
            "they had not been sent; give each a colour: models={'palette': {'sky': [6, 230, 230], ...}}"
        )
    place = choose_device(preset, device)
    for model in (captioner[0], segmenter[0]):
        model.to(place)
    return extractor
