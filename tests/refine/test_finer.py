"""Refined masks on another grid: where the fit is followed, where the mask, and on which voxels."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import Similarity
from scripts.geometry.resample import WorldGrid
from scripts.organ.pack import OrganPack
from scripts.refine.fine_mask import check_fine, finer_grid
from scripts.refine.finer import BETWEEN_SHARE, field_on, labels_on, weight

RADIUS = 12.0
CENTRE = np.array([31.0, -14.0, 8.0])


class Ball:
    """A fit that says a ball of some radius."""

    def __init__(self, radius: float, shift_mm: float = 0.0) -> None:
        self.radius, self.centre = radius, CENTRE + (shift_mm, 0, 0)
        self.similarity = Similarity(1 / 24.0, np.eye(3), np.zeros(3))

    def sdf_mm(self, points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points - self.centre, axis=-1) - self.radius


def thick_grid(kind: str, slice_mm: float = 5.0) -> WorldGrid:
    axes = np.eye(3)
    if kind == "oblique":
        axes = Rotation.from_euler("xyz", [20, -15, 30], degrees=True).as_matrix()
    elif kind == "flipped":
        axes = np.diag([-1.0, 1.0, -1.0])
    spacing, shape = np.array([1.0, 1.25, slice_mm]), (48, 40, 11)
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(spacing)
    affine[:3, 3] = CENTRE + 0.3 - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return WorldGrid(affine, shape)


def thinned(grid: WorldGrid) -> WorldGrid:
    """The same space in fifths of the slices."""
    affine, (x, y, z) = grid.affine.copy(), grid.shape
    affine[:3, 2] /= 5
    affine[:3, 3] -= 2 * affine[:3, 2]
    return WorldGrid(affine, (x, y, 5 * z))


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped"])
def test_the_finer_grid_fills_the_same_space(kind):
    grid = thick_grid(kind)
    fine = finer_grid(grid.affine, grid.shape, 1.0)
    assert fine.shape == (48, 80, 55)
    blocks = fine.points_world().reshape(48, 1, 40, 2, 11, 5, 3)
    np.testing.assert_allclose(blocks.mean(axis=(1, 3, 5)), grid.points_world(), atol=1e-9)


def test_sides_hardly_longer_than_asked_for_are_left():
    assert finer_grid(np.diag([1.0, 1.001, 3.0, 1.0]), (4, 4, 4), 1.0).shape == (4, 4, 12)
    assert finer_grid(np.diag([0.7, 0.7, 0.7, 1.0]), (4, 4, 4), 2.0).shape == (4, 4, 4)


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped"])
def test_a_fit_tells_what_lies_between_thick_slices(kind):
    grid = thick_grid(kind)
    mask = Ball(RADIUS).sdf_mm(grid.points_world()) < 0
    thin = thinned(grid)
    truth = Ball(RADIUS).sdf_mm(thin.points_world()) < 0
    alone = field_on(mask, grid.affine, thin) < 0
    fitted = field_on(mask, grid.affine, thin, Ball(RADIUS)) < 0
    assert dice(fitted, truth) > 0.98 > 0.975 > dice(alone, truth) > 0.93


def test_errors_of_fit_and_interpolation_that_are_alike_weigh_alike():
    contour = BETWEEN_SHARE * 5.0 * np.array([0.0, 1.0, -1.0, 3.0])
    np.testing.assert_allclose(weight(contour, 5.0), [1.0, 0.5, 0.5, 0.1])
    np.testing.assert_allclose(weight(contour, 10.0), [1.0, 0.8, 0.8, 4 / 13])


class Half(Ball):
    """A fit that is right on one side of the ball only, and on the other side far out and wavy across the slices."""

    def sdf_mm(self, points: np.ndarray) -> np.ndarray:
        off = points - self.centre
        wrong = 3.5 + 1.5 * np.cos(2 * np.pi * off[..., 2] / 5.0)
        return super().sdf_mm(points) - np.where(off[..., 0] > 0, wrong, 0.0)


def test_a_fit_is_followed_where_it_agrees_with_the_contours_and_left_where_it_does_not():
    grid = thick_grid("plain")
    thin = thinned(grid)
    mask = Ball(RADIUS).sdf_mm(grid.points_world()) < 0
    points = thin.points_world()
    truth, right = Ball(RADIUS).sdf_mm(points) < 0, points[..., 0] < CENTRE[0] - 2
    alone = field_on(mask, grid.affine, thin) < 0
    half = field_on(mask, grid.affine, thin, Half(RADIUS)) < 0
    wrong = points[..., 0] > CENTRE[0] + 2
    assert dice(half[right], truth[right]) > 0.98 > 0.975 > dice(alone[right], truth[right])
    assert dice(half[wrong], truth[wrong]) > dice(alone[wrong], truth[wrong]) - 0.005


@pytest.mark.parametrize("fit", [Ball(RADIUS), Ball(RADIUS + 4), Ball(RADIUS - 5), Ball(RADIUS, 9.0), None])
def test_in_its_own_slices_the_mask_is_kept_whatever_the_fit_says(fit):
    grid = thick_grid("oblique")
    mask = Ball(RADIUS).sdf_mm(grid.points_world()) < 0
    mask[3:6, 3:6, 2:4] = True  # an island
    field = field_on(mask, grid.affine, thinned(grid), fit)
    np.testing.assert_array_equal(field[:, :, 2::5] < 0, mask)
    assert np.isfinite(field).all()


def test_a_mask_at_the_border_of_its_grid_ends_there():
    mask = np.zeros((20, 20, 4), bool)
    mask[5:15, 5:15] = True
    grid = WorldGrid(np.diag([1.0, 1.0, 5.0, 1.0]), mask.shape)
    field = field_on(mask, grid.affine, thinned(grid))
    assert field.shape == (20, 20, 20) and (field[8:12, 8:12] < 0).all() and (field[:3] > 0).all()


@pytest.mark.parametrize("wrong", [-1, 0.01, 10**400, float("inf"), float("nan"), True, "fine"])
def test_lengths_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="fine_mm"):
        check_fine(wrong)
    assert check_fine(0) == 0.0 and check_fine(1) == 1.0


def labels_of(doubtful: bool):
    """Two labels of the hippocampus in slices of 5 mm, drawn at 1 mm with a fit that is larger than the mask."""
    grid, label_map, pack, shapes = two_parts(doubtful)
    return grid, label_map, labels_on(pack, label_map, grid.affine, shapes, thinned(grid)), thinned(grid)


def two_parts(doubtful: bool = False, kind: str = "plain"):
    grid = thick_grid(kind)
    inside = Ball(RADIUS).sdf_mm(grid.points_world()) < 0
    label_map = np.where(inside, np.where(grid.points_world()[..., 1] > CENTRE[1], 1, 2), 0)
    shape = SimpleNamespace(name="hippocampus", fit=Ball(RADIUS + 2.0), quality={"doubtful": doubtful})
    return grid, label_map, OrganPack.load("hippocampus"), [shape]


def test_parts_of_an_organ_keep_their_labels():
    grid, label_map, labels, fine = labels_of(doubtful=False)
    np.testing.assert_array_equal(labels[:, :, 2::5] > 0, label_map > 0)
    front = fine.points_world()[..., 1] > CENTRE[1] + 1.5
    assert labels.dtype == np.uint8 and set(np.unique(labels[front])) == {0, 1}
    assert abs((labels > 0).sum() / (label_map > 0).sum() / 5 - 1) < 0.15


def test_a_doubtful_fit_is_not_followed():
    _, _, sound, _ = labels_of(doubtful=False)
    grid, label_map, doubtful, _ = labels_of(doubtful=True)
    alone = field_on(label_map > 0, grid.affine, thinned(grid)) < 0
    np.testing.assert_array_equal(doubtful > 0, alone)
    assert (sound > 0).sum() > (doubtful > 0).sum()


def turned(grid: WorldGrid, order, flips, start=(0, 0, 0), stop=(None, None, None)) -> tuple[WorldGrid, tuple]:
    """A part of a grid with its axes in another order and direction, and how to take that of an array."""
    affine = grid.affine[:, [*order, 3]].copy()
    shape = [grid.shape[axis] for axis in order]
    sides = [range(*slice(a, b).indices(n)) for a, b, n in zip(start, stop, shape, strict=True)]
    sides = [side[::-1] if flip else side for side, flip in zip(sides, flips, strict=True)]
    affine[:3, 3] += affine[:3, :3] @ [side[0] for side in sides]
    affine[:3, :3] *= [-1.0 if flip else 1.0 for flip in flips]
    return WorldGrid(affine, tuple(len(side) for side in sides)), np.ix_(*sides)


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped"])
@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (False,) * 3), ((2, 0, 1), (True, False, True)), ((1, 0, 2), (False, True, False))]
)
def test_on_a_grid_that_is_part_of_another_each_voxel_is_the_same(kind, order, flips):
    """A part of the fine grid, with other axes first and reversed: whatever box a structure is drawn in."""
    grid, label_map, pack, shapes = two_parts(kind=kind)
    fine = finer_grid(grid.affine, grid.shape, 1.0)
    whole = labels_on(pack, label_map, grid.affine, shapes, fine)
    part, taken = turned(fine, order, flips, (4, 20, 8), (44, 30, None))
    labels = labels_on(pack, label_map, grid.affine, shapes, part)
    assert labels.any() and labels.shape == part.shape
    np.testing.assert_array_equal(labels, whole.transpose(order)[taken])


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped"])
def test_on_a_grid_of_its_own_the_shape_is_the_fit_s(kind):
    """Another direction, spacing and field of view than the mask's, larger and beyond its grid."""
    grid = thick_grid(kind)
    mask = Ball(RADIUS).sdf_mm(grid.points_world()) < 0
    axes = Rotation.from_euler("xyz", [-35, 10, 50], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag([-0.8, 1.1, 1.4])
    affine[:3, 3] = CENTRE - affine[:3, :3] @ np.array([60.0, 45.0, 40.0])
    other = WorldGrid(affine, (120, 92, 80))
    points = other.points_world()
    field = field_on(mask, grid.affine, other, Ball(RADIUS))
    assert dice(field < 0, Ball(RADIUS).sdf_mm(points) < 0) > 0.98
    index = (points - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T
    beyond = ((index < -0.5) | (index > np.array(grid.shape) - 0.5)).any(axis=-1)
    assert beyond.mean() > 0.3 and np.array_equal(np.isinf(field), beyond)


def test_beyond_the_mask_s_own_grid_there_is_nothing():
    """A ball that is cut by the first slice, though its fit goes on."""
    grid = thick_grid("plain")
    mask = (Ball(RADIUS).sdf_mm(grid.points_world()) < 0)[:, :, 5:]
    affine = grid.affine.copy()
    affine[:3, 3] += 5 * affine[:3, 2]
    field = field_on(mask, affine, thinned(grid), Ball(RADIUS))
    assert np.isinf(field[:, :, :25]).all() and (field[:, :, 25:] < 0).any()


def test_a_grid_beside_the_mask_stays_empty():
    grid, label_map, pack, shapes = two_parts()
    away = grid.affine.copy()
    away[0, 3] += 500.0
    assert not labels_on(pack, label_map, grid.affine, shapes, WorldGrid(away, grid.shape)).any()


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped"])
def test_on_its_own_grid_a_mask_is_what_it_was(kind):
    grid, label_map, pack, shapes = two_parts(kind=kind)
    np.testing.assert_array_equal(labels_on(pack, label_map, grid.affine, shapes, grid), label_map)
