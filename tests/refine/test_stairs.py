"""Stairs: a ball drawn on a coarse grid and brought to a finer one by repeating voxels."""

import numpy as np
import pytest
from scipy import ndimage

from scripts.geometry.runs import Runs
from scripts.refine.agreement import flat_end
from scripts.refine.likeness import CUT_FLAT
from scripts.refine.stairs import find_stairs, mask_distance
from tests.helpers.mean_shape import dice, mean_shape, run

SPACING = np.array([1.0, 1.0, 1.0])
SHAPE = (64, 60, 70)
CENTRE = np.array([30.3, 29.1, 36.6])
RADIUS = 20.0


def ball(places):
    grid = np.stack(np.meshgrid(*places, indexing="ij"), -1)
    return np.linalg.norm(grid - CENTRE, axis=-1) < RADIUS


def fine():
    return ball([np.arange(n, dtype=float) for n in SHAPE])


def stepped(*steps):
    """The ball by the nearest voxel of a grid with these steps."""
    return ball(
        [(np.floor((np.arange(n) + 0.5) / step) + 0.5) * step - 0.5 for n, step in zip(SHAPE, steps, strict=True)]
    )


def test_a_smooth_mask_has_none_and_keeps_its_distance():
    assert find_stairs(fine()) == (None, None, None)
    signed_mm, steps_mm = mask_distance(fine(), SPACING, 6.0)
    assert steps_mm is None
    np.testing.assert_array_equal(signed_mm < 0, fine())


@pytest.mark.parametrize("steps", [(1, 1, 3), (2, 2, 1), (1.5, 1.5, 1.5), (1, 1, 5), (2.5, 1, 4)])
def test_the_coarse_grid_is_found_and_the_mask_comes_nearer_to_the_organ(steps):
    mask = stepped(*steps)
    found = find_stairs(mask)
    for stairs, step in zip(found, steps, strict=True):
        assert (stairs is None) == (step == 1)
        if stairs is not None:
            assert stairs.step == pytest.approx(step, abs=0.06)
    signed_mm, steps_mm = mask_distance(mask, SPACING, 6.0)
    np.testing.assert_allclose(steps_mm, [0 if step == 1 else step for step in steps], atol=0.06)
    assert 1.0 - dice(signed_mm < 0, fine()) < 0.75 * (1.0 - dice(mask, fine()))
    assert signed_mm.dtype == np.float32


def test_the_middle_of_each_step_keeps_its_side():
    mask = stepped(1, 1, 3)
    signed_mm, _ = mask_distance(mask, SPACING, 6.0)
    np.testing.assert_array_equal((signed_mm < 0)[..., 1::3], mask[..., 1::3])


def test_pieces_with_nothing_between_them_are_no_stairs():
    mask = np.zeros((40, 40, 60), bool)
    for start in (5, 20, 35):
        mask[10:30, 10:30, start : start + 3] = True
    assert find_stairs(mask) == (None, None, None)
    far = fine()
    far[28:32, 28:32, 64:66] = True
    assert find_stairs(far) == (None, None, None)


def test_an_island_does_not_hide_the_stairs():
    mask = stepped(1, 1, 3)
    mask[50:56, 50:56, 63:69] = True
    (_, _, stairs) = find_stairs(mask)
    assert stairs is not None and stairs.step == pytest.approx(3, abs=0.06)


def test_a_small_mask_does_not_tell():
    mask = np.zeros((20, 20, 20), bool)
    mask[5:9, 5:9, 5:9] = True
    assert find_stairs(mask) == (None, None, None)


@pytest.mark.parametrize("steps", [(2, 2, 2), (3, 3, 3), (1, 1, 3)])
@pytest.mark.parametrize("direction", [(1, 1, 1), (1, 0.3, 0.2)])
def test_what_is_one_coarse_voxel_thin_neither_breaks_nor_vanishes(steps, direction):
    coarse = np.zeros((30, 30, 30), bool)
    places = np.stack(np.meshgrid(*map(np.arange, coarse.shape), indexing="ij"), -1)
    coarse |= np.linalg.norm(places - [8.2, 8.4, 8.1], axis=-1) < 5
    for step in np.arange(0.0, 17.0, 0.3):
        coarse[tuple(np.round([8, 8, 8] + step * np.array(direction) / np.max(direction)).astype(int))] = True
    coarse[26, 3, 3] = True  # a piece by itself
    mask = np.kron(coarse, np.ones(steps, bool))
    signed_mm, steps_mm = mask_distance(mask, SPACING, 6.0)
    assert (steps_mm is not None) == (
        mask != (signed_mm < 0)
    ).any()  # the steps stay where the ball would lose its tail
    touch = np.ones((3, 3, 3))
    assert ndimage.label(signed_mm < 0, touch)[1] == ndimage.label(mask, touch)[1] == 2
    tail = mask.copy()
    tail[tuple(slice(0, 14 * step) for step in steps)] = False
    assert ((signed_mm < 0) & tail).sum() > 0.9 * tail.sum()


def test_thick_slices_are_not_taken_for_a_cut():
    for step in (3, 5, 8):
        mask = stepped(1, 1, step)
        assert flat_end(Runs.of(mask), tuple(slice(5, 5 + n) for n in SHAPE), (90, 90, 90)) < CUT_FLAT


@pytest.mark.parametrize("kind", ["plain", "oblique"])
def test_a_refined_mask_has_lost_its_stairs_and_the_report_says_so(kind):
    truth, affine = mean_shape(kind)
    mask = np.repeat(truth[..., 1::3], 3, axis=2)[..., : truth.shape[2]]
    mask = np.pad(mask, [(0, 0), (0, 0), (0, truth.shape[2] - mask.shape[2])])
    found = run(mask, affine)
    (case,) = found["pred_shapes"]
    np.testing.assert_allclose(case.quality["steps_mm"], [0, 0, 3], atol=0.2)
    refined = found["pred"].numpy()[0] > 0
    assert 1 - dice(refined, truth > 0) < 0.8 * (1 - dice(mask > 0, truth > 0))
    (kept,) = run(mask, affine, "paper")["pred_shapes"]
    assert kept.quality["steps_mm"] is None


def test_an_island_goes_with_its_rim():
    truth, affine = mean_shape("plain")
    mask = np.repeat(truth[..., 1:43:3], 3, axis=2)
    mask = np.pad(mask, [(0, 60), (0, 0), (0, truth.shape[2] - mask.shape[2])])
    mask[90:96, 10:16, 9:15] = 1
    found = run(mask, affine)
    assert found["pred_shapes"][0].quality["steps_mm"] is not None
    assert not found["pred"].numpy()[0][60:].any()
