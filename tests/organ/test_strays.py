"""Pieces of a label on the wrong side are found beside others' sides, or where one label holds two bodies."""

from dataclasses import replace

import numpy as np
import pytest

from scripts.organ.exchange import exchanged, pair_places
from scripts.organ.strays import Stray, moved, strays
from tests.helpers.pairs import ACROSS_MM, AXES, RADII, SPACINGS, ball, both_kidneys, grid, world

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
        for axis in (0, 2):  # in two pieces, one above the other, or beside it
            middle = points[labels == label][:, axis].mean()
            assert found(np.where(np.abs(points[..., axis] - middle) < 3.0, 0, alone), affine) == []


def test_an_organ_that_reaches_across_the_middle_stays_whole():
    labels, affine, points = both_kidneys("straight", "fine")
    x, y, z = np.moveaxis(points, -1, 0)
    across = (np.abs(y) < 10) & (np.abs(z) < 10) & (x > -40) & (x < 18) & (labels != RIGHT)
    joined = np.where(across, LEFT, labels)
    assert np.count_nonzero((joined == LEFT) & (x > 9)) > 0.02 * np.count_nonzero(joined == LEFT)
    assert found(joined, affine) == []


def test_a_piece_that_lies_on_both_sides_is_no_stray():
    labels, affine, points = both_kidneys("straight", "fine")
    pieces = labels.copy()
    pieces[ball(points, [4, 50, 0], np.full(3, 12.0))] = LEFT  # shallow, and a third of it on its own side
    pieces[ball(points, [40, 50, 0], np.full(3, 9.0))] = LEFT
    (stray,) = found(pieces, affine)
    expected = np.where(ball(points, [40, 50, 0], np.full(3, 9.0)), RIGHT, pieces)
    np.testing.assert_array_equal(moved(pieces, [stray]), expected)


def test_the_middle_of_a_patient_who_lies_askew_is_askew():
    """Four pairs along a line that leans by 25 degrees: the world's middle would part the rearmost ones wrongly."""
    shape, affine = grid("straight", "fine", 180.0)
    points = world(shape, affine)
    lean = np.radians(25.0)
    across, along = np.array([np.cos(lean), np.sin(lean), 0]), np.array([-np.sin(lean), np.cos(lean), 0])
    labels = np.zeros(shape, np.uint8)
    for k, forward in enumerate((-66.0, -22.0, 22.0, 66.0)):
        for value, sign in ((2 * k + 2, 1.0), (2 * k + 3, -1.0)):
            labels[ball(points, forward * along + sign * 20.0 * across, np.full(3, 12.0))] = value
    pairs = {3: 2, 5: 4, 7: 6, 9: 8}
    assert found(labels, affine, pairs) == []
    wrong = np.where(labels == 9, 8, labels)
    np.testing.assert_array_equal(moved(wrong, found(wrong, affine, pairs)), labels)


def test_one_pair_at_two_heights_tells_of_no_lean():
    shape, affine = grid("straight", "fine", 220.0)
    points = world(shape, affine)
    labels = np.where(ball(points, [-50, 0, 50]), LEFT, np.where(ball(points, [50, 0, -20]), RIGHT, 0))
    labels[ball(points, [-20, 0, -85], np.full(3, 12.0))] = LEFT  # below the left one
    assert found(labels, affine) == []


@pytest.mark.parametrize(
    ("centre", "radii"),
    [
        ((-ACROSS_MM - 60, 0, 0), RADII),  # not about the middle of what is labelled
        ((ACROSS_MM, 0, 0), RADII * 0.7),  # much smaller
        ((0, 0, 0), RADII * [0.8, 1, 1]),  # next to it
    ],
)
def test_two_bodies_under_one_label_are_not_always_twins(centre, radii):
    shape, affine = grid("straight", "fine", 220.0)
    points = world(shape, affine)
    labels = np.where(ball(points, [-ACROSS_MM, 0, 0]) | ball(points, centre, radii), LEFT, 0)
    labels[ball(points, [30, -50, 0], np.full(3, 25.0))] = 1  # another organ, on the right
    assert found(labels, affine) == []


def test_twins_of_one_label_tell_nothing_of_other_pairs():
    labels, affine, points = both_kidneys("straight", "fine")
    labels[labels > 0] = LEFT
    for front, radius in ((50, 12.0), (-50, 8.0)):  # the same organ, broken
        labels[ball(points, [30, front, 0], np.full(3, radius))] = 5
    (stray,) = found(labels, affine, {LEFT: RIGHT, 5: 4})
    assert stray.label == LEFT


def test_crumbs_are_left_to_the_refinement():
    labels, affine, points = both_kidneys("straight", "fine")
    assert found(np.where(ball(points, [60, 0, 0], np.full(3, 3.0)), LEFT, labels), affine) == []


def test_most_pairs_decide_about_one_that_is_exchanged():
    labels, affine, points = both_kidneys("straight", "fine")
    pairs = {3: 2, 5: 4, 7: 6}
    for value, side, front in ((4, 1, 45), (5, -1, 45), (6, 1, -45), (7, -1, -45)):
        labels[ball(points, [side * ACROSS_MM, front, 0], np.full(3, 12.0))] = value
    one = exchanged(labels, {5: 4})
    np.testing.assert_array_equal(moved(one, found(one, affine, pairs)), labels)


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
