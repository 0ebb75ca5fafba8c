"""Equations (19)-(23) against small cases worked by hand, and the properties that hold for any maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from noma_semcom_env.semantics import importance

areas = st.tuples(st.integers(0, 6), st.integers(1, 20)).flatmap(lambda shape: arrays(np.bool_, shape))


def test_heatmap_is_the_positive_part_of_the_product_at_each_region() -> None:
    regions = np.array([[1.0, 2.0], [3.0, -1.0]])
    gradients = np.array([[[1.0, 1.0], [1.0, 1.0]], [[0.0, -1.0], [0.5, 0.0]]])
    np.testing.assert_array_equal(importance.heatmaps(gradients, regions), [[3.0, 2.0], [0.0, 1.5]])


def test_maps_are_scaled_by_the_mean_maximum_and_clipped() -> None:
    scaled = importance.scale_heatmaps(np.array([[4.0, 1.0], [0.0, 2.0]]))
    np.testing.assert_allclose(scaled, [[1.0, 1 / 3], [0.0, 2 / 3]])
    np.testing.assert_array_equal(importance.scale_heatmaps(np.zeros((2, 3))), np.zeros((2, 3)))
    assert importance.scale_heatmaps(np.zeros((0, 3))).shape == (0, 3)


def test_activated_area_starts_at_the_level_and_never_holds_nothing_but_zeros() -> None:
    np.testing.assert_array_equal(importance.activated_areas(np.array([[0.29, 0.3, 1.0]])), [[False, True, True]])
    assert not importance.activated_areas(np.zeros((1, 3)), level=0.0).any()


def test_textual_importance_by_hand() -> None:
    cut = np.array([[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0]], dtype=bool)
    dep = importance.dependency(cut)
    con = importance.contribution(cut)
    np.testing.assert_allclose(dep, [[1, 0.25, 0], [0.25, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(con, [0.5, 0.75, 0])
    np.testing.assert_allclose(importance.textual_importance(dep, con), [0.6875 / 0.875, 1, 0])
    np.testing.assert_allclose(
        importance.textual_importance_redundancy(dep, con), [0.5 * (1 - 0.25 / 2) / (0.75 * (1 - 0.25 / 2)), 1, 0]
    )


def test_visual_importance_by_hand() -> None:
    masks = np.zeros((3, 4, 4), dtype=bool)
    masks[0, :2] = True  # upper half
    masks[1, 3, :] = True  # lowest row
    grid = np.array([[[1, 0], [0, 0]], [[1, 1], [0, 1]]], dtype=bool)  # regions of 2 x 2 pixels
    match = importance.mask_word_match(masks, grid)
    np.testing.assert_allclose(match, [[0.5, 1], [0, 0.5], [0, 0]])
    np.testing.assert_allclose(importance.visual_importance(match, np.array([1.0, 0.5])), [1 / 1.5, 0.25 / 1.5, 0])


def test_regions_need_not_divide_the_image() -> None:
    grid = np.array([[[1, 0, 0], [0, 0, 0], [0, 0, 1]]], dtype=bool)
    match = importance.mask_word_match(np.ones((1, 10, 7), dtype=bool), grid)
    assert match[0, 0] == pytest.approx((4 * 3 + 3 * 2) / 70)


def test_nothing_gives_nothing() -> None:
    none = np.zeros((0, 4), dtype=bool)
    assert importance.textual_importance(importance.dependency(none), importance.contribution(none)).shape == (0,)
    assert importance.mask_word_match(np.zeros((0, 4, 4), bool), np.zeros((2, 2, 2), bool)).shape == (0, 2)
    assert importance.visual_importance(np.zeros((3, 0)), np.zeros(0)).tolist() == [0, 0, 0]
    assert importance.keep_above(np.zeros(0), 0.5).shape == (0,)


@given(areas)
def test_dependency_is_a_symmetric_share(cut: np.ndarray) -> None:
    dep = importance.dependency(cut)
    np.testing.assert_array_equal(dep, dep.T)
    np.testing.assert_array_equal(np.diagonal(dep), cut.any(axis=1).astype(float))
    assert ((dep >= 0) & (dep <= 1)).all()


def test_visual_importance_is_at_most_one_in_spite_of_rounding() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        worth = rng.random(3)
        assert importance.visual_importance(np.ones((1, 3)), worth)[0] <= 1.0


@given(areas)
@pytest.mark.parametrize("reading", [importance.textual_importance, importance.textual_importance_redundancy])
def test_textual_importance_is_at_most_one(reading: object, cut: np.ndarray) -> None:
    assert callable(reading)
    scores = reading(importance.dependency(cut), importance.contribution(cut))
    assert scores.shape == (len(cut),)
    assert ((scores >= 0) & (scores <= 1)).all()
    if reading is importance.textual_importance and cut.any():
        assert scores.max() == 1


@given(arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1)), st.floats(0, 1))
def test_pruning_never_leaves_nothing(scores: np.ndarray, threshold: float) -> None:
    kept = importance.keep_above(scores, threshold)
    assert kept[scores.argmax()]
    assert (scores[kept] >= threshold).all() or kept.sum() == 1
