"""Points in a block: the order of axes, where voxels lie, and coarse to fine."""

import pytest
import torch
from torch.nn import functional

from scripts.peers.points import at_border, on_grid, sample_at, training_points, voxel_centres

SHAPE = (6, 10, 14)


def ramps(shape=SHAPE) -> torch.Tensor:
    """(1, 3, X, Y, Z): every voxel's own place."""
    return voxel_centres(shape).T.reshape(1, 3, *shape)


def test_voxel_centres_are_where_the_grid_has_its_voxels():
    grid = torch.randn(1, 2, *SHAPE)
    found = sample_at(grid, voxel_centres(SHAPE)[None])
    torch.testing.assert_close(found.reshape(grid.shape), grid)


@pytest.mark.parametrize("axis", range(3))
def test_the_axes_keep_their_order(axis):
    """A point between two voxels along one axis has the mean of these two."""
    grid = torch.randn(1, 1, *SHAPE)
    index = [2, 5, 9]
    centre = torch.tensor([(2.0 * i + 1.0) / n - 1.0 for i, n in zip(index, SHAPE, strict=True)])
    centre[axis] += 1.0 / SHAPE[axis]  # half a voxel
    other = [i + (k == axis) for k, i in enumerate(index)]
    expected = 0.5 * (grid[0, 0][tuple(index)] + grid[0, 0][tuple(other)])
    torch.testing.assert_close(sample_at(grid, centre[None, None])[0, 0, 0], expected)


def test_a_place_is_the_same_in_every_level_of_an_encoder():
    """Off by half a voxel or more where the corners of the grids were aligned."""
    places = 1.2 * torch.rand(1, 50, 3) - 0.6
    fine = ramps((16, 24, 32))
    for level in (fine, functional.avg_pool3d(fine, 2), functional.avg_pool3d(fine, 4)):
        torch.testing.assert_close(sample_at(level, places)[0].T, places[0], atol=1e-5, rtol=0)


def test_beyond_the_grid_is_its_border():
    grid = torch.randn(1, 1, *SHAPE)
    assert sample_at(grid, torch.full((1, 1, 3), 1.7)) == pytest.approx(grid[0, 0, -1, -1, -1].item())


def test_half_of_the_training_points_lie_near_the_surface():
    labels = torch.zeros(2, 1, 32, 32, 32, dtype=torch.long)
    labels[0, :, 12:20, 12:20, 12:20] = 1
    points = training_points(labels, 2000)
    assert points.shape == (2, 2000, 3) and points.abs().max() <= 1.0
    shares = sample_at(labels.float(), points, mode="nearest")[:, 0].mean(1)
    assert shares[0] > 0.1 and shares[1] == 0.0  # of voxels 1.6 % are inside
    middle = ((points[0] * 16.0).abs().amax(1) < 10.0).float().mean()
    assert 0.5 < middle < 0.7  # half of them, and of the others the box's share


def test_only_the_border_is_evaluated_on_the_fine_grid():
    shape, count = (24, 32, 40), []

    def scores_at(points):
        count.append(points.shape[1])
        inside = 0.5 - points.norm(dim=-1)
        return torch.stack([-inside, inside], dim=1)

    found = on_grid(scores_at, shape, lambda s: at_border(s.argmax(1, keepdim=True))[0, 0], torch.device("cpu"))
    everywhere = scores_at(voxel_centres(shape)[None]).reshape(1, 2, *shape)
    assert torch.equal(found.argmax(1), everywhere.argmax(1))
    assert sum(count[:-1]) < 0.4 * count[-1]
    torch.testing.assert_close(found[:, :, 8:16, 12:20, 18:22], everywhere[:, :, 8:16, 12:20, 18:22], atol=0.1, rtol=0)
