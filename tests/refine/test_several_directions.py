"""Few slices that cross: which were drawn, how the gaps are filled, and what comes of shapes whose truth is known."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.cases.errors import UnrefinableCase
from scripts.cases.find import CASE
from scripts.geometry.surface import mask_to_surface
from scripts.metrics.surface import score_masks
from scripts.refine.chain import Refiner
from scripts.refine.drawing import Drawing
from scripts.refine.fill_drawn import FillDrawnd
from scripts.refine.planes import DrawnSlices
from scripts.refine.slices_file import SlicesFile
from scripts.refine.sparse import contour_samples, follow
from scripts.run.jobs import run_job
from scripts.run.kinds import check_options
from tests.helpers.crossing import agree, crossed, spread_over
from tests.helpers.mean_shape import mean_shape
from tests.refine.test_sparse import PARTS, ball_mm, drawing_of, refined_drawing

CROSSING = [{0: [12, 20], 2: [10, 15, 22]}, {0: [15], 1: [14], 2: [16]}, {1: [9, 13, 14, 21], 2: [15]}]
OBLIQUE = np.array([[0.0, -1.6, 0.3, 7.0], [1.2, 0.0, 0.0, -3.0], [0.0, 0.4, 2.0, 4.0], [0, 0, 0, 1]])


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def egg():
    index = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), -1) - [15.0, 15.0, 16.0]
    return (np.linalg.norm(index / [12.0, 9.0, 13.0], axis=-1) < 1).astype(np.uint8)


@pytest.mark.parametrize("places", CROSSING)
def test_crossing_slices_are_found_and_an_egg_is_filled_between_them(places):
    truth = egg()
    few = crossed(truth, places)
    drawing = drawing_of(few)
    assert drawing.slices == drawing.slices_of(drawing.parts[0].mask) == DrawnSlices.across(places)
    filled = drawing.fill(few, np.eye(4))
    assert agree(filled, truth, places)  # voxel by voxel, and empty where it was left empty
    alone = max(  # what slices across one of the axes give by themselves
        dice(drawing_of(crossed(truth, {axis: own})).fill(crossed(truth, {axis: own}), np.eye(4)) > 0, truth > 0)
        if len(own) > 1
        else 0.0
        for axis, own in places.items()
    )
    assert dice(filled > 0, truth > 0) > max(alone, 0.85)


def test_of_each_structure_only_the_slices_count_in_which_it_was_drawn():
    """Of two balls one in slices across two axes; these cross the other one where it was not drawn."""
    both = np.zeros((30, 30, 60), np.uint8)
    both[ball_mm(both.shape, 9.0, [15, 15, 15]) < 0] = 1
    both[ball_mm(both.shape, 9.0, [15, 15, 44]) < 0] = 2
    low, high = {0: [12, 18], 2: [10, 17]}, {2: [38, 44, 50]}
    few = crossed(np.where(both == 1, 1, 0), low) + crossed(np.where(both == 2, 2, 0), high)
    drawing = drawing_of(few)
    found = [drawing.slices_of(part.mask) for part in drawing.parts]
    assert found == [DrawnSlices.across(low), DrawnSlices.across(high)]
    assert str(drawing) == "slices drawn across the first axis: low 2; across the third axis: low 2, high 3"
    alone = np.where(few == 2, 2, 0)
    np.testing.assert_array_equal(drawing.fill(few, np.eye(4)) == 2, drawing_of(alone).fill(alone, np.eye(4)) == 2)


@pytest.mark.parametrize("places", CROSSING)
def test_samples_lie_on_the_drawn_contours_of_all_directions(places):
    truth, drawn = egg(), DrawnSlices.across(places)
    few = crossed(truth, places)
    filled = drawing_of(few).fill(few, OBLIQUE)
    samples = contour_samples(drawn, mask_to_surface(filled, OBLIQUE), OBLIQUE, 400, seed=0)
    voxels = (samples.points_world - OBLIQUE[:3, 3]) @ np.linalg.inv(OBLIQUE[:3, :3]).T
    near = {axis: np.abs(voxels[:, axis, None] - np.array(own)).min(axis=1) <= 0.3 for axis, own in places.items()}
    assert np.any(list(near.values()), axis=0).all() and all(own.sum() > 30 for own in near.values())
    assert 200 < len(samples.trust) <= 400


@pytest.mark.parametrize("places", CROSSING)
def test_the_fit_is_corrected_to_what_was_drawn_in_all_directions(places):
    truth = egg()
    few = crossed(truth, places)
    filled = drawing_of(few).fill(few, np.eye(4)) > 0
    too_small = ball_mm((32, 32, 32), 10.0, [15, 15, 16]).astype(np.float32)
    found = follow(DrawnSlices.across(places), filled, too_small, np.ones(3)) < 0
    assert agree(found, truth > 0, places)
    assert dice(found, truth > 0) > dice(too_small < 0, truth > 0) + 0.02


def test_slices_whose_rows_do_not_tell_are_to_be_named():
    """Four slices side by side across each axis, twice: too thick to be told from what crosses them."""
    ball = (ball_mm((24, 24, 24), 9.0) < 0).astype(np.uint8)
    places = {axis: [6, 7, 8, 9, 14, 15, 16, 17] for axis in range(3)}
    blocks = crossed(ball, places)
    with pytest.raises(ValueError, match="where too many cross to tell, name them in a file, --slices_file FILE"):
        drawing_of(blocks)
    named = DrawnSlices.across(places)
    drawing = Drawing.of(blocks, np.eye(4), PARTS, named)
    filled = drawing.fill(blocks, np.eye(4))
    assert agree(filled, ball, places) and dice(filled > 0, ball > 0) > 0.98
    with pytest.raises(ValueError, match=r"voxels of low, such as \(\d+, \d+, \d+\), lie in no slice that was named"):
        Drawing.of(blocks, np.eye(4), PARTS, DrawnSlices.across({0: [4, 6]}))


def test_a_lump_beside_crossing_slices_is_no_slice_and_its_place_is_said():
    few = crossed(egg(), CROSSING[0])
    few[1:5, 1:5, 1:5] = 1
    with pytest.raises(ValueError, match=r"cannot be told in which slice the voxel \([1-4], [1-4], [1-4]\) was drawn"):
        drawing_of(few)


def test_named_slices_are_those_of_the_patient(tmp_path):
    file = tmp_path / "slices.json"
    file.write_text(json.dumps({"a": {"axial": [3, 9], "sagittal": [4]}}))
    named = SlicesFile.read(file)
    turned = np.array([[0, 0, -2.0, 0], [1.0, 0, 0, 0], [0, 3.0, 0.2, 0], [0, 0, 0, 1]])  # first axis front-back
    assert named.of("a", turned, (10, 10, 10)) == DrawnSlices.across({1: [3, 9], 2: [4]})
    assert named.of("b", turned, (10, 10, 10)) is None and SlicesFile.read(None).of("a", turned, (9, 9, 9)) is None
    with pytest.raises(ValueError, match=r"slices.json: axial slice 9 is not there, the last is 8"):
        named.of("a", turned, (10, 9, 10))
    ball = (ball_mm((12, 12, 12), 5.0) < 0).astype(np.uint8)
    few = MetaTensor(torch.as_tensor(crossed(ball, {2: [3, 9]}))[None], affine=torch.eye(4))
    file.write_text(json.dumps({"a": {"axial": [3]}}))
    fill = FillDrawnd("pred", SimpleNamespace(pack=PARTS), sparse=True, slices_file=str(file))
    with pytest.raises(UnrefinableCase, match="lie in no slice that was named"):
        fill({"pred": few, CASE: "a"})
    assert fill({"pred": few, CASE: "b"})["pred_drawn"].slices == DrawnSlices.across({2: [3, 9]})


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": [1]}', '{"a": {"up": [1]}}', '{"a": {"axial": [-1]}}', '{"a": {"axial": [true]}}']
)
def test_a_file_that_names_no_slices_is_refused_before_anything_is_done(text, tmp_path):
    file = tmp_path / "slices.json"
    file.write_text(text)
    with pytest.raises(SystemExit, match="^Error: slices_file: .*slices.json (cannot be read|must say)"):
        check_options(sparse=True, slices_file=str(file))
    with pytest.raises(SystemExit, match="cannot be read"):
        check_options(sparse=True, slices_file=str(tmp_path / "none.json"))
    file.write_text('{"a": {"axial": [1]}}')
    check_options(sparse=True, slices_file=str(file))
    with pytest.raises(SystemExit, match="add --sparse true"):
        check_options(slices_file=str(file))


@pytest.mark.parametrize("affine_name", ["plain", "oblique"])
def test_a_hippocampus_comes_back_from_one_slice_of_each_direction(affine_name):
    truth, affine = mean_shape(affine_name)
    places = spread_over(truth, {0: 1, 1: 1, 2: 1})
    few = crossed(truth, places)
    filled, refined, shape = refined_drawing(Refiner("hippocampus", see=False), few, affine)
    before, after = (score_masks(m > 0, truth > 0, affine, 1.0)["dsc"] for m in (filled, refined))
    assert after > max(before + 5.0, 88.0)
    assert agree(refined, truth, places)
    assert shape.quality["evidence"] == "drawn slices" and shape.mesh.is_watertight


def test_the_refine_job_takes_slices_that_cross(tmp_path):
    truth, affine = mean_shape("plain")
    places = spread_over(truth, {0: 1, 1: 3})
    (tmp_path / "masks").mkdir()
    nib.save(nib.Nifti1Image(crossed(truth, places), affine), tmp_path / "masks" / "a.nii.gz")
    file = tmp_path / "slices.json"
    file.write_text(json.dumps({"a": {"sagittal": places[0], "coronal": places[1]}}))
    given = {"dataset_dir": tmp_path / "masks", "device": "cpu", "html": False, "sparse": True}
    run_job("refine", **given, output_dir=tmp_path / "found")
    run_job("refine", **given, output_dir=tmp_path / "named", slices_file=file)
    found, named = (
        np.asarray(nib.load(tmp_path / kind / "a" / "a_refined.nii.gz").dataobj) for kind in ("found", "named")
    )
    np.testing.assert_array_equal(found, named)
    assert agree(found, truth, places) and score_masks(found > 0, truth > 0, affine, 1.0)["dsc"] > 93.0
