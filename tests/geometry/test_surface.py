"""Masks to surfaces against closed forms, on every frame; sampling."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from skimage import measure

from scripts.geometry import bounded_distance, surface
from scripts.geometry.affine import apply_affine, spacing_mm
from scripts.geometry.surface import (
    boundary,
    crop_box,
    grow,
    mask_signed_distance,
    mask_to_surface,
    sample_surface,
    with_neighbours,
)


def voxelise(inside, affine, shape):
    """Mask of an implicit world-space shape; ``inside`` maps (N, 3) mm to bool."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).reshape(-1, 3)
    return inside(apply_affine(affine, index)).reshape(shape)


def ball(centre, radius):
    return lambda points: np.linalg.norm(points - centre, axis=1) < radius


def middle(affine, shape):
    return apply_affine(affine, [(np.array(shape) - 1) / 2])[0]


SHAPE = (30, 31, 29)


def test_crop_box():
    mask = np.zeros((6, 7, 8))
    mask[2, 3:5, 7] = 4
    assert crop_box(mask) == (slice(2, 3), slice(3, 5), slice(7, 8))
    assert crop_box(mask, margin=2) == (slice(0, 5), slice(1, 7), slice(5, 8))
    assert crop_box(mask, margin=(0, 3, 1)) == (slice(2, 3), slice(0, 7), slice(6, 8))
    with pytest.raises(ValueError, match="empty"):
        crop_box(np.zeros((3, 3, 3)))
    with pytest.raises(ValueError, match="3D"):
        crop_box(np.ones((3, 3)))


def test_sphere_on_every_frame(frame):
    centre, radius = middle(frame, SHAPE) + (0.3, -0.2, 0.1), 9.0
    mesh = mask_to_surface(voxelise(ball(centre, radius), frame, SHAPE), frame)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.02)
    assert mesh.area == pytest.approx(4 * np.pi * radius**2, rel=0.1)
    radii = np.linalg.norm(mesh.vertices - centre, axis=1)
    assert abs(radii - radius).mean() < 0.2 * spacing_mm(frame).max()
    outward = np.einsum("nd,nd->n", mesh.face_normals, mesh.triangles_center - centre)
    assert (outward > 0).all()


def test_box_ends_half_a_voxel_beyond_its_last_centres(frame):
    mask = np.zeros((14, 15, 16), dtype=bool)
    mask[3:10, 4:12, 5:13] = True
    mesh = mask_to_surface(mask, frame)
    index = apply_affine(np.linalg.inv(frame), mesh.vertices)
    spacing = spacing_mm(frame)
    # across thick slices the faces stand out by what the rounded edges lose of the volume
    atol = 0.15 if np.rint(spacing.max() / spacing.min()) > 1 else 0.03
    np.testing.assert_allclose(index.min(axis=0), (2.5, 3.5, 4.5), atol=atol)
    np.testing.assert_allclose(index.max(axis=0), (9.5, 11.5, 12.5), atol=atol)


def test_the_volume_around_the_mask_does_not_matter(frame):
    mask = voxelise(ball(middle(frame, SHAPE), 6.0), frame, SHAPE)
    wide = np.pad(mask, ((5, 1), (0, 3), (2, 2)))
    shifted = frame.copy()
    shifted[:3, 3] = apply_affine(frame, [(-5, 0, -2)])[0]
    one, other = mask_to_surface(mask, frame), mask_to_surface(wide, shifted)
    np.testing.assert_allclose(one.vertices, other.vertices, atol=1e-9)
    np.testing.assert_array_equal(one.faces, other.faces)


def test_thick_slices_lose_their_staircase():
    semi_axes = np.array([22.0, 16.0, 19.0])
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    shape = (48, 36, 13)
    centre = middle(affine, shape) + 0.3
    mask = voxelise(lambda points: (((points - centre) / semi_axes) ** 2).sum(axis=1) < 1, affine, shape)

    def mean_error(vertices):
        local = vertices - centre
        level = np.linalg.norm(local / semi_axes, axis=1)
        return (abs(level - 1) * level / np.linalg.norm(local / semi_axes**2, axis=1)).mean()

    mesh = mask_to_surface(mask, affine)
    raw = measure.marching_cubes(mask.astype(float), 0.5, spacing=(1, 1, 4))[0]
    assert mean_error(mesh.vertices) < 0.6 * mean_error(raw)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * semi_axes.prod(), rel=0.02)


