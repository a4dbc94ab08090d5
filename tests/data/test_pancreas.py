"""Placing a label map on its scan: by header where that is right, by the tissue it covers where it is not."""

import nibabel as nib
import numpy as np
import pytest

from scripts.data.pancreas import place_label, reorder
from tests.helpers.abdomen_scan import SHAPE, scene
from tests.helpers.publishers import LPS, frame_lps

AFFINES = {seed: LPS @ frame_lps(seed, (0.8, 0.8, 2.0)) for seed in (0, 1, 2)}


def turned(values, affine, order, flips):
    """The same volume stored in another order of axes, with the affine that says so."""
    ornt = np.array([[order[axis], flips[axis]] for axis in range(3)])
    image = nib.Nifti1Image(values, affine).as_reoriented(ornt)
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("affine", AFFINES.values(), ids=[f"frame{k}" for k in AFFINES])
@pytest.mark.parametrize("order, flips", [((0, 1, 2), (1, 1, 1)), ((1, 0, 2), (-1, 1, -1)), ((2, 0, 1), (1, -1, 1))])
def test_right_headers_are_followed(affine, order, flips):
    organ, scan = scene()
    label, label_affine = turned(organ, affine, order, flips)
    np.testing.assert_array_equal(reorder(label, label_affine, SHAPE, affine), organ)
    placed, note = place_label(label, label_affine, scan, affine)
    np.testing.assert_array_equal(placed, organ)
    assert note == ""


@pytest.mark.parametrize("axes, words", [((1,), "front to back"), ((2,), "top to bottom"), ((1, 2), "and top to")])
@pytest.mark.parametrize("header", ["scan's", "none"])
def test_turned_labels_are_turned_back(axes, words, header):
    organ, scan = scene()
    affine = AFFINES[1]
    label_affine = affine if header == "scan's" else np.diag([0.8, 0.8, 2.0, 1.0])
    placed, note = place_label(np.flip(organ, axes), label_affine, scan, affine)
    np.testing.assert_array_equal(placed, organ)
    assert words in note and ("elsewhere" in note) == (header == "none")


def test_a_header_elsewhere_with_the_voxels_in_order():
    organ, scan = scene()
    placed, note = place_label(organ, np.eye(4), scan, AFFINES[0])
    np.testing.assert_array_equal(placed, organ)
    assert "voxel by voxel" in note


def test_what_cannot_be_told_is_refused():
    organ, scan = scene()
    with pytest.raises(ValueError, match="lab does not lie on its scan"):
        place_label(organ, np.eye(4), np.full_like(scan, 50), AFFINES[0], "lab")
    with pytest.raises(ValueError, match="has the shape"):
        place_label(organ[:-1], AFFINES[0], scan, AFFINES[0])
    with pytest.raises(ValueError, match="is empty"):
        place_label(np.zeros_like(organ), AFFINES[0], scan, AFFINES[0])
    half_a_voxel_off = AFFINES[0].copy()
    half_a_voxel_off[:3, 3] += 5
    assert reorder(organ, half_a_voxel_off, SHAPE, AFFINES[0]) is None
