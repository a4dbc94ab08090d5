"""Whole organs from a few drawn slices: which were drawn, how they are filled, and what the fit says between them."""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.data import MetaTensor

from scripts.cases.errors import UnrefinableCase
from scripts.geometry.boxed import BoxedMask
from scripts.geometry.surface import mask_to_surface
from scripts.metrics.surface import score_masks
from scripts.organ.pack import OrganPack
from scripts.refine.bodies import Islands
from scripts.refine.chain import Refiner
from scripts.refine.drawing import Drawing, parts_of
from scripts.refine.fill_drawn import FillDrawnd
from scripts.refine.finetune import LatentFinetune
from scripts.refine.planes import FILLED, LONE, DrawnSlices
from scripts.refine.reconstruct import ReconstructShape
from scripts.refine.sparse import contour_samples, follow
from scripts.refine.stages import Refined, Unrefined
from scripts.report.outcome import outcome_of
from scripts.run.jobs import run_job
from tests.helpers.mean_shape import mean_shape

GAP = 6
LABELS = {1: "low", 2: "high", 3: "gall"}  # the last is no structure's
PARTS = OrganPack.of(
    {
        "name": "parts",
        "labels": LABELS,
        "structures": [{"name": "low", "labels": [1]}, {"name": "high", "labels": [2]}],
    },
    Path("parts"),
)
WHOLE = OrganPack.of(
    {"name": "whole", "labels": LABELS, "structures": [{"name": "organ", "labels": [1, 2]}]}, Path("whole")
)


def only(label_map, axis, places):
    """The label map with nothing but these slices."""
    few = np.zeros_like(label_map)
    np.moveaxis(few, axis, 0)[places] = np.moveaxis(label_map, axis, 0)[places]
    return few


def drawing_of(label_map, pack=PARTS):
    return Drawing.of(label_map, np.eye(4), pack)


def across(axis, places):
    return DrawnSlices.across({axis: places})


def places(label_map):
    """The drawn slices of a single structure."""
    drawing = drawing_of(label_map)
    return drawing.slices_of(drawing.parts[0].mask)


def refined_drawing(refiner, few, affine):
    """A drawing filled, and refined, and what came of its one structure."""
    drawing = Drawing.of(few, affine, refiner.pack)
    filled = drawing.fill(few, affine)
    sampled = refiner.sample(refiner.align(filled, affine), filled, affine, drawn=drawing)
    refined, (shape,) = refiner.reconstruct(refiner.fit(sampled), filled, affine)
    return filled, refined, shape


def ball_mm(shape, radius, centre=None):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return np.linalg.norm(index - (np.array(shape) - 1) / 2 if centre is None else index - centre, axis=-1) - radius


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_drawn_slices_are_found(axis):
    ball = (ball_mm((24, 25, 26), 9.0) < 0).astype(np.uint8)
    drawing = Drawing.of(only(ball, axis, [6, 9, 15, 17]), np.eye(4), PARTS)
    (part,) = drawing.parts
    assert (drawing.slices.axes, part.name, drawing.warnings) == ((axis,), "low", [])
    drawn = drawing.slices_of(part.mask)
    assert drawn == across(axis, (6, 9, 15, 17))
    assert str(drawing) == f"slices drawn across the {('first', 'second', 'third')[axis]} axis: low 4"
    box = [slice(0, 24), slice(0, 24), slice(0, 24)]
    box[axis] = slice(8, 17)
    assert drawn.within(box) == across(axis, (1, 7))


