"""Stairs: a ball drawn on a coarse grid and brought to a finer one by repeating voxels."""

import numpy as np
import pytest

from scripts.refine.stairs import find_stairs, mask_distance

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


def dice(one, other):
    return 2.0 * (one & other).sum() / (one.sum() + other.sum())


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
