"""Simulated errors: what each kind does to a ball, and that they keep to their bounds."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from scripts.geometry.affine import spacing_mm
from scripts.metrics.topology import count_components, count_holes
from scripts.simulation import damage as module
from scripts.simulation.damage import (
    CHUNK_SHARE,
    KINDS,
    ROOM_VOXELS,
    ROUGH_AMPLITUDE,
    SLICE_MM,
    damage,
    damage_box,
    stacking_axis,
)
from tests.helpers.volumes import AFFINES

ROUGH = "7bb91c8009e88380e7885fbe2921f80a3dc2eaccb74be4e1f5cf1b0cc9161969"
FOUR_KINDS = "f801af0d4857b2a3e906e2ec579c2adfe1d03ab055da385f2a932c1fb403e1e4"


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

    @pytest.mark.parametrize("room_voxels", [ROOM_VOXELS, 10_000])  # the latter takes this for a large box
    def test_islands_are_apart(self, affine, room_voxels, monkeypatch):
        monkeypatch.setattr(module, "ROOM_VOXELS", room_voxels)
        before = ball(affine)
        after = damage(before, affine, 3, ["islands"])
        assert 2 <= count_components(after != 0) <= 4
        np.testing.assert_array_equal(after[before != 0], before[before != 0])
        assert set(np.unique(after)) == {0, 1, 2}

    def test_new_voxels_take_the_only_label_that_there_is(self, affine):
        before = ball(affine)
        one = 3 * (before != 0)
        after = damage(one, affine, 3, ["leak", "islands"])
        np.testing.assert_array_equal(after != 0, damage(before, affine, 3, ["leak", "islands"]) != 0)
        assert set(np.unique(after)) == {0, 3}

    def test_steps_are_as_thick_as_the_slices(self, affine):
        before = ball(affine)
        after = damage(before, affine, 3, ["steps"], slices="coronal")
        axis = stacking_axis(affine, "coronal")
        columns = np.moveaxis(after != 0, axis, 0)
        changes = np.flatnonzero((columns[1:] != columns[:-1]).any(axis=(1, 2))) + 1
        spacing = spacing_mm(affine)[axis]
        gaps_mm = np.diff(changes) * spacing
        assert len(gaps_mm) >= 2 and (gaps_mm > SLICE_MM - spacing - 1e-6).all()
        assert (after != before).any() or spacing >= SLICE_MM
        np.testing.assert_allclose((after != 0).sum(), (before != 0).sum(), rtol=0.1)

    def test_each_thick_slice_is_what_most_of_its_voxels_are(self, affine):
        before = ball(affine)
        after = damage(before, affine, 8, ["steps"])
        axis = stacking_axis(affine, "axial")
        was, now = (np.moveaxis(v != 0, axis, 0).reshape(before.shape[axis], -1) for v in (before, after))
        starts = np.concatenate([[0], np.flatnonzero((now[1:] != now[:-1]).any(axis=1)) + 1, [len(now)]])
        for first, end in zip(starts[1:-2], starts[2:-1], strict=True):  # runs between changes are whole slices
            if (end - first) * spacing_mm(affine)[axis] <= SLICE_MM + 1e-6:
                share = was[first:end].mean(axis=0)
                assert (now[first][share > 0.5]).all() and not (now[first][share < 0.5]).any()

    def test_rough_boundary_wavers_by_its_amplitude(self, affine):
        before = ball(affine, radius_mm=15.0, shape_mm=60.0)
        after = damage(before, affine, 3, ["rough"], severity=2.0)
        spacing = spacing_mm(affine)
        middle = np.array(before.shape) / 2

        def radii(mask):
            surface = mask & ~ndimage.binary_erosion(mask)
            return np.linalg.norm((np.argwhere(surface) - middle) * spacing, axis=1)

        was, now = radii(before != 0), radii(after != 0)
        grown = np.sqrt(max(now.std() ** 2 - was.std() ** 2, 0.0))
        np.testing.assert_allclose(grown, 2.0 * ROUGH_AMPLITUDE * 15.0, rtol=0.35)
        np.testing.assert_allclose(now.mean(), was.mean(), atol=0.6)
        assert ((before != 0) & (after == 0)).any() and ((before == 0) & (after != 0)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_severity_makes_it_worse(kind):
    before = ball(AFFINES["straight"], radius_mm=12.0, shape_mm=70.0)
    changed = [
        sum(int((damage(before, AFFINES["straight"], seed, [kind], None, s) != before).sum()) for seed in range(3))
        for s in (0.5, 1.0, 2.0)
    ]
    assert changed[0] < changed[1] < changed[2]


def test_known_damage_stays_byte_for_byte_what_it_was():
    digest = hashlib.sha256()
    for affine in AFFINES.values():
        for seed in range(3):
            digest.update(damage(ball(affine), affine, seed).astype("<i2").tobytes())
    assert digest.hexdigest() == FOUR_KINDS


def test_known_roughness_stays_byte_for_byte_what_it_was():
    digest = hashlib.sha256()
    for affine in AFFINES.values():
        digest.update(damage(ball(affine, 15.0, 60.0), affine, 1, ["rough"]).astype("<i2").tobytes())
    assert digest.hexdigest() == ROUGH


@pytest.mark.parametrize("radius_mm", [1.0, 8.0, 40.0])  # a few voxels; cut by the border; beyond it on all sides
def test_every_kind_copes_with_tiny_and_cut_shapes(radius_mm):
    before = ball(AFFINES["oblique"], radius_mm, shape_mm=14.0)
    for kind in KINDS:
        after = damage(before, AFFINES["oblique"], 2, [kind])
        assert after.shape == before.shape and (after != 0).any()


def test_damage_stays_in_its_box():
    wide = np.pad(ball(AFFINES["oblique"]), 25)
    box = damage_box(wide != 0, AFFINES["oblique"])
    after = damage(wide, AFFINES["oblique"], 4, list(KINDS))
    assert wide[box].size < wide.size and (after[box] != wide[box]).any()
    after[box] = wide[box]
    np.testing.assert_array_equal(after, wide)


@pytest.mark.parametrize(("shape", "spacing"), [((400, 380, 90), (0.5, 0.5, 5.0)), ((300, 300, 300), (1.0, 1.0, 1.0))])
def test_places_for_islands_are_few_and_about_as_far_apart_along_every_axis(shape, spacing):
    steps = module._room_steps(shape, np.array(spacing))
    assert ROOM_VOXELS / 3 < np.prod(np.ceil(np.array(shape) / steps)) <= ROOM_VOXELS
    assert np.ptp((steps * spacing)[np.array(steps) > 1]) <= max(spacing)
    assert (module._room_steps((100, 100, 30), np.array(spacing)) == 1).all()


def test_slices_follow_the_grid_that_is_nearest():
    turned = AFFINES["oblique"][:, [2, 0, 1, 3]]
    assert stacking_axis(AFFINES["oblique"], "axial") == 2 and stacking_axis(turned, "axial") == 0


def test_a_shape_thinner_than_a_slice_is_not_lost():
    thin = np.zeros((12, 12, 12), np.uint8)
    thin[3:9, 3:9, 6] = 1
    for seed in range(5):
        np.testing.assert_array_equal(damage(thin, np.diag([1, 1, 0.5, 1]), seed, ["steps"]), thin)


def test_structures_are_damaged_by_themselves():
    before = ball(AFFINES["flipped"])
    after = damage(before, AFFINES["flipped"], 5, ["steps", "rough", "leak"], shape=before == 2)
    np.testing.assert_array_equal(after == 1, before == 1)
    assert ((after == 2) != (before == 2)).any()


def test_seed_decides():
    before = ball(AFFINES["straight"])
    first, again, other = (damage(before, AFFINES["straight"], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.dtype == before.dtype


def test_new_voxels_take_the_nearest_label_and_other_organs_stay():
    before = ball(AFFINES["straight"])
    before[-4:] = 7
    after = damage(before, AFFINES["straight"], 5, shape=np.isin(before, [1, 2]))
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
    with pytest.raises(ValueError, match="slices lie sagittal or coronal or axial"):
        damage(ball(AFFINES["straight"]), AFFINES["straight"], 0, ["steps"], slices="z")
    with pytest.raises(ValueError, match="severity must be positive"):
        damage(ball(AFFINES["straight"]), AFFINES["straight"], 0, severity=0)