def test_what_cannot_be_filled_is_refused_for_the_right_reason():
    ball = (ball_mm((24, 24, 24), 9.0) < 0).astype(np.uint8)
    with pytest.raises(ValueError, match="nothing to fill in"):
        drawing_of(ball)
    with pytest.raises(ValueError, match="a single slice was drawn"):
        drawing_of(only(ball, 1, [12]))
    with pytest.raises(ValueError, match="along more than one axis.*--slices_file"):  # blocks
        drawing_of(only(only(ball, 0, [8, 9, 14, 15]), 1, [8, 9, 14, 15]))
    with pytest.raises(ValueError, match="^nothing was drawn"):
        drawing_of(0 * ball)
    lines = only(only(ball, 0, [12]), 1, [8, 12, 16])
    with pytest.raises(ValueError, match="a voxel thick: paint the whole organ"):
        drawing_of(lines)
    refiner = SimpleNamespace(pack=PARTS)
    with pytest.raises(UnrefinableCase, match="nothing to fill in"):
        FillDrawnd("pred", refiner, sparse=True)({"pred": MetaTensor(torch.as_tensor(ball)[None], affine=torch.eye(4))})
    untouched = {"pred": torch.as_tensor(ball)[None]}
    assert FillDrawnd("pred", refiner)(untouched) == untouched


def two_apart():
    """Two balls above each other in x, the one drawn in other slices of the same range than the other."""
    both = np.zeros((60, 30, 30), np.uint8)
    both[ball_mm(both.shape, 9.0, [14, 15, 15]) < 0] = 1
    both[ball_mm(both.shape, 9.0, [45, 15, 15]) < 0] = 2
    return both, only(np.where(both == 1, 1, 0), 2, [9, 15, 21]) + only(np.where(both == 2, 2, 0), 2, [8, 12, 18])


def test_each_structure_counts_in_the_slices_that_show_it():
    both, few = two_apart()
    drawing = drawing_of(few)
    assert [drawing.slices_of(part.mask) for part in drawing.parts] == [across(2, (9, 15, 21)), across(2, (8, 12, 18))]
    filled = drawing.fill(few, np.eye(4))
    for label, alone in ((1, np.where(few == 1, 1, 0)), (2, np.where(few == 2, 2, 0))):
        np.testing.assert_array_equal(filled == label, drawing_of(alone).fill(alone, np.eye(4)) == label)
    assert (filled[14, 15] == 1).sum() == 19 and (filled[45, 15] == 2).sum() == 15
    held = drawing.slices_of(BoxedMask.of(filled == 1))
    assert held == across(2, (9, 15, 21))
    even, odd = (only(np.where(both == label, label, 0), 2, range(9 - label, 21, 2)) for label in (1, 2))
    alternating = even + odd
    assert drawing_of(alternating).slices.axes == (2,)  # together they leave no slice out


def test_of_a_label_without_a_prior_it_is_said_that_it_was_interpolated():
    both, few = two_apart()
    drawing = drawing_of(np.where(few == 2, 3, few))
    assert drawing.warnings == [f"gall has no prior: {FILLED}"]
    lone = drawing_of(np.where(few == 1, 1, 0) + 3 * only(few == 2, 2, [12]))
    assert lone.warnings == [] and str(lone).endswith("low 3, gall 1")
    initial = MetaTensor(torch.as_tensor(few.astype(np.uint8))[None], affine=torch.eye(4))
    outcome = outcome_of({"pred": initial, "initial": initial, "pred_shapes": [], "pred_drawn": drawing})
    assert outcome.warnings == drawing.warnings


def test_a_structure_in_one_slice_stays_as_drawn_beside_one_in_several():
    _, few = two_apart()
    few = np.where(few == 1, few, 0) + 2 * only(few == 2, 2, [12])
    drawing = drawing_of(few)
    np.testing.assert_array_equal(drawing.fill(few, np.eye(4)) == 2, few == 2)
    assert drawing.slices_of(drawing.parts[1].mask).unfitted == LONE


def test_organs_and_islands_apart_along_another_axis_are_no_second_direction():
    both = (np.minimum(ball_mm((60, 30, 30), 9.0, [14, 15, 15]), ball_mm((60, 30, 30), 9.0, [45, 15, 15])) < 0).astype(
        int
    )
    assert places(only(both, 2, [9, 13, 17, 21])) == across(2, (9, 13, 17, 21))
    both[2:4, 2:4, 13] = 1
    assert places(only(both, 2, [9, 13])) == across(2, (9, 13))


