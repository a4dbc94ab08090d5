"""Smoothing of surfaces that meet: smooth, where they were, shared as before, with the volumes asked for."""

import numpy as np
import pytest
import trimesh

from scripts.geometry.shared_surface import interfaces
from scripts.geometry.smooth_complex import smooth_complex
from scripts.metrics.smoothness import rough_share

RADIUS_MM, MIDDLE = 10.0, 12.4


def halves():
    """A ball's halves as voxels say them, which meet in a plane across z: the surfaces are steps."""
    index = np.stack(np.meshgrid(*[np.arange(26)] * 3, indexing="ij"), -1) - MIDDLE
    inside = np.linalg.norm(index, axis=-1) < RADIUS_MM
    label = np.where(inside, np.where(index[..., 2] > 0, 1, 2), 0)
    return interfaces(np.stack([np.where(label == k, -1.0, 1.0) for k in range(3)]).astype(np.float32))


def surface(vertices, triangles, sides, material):
    own = np.concatenate([triangles[sides[:, 0] == material], triangles[sides[:, 1] == material][:, ::-1]])
    return trimesh.Trimesh(vertices, own, process=True)


@pytest.fixture(scope="module")
def smoothed():
    points, triangles, sides = halves()
    volumes = np.full(2, 2.0 / 3.0 * np.pi * RADIUS_MM**3) * (1.0, 1.02)
    return points, smooth_complex(points, triangles, sides, volumes, 0.5), triangles, sides, volumes


def test_each_material_encloses_its_volume(smoothed):
    _, vertices, triangles, sides, volumes = smoothed
    for material, volume in enumerate(volumes, 1):
        found = surface(vertices, triangles, sides, material)
        assert found.is_watertight and found.volume == pytest.approx(volume, rel=1e-4)


def test_steps_of_voxels_become_a_ball_and_a_plane(smoothed):
    points, vertices, triangles, sides, _ = smoothed
    away = [np.abs(np.linalg.norm(one - MIDDLE, axis=1) - RADIUS_MM) for one in (points, vertices)]
    outer = np.unique(triangles[sides[:, 0] == 0])
    assert np.sqrt((away[1][outer] ** 2).mean()) < 0.6 * np.sqrt((away[0][outer] ** 2).mean())
    wall = np.setdiff1d(triangles[sides[:, 0] == 1], outer)
    assert np.ptp(vertices[wall, 2]) < 0.3
    before, after = (rough_share(surface(one, triangles, sides, 1), 1.0) for one in (points, vertices))
    assert after < 0.3 * before


def test_a_line_where_three_meet_stays_sharp(smoothed):
    points, vertices, triangles, sides, _ = smoothed
    pairs = [np.unique(triangles[(sides == pair).all(axis=1)]) for pair in ([0, 1], [0, 2], [1, 2])]
    line = vertices[np.intersect1d(np.intersect1d(pairs[0], pairs[1]), pairs[2])]
    radii = np.linalg.norm(line[:, :2] - MIDDLE, axis=1)
    assert len(line) > 60 and np.abs(radii - RADIUS_MM).max() < 0.7  # an edge pulled in would be more


def test_a_lost_part_does_not_swell_others():
    points, triangles, sides = halves()
    vertices = smooth_complex(points, triangles, sides, np.full(2, 1e5), 0.2)
    assert np.linalg.norm(vertices - points, axis=1).max() < 3.0
