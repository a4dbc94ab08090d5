from dataclasses import fields, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.geometry.boxed import BoxedMask
from scripts.geometry.resample import WorldGrid
from scripts.geometry.surface import mask_signed_distance
from scripts.organ.pack import Structure
from scripts.refine.draw_mesh import draw_mesh
from scripts.refine.merge import merge
from scripts.refine.narrow_band import evaluate_near_surface
from scripts.refine.reconstruction import Reconstruction
from scripts.refine.stages import Fitted
from tests.helpers.mean_shape import mean_shape, run

CENTRE, RADIUS = np.array([12.0, -7.0, 30.0]), 14.0


def sphere(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - CENTRE, axis=1) - RADIUS


def grid_about_sphere(kind: str) -> WorldGrid:
    spacing = {"isotropic": (1, 1, 1), "anisotropic": (0.8, 0.8, 3.0), "oblique": (1, 1.5, 2)}[kind]
    axes = Rotation.from_euler("xyz", [20, 10, 30], degrees=True).as_matrix() if kind == "oblique" else np.eye(3)
    if kind == "anisotropic":
        axes = axes @ np.diag([-1.0, 1.0, 1.0])  # flipped too
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(spacing)
    shape = tuple(int(np.ceil(46 / h)) for h in spacing)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return WorldGrid(affine, shape)


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic", "oblique"])
def test_coarse_to_fine_has_the_exact_sign_everywhere(kind):
    grid = grid_about_sphere(kind)
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    exact = sphere(grid.points_world().reshape(-1, 3)).reshape(grid.shape)
    values = evaluate_near_surface(sphere, grid, spacing, 4.0)
    assert ((values < 0) == (exact < 0)).all()
    near = np.abs(exact) < 3.0
    assert np.abs(values - exact)[near].max() < 1e-4
    assert np.abs(values - exact).max() < 2.5  # at the centre, where the distance has a kink


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic", "oblique"])
def test_small_voxels_are_interpolated_within_the_bound(kind):
    grid, fine_mm = grid_about_sphere(kind), 1.9
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    exact = sphere(grid.points_world().reshape(-1, 3)).reshape(grid.shape)
    asked = []

    def counting(points: np.ndarray) -> np.ndarray:
        asked.append(len(points))
        return sphere(points)

    values = evaluate_near_surface(counting, grid, spacing, 4.0, fine_mm)
    near = np.abs(exact) < 4.0
    error = np.abs(values - exact)[near].max()
    assert error < fine_mm**2 / (4 * (RADIUS - 4.0))
    if (spacing < fine_mm).any():
        evaluate_near_surface(counting, grid, spacing, 4.0)
        assert asked[1] < 0.7 * asked[3] and error > 1e-4
    else:
        assert error < 1e-4


@pytest.mark.parametrize("kind", ["isotropic", "anisotropic", "oblique"])
def test_mesh_is_closed_outward_and_where_the_sphere_is(kind):
    grid = grid_about_sphere(kind)
    exact = sphere(grid.points_world().reshape(-1, 3)).reshape(grid.shape)
    mesh = draw_mesh(exact.astype(np.float32), grid.affine)[0]
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)
    assert np.abs(sphere(mesh.vertices)).max() < 0.6


@pytest.mark.parametrize("slice_mm", [1.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize("semi_axes", [(15.0, 11.0, 14.0), (16.0, 4.0, 18.0)], ids=["compact", "thin"])
def test_mesh_encloses_the_volume_of_its_mask(semi_axes, slice_mm):
    affine = np.diag([1.0, -1.0, slice_mm, 1.0])
    shape = (40, 32, 6 + int(40 / slice_mm))
    places = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 + 0.2 for n in shape], indexing="ij"), -1)
    mask = (((places * (1.0, 1.0, slice_mm)) / semi_axes) ** 2).sum(-1) < 1
    mesh = draw_mesh(mask_signed_distance(mask, (1.0, 1.0, slice_mm)), affine)[0]
    assert mesh.is_watertight and mesh.volume == pytest.approx(mask.sum() * slice_mm, rel=0.002)


