"""The bundled extraction models, loaded once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from noma_semcom_env.scenes.street import StreetScene, render, split_seeds
from noma_semcom_env.zoo.presets import load_preset

if TYPE_CHECKING:
    from noma_semcom_env.semantics.extraction import FeatureExtractor


@pytest.fixture(scope="session")
def captioner() -> tuple[Any, Any]:
    from noma_semcom_env.zoo.loading import load_model

    return load_model("captioner", load_preset("street").captioner)


@pytest.fixture(scope="session")
def segmenter() -> tuple[Any, Any]:
    from noma_semcom_env.zoo.loading import load_model

    return load_model("segmenter", load_preset("street").segmenter)


@pytest.fixture(scope="session")
def make_extractor(captioner: tuple[Any, Any], segmenter: tuple[Any, Any]) -> Callable[..., FeatureExtractor]:
    from noma_semcom_env.semantics.coding import Codebook
    from noma_semcom_env.semantics.extraction import FeatureExtractor

    def make(text_unit: Any = "phrase", **options: Any) -> FeatureExtractor:
        codebook = Codebook.load(load_preset("street").codebook, text_unit)
        return FeatureExtractor(captioner, segmenter, codebook, **options)

    return make


@pytest.fixture(scope="session")
def scenes() -> list[StreetScene]:
    return [render(seed) for seed in split_seeds("validation", 24)]


@pytest.fixture(scope="session")
def images(scenes: list[StreetScene]) -> np.ndarray:
    return np.stack([scene.image for scene in scenes])