def test_what_was_drawn_far_beyond_the_fit_is_not_carried_on():
    fit_mm = ball_mm((30, 30, 60), 10.0, [15, 15, 20]).astype(np.float32)
    few = only((fit_mm < 0).astype(np.uint8), 2, [14, 20, 26])
    few[13:18, 13:18, 44] = 1
    drawn = places(few)
    found = follow(drawn, drawing_of(few).fill(few, np.eye(4)) > 0, fit_mm, np.ones(3)) < 0
    shown = list(drawn.places[2])
    assert (found[..., shown] == (few > 0)[..., shown]).all() and not found[..., 45:].any()


def test_filling_interpolates_contours_and_keeps_what_was_drawn():
    """A cone, its two parts below and above: the radius between two slices is between theirs."""
    index = np.stack(np.meshgrid(np.arange(40), np.arange(40), np.arange(30), indexing="ij"), -1)
    radius = 4.0 + 0.4 * index[..., 2]
    cone = (np.hypot(index[..., 0] - 20, index[..., 1] - 20) < radius) * np.where(index[..., 2] < 15, 1, 2)
    shown = [5, 11, 18, 24]
    few = only(cone.astype(np.uint8), 2, shown)
    filled = drawing_of(few, WHOLE).fill(few, np.diag([1.0, 1.0, 2.0, 1.0]))
    assert filled.dtype == few.dtype and (filled[..., shown] == few[..., shown]).all()
    assert not filled[..., :2].any() and filled[..., 2:28].any(axis=(0, 1)).all() and not filled[..., 28:].any()
    between = (filled > 0)[..., 5:25], (cone > 0)[..., 5:25]
    assert 2 * (between[0] & between[1]).sum() / (between[0].sum() + between[1].sum()) > 0.95
    assert set(np.unique(filled[..., 5:12])) == {0, 1} and set(np.unique(filled[..., 18:25])) == {0, 2}


def test_voxels_of_others_are_no_drawing_and_stay():
    ball = (ball_mm((24, 24, 24), 9.0) < 0).astype(np.int16)
    few = only(ball, 2, [6, 12, 17])
    few[11:13, 11:13, :] = -1
    filled = drawing_of(few).fill(few, np.eye(4))
    assert places(few) == across(2, (6, 12, 17))
    assert ((filled == -1) == (few == -1)).all() and (filled[6:9, 12, 9] == 1).all()


def test_the_fit_is_followed_and_corrected_between_slices():
    truth_mm = ball_mm((30, 30, 30), 10.0)
    shown = [8, 14, 21]
    drawn = across(2, shown)
    few = only((truth_mm < 0).astype(np.uint8), 2, shown)
    filled = drawing_of(few).fill(few, np.eye(4)) > 0
    for shift in (0.0, 1.5):  # a fit that is right, and one that is too small all over
        found = follow(drawn, filled, (truth_mm + shift).astype(np.float32), np.ones(3)) < 0
        assert (found[..., shown] == (few > 0)[..., shown]).all()
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
    drawn = across(0, (8, 14, 21))
    few = only(ball, 0, [8, 14, 21])
    filled = drawing_of(few).fill(few, affine)
    samples = contour_samples(drawn, mask_to_surface(filled, affine), affine, 300, seed=0)
    first = np.linalg.solve(affine[:3, :3], (samples.points_world - affine[:3, 3]).T)[0]
    assert np.abs(first[:, None] - np.array([8, 14, 21])).min(axis=1).max() <= 0.3
    assert 200 < len(samples.trust) <= 300 and (samples.trust == 1).all()


@pytest.fixture(scope="module")
def drawing():
    """A hippocampus of the packaged prior, its affine, and every sixth coronal slice of it."""
    truth, affine = mean_shape("plain")
    filled = np.flatnonzero(truth.any(axis=(0, 2)))
    return truth, affine, only(truth, 1, list(range(filled[0] + 2, filled[-1], GAP)))


