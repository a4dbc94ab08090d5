"""Thick slices of thin ones, and back without a prior: on shapes whose answer is known."""

import numpy as np
import pytest

from scripts.geometry.affine import apply_affine
from scripts.validation.interpolation import METHODS, between_slices, thickened

FLIPPED = np.array([[0.0, 0.0, -1.0, 9.0], [0.8, 0.0, 0.0, -3.0], [0.0, -0.8, 0.0, 4.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("affine", [np.eye(4), FLIPPED])
def test_a_thick_voxel_lies_in_the_middle_of_its_thin_ones(axis, affine):
    thin = np.random.default_rng(0).integers(0, 2, (9, 9, 9))
    thick, moved = thickened(thin, affine, axis, 4)
    assert thick.shape[axis] == 2
    first, last = np.zeros(3), np.zeros(3)
    last[axis] = 3
    middle = (apply_affine(affine, first[None]) + apply_affine(affine, last[None])) / 2
    np.testing.assert_allclose(apply_affine(moved, np.zeros((1, 3))), middle)


def test_half_of_the_thin_voxels_decide_and_the_most_of_them_which_label():
    column = np.array([0, 0, 1, 1, 0, 0, 0, 1, 2, 2, 1, 0, 2, 2, 2, 0, 5])
    thick, _ = thickened(column.reshape(1, 1, -1), np.eye(4), 2, 4)
    assert thick.ravel().tolist() == [1, 0, 2, 2]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("axis", [0, 2])
def test_a_prism_across_the_slices_comes_back_as_it_is(name, axis):
    thin = np.zeros((20, 20, 20), bool)
    index = [slice(4, 15)] * 3
    index[axis] = slice(5, 15)
    thin[tuple(index)] = True
    thick, _ = thickened(thin.astype(int), np.eye(4), axis, 5)
    spacing = np.where(np.arange(3) == axis, 5.0, 1.0)
    back = METHODS[name](thick > 0, spacing, axis, 5)
    middle = np.moveaxis(back, axis, 0)[7:13]
    np.testing.assert_array_equal(middle, np.moveaxis(thin, axis, 0)[7:13])


def test_shape_based_interpolation_follows_a_slope_and_linear_does_not():
    """A square of side 10 that moves by 5 voxels from one slice to the next."""
    mask = np.zeros((40, 20, 4), bool)
    for k in range(4):
        mask[5 + 5 * k : 15 + 5 * k, 5:15, k] = True
    spacing = np.array([1.0, 1.0, 5.0])
    truth = [5 + 5 * ((k + 0.5) / 5 - 0.5) for k in range(20)]
    for name, most in (("shape-based", 0.6), ("linear", 2.6)):
        back = METHODS[name](mask, spacing, 2, 5)
        lower = np.argmax(back[:, 10], axis=0)
        error = np.abs(lower - truth)[3:17].max()
        assert error <= most and (name == "shape-based" or error > 1.5)


def test_values_are_interpolated_linearly_and_kept_beyond_the_last_slice():
    values = np.array([0.0, 4.0]).reshape(1, 1, 2)
    assert between_slices(values, 2, 4).ravel() == pytest.approx([0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4])
