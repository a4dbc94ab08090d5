"""Post-processing baselines against MONAI's transforms and by construction."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import FillHoles, KeepLargestConnectedComponent
from scipy import ndimage

from scripts.evaluation.postprocess import (
    fill_holes,
    keep_largest_component,
    postprocess_labels,
    postprocess_mask,
    smooth_mask,
)
from scripts.metrics.topology import count_components, count_holes


def noisy_mask(seed: int, shape=(24, 22, 20)) -> np.ndarray:
    """A blob with holes and islands, which may touch the border."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return field > 0.05


@pytest.mark.parametrize("seed", range(4))
def test_largest_component_equals_monai(seed):
    mask = noisy_mask(seed) & noisy_mask(seed + 10)
    expected = np.asarray(KeepLargestConnectedComponent()(mask[None].astype(np.uint8).copy()))[0] == 1
    assert count_components(mask) > 1
    assert np.array_equal(keep_largest_component(mask), expected)


@pytest.mark.parametrize("seed", range(4))
def test_filled_holes_equal_monai(seed):
    mask = ~(noisy_mask(seed) & noisy_mask(seed + 10))
    expected = np.asarray(FillHoles(connectivity=1)(mask[None].astype(np.uint8).copy()))[0] == 1
    assert count_holes(mask) > 0
    filled = fill_holes(mask)
    assert np.array_equal(filled, expected)
    assert count_holes(filled) == 0


def test_chain_is_one_solid_piece():
    mask = np.zeros((30, 30, 30), bool)
    mask[5:20, 5:20, 5:20] = True
    solid = mask.copy()
    mask[8:12, 8:12, 8:12] = False
    mask[25:28, 25:28, 25:28] = True
    assert np.array_equal(postprocess_mask(mask), solid)
    assert not postprocess_mask(np.zeros_like(mask)).any()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.0, 2.5)])
def test_smoothing_on_the_box_equals_the_whole_image(spacing):
    mask = np.zeros((40, 44, 30), bool)
    mask[14:26, 15:30, 12:20] = noisy_mask(3, (12, 15, 8))
    sigma = 1.5 / np.asarray(spacing)
    expected = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="nearest", truncate=4) > 0.5
    assert np.array_equal(smooth_mask(mask, spacing, 1.5), expected)


def test_smoothing_keeps_half_spaces_and_cut_faces():
    mask = np.zeros((20, 20, 20), bool)
    mask[:10] = True
    assert np.array_equal(smooth_mask(mask, (1, 1, 1), 2.0), mask)
    assert np.array_equal(smooth_mask(mask, (1, 1, 1), 0.0), mask)
    with pytest.raises(ValueError, match="smoothing_mm"):
        smooth_mask(mask, (1, 1, 1), -1.0)


def label_map() -> np.ndarray:
    labels = np.zeros((30, 20, 20), np.uint8)
    labels[4:10, 4:14, 4:14] = 1
    labels[10:16, 4:14, 4:14] = 2
    labels[6, 8, 8] = 0  # a cavity in part 1
    labels[13, 8, 8] = 0  # a cavity in part 2
    labels[8, 10, 10] = 5  # another structure's voxel inside part 1
    labels[26:28, 2:4, 2:4] = 2  # an island
    return labels


def test_parts_of_a_structure_keep_and_extend_their_labels():
    before = label_map()
    after = postprocess_labels(before, [np.isin(before, [1, 2]), before == 5])
    expected = before.copy()
    expected[6, 8, 8], expected[13, 8, 8] = 1, 2
    expected[26:28, 2:4, 2:4] = 0
    assert np.array_equal(after, expected)
    assert after.dtype == before.dtype
    assert np.array_equal(before, label_map())


def test_each_label_alone_by_default():
    labels = label_map()
    labels[20:22, 10:12, 10:12] = 1
    after = postprocess_labels(labels)
    assert not (after[20:22] == 1).any()
    assert after[8, 10, 10] == 5
    assert (after[4:10, 4:14, 4:14] == 1).sum() == 599


def test_smoothed_structures_do_not_take_each_others_voxels():
    before = label_map()
    after = postprocess_labels(before, [np.isin(before, [1, 2]), before == 5], (1, 1, 1), 1.0)
    assert set(np.unique(after)) <= {0, 1, 2, 5}
    taken = (before != 0) & (after != 0)
    assert np.array_equal(before[taken], after[taken])
    assert count_components(np.isin(after, [1, 2])) == 1
