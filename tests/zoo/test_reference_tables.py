"""References as items: what a caption leaves out of them, and which options a file of items allows."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPTokenizer

from noma_semcom_env.mixture.items import MixtureItems
from noma_semcom_env.mixture.transceiver import Transceiver
from noma_semcom_env.mixture_models import PRESETS
from noma_semcom_env.scenes.refcoco import Reference
from noma_semcom_env.zoo.train.mixture import reference_tables
from noma_semcom_env.zoo.train.mixture.text_codec import TOKENIZER

SIDE = 32
CAPTION = "a guy and a girl near a bus with an orange beside an umbrella"


class Finder:
    """Takes the box itself for the region."""

    def find(self, image: np.ndarray, prompts: list[str], named: Any) -> np.ndarray:
        region = np.zeros((1, SIDE, SIDE), dtype=bool)
        left, top, right, bottom = named[0][1]
        region[0, top:bottom, left:right] = True
        return region


@pytest.fixture(scope="module")
def transceiver() -> Transceiver:
    """A sender that sees boxes and always says the same."""
    sizes: Any = SimpleNamespace(side=SIDE, max_symbols=768)
    text: Any = SimpleNamespace(config=SimpleNamespace(max_tokens=24, min_symbols=5, max_symbols=32))
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    unused: Any = None
    finder: Any = Finder()
    return Transceiver(
        sizes,
        text,
        tokenizer,
        unused,
        unused,
        finder,
        lambda images: [CAPTION] * len(images),
        lambda mask: b"",
        kinds=PRESETS["sd15_mixture"].kinds,
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    file = tmp_path_factory.mktemp("pictures") / "0.png"
    dice = np.random.default_rng(0)
    Image.fromarray(dice.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(file)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[4:20, 6:16] = True
    return Reference(0, 0, file, np.array([6.0, 4.0, 16.0, 20.0]), mask, ("x",), "person", "testA")


@pytest.mark.parametrize(
    ("expression", "category", "caption"),
    [
        ("orange shirt guy", "person", "a girl near a bus with an orange beside an umbrella"),
        ("umbrella girl", "person", "a guy near a bus with an orange beside an umbrella"),
        # Nobody is called a person here.
        ("bus driver", "person", CAPTION),
        ("one beside the girl", "umbrella", "a guy and a girl near a bus with an orange"),
        ("bus on the left", "", "a guy and a girl with an orange beside an umbrella"),
        ("that one", "", CAPTION),
    ],
)
def test_a_caption_leaves_out_what_is_annotated(
    transceiver: Transceiver, reference: Reference, expression: str, category: str, caption: str
) -> None:
    references: Any = [replace(reference, expressions=(expression,), category=category)]
    items = reference_tables.ask_for_references(transceiver, references, 1)
    assert items.captions == (caption,)


@pytest.fixture
def written(transceiver: Transceiver, reference: Reference, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was tabulated, with models and references that cost nothing."""
    tables: list[dict[str, Any]] = []

    def write(items: MixtureItems, _: Any, __: Path, recipe: Any, record: dict[str, Any], ___: int) -> None:
        tables.append({"prompts": items.prompts, "seeds": recipe.seeds, **record})

    def look(source: str) -> list[Reference]:
        assert source == "refcoco:x:testA"
        return [reference]

    monkeypatch.setattr(reference_tables, "load_transceiver", lambda models, device: transceiver)
    monkeypatch.setattr(reference_tables, "open_refcoco", look)
    monkeypatch.setattr(reference_tables, "write_table", write)
    return tables


def run(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["script", "--models", "x", "--output", "x.npz", *map(str, arguments)])
    reference_tables.main()


def test_a_file_of_items_keeps_what_was_asked_for(
    written: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "items.npz"
    asked = ("--references", "refcoco:x:testA", "--targets", "object", "--margins", 0, 2)
    run(monkeypatch, *asked, "--items", file)
    made = {"count": 64, "find": "box", "targets": "object", "margins": [0, 2], "source": "refcoco:x:testA"}
    assert written == [{**made, "prompts": ("x",), "seeds": (0, 1)}]
    monkeypatch.setattr(reference_tables, "open_refcoco", lambda source: pytest.fail("the references were read"))
    run(monkeypatch, "--items", file)
    # An interrupted command may be given again as it was.
    run(monkeypatch, *asked, "--items", file, "--seeds", 3)
    assert written[1] == written[0]
    assert written[2] == {**written[0], "seeds": (3,)}
    for option, value, known in (
        ("references", "refcoco:x:val", "'refcoco:x:testA'"),
        ("count", 3, "64"),
        ("find", "detector", "'box'"),
        ("targets", "region", "'object'"),
        ("margins", 0, r"\[0, 2\]"),
    ):
        with pytest.raises(SystemExit):
            run(monkeypatch, "--items", file, f"--{option}", value)
        said = " ".join(capsys.readouterr().err.split())
        assert re.search(rf"--{option} .* has no effect on the items in .*, which were made with {known}", said), said
    # Items of another maker do not tell.
    MixtureItems.load(file).save(file)
    run(monkeypatch, "--items", file)
    assert written[3] == {"prompts": ("x",), "seeds": (0, 1)}
    with pytest.raises(SystemExit):
        run(monkeypatch, "--items", file, "--find", "box")
    assert "which do not tell theirs" in " ".join(capsys.readouterr().err.split())
    assert len(written) == 4
    json.dumps(written)


def test_references_are_needed_where_there_are_no_items(
    written: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--items", tmp_path / "items.npz")
    assert "--references is needed" in capsys.readouterr().err
    assert not written
