"""Parts of a label on the wrong side are found beside others' sides, or where one label holds two bodies."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.organ.exchange import exchanged, pair_places
from scripts.organ.strays import Stray, moved, strays
from tests.helpers.pairs import ACROSS_MM, AXES, SPACINGS, ball, both_kidneys

RIGHT, LEFT = 2, 3
PAIRS = {LEFT: RIGHT}


def found(labels: np.ndarray, affine: np.ndarray, pairs=PAIRS) -> list[Stray]:
    return strays(labels, affine, pairs, pair_places(labels, affine, pairs))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axes", AXES)
def test_a_part_of_one_under_the_others_label_is_given_back(axes, spacing):
    labels, affine, points = both_kidneys(axes, spacing)
    wrong = np.where((labels == RIGHT) & (points[..., 2] > 5.0), LEFT, labels)
    (stray,) = found(wrong, affine)
    assert (stray.label, stray.belongs, stray.value, stray.side) == (LEFT, RIGHT, RIGHT, "right")
    np.testing.assert_array_equal(moved(wrong, [stray]), labels)
    assert wrong[labels == RIGHT].max() == LEFT  # a copy was mended


@pytest.mark.parametrize("label", [LEFT, RIGHT])
@pytest.mark.parametrize("axes", AXES)
def test_one_label_of_both_bodies_is_parted_though_its_partner_is_missing(axes, label):
    labels, affine, _ = both_kidneys(axes, "fine")
    both = np.where(labels, label, 0)
    np.testing.assert_array_equal(moved(both, found(both, affine)), labels)


def test_one_label_of_nearly_all_is_parted_beside_the_rest_of_its_partner():
    labels, affine, points = both_kidneys("oblique", "fine")
    most = np.where((labels == RIGHT) & (points[..., 2] < 12.0), LEFT, labels)
    np.testing.assert_array_equal(moved(most, found(most, affine)), labels)


@pytest.mark.parametrize("axes", AXES)
def test_what_lies_right_stays(axes):
    labels, affine, points = both_kidneys(axes, "fine")
    assert found(labels, affine) == []
    for label in (LEFT, RIGHT):
        alone = np.where(labels == label, label, 0)
        assert found(alone, affine) == []
        assert found(np.where(np.abs(points[..., 2]) < 3.0, 0, alone), affine) == []  # in two pieces


def test_an_organ_that_reaches_across_the_middle_stays_whole():
    labels, affine, points = both_kidneys("straight", "fine")
    bridge = (np.abs(points[..., 1]) < 8) & (np.abs(points[..., 2]) < 8) & (labels == 0)
    joined = np.where(bridge & (points[..., 0] > -40) & (points[..., 0] < 6), LEFT, labels)
    joined[bridge & (points[..., 0] >= 6) & (points[..., 0] < 40)] = RIGHT
    assert np.count_nonzero((joined == LEFT) & (points[..., 0] > 0)) > 0
    assert found(joined, affine) == []


def test_crumbs_are_left_to_the_refinement():
    labels, affine, points = both_kidneys("straight", "fine")
    assert found(np.where(ball(points, [60, 0, 0], np.full(3, 3.0)), LEFT, labels), affine) == []


def test_most_pairs_decide_about_one_that_is_exchanged():
    labels, affine, points = both_kidneys("straight", "fine")
    pairs = {3: 2, 5: 4, 7: 6}
    for value, side, front in ((4, 1, 45), (5, -1, 45), (6, 1, -45), (7, -1, -45)):
        labels[ball(points, [side * ACROSS_MM, front, 0], np.full(3, 12.0))] = value
    one, two = exchanged(labels, {5: 4}), exchanged(labels, {5: 4, 7: 6})
    np.testing.assert_array_equal(moved(one, found(one, affine, pairs)), labels)
    assert found(two, affine, pairs) == []


def test_large_label_maps_are_looked_at_in_steps_and_mended_whole(monkeypatch):
    monkeypatch.setattr("scripts.organ.exchange.LOOKED_AT", 5000)
    labels, affine, _ = both_kidneys("oblique", "fine")
    both = np.where(labels, LEFT, 0)
    np.testing.assert_array_equal(moved(both, found(both, affine)), labels)


def test_a_stray_without_a_label_becomes_background():
    labels, affine, _ = both_kidneys("straight", "fine")
    (stray,) = found(np.where(labels, LEFT, 0), affine)
    left = moved(np.where(labels, LEFT, 0), [replace(stray, value=0)])
    np.testing.assert_array_equal(left, np.where(labels == LEFT, LEFT, 0))