@pytest.mark.parametrize("slice_mm", [1.0, 4.0])
def test_mesh_ends_on_the_face_of_the_last_voxel(slice_mm):
    mask = np.zeros((30, 30, 8), bool)
    mask[5:25, 6:24, :5] = True  # cut by the field of view at the first slice
    affine = np.diag([1.0, 1.0, slice_mm, 1.0])
    mesh = draw_mesh(mask_signed_distance(mask, (1.0, 1.0, slice_mm), 20.0), affine)[0]
    inner = np.abs(mesh.vertices[:, :2] - 14.5).max(axis=1) < 5
    below = mesh.vertices[inner, 2] < 0
    assert mesh.vertices[inner, 2][below] == pytest.approx(-0.5 * slice_mm, abs=0.1 * slice_mm)
    assert mesh.vertices[inner, 2][~below] == pytest.approx(4.5 * slice_mm, abs=0.1 * slice_mm)


def test_nothing_inside_gives_no_mesh():
    assert draw_mesh(np.ones((5, 5, 5), np.float32), np.eye(4))[0] is None


def test_the_grid_of_a_mesh_has_a_bound(monkeypatch):
    monkeypatch.setattr("scripts.refine.draw_mesh.MESH_VOXELS", 5_000)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (40, 40, 20)], indexing="ij"), -1) * [1, 1, 2]
    exact = (np.linalg.norm(grid - [20, 20, 20], axis=-1) - 14).astype(np.float32)
    coarse = draw_mesh(exact, np.diag([1.0, 1.0, 2.0, 1.0]))[0]
    monkeypatch.undo()
    fine = draw_mesh(exact, np.diag([1.0, 1.0, 2.0, 1.0]))[0]
    assert len(coarse.faces) < len(fine.faces) / 3
    np.testing.assert_allclose(coarse.bounds, fine.bounds, atol=1.0)


def reconstruction(start: int, stop: int, tilt: float, outside: np.ndarray) -> Reconstruction:
    """A slab structure between two planes of x, in the box 0..20; `tilt` shifts its depth."""
    x = np.arange(20, dtype=np.float32)
    depth = np.maximum(start - x, x - (stop - 1)) - 0.5 + tilt
    box = (slice(0, 20), slice(0, 4), slice(0, 4))
    signed_mm = np.broadcast_to(depth[:, None, None], (20, 4, 4)).copy()
    return Reconstruction(box, signed_mm, signed_mm < 0, [], outside)


def fitted(structure: Structure, label_map: np.ndarray) -> Fitted:
    """A structure of a label map of which the merge asks no more than its voxels."""
    mask, unasked = BoxedMask.of(structure.union(label_map)), dict.fromkeys(f.name for f in fields(Fitted))
    return Fitted(**(unasked | {"structure": structure, "mask": mask, "affine": np.eye(4), "seconds": {}}))


def test_merge_keeps_labels_apart_and_parts_in_place(tmp_path):
    label_map = np.zeros((24, 4, 4), np.uint8)
    label_map[2:5], label_map[5:8] = 1, 2  # one structure of two parts
    label_map[12:16] = 3
    label_map[22, 0, 0] = 3  # an island beyond the box
    two = fitted(Structure("two", (1, 2), tmp_path), label_map)
    one = fitted(Structure("one", (3,), tmp_path), label_map)
    none = np.zeros((0, 3), int)
    parts = [(two, reconstruction(2, 12, 0.0, none)), (one, reconstruction(8, 16, 0.2, np.array([[22, 0, 0]])))]
    refined, after = merge(label_map, np.eye(4), parts)
    assert refined[:, 0, 0].tolist()[:16] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    assert not refined[16:].any()
    np.testing.assert_array_equal(after["two"].whole(), (refined == 1) | (refined == 2))
    np.testing.assert_array_equal(after["one"].whole(), refined == 3)


