"""Meshes on grids of other spacings than the default: closed, of the mask's volume, and finer where a shape is thin."""

import numpy as np
import pytest

from scripts.geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from scripts.geometry.boxed import BoxedMask
from scripts.geometry.distance import surface_distance
from scripts.geometry.shared_surface import shared_surfaces
from scripts.geometry.surface import mask_signed_distance
from scripts.refine.draw_mesh import check_faces, check_mesh_mm, draw_mesh, said_of, shows, spacings

AFFINES = {
    "plain": np.diag([1.0, 1.0, 2.0, 1.0]),
    "mirrored": np.diag([-1.0, 1.0, 2.0, 1.0]),
    "oblique": np.array([[0.9, -0.3, 0.0, 5.0], [0.3, 0.9, 0.2, -4.0], [0.0, 0.1, 1.9, 9.0], [0, 0, 0, 1]]),
}


def ellipsoid(affine, semi_axes, shape):
    """A mask, and the signed distances that it is drawn from."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    centre = apply_affine(affine, (np.array(shape) - 0.7) / 2)
    points = apply_affine(affine, index.reshape(-1, 3).astype(float)).reshape(*shape, 3)
    mask = (((points - centre) / semi_axes) ** 2).sum(-1) < 1
    return mask, mask_signed_distance(mask, spacing_mm(affine), 6.0)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("mesh_mm", [0.4, 2.0, 3.0])
def test_a_mesh_of_any_spacing_is_closed_and_encloses_its_mask(affine, mesh_mm):
    mask, signed_mm = ellipsoid(affine, (30.0, 24.0, 20.0), (70, 60, 36))
    mesh, used = draw_mesh(signed_mm, affine, mesh_mm)
    assert used == mesh_mm and mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(mask.sum() * voxel_volume_mm3(affine), rel=0.01)
    edge_mm = np.median(mesh.edges_unique_length)
    assert 0.6 * mesh_mm < edge_mm < 1.6 * mesh_mm
    away = apply_affine(affine, np.argwhere(mask).mean(axis=0)) - mesh.center_mass
    assert np.linalg.norm(away) < 0.5


def test_the_spacing_asked_for_is_half_as_wide_until_a_thin_shape_is_shown():
    affine = np.eye(4)
    mask, signed_mm = ellipsoid(affine, (24.0, 14.0, 1.6), (56, 36, 9))
    mesh, used = draw_mesh(signed_mm, affine, 8.0)
    assert used in (1.0, 2.0, 4.0) and shows(mesh, BoxedMask.of(mask), affine, used)
    edge = np.argwhere(mask & ~np.roll(mask, 1, axis=2))
    assert np.quantile(surface_distance(mesh, edge.astype(float)), 0.95) < 0.5 * (used + 1)
    thick, _ = ellipsoid(affine, (24.0, 14.0, 12.0), (56, 36, 30))
    assert not shows(mesh, BoxedMask.of(thick), affine, used) and not shows(None, BoxedMask.of(mask), affine, used)


def test_a_part_that_a_coarse_grid_would_lose_is_shown():
    affine = np.eye(4)
    mask = np.zeros((60, 30, 30), bool)
    mask[4:34, 4:26, 4:26] = True
    mask[34:56, 14:17, 14:17] = True  # hardly a hundredth of its volume
    mesh, used = draw_mesh(mask_signed_distance(mask, np.ones(3), 6.0), affine, 6.0)
    assert used <= 3.0 and mesh.bounds[1, 0] > 53.0


def test_spacings_end_with_the_default_and_a_fine_one_stands_alone():
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    assert list(spacings(6.0, affine)) == [6.0, 3.0, 1.5, 1.0]
    assert list(spacings(0.0, affine)) == [1.0] and list(spacings(0.4, affine)) == [0.4]
    assert list(spacings(0.0, np.diag([0.3, 0.3, 0.3, 1.0]))) == [0.8]


def test_a_spacing_that_takes_too_much_memory_is_wider(monkeypatch):
    monkeypatch.setattr("scripts.refine.draw_mesh.MESH_VOXELS", 100_000)
    affine = np.eye(4)
    mask, signed_mm = ellipsoid(affine, (15.0, 12.0, 10.0), (40, 34, 30))
    mesh, used = draw_mesh(signed_mm, affine, 0.1)
    assert 0.5 < used < 1.0 and mesh.volume == pytest.approx(mask.sum(), rel=0.01)
    assert said_of(0.1, used) == [f"its mesh is drawn with {used:.2f} mm: mesh_mm 0.1 would take too much memory"]


def test_what_is_said_names_the_spacing():
    assert said_of(3.0, 1.5) == ["its mesh is drawn with 1.50 mm: mesh_mm 3 is too coarse for its shape"]
    assert said_of(3.0, 3.0) == said_of(0.0, 0.8) == []


@pytest.mark.parametrize("wrong", [-1, 0.05, 10**400, float("inf"), float("nan"), True, "fine", None])
def test_spacings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="^mesh_mm '.*': give a length in mm from 0.1 on, or 0 for the default$"):
        check_mesh_mm(wrong)
    assert check_mesh_mm(0) == 0.0 and check_mesh_mm(2) == 2.0


@pytest.mark.parametrize("step_mm", [0.4, 3.0])
def test_shared_faces_of_any_spacing_are_closed_and_enclose_their_masks(step_mm):
    affine = AFFINES["oblique"]
    mask, _ = ellipsoid(affine, (26.0, 20.0, 18.0), (62, 52, 34))
    half = np.arange(62)[:, None, None] < 31
    masks = {"one": BoxedMask.of(mask & half), "two": BoxedMask.of(mask & ~half)}
    meshes, used = shared_surfaces(masks, affine, step_mm=step_mm)
    assert used == step_mm
    for name, mesh in meshes.items():
        assert mesh.is_watertight and mesh.is_winding_consistent
        assert mesh.volume == pytest.approx(masks[name].count * voxel_volume_mm3(affine), rel=0.005)
    corners = [{tuple(vertex) for vertex in mesh.vertices.tolist()} for mesh in meshes.values()]
    assert len(corners[0] & corners[1]) > 500 / step_mm**2


@pytest.mark.parametrize("wrong", [-1, 99, 2.5, True, "many"])
def test_numbers_of_triangles_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="mesh_faces"):
        check_faces(wrong)


def test_zero_and_large_numbers_of_triangles_are_taken():
    assert check_faces(0) == 0 and check_faces(5000) == 5000
