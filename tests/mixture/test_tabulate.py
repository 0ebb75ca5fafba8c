"""Tables by the real transceiver: equal to what it does live, taken up again after a kill, errors measured."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from noma_semcom_env.mixture import tabulate as module
from noma_semcom_env.mixture.items import MixtureItems
from noma_semcom_env.mixture.live import LiveMixture
from noma_semcom_env.mixture.offering import describe_prompt, make_items
from noma_semcom_env.mixture.saliency import roi_importance
from noma_semcom_env.mixture.sending import GREY
from noma_semcom_env.mixture.table import QUALITIES, MixtureTable, MixtureTableError
from noma_semcom_env.mixture.tabulate import MixtureRecipe, tabulate_mixtures
from noma_semcom_env.mixture.transceiver import Transceiver

pytestmark = pytest.mark.slow

RECIPE = MixtureRecipe((0.0, 20.0), (16, 64), (0, 5, 12), (0, 1), 0.25, 64)
CLIP_ROUNDING = 2e-4
"""In batches of other sizes the levels of a few pixels are rounded otherwise."""

Pictures = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def items(transceiver: Transceiver, pictures: Pictures) -> MixtureItems:
    images, regions = pictures
    prompts = [regions[0], regions[1], regions[1]]
    kinds = ["car", "tree", None]
    return make_items(transceiver, ["a", "b", "c"], images[:2], [0, 1, 1], prompts, kinds=kinds, margins=(0, 2))


@pytest.fixture(scope="module")
def tabulated(items: MixtureItems, transceiver: Transceiver, tmp_path_factory: pytest.TempPathFactory) -> MixtureTable:
    path = tmp_path_factory.mktemp("tables") / "tiny.npz"
    return tabulate_mixtures(items, transceiver, path, RECIPE, {"split": "test"}, off_grid=6)


def test_items_are_what_the_sender_sees(items: MixtureItems, transceiver: Transceiver, pictures: Pictures) -> None:
    images, regions = pictures
    assert len(items) == 3
    assert items.captions[0] == "clear sky by day near a green tree"
    assert items.tokens.tolist() == [9, 9, 13]
    assert items.prompts[0] == "mask of 168 pixels"
    np.testing.assert_array_equal(items.rois, regions[[0, 1, 1]])
    np.testing.assert_allclose(items.roi_share[0], [168 / 1024, 16 * 18 / 1024])
    assert items.mask_bits[1, 1] == len(transceiver.encode_mask(items.region(1, 1)))
    assert items.importance[2] == roi_importance(images[1], regions[1])
    assert (items.least_symbols, items.most_symbols) == (5, 32)
    assert items.max_roi_symbols == transceiver.image_codec.max_symbols


def test_prompts_are_put_into_words() -> None:
    assert describe_prompt("the red car") == "the red car"
    assert describe_prompt((3, 4.5)) == "point (3, 4.5)"
    assert describe_prompt(np.array([1, 2, 3, 4])) == "box (1, 2, 3, 4)"


def test_a_whole_picture_is_no_item(transceiver: Transceiver, pictures: Pictures) -> None:
    images, regions = pictures
    with pytest.raises(ValueError, match="the region of 'a', grown by 40 pixels, is its whole picture"):
        make_items(transceiver, ["a"], images, [0], [regions[0]], margins=(0, 40))


def test_grid_points_are_what_the_transceiver_does(tabulated: MixtureTable, transceiver: Transceiver) -> None:
    live = LiveMixture.from_table(tabulated, transceiver)
    assert live.seeds == (0, 1)
    cases = [
        (row, margin, roi, token, snr)
        for row in range(3)
        for margin in range(2)
        for roi in (16, 64)
        for token in (0, 5, 12)
        for snr in (0.0, 20.0)
    ]
    rows, margin, roi, token, snr = (np.array(column) for column in zip(*cases, strict=True))
    arguments = (rows, margin, roi, token, snr, snr, np.ones(len(rows), dtype=bool))
    true, found = live.quality(*arguments), tabulated.quality(*arguments)
    np.testing.assert_allclose(found.psnr_roi_db, true.psnr_roi_db, atol=0.02)
    np.testing.assert_allclose(found.token_error, true.token_error, atol=1e-6)
    np.testing.assert_allclose(found.undecodable, true.undecodable, atol=1e-6)
    around = roi == RECIPE.painted_symbols
    np.testing.assert_allclose(found.clip_roni[around], true.clip_roni[around], atol=CLIP_ROUNDING)
    assert np.ptp(found.psnr_roi_db) > 0
    assert np.ptp(found.clip_roni) > 0
    assert (np.abs(tabulated.clip_roni - tabulated.clip_lost) > 5 * CLIP_ROUNDING).any(), "a region can be told by it"
    assert 0 < found.token_error[token > 0].mean() <= 1


def test_what_is_lost_is_equal_too(tabulated: MixtureTable, transceiver: Transceiver) -> None:
    """CLIP-RONI too, since nothing depends on a region that is not there, for all three ways to lose it."""
    live = LiveMixture.from_table(tabulated, transceiver)
    lost = [
        (0, 0.0, True),
        (16, 0.0, False),
        (0, 20.0, True),
        (16, 20.0, False),
        (64, 20.0, False),
        (64, -np.inf, True),
    ]
    cases = [
        (row, margin, roi, token, after, mask)
        for row in range(3)
        for margin in range(2)
        for token in (0, 5, 12)
        for roi, after, mask in lost
    ]
    rows, margin, roi, token, after, mask = (np.array(column) for column in zip(*cases, strict=True))
    told = np.where(np.isneginf(after), 20.0, after)
    true, found = (one.quality(rows, margin, roi, token, told, after, mask) for one in (live, tabulated))
    np.testing.assert_allclose(found.psnr_roi_db, true.psnr_roi_db, atol=1e-4)
    np.testing.assert_allclose(found.token_error, true.token_error, atol=1e-6)
    np.testing.assert_allclose(found.clip_roni, true.clip_roni, atol=CLIP_ROUNDING)
    assert np.ptp(found.clip_roni[(rows == 2) & (margin == 0)]) > 5 * CLIP_ROUNDING, "texts can be told by it"


def test_lost_regions_are_painted_once_for_each_text(
    items: MixtureItems, transceiver: Transceiver, tabulated: MixtureTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str]] = []
    plain = transceiver.paint

    def noted(received: np.ndarray, known: np.ndarray, captions: Any, seed: int) -> np.ndarray:
        asked.extend((seed, text) for text, one in zip(captions, known, strict=True) if not one.any())
        return plain(received, known, captions, seed)

    monkeypatch.setattr(transceiver, "paint", noted)
    entries = module._tabulate(items, 2, transceiver, RECIPE)
    np.testing.assert_array_equal(entries["clip_lost"], tabulated.clip_lost[2])
    assert len(asked) == len(set(asked))
    assert {seed for seed, _ in asked} == {0, 1}
    assert {(0, ""), (1, "")} <= set(asked), "no text is a text of its own"
    assert len(asked) > 4, "texts arrive in several ways"


def test_the_record_says_what_made_it_and_how_far_off_it_is(tabulated: MixtureTable) -> None:
    made_by = tabulated.provenance
    assert made_by["split"] == "test"
    assert made_by["origin"] == {"models": "tiny"}
    assert made_by["seeds"] == [0, 1]
    errors = made_by["interpolation_error"]
    assert errors["points"] == 6
    bounds = {"psnr_roi_db": 0.5, "clip_roni": 0.02, "clip_lost": 0.02, "token_error": 0.3, "undecodable": 1.0}
    bounds |= {"psnr_roi_few_db": 2.0, "clip_roni_few": 0.05}
    for channel in ("awgn", "rayleigh"):
        assert errors[channel].keys() == bounds.keys()
        for name, bound in bounds.items():
            assert 0 <= errors[channel][name]["mean"] <= errors[channel][name]["largest"] <= bound, name
    assert errors["awgn"]["psnr_roi_db"]["largest"] > 0
    assert errors["awgn"]["clip_roni"]["largest"] > 0


def test_errors_are_those_of_the_table(tabulated: MixtureTable, transceiver: Transceiver) -> None:
    worse = replace(tabulated, psnr_roi_db=tabulated.psnr_roi_db + 3.0)
    errors = module.interpolation_errors(worse, transceiver, 6)
    before = tabulated.provenance["interpolation_error"]
    assert errors["awgn"]["psnr_roi_db"]["mean"] > before["awgn"]["psnr_roi_db"]["mean"] + 2.0
    assert errors["awgn"]["token_error"] == before["awgn"]["token_error"]
    worse = replace(tabulated, clip_lost=tabulated.clip_lost + 0.2)
    errors = module.interpolation_errors(worse, transceiver, 6)
    for channel in ("awgn", "rayleigh"):
        assert errors[channel]["clip_lost"]["mean"] > before[channel]["clip_lost"]["mean"] + 0.1
        assert errors[channel]["clip_roni"] == before[channel]["clip_roni"]


def test_an_interrupted_run_is_taken_up_again(
    items: MixtureItems, transceiver: Transceiver, tabulated: MixtureTable, tmp_path: Path, monkeypatch: Any
) -> None:
    done: list[int] = []
    plain = module._tabulate

    def killed_at_the_third(known: Any, row: int, *rest: Any) -> Any:
        if row == 2:
            raise KeyboardInterrupt
        done.append(row)
        return plain(known, row, *rest)

    path = tmp_path / "again.npz"
    monkeypatch.setattr(module, "_tabulate", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        tabulate_mixtures(items, transceiver, path, RECIPE, off_grid=6)
    assert done == [0, 1]
    parts = sorted((tmp_path / "again.parts").glob("*.npz"))
    assert len(parts) == 2
    assert not path.exists()
    parts[0].write_bytes(parts[0].read_bytes()[:100])

    def counted(known: Any, row: int, *rest: Any) -> Any:
        done.append(row)
        return plain(known, row, *rest)

    monkeypatch.setattr(module, "_tabulate", counted)
    table = tabulate_mixtures(items, transceiver, path, RECIPE, off_grid=6)
    assert len(done) == 4, "the damaged one and the third"
    assert not (tmp_path / "again.parts").exists()
    for name in QUALITIES:
        np.testing.assert_array_equal(getattr(table, name), getattr(tabulated, name))


def test_what_an_entry_depends_on_is_in_its_name(items: MixtureItems) -> None:
    base = {**RECIPE.provenance(), "origin": {"models": "tiny"}}
    names = {module._digest(items, row, base) for row in range(3)}
    names.add(module._digest(items, 0, base | {"seeds": [0]}))
    names.add(module._digest(items, 0, base | {"origin": {"models": "other"}}))
    names.add(module._digest(replace(items, captions=("x", *items.captions[1:])), 0, base))
    names.add(module._digest(replace(items, pictures=items.pictures ^ 1), 0, base))
    names.add(module._digest(replace(items, targets=~items.targets), 0, base))
    assert len(names) == 8


def test_live_recovery_runs_in_the_environment(
    tabulated: MixtureTable, transceiver: Transceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noma_semcom_env import mixture_models

    asked = []
    monkeypatch.setattr(mixture_models, "load_transceiver", lambda models: asked.append(models) or transceiver)
    knobs: dict[str, Any] = {"images": str(tabulated.path), "channel": "awgn", "cbr_values": (0.06,)}
    envs = [
        gymnasium.make("MixtureOfSemantics-v0", **knobs, recovery=recovery, snr_values_db=(20.0,)).unwrapped
        for recovery in ("table", "live")
    ]
    assert asked == ["street_mixture"]
    stated = tabulated.provenance["interpolation_error"]
    for env in envs:
        env.reset(seed=0)
    for _ in range(3):
        *_, one = envs[0].step(np.array([-1.0]))
        *_, other = envs[1].step(np.array([-1.0]))
        assert one["roi_symbols"] == other["roi_symbols"]
        assert one["token_error"] == other["token_error"] == 1.0
        assert one["psnr_roi_db"] == pytest.approx(other["psnr_roi_db"], abs=1.0)
        assert one["clip_roni"] == pytest.approx(other["clip_roni"], abs=stated["awgn"]["clip_roni"]["largest"])
    live = envs[1].dynamics.recovery
    assert copy.deepcopy(live) is live
    assert "3 items" in repr(live)


@pytest.mark.parametrize("lost", [False, True])
def test_live_steps_with_text_are_as_the_table_says(
    tabulated: MixtureTable, transceiver: Transceiver, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """They are apart by no more than the errors that the table states, with the mask lost as well."""
    from noma_semcom_env import mixture_models

    monkeypatch.setattr(mixture_models, "load_transceiver", lambda models: transceiver)
    # Nine fades of ten fall short of the mask's rate, or none does.
    knobs: dict[str, Any] = {"channel": "rayleigh", "mask_outage": 0.9} if lost else {"channel": "awgn"}
    knobs |= {"images": str(tabulated.path), "cbr_values": (0.06,), "snr_values_db": (20.0,)}
    envs: list[Any] = [
        gymnasium.make("MixtureOfSemantics-v0", **knobs, recovery=recovery).unwrapped for recovery in ("table", "live")
    ]
    for env in envs:
        env.reset(seed=1)
    errors = tabulated.provenance["interpolation_error"]
    name = "clip_lost" if lost else "clip_roni"
    stated = max(errors[channel][name]["largest"] for channel in ("awgn", "rayleigh"))
    seen, apart = 0, []
    for _ in range(6):
        one, other = (env.step(np.array([0.0]))[4] for env in envs)
        assert one["symbols_per_token"] == other["symbols_per_token"] >= 5
        assert one["mask_received"] == other["mask_received"]
        if one["mask_received"] != lost:
            seen += 1
            apart.append(abs(one["clip_roni"] - other["clip_roni"]))
            assert one["psnr_roi_db"] == pytest.approx(other["psnr_roi_db"], abs=1e-4 if lost else 0.5)
    assert seen >= 4
    assert max(apart) <= stated
    assert np.ptp(getattr(tabulated, name)) > 5 * max(apart), "items differ by more"


def test_flat_grey_objects_are_finite_in_table_and_live(transceiver: Transceiver, tmp_path: Path) -> None:
    """A grey object that is lost, or sent without any error, arrives without error."""
    image = np.full((1, 32, 32, 3), GREY, dtype=np.uint8)
    region = np.zeros((32, 32), dtype=bool)
    region[4:14, 4:16] = True
    image[0][~region] = 30
    items = make_items(transceiver, ["grey"], image, [0], [region])
    table = tabulate_mixtures(items, transceiver, tmp_path / "grey.npz", RECIPE, off_grid=2)
    assert table.grey_psnr_db.tolist() == [[100.0]]
    one = np.ones(1, dtype=int)
    arguments = (0 * one, 0 * one, 64 * one, 5 * one, 20.0 * one, 20.0 * one, one < 0)
    live = LiveMixture.from_table(table, transceiver).quality(*arguments)
    assert live.psnr_roi_db.tolist() == table.quality(*arguments).psnr_roi_db.tolist() == [100.0]


def test_tables_are_live_with_other_models_for_what_is_done_before_sending(
    tabulated: MixtureTable, make_transceiver: Callable[..., Transceiver]
) -> None:
    other = make_transceiver(origin={"models": "with a detector"}, receiving={"models": "tiny"})
    assert LiveMixture.from_table(tabulated, other).transceiver is other


def test_foreign_tables_are_refused_live(
    tabulated: MixtureTable, transceiver: Transceiver, make_transceiver: Callable[..., Transceiver], make_mixture: Any
) -> None:
    with pytest.raises(MixtureTableError, match="was made by .*tiny.* but recovery='live' would run .*other"):
        LiveMixture.from_table(tabulated, make_transceiver(origin={"models": "other"}))
    with pytest.raises(MixtureTableError, match="does not say its seeds"):
        LiveMixture.from_table(make_mixture(), transceiver)
    with pytest.raises(ValueError, match="seeds=.*empty"):
        LiveMixture(tabulated.items, transceiver, 0.3, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr_db": (5.0, 5.0)}, "snr_db=.*must ascend"),
        ({"roi_symbols": (0, 64)}, "roi_symbols=.*at least 1"),
        ({"token_symbols": (5, 12)}, "must begin with 0"),
        ({"painted_symbols": 65}, "painted_symbols=65 must be one of"),
        ({"seeds": ()}, "seeds="),
        ({"seeds": (1, 1)}, "distinct"),
        ({"undecodable_above": 1.0}, "undecodable_above=1.0"),
    ],
)
def test_bad_recipes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **change)


def test_off_grid_points_are_needed(items: MixtureItems, transceiver: Transceiver, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="off_grid=0"):
        tabulate_mixtures(items, transceiver, tmp_path / "x.npz", RECIPE, off_grid=0)