@pytest.mark.parametrize(
    ("own", "its", "doubtful", "winner"),
    [(0.6, 0.9, False, 2), (0.9, 0.6, False, 1), (np.nan, 0.9, False, 1), (None, 0.9, False, 1), (0.6, 0.9, True, 1)],
)
@pytest.mark.parametrize("first", [0, 1])
def test_where_an_image_was_asked_of_two_the_likelier_has_a_voxel(tmp_path, own, its, doubtful, winner, first):
    """A voxel of the first that the second would have, too; without an image of both, or in doubt, it stays."""
    label_map = np.zeros((24, 4, 4), np.uint8)
    label_map[2:8], label_map[8:12] = 1, 2
    none = np.zeros((0, 3), int)
    parts = []
    for label, start, stop, probability in ((1, 2, 8, own), (2, 5, 12, its)):
        case = fitted(Structure(f"s{label}", (label,), tmp_path), label_map)
        seen = None if probability is None else np.full((20, 4, 4), probability, np.float32)
        parts.append((case, replace(reconstruction(start, stop, 0.0, none), probability=seen, doubtful=doubtful)))
    refined, after = merge(label_map, np.eye(4), parts if first == 0 else parts[::-1])
    assert (refined[2:5] == 1).all() and (refined[5:8] == winner).all() and (refined[8:12] == 2).all()
    for label in (1, 2):
        np.testing.assert_array_equal(after[f"s{label}"].whole(), refined == label)


def test_merge_never_overwrites_a_label_that_stays(tmp_path):
    label_map = np.zeros((24, 4, 4), np.uint8)
    label_map[2:8], label_map[8:12] = 1, 9  # 9 belongs to no structure
    case = fitted(Structure("one", (1,), tmp_path), label_map)
    parts = [(case, reconstruction(2, 16, 0.0, np.zeros((0, 3), int)))]
    refined, _ = merge(label_map, np.eye(4), parts)
    assert (refined[8:12] == 9).all() and (refined[12:16] == 1).all()


def test_new_voxels_take_the_part_that_is_nearest_in_millimetres(tmp_path):
    """Slices 5 mm thick: one voxel away across them is farther than two voxels away in the plane."""
    label_map = np.zeros((20, 4, 4), np.uint8)
    label_map[4:8, :, 3] = 1
    label_map[6:8, :, 2] = 2
    case = fitted(Structure("two", (1, 2), tmp_path), label_map)
    grown = reconstruction(4, 8, 0.0, np.zeros((0, 3), int))
    refined, _ = merge(label_map, np.diag([0.5, 1.0, 5.0, 1.0]), [(case, grown)])
    assert (refined[4:6, :, 2] == 2).all()


def ball_in_a_box(shape, centre, radius):
    return np.linalg.norm(np.stack(np.indices(shape), -1) - centre, axis=-1) < radius


@pytest.mark.parametrize("probability", [None, np.zeros((60, 60, 60), np.float32)])
def test_a_large_reconstruction_is_cut_to_what_mask_fit_and_result_hold(monkeypatch, probability):
    mask, fit = (ball_in_a_box((70, 70, 70), 35, radius) for radius in (22, 14))
    box = (slice(5, 65),) * 3
    signed_mm = np.where(ball_in_a_box((60, 60, 60), 30, 15), -1.0, 1.0).astype(np.float32)
    part = Reconstruction(box, signed_mm, fit[box], [], np.zeros((0, 3), int), probability=probability)
    assert part.trimmed(BoxedMask.of(mask), np.eye(4)) is part
    monkeypatch.setattr("scripts.refine.reconstruction.LARGE_VOXELS", 0)
    small = part.trimmed(BoxedMask.of(mask), np.eye(4))
    if probability is not None:
        assert small is part
        return
    assert small.box == (slice(35 - 21 - 4, 35 + 21 + 5),) * 3  # all of the mask, and what its mesh needs
    whole_mm, whole_fit = np.ones((70, 70, 70)), np.zeros((70, 70, 70), bool)
    whole_mm[small.box], whole_fit[small.box] = small.signed_mm, small.fit
    np.testing.assert_array_equal(whole_mm[box], signed_mm)
    np.testing.assert_array_equal(whole_fit, fit)


def test_trimmed_or_not_a_structure_has_one_mask_and_mesh(monkeypatch):
    label_map, affine = mean_shape("plain")
    found = []
    for least in (10**9, 0):
        monkeypatch.setattr("scripts.refine.reconstruction.LARGE_VOXELS", least)
        found.append(run(label_map, affine))
    one, other = found
    np.testing.assert_array_equal(one["pred"], other["pred"])
    (whole,), (cut,) = one["pred_shapes"], other["pred_shapes"]
    np.testing.assert_allclose(whole.mesh.vertices, cut.mesh.vertices, atol=1e-6)
