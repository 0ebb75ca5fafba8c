"""Recovery tables: round trip, look-up, and refusal of what is damaged."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noma_semcom_env.archives import digest
from noma_semcom_env.features import SemanticFeatures
from noma_semcom_env.recovery.subsets import sample_subsets, subset_members, subset_selections
from noma_semcom_env.recovery.table import PADDING, RecoveryTable, TableError, load_table

WIDTH = 5


def make_features(name: str, visual: int, textual: int) -> SemanticFeatures:
    masks = np.zeros((visual, 8, 8), dtype=bool)
    for i in range(visual):
        masks[i, i] = True
    count = visual + textual
    return SemanticFeatures(
        image_id=name,
        caption="a test",
        masks=masks,
        mask_labels=("sky", "car", "road")[:visual],
        phrases=("red car", "night", "fog")[:textual],
        phrase_labels=("car", "night", "fog")[:textual],
        size_bits=np.arange(10, 10 + count),
        importance=np.linspace(0, 1, count),
        kept=np.arange(count) % 2 == 0,
        matches=np.linspace(0, 1, visual * textual).reshape(visual, textual),
    )


def make_table(seed: int = 0) -> RecoveryTable:
    rng = np.random.default_rng(seed)
    features = (make_features("one", 2, 3), make_features("two", 1, 2))
    values = np.full((2, 3, 1 << WIDTH), np.nan, dtype=np.float32)
    for i, one in enumerate(features):
        values[i, :, : 1 << one.count] = rng.uniform(0.1, 0.5, (3, 1 << one.count))
    images = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    return RecoveryTable(features, images, values, ("", "sky", "car", "road", "night"), {"diffusion_seeds": [0, 1, 2]})


def test_round_trip(tmp_path: Path) -> None:
    table = make_table()
    path = tmp_path / "table.npz"
    table.save(path)
    read = load_table(path)
    assert np.array_equal(read.lpips_by_seed, table.lpips_by_seed, equal_nan=True)
    assert np.array_equal(read.images, table.images)
    assert read.labels == table.labels
    assert read.provenance == table.provenance
    for one, other in zip(read.features, table.features, strict=True):
        assert one.image_id == other.image_id
        assert one.phrases == other.phrases
        assert np.array_equal(one.masks, other.masks)
        assert np.array_equal(one.kept, other.kept)
        assert np.array_equal(one.importance, other.importance)
        assert np.array_equal(one.matches, other.matches)


def test_round_trip_of_a_sample_and_of_features_without_matches(tmp_path: Path) -> None:
    full = make_table()
    features = tuple(replace(one, matches=None) for one in full.features)
    subsets = np.full((2, 6), PADDING)
    subsets[0], subsets[1, :3] = [0, 1, 5, 9, 30, 31], [0, 2, 7]
    values = np.take_along_axis(full.lpips_by_seed, np.where(subsets == PADDING, 31, subsets)[:, None], axis=2)
    sample = RecoveryTable(features, full.images, values, full.labels, {}, None, subsets, WIDTH)
    sample.save(tmp_path / "sample.npz")
    read = load_table(tmp_path / "sample.npz")
    assert not read.is_full
    assert full.is_full
    assert read.width == WIDTH
    assert read.features[0].matches is None
    assert read.subsets_of(1).tolist() == [0, 2, 7]
    held = subset_members(np.array([[9, 7], [31, 2]]), WIDTH)
    images = np.array([[0, 1], [0, 1]])
    np.testing.assert_array_equal(read.lpips(images, held), full.lpips(images, held))
    other = subset_members(np.array([10, 7]), WIDTH)
    np.testing.assert_array_equal(np.isnan(read.known_lpips(np.array([0, 1]), other)), [True, False])
    with pytest.raises(TableError, match=r"a sample of the 32 subsets of 'one', and not this one"):
        read.lpips(np.array([0, 1]), other)
    with pytest.raises(TableError, match="ascending"):
        replace(sample, subsets=subsets[:, ::-1].copy())


def test_lookup_is_the_mean_over_seeds_and_ignores_absent_features() -> None:
    table = make_table()
    selection = np.array([[[1, 0, 1, 0, 1], [0, 1, 1, 1, 1]]], dtype=bool)
    values = table.lpips(np.array([[0, 1]]), selection)
    assert values.shape == (1, 2)
    assert values[0, 0] == pytest.approx(table.lpips_by_seed[0, :, 0b10101].astype(float).mean())
    assert values[0, 1] == pytest.approx(table.lpips_by_seed[1, :, 0b110].astype(float).mean())


@pytest.mark.parametrize("received", [0.0, 0.3, 1.0])
def test_savings_are_expected_differences_of_entries(received: float) -> None:
    table = make_table()
    for row, one in enumerate(table.features):
        expected = np.zeros(one.count)
        for feature in range(one.count):
            for chosen in subset_selections(one.count, one.count):
                if not chosen[feature]:
                    others = np.delete(chosen, feature)
                    subset = int(chosen @ (1 << np.arange(one.count)))
                    weight = received ** others.sum() * (1 - received) ** (~others).sum()
                    expected[feature] += weight * (table.mean[row, subset] - table.mean[row, subset | 1 << feature])
        np.testing.assert_allclose(table.savings(row, received), expected)


def test_subset_selections_count_in_binary() -> None:
    selections = subset_selections(3, 5)
    assert selections.shape == (8, 5)
    assert not selections[:, 3:].any()
    assert np.array_equal(selections @ (1 << np.arange(5)), np.arange(8))


def test_a_sample_of_subsets_holds_what_it_declares() -> None:
    one = make_features("many", 3, 3)
    everything = sample_subsets(one, 64)
    assert everything.tolist() == list(range(64))
    sample = sample_subsets(one, 24)
    assert len(set(sample.tolist())) == 24
    assert (np.diff(sample) > 0).all()
    alone = [1 << i for i in range(6)]
    assert {0, 63, 7, 56, *alone, *(63 - i for i in alone)} <= set(sample.tolist())
    assert np.array_equal(sample, sample_subsets(one, 24))
    assert not np.array_equal(sample, sample_subsets(replace(one, image_id="other"), 24))
    with pytest.raises(ValueError, match="max_table_entries=15 is too small for 'many'.*at least 16"):
        sample_subsets(one, 15)


def test_bank_pads_and_labels() -> None:
    bank = make_table().bank
    assert bank.exists.sum(1).tolist() == [5, 3]
    assert bank.modality[1].tolist() == [1, 2, 2, 0, 0]
    assert bank.label[0].tolist() == [1, 2, 2, 4, 0]
    assert bank.size_bits[1].tolist() == [10, 11, 12, 0, 0]


def test_damaged_and_missing_tables_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    make_table().save(path)
    content = path.read_bytes()
    (tmp_path / "short.npz").write_bytes(content[: len(content) // 2])
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    sum_of_all = arrays.pop("sha256")
    arrays["lpips"] = arrays["lpips"] + 0.1
    np.savez_compressed(tmp_path / "edited.npz", **arrays, sha256=sum_of_all)
    with pytest.raises(TableError, match=r"short\.npz cannot be read"):
        load_table(tmp_path / "short.npz")
    with pytest.raises(TableError, match=r"edited\.npz does not fit its SHA-256"):
        load_table(tmp_path / "edited.npz")
    arrays["format"] = np.array(1)
    np.savez_compressed(tmp_path / "old.npz", **{**arrays, "sha256": np.array(digest(arrays))})
    with pytest.raises(TableError, match=r"old\.npz has format 1; this version reads format 2"):
        load_table(tmp_path / "old.npz")
    with pytest.raises(TableError, match=r"absent\.npz; make one with 'noma-semcom tabulate'"):
        load_table(tmp_path / "absent.npz")
    with pytest.raises(TableError, match="images='street-dawn' names no bundled recovery table"):
        load_table("street-dawn")


def test_a_flipped_bit_anywhere_is_refused_or_harmless(tmp_path: Path) -> None:
    table = make_table()
    path = tmp_path / "table.npz"
    table.save(path)
    content = path.read_bytes()
    errors = []
    for place in np.linspace(0, len(content) - 1, 200).astype(int):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(place) % 8
        path.write_bytes(flipped)
        os.utime(path, ns=(int(place), int(place)))
        try:
            read = load_table(path)
        except TableError as error:
            errors.append(str(error))
        else:
            assert np.array_equal(read.lpips_by_seed, table.lpips_by_seed, equal_nan=True)
            assert np.array_equal(read.images, table.images)
    assert len(errors) > 100
    assert all("table.npz" in error for error in errors)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(TableError, match=r"array\.npz cannot be read"):
        load_table(tmp_path / "array.npz")


def test_a_table_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    for seed in (0, 1):
        make_table(seed).save(path)
        os.utime(path, ns=(seed, seed))
        assert np.array_equal(load_table(path).lpips_by_seed, make_table(seed).lpips_by_seed, equal_nan=True)
    assert load_table(path) is load_table(str(path))


def test_incomplete_tables_are_refused() -> None:
    table = make_table()
    values = table.lpips_by_seed.copy()
    values[0, 1, 7] = np.nan
    with pytest.raises(TableError, match="incomplete"):
        RecoveryTable(table.features, table.images, values, table.labels, {})
