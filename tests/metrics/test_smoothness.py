"""Smoothness: known for balls, planes and steps."""

import numpy as np
import pytest
import trimesh

from scripts.metrics.smoothness import rough_share


def test_a_large_ball_is_smooth():
    assert rough_share(trimesh.creation.icosphere(5, radius=20.0), 1.0) == 0.0


def test_only_the_edges_of_a_box_are_rough():
    """Within 1 mm of an edge the mean normal leans over by more than 20° up to where a circle has a cap of 27 %."""
    box = trimesh.creation.box((20.0, 20.0, 20.0))
    for _ in range(5):
        box = box.subdivide()
    share = rough_share(box, 1.0)
    assert 0.02 < share < 12 * 20 * 2 / (6 * 400)
    assert rough_share(box, 1.0) == share


@pytest.mark.parametrize("seed", [0, 1])
def test_steps_are_rough_where_the_slope_they_stand_for_is_not(seed):
    heights = np.repeat(np.arange(10.0), 2)
    x = np.repeat(np.arange(11.0), 2)[1:-1]
    profile = np.stack([x, heights], 1)
    stairs = _ribbon(profile)
    slope = _ribbon(profile[[0, -1]])
    assert rough_share(stairs, 1.0, seed) > 0.8 and rough_share(slope, 1.0, seed) == 0.0


def _ribbon(profile: np.ndarray) -> trimesh.Trimesh:
    """A profile (N, 2) in x and z, swept along y, in triangles of a quarter of a mm or so."""
    near = np.column_stack([profile[:, 0], np.zeros(len(profile)), profile[:, 1]])
    far = near + (0, 20, 0)
    n = len(profile)
    i = np.arange(n - 1)
    faces = np.concatenate([np.stack([i, i + 1, i + n], 1), np.stack([i + 1, i + n + 1, i + n], 1)])
    mesh = trimesh.Trimesh(np.concatenate([near, far]), faces, process=False)
    return mesh.subdivide_to_size(0.5)
