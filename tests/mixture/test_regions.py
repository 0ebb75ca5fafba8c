"""Regions of interest: prompts of every kind, what is refused, margins, and what masks cost."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from noma_semcom_env.mixture.budget import mask_cost
from noma_semcom_env.mixture.regions import RegionError, RegionFinder, check_box, mask_bits
from noma_semcom_env.mixture_models import load_transceiver
from noma_semcom_env.scenes.street import CLASSES, StreetScene, render, split_seeds
from noma_semcom_env.semantics.coding import Codebook
from noma_semcom_env.zoo.loading import ModelLoadError, load_model
from noma_semcom_env.zoo.presets import WEIGHTS
from noma_semcom_env.zoo.train.data import Scenes
from noma_semcom_env.zoo.train.mixture.segment_anything import LEAST_PIXELS, PROMPTS, Things, mask_loss

BUNDLED = WEIGHTS / "street_mixture" / "segment_anything"


@pytest.fixture(scope="module")
def segmenter() -> Any:
    return load_model("sam", str(BUNDLED))


@pytest.fixture(scope="module")
def finder(segmenter: Any) -> RegionFinder:
    return RegionFinder(segmenter)


@pytest.fixture(scope="module")
def scenes() -> list[StreetScene]:
    return [render(seed, 128) for seed in split_seeds("test", 12)]


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GroundingDINO, tiny and random, in the layout of its repository on the hub."""
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    words = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? the red car on left".split()
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    swin = {"embed_dim": 16, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4, "out_indices": [2, 3, 4]}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GroundingDinoForObjectDetection(
            GroundingDinoConfig(
                backbone_config=SwinConfig(image_size=64, **swin),
                text_config=BertConfig(vocab_size=len(words), max_position_embeddings=64, **small),
                d_model=32,
                encoder_layers=1,
                decoder_layers=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                num_queries=8,
                max_text_len=16,
                **heads,
            )
        )
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 128}),
        BertTokenizer(vocab={word: i for i, word in enumerate(words)}),
    )
    folder = tmp_path_factory.mktemp("grounding_dino")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def detector(detector_folder: Path) -> Any:
    return load_model("grounding-dino", detector_folder)


class Blind:
    """A SAM that sees nothing."""

    device = "cpu"

    def get_image_embeddings(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(pixels), 64, 16, 16)

    def __call__(self, multimask_output: bool, **given: torch.Tensor) -> Any:
        from transformers.models.sam.modeling_sam import SamImageSegmentationOutput

        prompts = next(value for name, value in given.items() if name != "image_embeddings").shape[1]
        count = 3 if multimask_output else 1
        return SamImageSegmentationOutput(
            iou_scores=torch.zeros(1, prompts, count), pred_masks=-torch.ones(1, prompts, count, 64, 64)
        )


def truth(scene: StreetScene, item: int) -> np.ndarray:
    return np.asarray(scene.labels == CLASSES.index(scene.items[item].kind))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def named(scene: StreetScene) -> list[tuple[str, list[float]]]:
    return list(zip(scene.expressions, scene.boxes.tolist(), strict=True))


