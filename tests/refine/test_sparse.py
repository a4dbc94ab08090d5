"""Whole organs from a few drawn slices: which were drawn, how they are filled, and what the fit says between them."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cases.errors import UnrefinableCase
from scripts.geometry.surface import mask_to_surface
from scripts.metrics.surface import score_masks
from scripts.refine.chain import Refiner
from scripts.refine.sparse import DrawnSlices
from scripts.refine.stages import Refined
from scripts.refine.transforms import FillDrawnd
from scripts.run.jobs import run_job
from tests.helpers.mean_shape import mean_shape

GAP = 6


def only(label_map, axis, places):
    """The label map with nothing but these slices."""
    few = np.zeros_like(label_map)
    np.moveaxis(few, axis, 0)[places] = np.moveaxis(label_map, axis, 0)[places]
    return few


def ball_mm(shape, radius, centre=None):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.linalg.norm(index - (np.array(shape) - 1) / 2 if centre is None else index - centre, axis=-1) - radius


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_drawn_slices_are_found(axis):
    ball = (ball_mm((24, 25, 26), 9.0) < 0).astype(np.uint8)
    drawn = DrawnSlices.of(only(ball, axis, [6, 9, 15, 17]))
    assert drawn == DrawnSlices(axis, (6, 9, 15, 17))
    assert str(drawn) == f"4 drawn slices across the {('first', 'second', 'third')[axis]} axis"
    box = [slice(0, 24), slice(0, 24), slice(0, 24)]
    box[axis] = slice(8, 17)
    assert drawn.within(box).places == (1, 7)


def test_masks_without_gaps_or_with_gaps_along_two_axes_are_refused():
    ball = (ball_mm((24, 24, 24), 9.0) < 0).astype(np.uint8)
    with pytest.raises(ValueError, match="nothing to fill in"):
        DrawnSlices.of(ball)
    with pytest.raises(ValueError, match="a single slice was drawn"):
        DrawnSlices.of(only(ball, 1, [12]))
    with pytest.raises(ValueError, match="across the same one"):
        DrawnSlices.of(only(only(ball, 0, [8, 12, 16]), 1, [8, 12, 16]))
    with pytest.raises(UnrefinableCase, match="nothing to fill in"):
        FillDrawnd("pred", sparse=True)({"pred": MetaTensor(torch.as_tensor(ball)[None], affine=torch.eye(4))})
    untouched = {"pred": torch.as_tensor(ball)[None]}
    assert FillDrawnd("pred")(untouched) == untouched


def test_organs_and_islands_apart_along_another_axis_are_no_second_direction():
    both = (np.minimum(ball_mm((60, 30, 30), 9.0, [14, 15, 15]), ball_mm((60, 30, 30), 9.0, [45, 15, 15])) < 0).astype(
        int
    )
    assert DrawnSlices.of(only(both, 2, [9, 13, 17, 21])) == DrawnSlices(2, (9, 13, 17, 21))
    both[2:4, 2:4, 13] = 1
    assert DrawnSlices.of(only(both, 2, [9, 13])) == DrawnSlices(2, (9, 13))


def test_what_was_drawn_far_beyond_the_fit_is_not_carried_on():
    fit_mm = ball_mm((30, 30, 60), 10.0, [15, 15, 20]).astype(np.float32)
    few = only((fit_mm < 0).astype(np.uint8), 2, [14, 20, 26])
    few[13:18, 13:18, 44] = 1
    drawn = DrawnSlices.of(few)
    found = drawn.follow(drawn.fill(few, np.eye(4)) > 0, fit_mm, np.ones(3)) < 0
    assert (found[..., list(drawn.places)] == (few > 0)[..., list(drawn.places)]).all() and not found[..., 45:].any()


def test_filling_interpolates_contours_and_keeps_what_was_drawn():
    """A cone, its two parts below and above: the radius between two slices is between theirs."""
    index = np.stack(np.meshgrid(np.arange(40), np.arange(40), np.arange(30), indexing="ij"), -1)
    radius = 4.0 + 0.4 * index[..., 2]
    cone = (np.hypot(index[..., 0] - 20, index[..., 1] - 20) < radius) * np.where(index[..., 2] < 15, 1, 2)
    places = [5, 11, 18, 24]
    few = only(cone.astype(np.uint8), 2, places)
    drawn = DrawnSlices.of(few)
    filled = drawn.fill(few, np.diag([1.0, 1.0, 2.0, 1.0]))
    assert filled.dtype == few.dtype and (filled[..., places] == few[..., places]).all()
    assert not filled[..., :2].any() and filled[..., 2:28].any(axis=(0, 1)).all() and not filled[..., 28:].any()
    between = (filled > 0)[..., 5:25], (cone > 0)[..., 5:25]
    assert 2 * (between[0] & between[1]).sum() / (between[0].sum() + between[1].sum()) > 0.95
    assert set(np.unique(filled[..., 5:12])) == {0, 1} and set(np.unique(filled[..., 18:25])) == {0, 2}


def test_voxels_of_others_are_no_drawing_and_stay():
    ball = (ball_mm((24, 24, 24), 9.0) < 0).astype(np.int16)
    few = only(ball, 2, [6, 12, 17])
    few[11:13, 11:13, :] = -1
    drawn = DrawnSlices.of(few)
    filled = drawn.fill(few, np.eye(4))
    assert drawn.places == (6, 12, 17) and ((filled == -1) == (few == -1)).all() and (filled[6:9, 12, 9] == 1).all()


def test_the_fit_is_followed_and_corrected_between_slices():
    truth_mm = ball_mm((30, 30, 30), 10.0)
    drawn = DrawnSlices(2, (8, 14, 21))
    few = only((truth_mm < 0).astype(np.uint8), 2, list(drawn.places))
    filled = drawn.fill(few, np.eye(4)) > 0
    for shift in (0.0, 1.5):  # a fit that is right, and one that is too small all over
        found = drawn.follow(filled, (truth_mm + shift).astype(np.float32), np.ones(3)) < 0
        assert (found[..., drawn.places] == (few > 0)[..., drawn.places]).all()
        inner = slice(8, 22)
        overlap = (
            2
            * (found & (truth_mm < 0))[..., inner].sum()
            / (found[..., inner].sum() + (truth_mm < 0)[..., inner].sum())
        )
        assert overlap > (0.99 if shift == 0 else 0.95)


def test_samples_lie_on_the_drawn_contours():
    ball = (ball_mm((30, 30, 30), 10.0) < 0).astype(np.uint8)
    affine = np.array([[0.0, -1.5, 0.0, 7.0], [2.0, 0.0, 0.0, -3.0], [0.0, 0.0, 1.0, 4.0], [0, 0, 0, 1]])
    drawn = DrawnSlices(0, (8, 14, 21))
    filled = drawn.fill(only(ball, 0, list(drawn.places)), affine)
    samples = drawn.samples(mask_to_surface(filled, affine), affine, 300, seed=0)
    across = np.linalg.solve(affine[:3, :3], (samples.points_world - affine[:3, 3]).T)[0]
    assert np.abs(across[:, None] - np.array(drawn.places)).min(axis=1).max() <= 0.3
    assert 200 < len(samples.trust) <= 300 and (samples.trust == 1).all()


@pytest.fixture(scope="module")
def drawing():
    """A hippocampus of the packaged prior, its affine, and every sixth coronal slice of it."""
    truth, affine = mean_shape("plain")
    filled = np.flatnonzero(truth.any(axis=(0, 2)))
    return truth, affine, only(truth, 1, list(range(filled[0] + 2, filled[-1], GAP)))


def test_a_hippocampus_comes_back_from_every_sixth_slice(drawing):
    truth, affine, few = drawing
    drawn, refiner = DrawnSlices.of(few), Refiner("hippocampus", see=False)
    filled = drawn.fill(few, affine)
    fitted = refiner.fit(refiner.sample(refiner.align(filled, affine), filled, affine, drawn=drawn))
    refined, (shape,) = refiner.reconstruct(fitted, filled, affine, drawn=drawn)
    before, after = (score_masks(m > 0, truth > 0, affine, 1.0)["dsc"] for m in (filled, refined))
    assert after > max(before + 3.0, 93.0)
    places = list(drawn.places)
    np.testing.assert_array_equal(refined[:, places], few[:, places])
    assert isinstance(shape, Refined) and shape.quality["evidence"] == "drawn slices" and shape.mesh.is_watertight


def test_a_structure_in_a_single_drawn_slice_is_not_guessed(drawing):
    truth, affine, few = drawing
    drawn, refiner = DrawnSlices.of(few), Refiner("hippocampus", see=False)
    alone = drawn.fill(only(few, 1, [drawn.places[2]]), affine)
    assert drawn.holding(few > 0) == len(drawn.places) and drawn.holding(alone > 0) == 1
    fitted = refiner.fit(refiner.sample(refiner.align(alone, affine), alone, affine, drawn=drawn))
    refined, (shape,) = refiner.reconstruct(fitted, alone, affine, drawn=drawn)
    np.testing.assert_array_equal(refined, alone)
    said = [shape.failure, *shape.quality.get("warnings", [])]
    assert "interpolated without the prior" in " ".join(said)


def test_the_refine_job_takes_drawn_slices(drawing, tmp_path):
    truth, affine, few = drawing
    for name, mask in (("drawn", few), ("whole", truth)):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / f"{name}.nii.gz")
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").rename(tmp_path / "masks" / f"{name}.nii.gz")
    given = {"dataset_dir": tmp_path / "masks", "output_dir": tmp_path / "out", "device": "cpu"}
    run_job("refine", **given, sparse=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    drawn, whole = report["cases"]
    assert drawn["structures"][0]["quality"]["evidence"] == "drawn slices"
    assert whole["status"] == "kept" and "nothing to fill in" in str(whole)
    initial, refined = (
        np.asarray(nib.load(tmp_path / "out" / "drawn" / f"drawn_{kind}.nii.gz").dataobj)
        for kind in ("initial", "refined")
    )
    np.testing.assert_array_equal(initial, few)
    assert score_masks(refined > 0, truth > 0, affine, 1.0)["dsc"] > 93.0
    assert (tmp_path / "out" / "report.html").is_file()
