"""The command `slices`: the packaged hippocampus prior's own mean shape in thick slices."""

import csv

import nibabel as nib
import numpy as np
import pytest

from scripts.validation.slices import OURS, coarsened, slices, spread_slices, thin_truth
from tests.helpers.mean_shape import mean_shape


def test_the_prior_s_own_shape_is_found_between_thick_slices(tmp_path):
    (tmp_path / "labels").mkdir()
    label_map, affine = mean_shape("oblique")
    nib.save(nib.Nifti1Image(label_map, affine), tmp_path / "labels" / "a.nii.gz")
    page = slices("hippocampus", str(tmp_path / "labels"), str(tmp_path / "out"), thick_mm="6", split="", device="cpu")
    rows = list(csv.DictReader((tmp_path / "out" / "slices.csv").open()))
    scores = {row["method"]: float(row["assd_mm"]) for row in rows}
    assert len(scores) == 5 and all(scores[OURS] < value for name, value in scores.items() if name != OURS)
    text = open(page).read()
    assert "python -m scripts slices --organ hippocampus" in text and f"| 6 | {OURS} | 1 |" in text


def test_thin_slices_are_made_as_thick_as_asked_for_and_thick_ones_are_left_out():
    label_map = np.zeros((20, 8, 8), int)
    label_map[4:16, 2:6, 2:6] = 1
    across_x = np.array([[0.0, 0.8, 0.0, 0.0], [0.0, 0.0, 0.8, 0.0], [-0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    thin, affine, axis = thin_truth(label_map, across_x, 1.0)
    assert axis == 0 and thin.shape == (10, 8, 8) and affine[2, 0] == -1.0
    across_x[2, 0] = -2.0
    assert thin_truth(label_map, across_x, 1.0) is None


def test_thicknesses_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="fine_mm"):
        slices("hippocampus", str(tmp_path), str(tmp_path / "out"), thick_mm=1.0, fine_mm=1.0)


def test_the_prior_s_own_shape_is_found_between_drawn_slices(tmp_path):
    truth, affine = mean_shape("plain")
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(truth, affine), tmp_path / "labels" / "mean.nii.gz")
    page = slices("hippocampus", str(tmp_path / "labels"), str(tmp_path / "out"), drawn="4", split="", device="cpu")
    rows = list(csv.DictReader((tmp_path / "out" / "slices.csv").open()))
    dsc = {row["method"]: float(row["dsc"]) for row in rows}
    assert list(dsc) == ["nearest", "shape-based", "refine --sparse"] and {row["drawn_slices"] for row in rows} == {"4"}
    assert dsc["refine --sparse"] > max(dsc["nearest"], dsc["shape-based"]) + 3.0
    text = open(page).read()
    assert "--drawn 4" in text and "a few slices made whole" in text


def test_slices_are_spread_along_the_longest_axis():
    mask = np.zeros((20, 30, 10), bool)
    mask[5:15, 3:27, 2:8] = True
    assert spread_slices(mask, np.array([1.0, 1.0, 1.0]), 3) == (1, [7, 15, 23])
    assert spread_slices(mask, np.array([1.0, 1.0, 6.0]), 3) == (2, [3, 5, 7])
    with pytest.raises(ValueError, match="at least two slices"):
        slices("hippocampus", "labels", "out", drawn=1)


def test_only_the_structures_that_were_asked_for_are_measured_on_a_coarser_grid(tmp_path):
    truth, affine = mean_shape("plain")
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(truth, affine), tmp_path / "labels" / "mean.nii.gz")
    given = {"label_dir": str(tmp_path / "labels"), "drawn": "4", "split": "", "device": "cpu"}
    page = slices("hippocampus", output_dir=str(tmp_path / "out"), structures="hippocampus", grid_mm=2.0, **given)
    rows = list(csv.DictReader((tmp_path / "out" / "slices.csv").open()))
    assert {row["structure"] for row in rows} == {"hippocampus"}
    assert "--structures hippocampus --grid_mm 2.0" in open(page).read()
    with pytest.raises(ValueError, match="has no 'liver'; it has hippocampus"):
        slices("hippocampus", output_dir=str(tmp_path / "out"), structures="liver", **given)


def test_voxels_are_joined_to_sides_of_at_most_a_length_but_for_one_axis():
    label_map = np.zeros((12, 12, 12), int)
    label_map[4:8, 4:8, 4:8] = 3
    fine = np.diag([0.7, 1.0, 3.0, 1.0])
    coarse, affine = coarsened(label_map, fine, 2.0)
    np.testing.assert_allclose(np.diag(affine)[:3], [1.4, 2.0, 3.0])
    assert coarse.shape == (6, 6, 12) and (coarse[2:4, 2:4, 4:8] == 3).all() and (coarse > 0).sum() == 16
    assert coarsened(label_map, fine, 2.0, but=0)[0].shape == (12, 6, 12)
    assert coarsened(label_map, fine, 0.0)[0] is label_map
