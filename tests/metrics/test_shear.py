"""Scores on sheared grids, such as those of a CT with a tilted gantry: true volumes and distances in world mm."""

import nibabel as nib
import numpy as np
import pytest
from monai.metrics.utils import get_code_to_measure_table

from scripts.cases.nifti_grid import as_nifti
from scripts.geometry.affine import apply_affine, is_sheared
from scripts.metrics.surface import _area_table, _surface_cells, score_masks
from scripts.metrics.topology import volume_ml
from tests.helpers.volumes import AFFINES, OBLIQUE, STRAIGHT

SHAPE = (60, 60, 40)


def tilted(degrees, spacing=(0.9, 0.9, 1.5), turn=STRAIGHT[:3, :3]):
    """Return the affine of a grid whose slices are shifted along y, about the world's origin."""
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 2] += affine[:3, 1] / spacing[1] * spacing[2] * np.tan(np.radians(degrees))
    affine[:3, 3] = -affine[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return affine


def ball(affine, radius_mm, centre=(0, 0, 0)):
    points = apply_affine(affine, np.indices(SHAPE).reshape(3, -1).T)
    return (np.linalg.norm(points - np.array(centre), axis=1) <= radius_mm).reshape(SHAPE)


TILTED = pytest.mark.parametrize(
    "affine",
    [tilted(20), tilted(-35), tilted(20, turn=OBLIQUE[:3, :3] / [0.7, 0.9, 2.0]), tilted(20, (-0.8, 0.9, 1.4))],
    ids=["20 degrees", "-35 degrees", "oblique", "flipped"],
)


def test_shear_is_told_from_turns_and_flips():
    assert not any(is_sheared(affine) for affine in AFFINES.values())
    assert not is_sheared(OBLIQUE.astype(np.float32)) and is_sheared(tilted(1)) and is_sheared(tilted(-20))


@TILTED
def test_volume_of_a_ball_is_that_of_the_ball(affine):
    assert volume_ml(ball(affine, 14.0), affine) == pytest.approx(4 / 3 * np.pi * 14.0**3 / 1000, rel=0.01)


@TILTED
def test_distances_of_concentric_balls_are_the_difference_of_their_radii(affine):
    scores = score_masks(ball(affine, 15.0), ball(affine, 12.0), affine, 1.0, nsd_curve_mm=(4.5,))
    assert scores["hd95_mm"] == pytest.approx(3.0, abs=0.7) and scores["assd_mm"] == pytest.approx(3.0, abs=0.3)
    assert scores["nsd"] < 5 and scores["nsd_4.5mm"] == 100
    assert scores["dsc"] == pytest.approx(200 * 12**3 / (12**3 + 15**3), abs=1)


@TILTED
def test_scores_are_those_of_the_same_balls_on_a_straight_grid(affine):
    pairs = [(ball(a, 12.0, (0, 2.5, 0)), ball(a, 12.0), a) for a in (affine, tilted(0))]
    tilt, straight = (score_masks(pred, truth, a, 1.2) for pred, truth, a in pairs)
    assert tilt["dsc"] == pytest.approx(straight["dsc"], abs=0.5)
    assert tilt["hd95_mm"] == pytest.approx(straight["hd95_mm"], abs=0.4)
    assert tilt["assd_mm"] == pytest.approx(straight["assd_mm"], abs=0.15)
    assert tilt["nsd"] == pytest.approx(straight["nsd"], abs=6)


@TILTED
def test_area_of_a_ball_is_that_of_the_ball(affine):
    areas = _surface_cells(ball(affine, 14.0), _area_table(affine[:3, :3]))[1]
    assert areas.sum() == pytest.approx(4 * np.pi * 14.0**2, rel=0.2)  # stairs are larger than the ball's surface


def test_areas_on_a_straight_grid_are_monais():
    np.testing.assert_allclose(
        _area_table(np.diag([0.7, 1.1, 3.0])), get_code_to_measure_table((0.7, 1.1, 3.0))[0], rtol=1e-5
    )


def test_a_shear_too_small_to_count_changes_next_to_nothing():
    straight, bent = tilted(0), tilted(0.1)  # degrees: just sheared
    assert is_sheared(bent) and not is_sheared(straight)
    masks = ball(straight, 12.0, (0, 2, 0)), ball(straight, 10.0)
    one, other = (score_masks(*masks, affine, 1.7) for affine in (straight, bent))
    for key in ("dsc", "nsd", "hd95_mm", "assd_mm"):
        assert one[key] == pytest.approx(other[key], abs=0.05 if key.endswith("mm") else 1.0)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_an_affine_without_shear_scores_as_its_spacing(affine):
    masks = np.zeros((2, 12, 10, 8), bool)
    masks[0, 2:8, 2:8, 2:6] = masks[1, 3:9, 2:8, 1:6] = True
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    assert score_masks(*masks, affine, 1.0) == score_masks(*masks, spacing, 1.0)
    assert volume_ml(masks[0], affine) == volume_ml(masks[0], spacing)


def test_a_converted_volume_has_a_qform_only_where_that_can_hold_its_axes(tmp_path):
    for affine, code in ((tilted(20), 0), (OBLIQUE, 1)):
        nib.save(as_nifti(np.zeros(SHAPE, np.int16), affine), tmp_path / "a.nii.gz")
        image = nib.load(tmp_path / "a.nii.gz")
        assert int(image.header["qform_code"]) == code and int(image.header["sform_code"]) == 1
        np.testing.assert_allclose(image.affine, affine, atol=1e-4)
