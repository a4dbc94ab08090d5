"""Contours of masks and back, against independent fillings."""

import matplotlib.path
import numpy as np
import pytest
from scipy import ndimage

from scripts.dicom.contours import contours_of, mask_of


@pytest.mark.parametrize("seed", range(30))
def test_any_mask_comes_back_from_rounded_millimetres(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 40, 2))
    values = ndimage.gaussian_filter(rng.random(shape), rng.uniform(0, 2))
    mask = values > np.quantile(values, rng.uniform(0.1, 0.9))
    stored = [np.round(contour * 0.73 - 61.4, 4) for contour in contours_of(mask)]
    np.testing.assert_array_equal(mask_of([(c + 61.4) / 0.73 for c in stored], shape), mask)


def test_a_hole_is_joined_to_the_contour_around_it():
    mask = np.zeros((20, 16), bool)
    mask[2:16, 1:14] = True
    mask[4:8, 3:6] = mask[10:14, 5:12] = False
    mask[12, 8] = True
    outer, island = sorted(contours_of(mask), key=len, reverse=True)
    assert len(island) == 4
    centres = np.stack(np.indices(mask.shape), -1).reshape(-1, 2)
    filled = matplotlib.path.Path(np.concatenate([outer, outer[:1]])).contains_points(centres).reshape(mask.shape)
    filled[12, 8] = True
    np.testing.assert_array_equal(filled, mask)


def test_an_empty_mask_has_no_contour():
    assert contours_of(np.zeros((5, 4), bool)) == []
    assert not mask_of([], (5, 4)).any()
