"""Meshing a field near its zero level only, against meshing all of it."""

import pytest
import torch
from scipy.spatial import cKDTree
from skimage import measure

from scripts.prior.level_set import zero_level

OFF = torch.tensor([0.0131, -0.0273, 0.0057])  # no node lies exactly on a surface
SHAPES = {
    "ball": lambda p: (p - OFF).norm(dim=-1) - 0.5,
    "thin ring": lambda p: torch.hypot((p - OFF)[:, :2].norm(dim=-1) - 0.6, (p - OFF)[:, 2]) - 0.06,
}


@pytest.mark.parametrize("shape, resolution", [("ball", 20), ("ball", 61), ("thin ring", 61), ("thin ring", 80)])
def test_mesh_is_that_of_the_whole_grid(shape, resolution):
    sdf, seen = SHAPES[shape], []

    def counted(points):
        seen.append(len(points))
        return sdf(points)

    mesh = zero_level(counted, 1.1, resolution)
    axis = torch.linspace(-1.1, 1.1, resolution)
    values = sdf(torch.cartesian_prod(axis, axis, axis)).reshape([resolution] * 3).numpy()
    vertices, faces, _, _ = measure.marching_cubes(values, 0.0, spacing=(2.2 / (resolution - 1),) * 3)
    if resolution > 24:
        assert sum(seen) < 0.4 * resolution**3
    assert len(mesh.vertices) == len(vertices) and len(mesh.faces) == len(faces)
    assert cKDTree(vertices - 1.1).query(mesh.vertices)[0].max() < 1e-4
    assert mesh.is_watertight and mesh.volume > 0


def test_islands_and_what_lies_beyond_the_ball_are_dropped():
    def two(points):
        far = (points - torch.tensor([0.0, 0.0, 0.9])).norm(dim=-1) - 0.08
        return torch.minimum(points.norm(dim=-1) - 0.5, far)

    assert zero_level(two, 1.1, 60).body_count == 1
    assert zero_level(lambda p: p[:, 0], 1.1, 40).vertices.max() < 1.08  # a half space, cut by the ball
    with pytest.raises(ValueError, match="no surface"):
        zero_level(lambda p: p.norm(dim=-1) + 1.0)