def test_a_hippocampus_comes_back_from_every_sixth_slice(drawing):
    truth, affine, few = drawing
    refiner = Refiner("hippocampus", see=False)
    filled, refined, shape = refined_drawing(refiner, few, affine)
    before, after = (score_masks(m > 0, truth > 0, affine, 1.0)["dsc"] for m in (filled, refined))
    assert after > max(before + 3.0, 93.0)
    shown = np.flatnonzero(few.any(axis=(0, 2)))
    np.testing.assert_array_equal(refined[:, shown], few[:, shown])
    assert isinstance(shape, Refined) and shape.quality["evidence"] == "drawn slices" and shape.mesh.is_watertight


def test_what_cannot_be_fitted_says_what_came_of_it(drawing):
    truth, affine, few = drawing
    refiner = Refiner("hippocampus", see=False)
    shown = np.flatnonzero(few.any(axis=(0, 2)))
    two = Drawing(across(1, shown), tuple(parts_of(few, affine, refiner.pack)))
    alone = only(few, 1, [shown[2]])
    sampled = refiner.sample(refiner.align(alone, affine), alone, affine, drawn=two)
    assert isinstance(sampled[0], Unrefined) and sampled[0].failure.endswith(LONE)
    crumb = np.zeros_like(few)
    crumb[truth.shape[0] // 2, shown[:2], truth.shape[2] // 2] = 1
    dots = Drawing(across(1, shown), tuple(parts_of(crumb, affine, refiner.pack)))
    (tiny,) = refiner.sample(refiner.align(crumb, affine), crumb, affine, drawn=dots)
    assert tiny.failure == f"hippocampus has only 2 voxels; {FILLED}"
    (none,) = refiner.sample(refiner.align(0 * few, affine), 0 * few, affine, drawn=two)
    assert none.failure == "the mask has no hippocampus"


@pytest.mark.parametrize("step", [LatentFinetune.fit_batch, ReconstructShape.__call__])
def test_a_step_that_fails_leaves_what_was_interpolated_and_says_so(drawing, step, monkeypatch):
    _, affine, few = drawing
    refiner = Refiner("hippocampus", see=False)

    def fail(*_):
        raise ValueError("no luck")

    kind = LatentFinetune if step is LatentFinetune.fit_batch else ReconstructShape
    monkeypatch.setattr(kind, step.__name__, fail)
    islands = Islands(np.argwhere(few)[:3], 3.0, 1, (0.0, 0.0, 0.0))
    monkeypatch.setattr("scripts.refine.steps.far_islands", lambda *_: islands)  # which somebody drew
    filled, refined, shape = refined_drawing(refiner, few, affine)
    np.testing.assert_array_equal(refined, filled)
    assert isinstance(shape, Unrefined) and "no luck" in shape.failure and shape.failure.endswith(FILLED)


def test_sides_are_looked_at_when_the_gaps_are_filled(bundle_root):
    steps = yaml.safe_load((bundle_root / "configs" / "refine.yaml").read_text())["postprocessing"]["transforms"]
    names = [step["_target_"].rpartition(".")[2] for step in steps]
    assert names.index("FillDrawnd") < names.index("MendSidesd")


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
    assert report["settings"]["sparse"] is True
    assert drawn["structures"][0]["quality"]["evidence"] == "drawn slices"
    assert whole["status"] == "kept" and "nothing to fill in" in str(whole)
    initial, refined = (
        np.asarray(nib.load(tmp_path / "out" / "drawn" / f"drawn_{kind}.nii.gz").dataobj)
        for kind in ("initial", "refined")
    )
    np.testing.assert_array_equal(initial, few)
    assert score_masks(refined > 0, truth > 0, affine, 1.0)["dsc"] > 93.0
    assert (tmp_path / "out" / "report.html").is_file()