ORGANS = {  # semi-axes in mm of a compact and of a thin organ, the thin one lying along and across the slices
    "compact": (30.0, 22.0, 26.0),
    "thin, along the slices": (25.0, 5.0, 30.0),
    "thin, across the slices": (25.0, 20.0, 9.0),
}


@pytest.mark.parametrize("semi_axes", ORGANS.values(), ids=list(ORGANS))
@pytest.mark.parametrize(("slice_mm", "within"), [(2.0, 0.02), (3.0, 0.02), (5.0, 0.02), (10.0, 0.05)])
def test_thick_slices_keep_the_volume(semi_axes, slice_mm, within):
    affine = np.diag([-0.9, 0.9, slice_mm, 1.0])
    shape = (75, 60, 12 + int(60 / slice_mm))
    centre = middle(affine, shape) + 0.3
    tilt = Rotation.from_euler("xyz", (10, 15, 20), degrees=True).as_matrix()
    mask = voxelise(lambda points: (((points - centre) @ tilt / semi_axes) ** 2).sum(axis=1) < 1, affine, shape)
    mesh = mask_to_surface(mask, affine)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(mask.sum() * 0.81 * slice_mm, rel=within)


def test_a_slice_alone_keeps_its_volume():
    mask = np.zeros((20, 20, 3), bool)
    mask[4:16, 4:16, 1] = True
    mesh = mask_to_surface(mask, np.diag([1.0, 1.0, 8.0, 1.0]))
    assert mesh.volume == pytest.approx(144 * 8.0, rel=0.05)


