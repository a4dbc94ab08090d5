"""Simulated errors: what each kind does to a ball, and that they keep to their bounds."""

import numpy as np
import pytest
from volumes import AFFINES

from scripts.damage import CHUNK_SHARE, damage
from scripts.geometry.affine import spacing_mm
from scripts.metrics.topology import count_components, count_holes


def ball(affine, radius_mm=9.0, shape_mm=50.0):
    """A ball in the middle of a grid, its two halves labelled 1 and 2."""
    spacing = spacing_mm(affine)
    counts = np.ceil(shape_mm / spacing).astype(int)
    axes = np.meshgrid(*[(np.arange(n) - n / 2) * s for n, s in zip(counts, spacing, strict=True)], indexing="ij")
    inside = sum(a**2 for a in axes) <= radius_mm**2
    return (inside * np.where(axes[0] < 0, 1, 2)).astype(np.int16)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
class TestKinds:
    def test_chunk_removes_its_share_in_one_bite(self, affine):
        before = ball(affine)
        after = damage(before, affine, 3, ["chunk"])
        removed = (before != 0) & (after == 0)
        np.testing.assert_allclose(removed.sum() / (before != 0).sum(), CHUNK_SHARE, atol=0.01)
        assert count_components(removed) == 1 and count_holes(after != 0) == 0
        np.testing.assert_array_equal(after[~removed], before[~removed])

    def test_hole_is_a_cavity(self, affine):
        before = ball(affine)
        after = damage(before, affine, 3, ["hole"])
        assert count_holes(after != 0) == 1 and count_components(after != 0) == 1

    def test_leak_adds_material_that_hangs_on(self, affine):
        before = ball(affine)
        after = damage(before, affine, 3, ["leak"])
        assert count_components(after != 0) == 1
        assert (after != 0).sum() > 1.02 * (before != 0).sum()
        np.testing.assert_array_equal(after[before != 0], before[before != 0])

    def test_islands_are_apart(self, affine):
        before = ball(affine)
        after = damage(before, affine, 3, ["islands"])
        assert 2 <= count_components(after != 0) <= 4
        np.testing.assert_array_equal(after[before != 0], before[before != 0])
        assert set(np.unique(after)) == {0, 1, 2}


def test_seed_decides():
    before = ball(AFFINES["straight"])
    first, again, other = (damage(before, AFFINES["straight"], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.dtype == before.dtype


def test_new_voxels_take_the_nearest_label_and_other_organs_stay():
    before = ball(AFFINES["straight"])
    before[-4:] = 7
    after = damage(before, AFFINES["straight"], 5, labels=[1, 2])
    assert (after[before == 7] == 7).all() and set(np.unique(after)) == {0, 1, 2, 7}
    added = (before == 0) & (after != 0)
    middle = before.shape[0] / 2
    for x in np.argwhere(added)[:, 0]:
        assert (after[x][added[x]] == (1 if x < middle - 6 else 2)).all() or abs(x - middle) <= 6


def test_what_cannot_be_damaged_is_refused():
    with pytest.raises(ValueError, match="unknown damage .'rust'.*chunk"):
        damage(ball(AFFINES["straight"]), AFFINES["straight"], 0, ["rust"])
    with pytest.raises(ValueError, match="empty"):
        damage(np.zeros((4, 4, 4), int), AFFINES["straight"], 0)
