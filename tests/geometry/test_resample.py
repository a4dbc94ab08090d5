import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.geometry.resample import WorldGrid, inside_grid, resample

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [15, -20, 35], degrees=True).as_matrix() @ np.diag([1.0, 1.5, 2.5])
OBLIQUE[:3, 3] = [10.0, -40.0, 25.0]
FLIPPED = np.diag([-0.8, -0.8, 3.0, 1.0])


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, FLIPPED])
def test_a_linear_function_of_the_world_is_resampled_exactly(affine):
    def plane(points):
        return points @ [0.3, -0.2, 0.5] + 4.0

    source = WorldGrid(affine, (20, 18, 12))
    volume = plane(source.points_world())
    centre = source.points_world()[10, 9, 6]
    grid = WorldGrid.from_box(centre - 3.0, centre + 3.0, 0.7)
    assert np.abs(resample(volume, affine, grid) - plane(grid.points_world())).max() < 1e-4


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, FLIPPED])
def test_a_covering_grid_covers(affine):
    source = WorldGrid(affine, (7, 9, 5))
    cover = WorldGrid.covering(affine, source.shape, 2.0)
    points = source.points_world().reshape(-1, 3)
    assert inside_grid(points, cover.affine, cover.shape).all()
    assert np.allclose(np.diag(cover.affine)[:3], 2.0)


def test_labels_keep_their_values_and_outside_is_filled():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2:4, 2:4, 2:4] = 7
    grid = WorldGrid(np.diag([0.5, 0.5, 0.5, 1.0]), (30, 12, 12))
    found = resample(labels, np.eye(4), grid, order=0, fill=3)
    assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 3, 7}
    assert (found[14:] == 3).all()


def test_field_of_view_reaches_half_a_voxel_beyond_the_centres():
    points = np.array([[-0.5, 0, 0], [-0.51, 0, 0], [4.5, 0, 0], [4.6, 0, 0]])
    assert inside_grid(points, np.eye(4), (5, 5, 5)).tolist() == [True, False, True, False]


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, FLIPPED])
def test_a_grid_is_resampled_onto_itself_whole(affine, order):
    labels = np.random.default_rng(0).integers(1, 5, (9, 8, 7)).astype(np.uint8)
    found = resample(labels, affine, WorldGrid(affine, labels.shape), order=order, fill=0)
    np.testing.assert_allclose(found, labels, atol=1e-5)


def test_labels_reach_half_a_voxel_beyond_their_centres():
    labels = np.full((4, 4, 4), 6, np.uint8)
    fine = np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] = -0.25
    assert (resample(labels, np.eye(4), WorldGrid(fine, (8, 8, 8)), order=0) == 6).all()
    assert (resample(labels, np.eye(4), WorldGrid(fine, (9, 8, 8)), order=0)[8] == 0).all()
