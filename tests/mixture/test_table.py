"""Mixture tables: interpolation and its ends, files that verify, and items that fit together."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noma_semcom_env.archives import digest
from noma_semcom_env.mixture.items import MixtureItems, grow
from noma_semcom_env.mixture.table import (
    QUALITIES,
    MixtureTable,
    MixtureTableError,
    load_mixture_table,
)
from noma_semcom_env.mixture_parts import MixtureParts
from noma_semcom_env.mixture_scenario import MixtureScenario

Make = Callable[..., MixtureTable]


@pytest.fixture(scope="module", name="table")
def table_of_two_margins(make_mixture: Make) -> MixtureTable:
    return make_mixture(margins=(0, 3))


def look_up(table: MixtureTable, **change: Any) -> Any:
    """The quality of one mixture, row 2 at margin 1."""
    asked = {"roi": 100, "token": 8, "snr": 7.0, "received": True} | change
    arrays = {name: np.array([value]) for name, value in asked.items()}
    found = table.quality(
        np.array([2]),
        np.array([1]),
        arrays["roi"],
        arrays["token"],
        arrays["snr"],
        arrays["snr"],
        arrays["received"],
    )
    return {name: float(getattr(found, name)[0]) for name in found.__dataclass_fields__}


def test_grid_points_are_what_is_tabulated(table: MixtureTable) -> None:
    for r, roi in enumerate(table.roi_symbols):
        for t, token in enumerate(table.token_symbols):
            for s, snr in enumerate(table.snr_db):
                found = look_up(table, roi=roi, token=token, snr=snr)
                assert found["psnr_roi_db"] == pytest.approx(float(table.psnr_roi_db[2, 1, r, s]), rel=1e-6)
                assert found["clip_roni"] == pytest.approx(float(table.clip_roni[2, 1, t, s]), rel=1e-6)
                lost = look_up(table, roi=roi, token=token, snr=snr, received=False)
                assert lost["clip_roni"] == pytest.approx(float(table.clip_lost[2, 1, t, s]), rel=1e-6)
                assert found["token_error"] == pytest.approx(float(table.token_error[2, t, s]), rel=1e-6)
                assert found["undecodable"] == pytest.approx(float(table.undecodable[2, t, s]), abs=1e-6)


def test_between_grid_points_it_is_bilinear_in_the_logarithm_and_db(table: MixtureTable) -> None:
    r, s = 2, 4
    corners = table.psnr_roi_db[2, 1, r : r + 2, s : s + 2].astype(np.float64)
    roi = int(table.roi_symbols[r] * 2**0.5 + 0.5)
    along = np.log2(roi / table.roi_symbols[r])
    snr = table.snr_db[s] + 0.25 * (table.snr_db[s + 1] - table.snr_db[s])
    expected = np.array([1 - along, along]) @ corners @ np.array([0.75, 0.25])
    assert look_up(table, roi=roi, snr=snr)["psnr_roi_db"] == pytest.approx(expected)
    corners = table.clip_roni[2, 1, 2:4, s : s + 2].astype(np.float64)
    along = np.log2(11 / 8)
    expected = np.array([1 - along, along]) @ corners @ np.array([0.75, 0.25])
    assert look_up(table, token=11, snr=snr)["clip_roni"] == pytest.approx(expected)
    corners = table.clip_lost[2, 1, 2:4, s : s + 2].astype(np.float64)
    expected = np.array([1 - along, along]) @ corners @ np.array([0.75, 0.25])
    assert look_up(table, token=11, snr=snr, received=False)["clip_roni"] == pytest.approx(expected)


def test_beyond_the_grid_its_end_holds(table: MixtureTable) -> None:
    ends = {"snr": (-30.0, table.snr_db[0], 55.0, table.snr_db[-1]), "roi": (5000, 512, 10**6, 512)}
    for name, (a, at_a, b, at_b) in ends.items():
        assert look_up(table, **{name: a}) == look_up(table, **{name: at_a})
        assert look_up(table, **{name: b}) == look_up(table, **{name: at_b})


def test_few_region_symbols_lead_linearly_to_grey(table: MixtureTable) -> None:
    grey = float(table.grey_psnr_db[2, 1])
    least = int(table.roi_symbols[0])
    full = look_up(table, roi=least)["psnr_roi_db"]
    assert look_up(table, roi=0)["psnr_roi_db"] == pytest.approx(grey)
    assert look_up(table, roi=least // 4)["psnr_roi_db"] == pytest.approx(grey + (full - grey) / 4)


def test_nothing_arrives_without_mask_text_or_signal(table: MixtureTable) -> None:
    grey = float(table.grey_psnr_db[2, 1])
    assert look_up(table, received=False)["psnr_roi_db"] == pytest.approx(grey)
    silent = look_up(table, token=0)
    assert (silent["token_error"], silent["undecodable"]) == (1.0, 1.0)
    assert silent["psnr_roi_db"] == look_up(table)["psnr_roi_db"]
    lost = look_up(table, snr=-np.inf)
    assert lost["psnr_roi_db"] == pytest.approx(grey)
    assert (lost["token_error"], lost["undecodable"]) == (1.0, 1.0)
    assert lost["clip_roni"] == pytest.approx(float(table.clip_lost[2, 1, 0, 0]))


def test_clip_is_that_of_a_lost_region_only_where_none_of_it_arrives(table: MixtureTable) -> None:
    there = look_up(table, roi=1)["clip_roni"]
    assert there == look_up(table, roi=512)["clip_roni"], "any symbol that arrives is a region to paint around"
    lost = look_up(table, received=False)["clip_roni"]
    assert lost == pytest.approx(there - 0.02, abs=1e-6)
    assert look_up(table, roi=0)["clip_roni"] == lost
    assert look_up(table, roi=0, received=False)["clip_roni"] == lost


def test_a_batch_is_its_entries(table: MixtureTable) -> None:
    rng = np.random.default_rng(0)
    shape = (3, 4)
    arguments = (
        rng.integers(0, 6, shape),
        rng.integers(0, 2, shape),
        rng.integers(0, 2000, shape),
        rng.choice([0, 5, 9, 32], shape),
        rng.uniform(-20, 40, shape),
        rng.uniform(-20, 40, shape),
        rng.random(shape) < 0.7,
    )
    many = table.quality(*arguments)
    for index in np.ndindex(shape):
        one = table.quality(*(argument[index].reshape(1) for argument in arguments))
        for name in one.__dataclass_fields__:
            assert getattr(one, name)[0] == getattr(many, name)[index]


def test_one_point_grids_are_constant(table: MixtureTable) -> None:
    small = replace(
        table,
        snr_db=table.snr_db[:1],
        roi_symbols=table.roi_symbols[:1],
        token_symbols=table.token_symbols[:1],
        psnr_roi_db=table.psnr_roi_db[:, :, :1, :1],
        clip_roni=table.clip_roni[:, :, :1, :1],
        clip_lost=table.clip_lost[:, :, :1, :1],
        token_error=table.token_error[:, :1, :1],
        undecodable=table.undecodable[:, :1, :1],
    )
    assert look_up(small, roi=400, snr=12.0)["psnr_roi_db"] == pytest.approx(float(table.psnr_roi_db[2, 1, 0, 0]))
    for received, values in ((True, table.clip_roni), (False, table.clip_lost)):
        found = look_up(small, roi=400, snr=12.0, received=received)
        assert found["clip_roni"] == pytest.approx(float(values[2, 1, 0, 0]))


def test_the_ceiling_is_where_text_costs_nothing(table: MixtureTable) -> None:
    assert table.clip_ceiling == pytest.approx(float(table.clip_roni[:, 0, -1, -1].mean()))
    assert replace(table, provenance={"origin": {"models": "other"}}).clip_ceiling == table.clip_ceiling


def test_all_bundled_tables_have_the_ceiling_of_the_policy_items() -> None:
    tables = [load_mixture_table(f"street-{split}") for split in ("policy", "validation", "test")]
    assert [one.clip_ceiling for one in tables] == [tables[0].saturated_clip] * 3
    assert tables[0].saturated_clip == pytest.approx(0.4458, abs=5e-5)
    assert len({one.saturated_clip for one in tables}) == 3
    rewards = [MixtureParts(MixtureScenario(images=f"street-{split}")) for split in ("policy", "validation", "test")]
    one = np.ones(1)
    assert len({float(parts.worth_terms(one, one, one)[1][0]) for parts in rewards}) == 1


def test_a_file_holds_all_of_it(table: MixtureTable, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.npz"
    table.save(path)
    read = load_mixture_table(path)
    assert read is load_mixture_table(str(path)), "read once"
    assert read.path == path
    assert read.provenance == table.provenance
    for name in ("snr_db", "roi_symbols", "token_symbols", *QUALITIES):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))
        assert getattr(read, name).dtype == getattr(table, name).dtype
    for name in MixtureItems.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(read.items, name), getattr(table.items, name))
    assert copy.deepcopy(read) is read
    assert not list(tmp_path.rglob("*.part"))


def test_damaged_and_foreign_files_are_refused_by_name(table: MixtureTable, tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    table.save(path)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(MixtureTableError, match=r"table\.npz cannot be read"):
        load_mixture_table(path)
    with np.load(io.BytesIO(good)) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **(arrays | {"psnr_roi_db": arrays["psnr_roi_db"] + 1}))
    with pytest.raises(MixtureTableError, match="does not fit its SHA-256 sum"):
        load_mixture_table(path)
    np.savez(path, images=np.zeros(3))
    with pytest.raises(MixtureTableError, match="does not fit its SHA-256 sum"):
        load_mixture_table(path)
    for change, message in (
        ({"format": np.array(1), "clip_lost": None}, "has format 1; this version reads format 2: tabulate it again"),
        ({"clip_lost": None}, "holds no clip_lost; tabulate it again"),
        ({"tokens": None}, "holds no tokens"),
    ):
        kept = {name: value for name, value in (arrays | change).items() if value is not None and name != "sha256"}
        np.savez(path, sha256=np.array(digest(kept)), **kept)
        with pytest.raises(MixtureTableError, match=message):
            load_mixture_table(path)
    with pytest.raises(MixtureTableError, match="there is no mixture table"):
        load_mixture_table(tmp_path / "none.npz")
    with pytest.raises(MixtureTableError, match="names no bundled mixture table"):
        load_mixture_table("nowhere")


def test_incomplete_tables_are_refused(table: MixtureTable) -> None:
    hole = table.psnr_roi_db.copy()
    hole[0, 0, 0, 0] = np.nan
    for change, message in (
        ({"psnr_roi_db": hole}, r"psnr_roi_db has shape .*finite"),
        ({"clip_roni": table.clip_roni[:, :1]}, "clip_roni has shape"),
        ({"clip_lost": table.clip_lost[:, :1]}, "clip_lost has shape"),
        ({"snr_db": table.snr_db[::-1]}, "snr_db=.*must ascend"),
        ({"token_symbols": table.token_symbols + 1}, "must begin with 0"),
        ({"roi_symbols": table.roi_symbols - 16}, "roi_symbols=.*at least 1"),
    ):
        with pytest.raises(MixtureTableError, match=message):
            replace(table, **change)


def test_items_must_fit_together(table: MixtureTable) -> None:
    items = table.items
    for change, message in (
        ({"tokens": items.tokens[:-1]}, "tokens has shape"),
        ({"captions": items.captions[:-1]}, "captions has 5 entries"),
        ({"item_ids": items.item_ids[:1] * 6}, "item_ids must hold"),
        ({"picture": items.picture + 9}, "picture must hold rows"),
        ({"tokens": items.tokens * 0}, "tokens must be at least 1"),
        ({"margins": np.array([1, 3])}, "must ascend from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(items, **change)
    assert items.source_samples == 3 * 32 * 32
    assert items.rows_of(items.item_ids[::-1]).tolist() == [5, 4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match=r"holds 'x'.*run from 'synthetic:0:0' to 'synthetic:0:5'"):
        items.rows_of(["x"])
    assert items.region(1, 1).sum() > items.region(1).sum()


def test_items_go_into_a_file_of_their_own(table: MixtureTable, tmp_path: Path) -> None:
    table.items.save(tmp_path / "deep" / "items.npz")
    read = MixtureItems.load(tmp_path / "deep" / "items.npz")
    for name in MixtureItems.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(read, name), getattr(table.items, name))
    assert "6 items from 'synthetic:0:0'" in repr(read)


def test_grown_regions_are_squares_around_their_pixels() -> None:
    region = np.zeros((7, 9), dtype=bool)
    region[2, 3] = region[6, 8] = True
    expected = np.zeros_like(region)
    expected[0:5, 1:6] = expected[4:7, 6:9] = True
    np.testing.assert_array_equal(grow(region, 2), expected)
    np.testing.assert_array_equal(grow(region, 0), region)
    assert grow(region, 50).all()
    assert not grow(np.zeros_like(region), 3).any()
    with pytest.raises(ValueError, match="margin=-1"):
        grow(region, -1)