def test_boxes_and_points_find_what_they_are_at(finder: RegionFinder, scenes: list[StreetScene]) -> None:
    by_box, by_point = [], []
    for scene in scenes:
        masks = [truth(scene, item) for item in range(len(scene.items))]
        rows_columns = [np.argwhere(mask) for mask in masks]
        points = [tuple(pixels[len(pixels) // 2][::-1].tolist()) for pixels in rows_columns]
        found = finder.find(scene.image, [*scene.boxes.tolist(), *points])
        assert found.dtype == np.bool_
        by_box += [iou(a, b) for a, b in zip(found, masks, strict=False)]
        by_point += [iou(a, b) for a, b in zip(found[len(masks) :], masks, strict=True)]
    assert len(by_box) >= 20
    assert np.mean(by_box) > 0.8
    assert np.mean(by_point) > 0.7


def test_an_expression_means_its_box_whatever_its_case(finder: RegionFinder, scenes: list[StreetScene]) -> None:
    scene = next(scene for scene in scenes if len(scene.items) > 1)
    second = scene.expressions[1]
    found = finder.find(scene.image, [second, f"  {second.upper()}. ", scene.boxes[1]], named(scene))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    assert iou(found[0], truth(scene, 1)) > iou(found[0], truth(scene, 0))


def test_prompts_are_asked_for_together_as_one_by_one(finder: RegionFinder, scenes: list[StreetScene]) -> None:
    scene = scenes[0]
    mask = truth(scene, 0)
    prompts = [scene.boxes[0], (64, 100), mask, (3, 3, 60, 60), (20, 90)]
    together = finder.find(scene.image, prompts)
    for prompt, region in zip(prompts, together, strict=True):
        assert np.array_equal(finder.find(scene.image, [prompt])[0], region)
    assert np.array_equal(together[2], mask)
    assert finder.find(scene.image, []).shape == (0, 128, 128)


def test_regions_are_found_in_pictures_of_any_size(finder: RegionFinder, scenes: list[StreetScene]) -> None:
    scene = scenes[0]
    large = scene.image.repeat(2, axis=0).repeat(2, axis=1)[:, :200]
    box = np.minimum(2 * scene.boxes[0], [200, 256, 200, 256])
    region = finder.find(large, [box])[0]
    expected = truth(scene, 0).repeat(2, axis=0).repeat(2, axis=1)[:, :200]
    assert region.shape == (256, 200)
    assert iou(region, expected) > 0.6


def test_a_box_that_reaches_outside_counts_by_its_inside(finder: RegionFinder, scenes: list[StreetScene]) -> None:
    image = scenes[0].image
    found = finder.find(image, [(-50, 20, 60, 500), (0, 20, 60, 128)])
    assert np.array_equal(found[0], found[1])
    assert check_box(np.array([-1, -1, 9, 9]), (4, 6)).tolist() == [0, 0, 4, 6]


def test_a_margin_grows_every_region(finder: RegionFinder) -> None:
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), dtype=bool)
    mask[10:12, 0:3] = True
    grown = finder.find(image, [mask], margin=2)[0]
    expected = np.zeros((32, 32), dtype=bool)
    expected[8:14, 0:5] = True
    assert np.array_equal(grown, expected)
    with pytest.raises(ValueError, match="margin=-1"):
        finder.find(image, [mask], margin=-1)


def test_the_whole_image_can_be_of_interest(finder: RegionFinder) -> None:
    whole = np.ones((128, 128), dtype=bool)
    assert finder.find(np.zeros((128, 128, 3), dtype=np.uint8), [whole])[0].all()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ((130, 5), r"point \[130\.0, 5\.0\] lies outside the image of 128 x 96"),
        ((5, 96), "lies outside"),
        ((-0.5, 5), "lies outside"),
        ((np.nan, 5), "lies outside"),
        ((128, 0, 140, 50), "lies outside the image of 128 x 96"),
        ((10, 10, 10, 50), "holds no pixel"),
        ((50, 10, 10, 50), "holds no pixel"),
        ((0, 0, np.inf, 5), "four finite numbers"),
        ((1, 2, 3), "of no kind"),
        (np.zeros((96, 128), dtype=bool), "empty region of interest"),
        (np.ones((128, 96), dtype=bool), "mask is bool of shape"),
        (np.ones((96, 128), dtype=np.uint8), "mask is uint8"),
        (" . ", "empty text"),
        ("the bus", "the red car.*no detector"),
    ],
)
def test_what_is_no_prompt_is_refused(finder: RegionFinder, prompt: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finder.find(np.zeros((96, 128, 3), dtype=np.uint8), [prompt], [("the red car", (0, 0, 9, 9))])


def test_other_images_are_refused(finder: RegionFinder) -> None:
    for image in (np.zeros((8, 8, 3)), np.zeros((8, 8), dtype=np.uint8), np.zeros((0, 8, 3), dtype=np.uint8)):
        with pytest.raises(ValueError, match="uint8 is needed"):
            finder.find(image, [(1, 1)])
    with pytest.raises(ValueError, match="least_confidence=1.5"):
        RegionFinder((None, None), least_confidence=1.5)


@pytest.mark.parametrize("prompt", [(5, 5), (0, 0, 9, 9)])
def test_nothing_found_is_an_error_of_its_own(segmenter: Any, prompt: tuple[int, ...]) -> None:
    blind = RegionFinder((Blind(), segmenter[1]))
    with pytest.raises(RegionError, match="finds nothing at prompt"):
        blind.find(np.zeros((128, 128, 3), dtype=np.uint8), [prompt])


def test_other_texts_are_left_to_the_detector(segmenter: Any, detector: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    model, processor = detector
    inputs = processor(images=image, text="red car on the left.", return_tensors="pt")
    outputs = model(**inputs)
    best = int(outputs.logits.sigmoid().amax(-1)[0].argmax())
    x, y, width, height = (outputs.pred_boxes[0, best] * torch.tensor([128, 96, 128, 96])).tolist()
    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    both = RegionFinder(segmenter, detector, least_confidence=0.0)
    found = both.find(image, ["Red car on the left", expected])
    assert np.array_equal(found[0], found[1])
    with pytest.raises(RegionError, match=r"nothing that is 'red car'.* at least 1\.0"):
        RegionFinder(segmenter, detector, least_confidence=1.0).find(image, ["red car"])


def test_a_detector_of_a_folder_is_complete_or_refused(detector: Any, detector_folder: Path, tmp_path: Path) -> None:
    model, processor = detector
    assert type(model).__name__ == "GroundingDinoForObjectDetection"
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert processor.tokenizer.tokenize("Red car.") == ["red", "car", "."]
    with pytest.raises(ModelLoadError, match="the sam must be of type 'sam'"):
        load_model("sam", detector_folder)
    folder = Path(shutil.copytree(detector_folder, tmp_path / "dino"))
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "query_position" not in name}, folder / "model.safetensors"
    )
    with pytest.raises(ModelLoadError, match="lacks .* weights of GroundingDino"):
        load_model("grounding-dino", folder)
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="pytorch_model.bin"):
        load_model("grounding-dino", folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json"):
        load_model("grounding-dino", folder)


@pytest.mark.slow
def test_a_preset_with_a_detector_resolves_any_text(detector_folder: Path, scenes: list[StreetScene]) -> None:
    plain, detecting = load_transceiver(), load_transceiver({"detector": detector_folder})
    assert detecting.origin["models_sha256"] != plain.origin["models_sha256"]
    with pytest.raises(ValueError, match="there is no detector"):
        plain.prepare(scenes[0].image[None], ["the red car"])
    assert detecting.prepare(scenes[0].image[None], ["the red car"]).regions.any()


def test_masks_cost_their_lossless_code(scenes: list[StreetScene]) -> None:
    codebook = Codebook.load(WEIGHTS / "street" / "codebook.json")
    encode = partial(codebook.encode_mask, codebook.labels[0])
    masks = np.stack([truth(scene, 0) for scene in scenes])
    bits = mask_bits(masks, encode)
    for mask, count in zip(masks, bits.tolist(), strict=True):
        decoded, used = codebook.decode(encode(mask), mask.shape)
        assert np.array_equal(decoded.mask, mask)
        assert used == count
    symbols = mask_cost(bits, 10.0, "awgn")
    assert np.array_equal(symbols, np.ceil(bits / np.log2(11)))
    assert mask_bits(masks[:0], encode).shape == (0,)
    with pytest.raises(ValueError, match="bool of"):
        mask_bits(masks.astype(np.uint8), encode)


class TestLessons:
    def test_prompts_are_at_what_is_asked_for(self, scenes: list[StreetScene]) -> None:
        data = Scenes(np.stack([s.image for s in scenes]), np.stack([s.labels for s in scenes]), [])
        images, labels, masks, boxes, points = Things.on("cpu", data).draw(16, torch.Generator().manual_seed(0))
        assert masks.shape == (16, PROMPTS, 128, 128)
        assert int(masks.sum((2, 3)).min()) >= LEAST_PIXELS
        rows = torch.arange(16)[:, None, None]
        x, y = points.long().unbind(-1)
        assert masks[rows, torch.arange(PROMPTS)[:, None], y, x].all()
        for mask, box, picture in zip(masks.flatten(0, 1), boxes.flatten(0, 1), range(16 * PROMPTS), strict=True):
            assert len(labels[picture // PROMPTS][mask].unique()) == 1
            there = mask.nonzero()
            edges = torch.cat([there.amin(0).flip(0), there.amax(0).flip(0)]).float()
            extent = (edges[2:] - edges[:2] + 1).repeat(2)
            assert ((box - edges).abs() <= 0.1 * extent + 1e-3).all()
        flipped = [
            bool((images[i] == torch.from_numpy(scene.image).flip(1)).all()) for i in range(16) for scene in scenes
        ]
        assert 2 <= sum(flipped) <= 14

    def test_the_best_of_several_masks_is_trained(self) -> None:
        masks = torch.zeros(2, 8, 8, dtype=torch.bool)
        masks[:, 2:6, 2:6] = True
        right = torch.where(masks, 20.0, -20.0)
        logits = torch.stack([right, -right, torch.zeros_like(right)], dim=1)
        iou = torch.tensor([[1.0, 0.0, 0.0]] * 2)
        loss, error, best = mask_loss(logits, iou, masks)
        assert float(loss) < 0.02
        assert float(error) == 0
        assert float(best) == 1
        assert float(mask_loss(logits[:, 1:], iou[:, 1:], masks)[0]) > 1
