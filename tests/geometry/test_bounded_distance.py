"""Bounded distances: those of SciPy's full transform, cut off at the limit."""

import numpy as np
import pytest
from scipy import ndimage

from scripts.geometry.bounded_distance import bounded_distance


@pytest.mark.parametrize("limit_mm", [0.4, 2.5, 9.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 150, 70), (140, 2, 75), (66, 64, 131)])
def test_distances_are_those_of_the_full_transform_below_the_limit(shape, limit_mm):
    rng = np.random.default_rng(len(shape))
    spacing = np.array([0.7, 1.3, 0.4])
    for share in (1e-4, 0.02, 0.6):
        solid = rng.random(shape) < share
        solid[shape[0] // 2, shape[1] // 2, shape[2] // 2] = True
        full = ndimage.distance_transform_edt(~solid, sampling=spacing)
        np.testing.assert_allclose(bounded_distance(solid, spacing, limit_mm), np.minimum(full, limit_mm), atol=1e-5)


def test_far_from_everything_is_the_limit():
    assert (bounded_distance(np.zeros((70, 5, 6), bool), np.ones(3), 3.0) == 3.0).all()


def test_the_memory_order_makes_no_difference():
    solid = ndimage.gaussian_filter(np.random.default_rng(1).random((50, 40, 60)), 3.0) > 0.51
    found = bounded_distance(solid, np.array([1.0, 0.8, 1.2]), 5.0)
    again = bounded_distance(np.asfortranarray(solid), np.array([1.0, 0.8, 1.2]), 5.0)
    np.testing.assert_array_equal(again, found)
    assert again.flags["C_CONTIGUOUS"]
