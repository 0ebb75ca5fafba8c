"""How often heatmaps peak on what their words name, and how importance orders words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from noma_semcom_benchmarks.attribution import (
    ALL,
    Rate,
    ReadWord,
    caption_scenes,
    hit_rates,
    importance_by_kind,
    kinds_of_words,
    main,
    peak_share,
    rank_words,
    read_words,
    textbook_heatmaps,
)
from noma_semcom_env.scenes.street import render, split_seeds
from noma_semcom_env.semantics import importance


def test_words_are_sorted_by_what_they_speak_of() -> None:
    kinds = dict(
        zip(words := "fog by night with a person in red near zebra".split(), kinds_of_words(words), strict=True)
    )
    assert kinds == {
        "fog": "weather or time", "by": "function word", "night": "weather or time", "with": "function word",
        "a": "function word", "person": "object", "in": "joining word", "red": "attribute", "near": "function word",
        "zebra": "other",
    }  # fmt: skip


def test_peak_share_is_that_of_the_highest_region() -> None:
    heat = np.array([[0.1, 0.9], [0.3, 0.0]])
    of_object = np.zeros((8, 8), dtype=bool)
    of_object[:3, 4:] = True
    assert peak_share(heat, of_object) == 0.75
    assert peak_share(-heat + 1, of_object) == 0.0
    assert peak_share(np.zeros((2, 2)), ~of_object) == 0.0


def test_rates_are_counted_strictly_and_loosely_by_word() -> None:
    shares = {"car": (0.0, 0.25, 0.5), "tree": (1.0,)}
    words = [ReadWord(0, text, "object", 1.0, share) for text, found in shares.items() for share in found]
    words.append(ReadWord(0, "bus", "object", 1.0, None))
    rates = hit_rates(words)
    assert rates == {
        "tree": (Rate(1, 1), Rate(1, 1)), "car": (Rate(2, 3), Rate(1, 3)), ALL: (Rate(3, 4), Rate(2, 4)),
    }  # fmt: skip
    low, high = rates[ALL][0].interval
    assert (low, high) == pytest.approx((0.3006, 0.9544), abs=1e-3)  # Wilson's formula for 3 of 4, z = 1.96


def test_order_is_compared_within_a_caption() -> None:
    def word(caption: int, kind: str, score: float) -> ReadWord:
        return ReadWord(caption, "", kind, score, None)

    words = [word(0, "object", 0.5), word(0, "attribute", 0.2), word(0, "function word", 0.1),
             word(1, "object", 0.6), word(1, "function word", 0.1), word(1, "joining word", 0.9),
             word(2, "function word", 1.0)]  # fmt: skip
    order = rank_words(words)
    assert (order.separated, order.pairs) == (0.5, 0.75)
    order = rank_words(words, ("function word",))
    assert (order.separated, order.pairs) == (1.0, 1.0)
    assert list(importance_by_kind(words)) == ["joining word", "object", "function word", "attribute"]


def test_a_gradient_kept_for_each_region_localizes_better_than_the_textbooks() -> None:
    scenes = [render(seed) for seed in split_seeds("validation", 100)[-32:]]
    captions = caption_scenes(scenes)
    own = hit_rates(read_words(captions, scenes, importance.heatmaps))[ALL]
    textbook = hit_rates(read_words(captions, scenes, textbook_heatmaps))[ALL]
    assert own[0].count == textbook[0].count > 30
    assert own[0].share > textbook[0].share
    assert own[1].share > textbook[1].share


def test_textbook_heatmaps_average_before_the_product() -> None:
    rng = np.random.default_rng(0)
    gradients, regions = rng.normal(size=(3, 4, 5)), rng.normal(size=(4, 5))
    maps = textbook_heatmaps(gradients, regions)
    assert maps.shape == (3, 4)
    assert maps[1, 2] == pytest.approx(max(gradients[1].mean(axis=0) @ regions[2], 0.0))
    # Where all regions have one gradient, averaging it changes nothing.
    same = np.repeat(gradients[:, :1], 4, axis=1)
    np.testing.assert_allclose(textbook_heatmaps(same, regions), importance.heatmaps(same, regions))


def test_the_command_prints_and_writes_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "attribution.json"
    monkeypatch.setattr("sys.argv", ["attribution", "--scenes", "6", "--json", str(path)])
    main()
    found = json.loads(path.read_text())
    overall = found["peaks_on_object"][ALL]
    low, high = overall["one_pixel"]["interval"]
    assert 0 <= low <= overall["one_pixel"]["share"] <= high <= 1
    assert overall["words"] == found["peaks_on_object_textbook"][ALL]["words"]
    assert 0 <= found["order"]["all function words"]["pairs"] <= 1
    printed = capsys.readouterr().out
    assert "6 scenes" in printed
    assert "function word" in printed


def test_more_scenes_than_are_held_out_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["attribution", "--scenes", "10001"])
    with pytest.raises(SystemExit):
        main()
    assert r"must lie in [1, 10000]" in capsys.readouterr().err