@pytest.mark.parametrize("share", [0.9, 1.0, 1.1])
def test_a_mesh_is_moved_until_it_encloses_a_volume(share):
    """Trimesh integrates the volume by itself; beyond the sphere lies a ball that moves as far."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=4.0).apply_translation([30.0, 5.0, -2.0])
    mesh = trimesh.util.concatenate([trimesh.creation.icosphere(subdivisions=4, radius=12.0), ball])
    moved = surface.with_volume(mesh, share * mesh.volume, 1.0)
    assert moved.volume == pytest.approx(share * mesh.volume, rel=1e-4)
    away = np.einsum("vd,vd->v", moved.vertices - mesh.vertices, mesh.vertex_normals)
    np.testing.assert_allclose(away, away[0], atol=0.01)
    assert np.sign(away[0]) == np.sign(share - 1.0) or abs(away[0]) < 1e-9


def test_smoothing_helps_a_rastered_sphere_and_is_bounded():
    affine = np.eye(4)
    centre = middle(affine, SHAPE)
    mask = voxelise(ball(centre, 9.0), affine, SHAPE)

    def spread(mesh):
        return np.linalg.norm(mesh.vertices - centre, axis=1).std()

    smooth = mask_to_surface(mask, affine, smoothing_mm=0.7)
    assert spread(smooth) < 0.7 * spread(mask_to_surface(mask, affine))
    assert smooth.volume == pytest.approx(4 / 3 * np.pi * 9.0**3, rel=0.05)
    with pytest.raises(ValueError, match="smoothing_mm"):
        mask_to_surface(mask, affine, smoothing_mm=1.5)


@pytest.mark.parametrize("target", [0.6, 2.0])
def test_target_spacing_sets_the_resolution(target):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    mask = voxelise(ball(middle(affine, SHAPE), 10.0), affine, SHAPE)
    mesh = mask_to_surface(mask, affine, target_spacing_mm=target)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 1000, rel=0.06)
    assert 0.5 * target < np.median(mesh.edges_unique_length) < 1.5 * target
    with pytest.raises(ValueError, match="target_spacing_mm"):
        mask_to_surface(mask, affine, target_spacing_mm=0.0)


def test_large_masks_are_meshed_on_a_bounded_grid(monkeypatch):
    mask = voxelise(ball(middle(np.eye(4), SHAPE), 10.0), np.eye(4), SHAPE)
    fine = mask_to_surface(mask, np.eye(4))
    monkeypatch.setattr(surface, "MAX_GRID_VOXELS", 3000)
    coarse = mask_to_surface(mask, np.eye(4))
    assert coarse.is_watertight and len(coarse.faces) < 0.6 * len(fine.faces)
    assert coarse.volume == pytest.approx(fine.volume, rel=0.03)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.7, 5.0)])
def test_one_voxel_gives_a_closed_surface_around_it(spacing):
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[0, 1, 2] = True
    mesh = mask_to_surface(mask, np.diag([*spacing, 1.0]))
    assert mesh.is_watertight and 0 < mesh.volume < np.prod(spacing)
    np.testing.assert_allclose(mesh.bounds.mean(axis=0), np.array([0, 1, 2]) * spacing, atol=1e-6)


def test_a_mask_that_vanishes_says_so():
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[4, 4, 4] = True
    with pytest.raises(ValueError, match="too small"):
        mask_to_surface(mask, np.eye(4), smoothing_mm=0.7)
    with pytest.raises(ValueError, match="empty"):
        mask_to_surface(np.zeros((4, 4, 4)), np.eye(4))


def test_a_mask_that_fills_the_volume_is_closed(frame):
    mesh = mask_to_surface(np.ones((8, 9, 7), dtype=np.uint8), frame)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(abs(np.linalg.det(frame[:3, :3])) * 8 * 9 * 7, rel=0.06)


def test_holes_and_islands_are_kept():
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    shape = (44, 30, 22)
    centre = np.array([14.0, 14.0, 16.0])
    mask = voxelise(ball(centre, 11.0), affine, shape) & ~voxelise(ball(centre, 5.0), affine, shape)
    mask |= voxelise(ball(centre + (22, 0, 0), 4.0), affine, shape)
    mesh = mask_to_surface(mask, affine)
    assert mesh.is_watertight and mesh.body_count == 3
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * (11**3 - 5**3 + 4**3), rel=0.03)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)).filter(np.any),
    st.sampled_from([0.9, 1.0, 2.0, 4.0]),
)
def test_any_mask_gives_a_closed_outward_surface(mask, thickness):
    mesh = mask_to_surface(mask, np.diag([1.0, 1.0, thickness, 1.0]))
    edges = np.sort(mesh.edges, axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all()
    assert mesh.volume > 0


def test_surface_is_deterministic(frame):
    mask = voxelise(ball(middle(frame, SHAPE), 7.0), frame, SHAPE)
    one, other = mask_to_surface(mask, frame), mask_to_surface(mask, frame)
    assert one.vertices.tobytes() == other.vertices.tobytes() and one.faces.tobytes() == other.faces.tobytes()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.9, 3.0)])
def test_signed_distance_matches_a_nearest_neighbour_search(spacing):
    mask = np.random.default_rng(3).random((9, 11, 8)) < 0.3
    centres = np.argwhere(np.ones_like(mask)) * spacing
    solid = mask.ravel()
    expected = np.where(
        solid,
        -cKDTree(centres[~solid]).query(centres)[0] + min(spacing) / 2,
        cKDTree(centres[solid]).query(centres)[0] - min(spacing) / 2,
    ).reshape(mask.shape)
    np.testing.assert_allclose(mask_signed_distance(mask, spacing), expected, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_signed_distance_is_zero_half_way_between_centres(axis):
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[tuple(slice(0, 4) if a == axis else slice(None) for a in range(3))] = True
    profile = np.moveaxis(mask_signed_distance(mask, (0.8, 1.2, 3.0)), axis, 0)[:, 4, 4]
    assert profile[3] < 0 < profile[4]
    assert profile[3] == pytest.approx(-profile[4], abs=1e-6)
    step = (0.8, 1.2, 3.0)[axis]
    np.testing.assert_allclose(np.diff(profile)[4:], step, atol=1e-5)


@pytest.mark.parametrize("limit_mm", [1.3, 6.0])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_bounded_signed_distance_is_the_same_where_voxels_are_tiny(monkeypatch, share, limit_mm):
    mask = np.random.default_rng(0).random((90, 20, 8)) < share
    spacing = np.array([0.01, 0.02, 0.4])
    found = [mask_signed_distance(mask, spacing, limit_mm), grow(mask, spacing, limit_mm / 10)]
    monkeypatch.setattr(bounded_distance, "MAX_OFFSETS", 10_000)
    np.testing.assert_allclose(found[0], mask_signed_distance(mask, spacing, limit_mm), atol=1e-5)
    np.testing.assert_array_equal(found[1], grow(mask, spacing, limit_mm / 10))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.5, 0.97]), st.floats(2.0, 6.0))
def test_bounded_signed_distance_equals_the_full_one_within_its_limit(seed, share, limit_mm):
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 12, 9)) < share
    spacing = rng.uniform(0.5, 3.0, 3)
    bound = max(limit_mm, np.linalg.norm(spacing)) - spacing.min() / 2
    full = mask_signed_distance(mask, spacing)
    bounded = mask_signed_distance(mask, spacing, limit_mm)
    if mask.any():
        np.testing.assert_allclose(bounded, np.clip(full, -bound, bound), atol=1e-5)
    else:
        assert (bounded == np.float32(limit_mm)).all()


def test_signed_distance_of_one_sided_masks():
    assert (mask_signed_distance(np.zeros((3, 3, 3)), (1, 1, 1)) > 3).all()
    full = mask_signed_distance(np.ones((3, 3, 3)), (1, 1, 1))
    assert full[1, 1, 1] == pytest.approx(-1.5) and full[0, 1, 1] == pytest.approx(-0.5)


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_and_boundary_are_those_of_scipy(seed):
    mask = np.random.default_rng(seed).random((7, 1 + 4 * seed, 9)) < 0.6
    np.testing.assert_array_equal(with_neighbours(mask), ndimage.binary_dilation(mask, np.ones((3, 3, 3))))
    np.testing.assert_array_equal(boundary(mask), mask & ~ndimage.binary_erosion(mask))


def test_samples_are_uniform_on_the_surface_with_its_normals():
    box = trimesh.creation.box(extents=(2.0, 4.0, 8.0))
    points, normals = sample_surface(box, 20_000, seed=1)
    half = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(np.abs(points / half).max(axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0)
    np.testing.assert_allclose((normals * points).sum(axis=1), np.abs(normals) @ half)
    shares = np.abs(normals).mean(axis=0)
    np.testing.assert_allclose(shares, np.array([64, 32, 16]) / 112, atol=0.015)
    assert abs(points.mean(axis=0)).max() < 0.1


def test_samples_repeat_with_the_seed_and_differ_without():
    ball_mesh = trimesh.creation.icosphere(2)
    first, second = sample_surface(ball_mesh, 50, seed=5), sample_surface(ball_mesh, 50, seed=5)
    assert first[0].tobytes() == second[0].tobytes() and first[1].tobytes() == second[1].tobytes()
    assert not np.array_equal(first[0], sample_surface(ball_mesh, 50, seed=6)[0])


def test_smooth_normals_come_closer_to_the_shape_behind_the_mesh():
    sphere = trimesh.creation.icosphere(2)

    def error(smooth):
        points, normals = sample_surface(sphere, 2000, 0, smooth_normals=smooth)
        return np.degrees(np.arccos(np.clip((normals * points).sum(axis=1) / np.linalg.norm(points, axis=1), -1, 1)))

    assert error(True).mean() < 0.3 * error(False).mean()


def test_sampling_needs_area():
    flat = trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False)
    with pytest.raises(ValueError, match="area"):
        sample_surface(flat, 10, 0)


def test_real_hippocampus_labels(shared_data):
    nib = pytest.importorskip("nibabel")
    for path in sorted((shared_data / "hippocampus" / "labels").glob("*.nii.gz"))[:3]:
        image = nib.load(path)
        mask = np.asanyarray(image.dataobj) > 0
        mesh = mask_to_surface(mask, image.affine)
        voxel_mm3 = abs(np.linalg.det(image.affine[:3, :3]))
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(mask.sum() * voxel_mm3, rel=0.02)


@pytest.mark.parametrize("reach_mm", [0.7, 2.0, 5.5])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.8, 3.0)])
def test_grown_mask_is_what_lies_within_reach(spacing, reach_mm):
    mask = np.random.default_rng(2).random((14, 12, 9)) > 0.985
    mask[0, 0, 0] = True
    within = ndimage.distance_transform_edt(~mask, sampling=spacing) <= reach_mm
    np.testing.assert_array_equal(grow(mask, np.array(spacing), reach_mm), within)
    assert not grow(np.zeros((3, 4, 5), bool), np.array(spacing), reach_mm).any()
