"""Runs of voxels: what they count is what a count of the voxels says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scripts.geometry.runs import Runs, filled, label_pieces
from scripts.geometry.surface import boundary

MASKS = st.tuples(
    st.tuples(*[st.integers(1, 9)] * 3), st.sampled_from([0.0, 0.05, 0.3, 0.6, 0.9, 1.0]), st.integers(0, 2**32 - 1)
)


def drawn(case) -> np.ndarray:
    shape, share, seed = case
    return np.random.default_rng(seed).random(shape) < share


@settings(deadline=None, max_examples=200)
@given(MASKS)
def test_pieces_are_numbered_as_by_scipy(case):
    mask = drawn(case)
    labels, count = label_pieces(mask)
    expected, expected_count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert count == expected_count
    np.testing.assert_array_equal(labels, expected)
    piece, count = (runs := Runs.of(mask)).pieces(corners=False)
    by_faces, expected_count = ndimage.label(mask)
    assert count == expected_count and runs.count == np.count_nonzero(mask)
    np.testing.assert_array_equal(np.repeat(piece, runs.length) + 1, by_faces[mask])


@settings(deadline=None, max_examples=200)
@given(MASKS)
def test_holes_are_what_scipy_fills(case):
    mask = drawn(case)
    expected = ndimage.binary_fill_holes(mask)
    np.testing.assert_array_equal(filled(mask), expected)
    assert Runs.of(~mask).enclosed()[1] == ndimage.label(expected & ~mask)[1]


@settings(deadline=None, max_examples=200)
@given(MASKS)
def test_the_rim_is_the_boundary_in_its_order(case):
    mask = drawn(case)
    np.testing.assert_array_equal(Runs.of(mask).rim(), np.argwhere(boundary(mask)))


@settings(deadline=None, max_examples=200)
@given(MASKS, st.integers(0, 2))
def test_sections_and_what_is_shared_with_the_next(case, axis):
    mask = drawn(case)
    section, shared = Runs.of(mask).sections(axis)
    along = np.moveaxis(mask, axis, 0)
    np.testing.assert_array_equal(section, along.sum((1, 2)))
    np.testing.assert_array_equal(shared, (along[1:] & along[:-1]).sum((1, 2)))


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_memory_order_makes_no_difference(order):
    mask = np.array(np.random.default_rng(0).random((7, 8, 9)) < 0.4, order=order)
    expected, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    np.testing.assert_array_equal(label_pieces(mask)[0], expected)
    np.testing.assert_array_equal(Runs.of(mask).rim(), np.argwhere(boundary(mask)))


def test_what_is_not_zero_is_inside():
    mask = np.array([[[0, 2, 0, 3]]], np.uint8)
    labels, count = label_pieces(mask)
    assert count == 2 and labels.tolist() == [[[0, 1, 0, 2]]]
    assert Runs.of(mask).rim().tolist() == [[0, 0, 1], [0, 0, 3]]
