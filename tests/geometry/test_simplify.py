"""Surfaces with fewer triangles: closed, of the same volume, and how far off they are."""

import numpy as np
import pytest
import trimesh

from scripts.geometry.simplify import deviation_mm, simplified


def two_bodies() -> trimesh.Trimesh:
    """A torus and a flat ellipsoid beside it, some 27,000 triangles."""
    torus = trimesh.creation.torus(20.0, 5.0, major_sections=160, minor_sections=60)
    flat = trimesh.creation.icosphere(4, radius=10.0)
    flat.apply_scale((1.0, 1.0, 0.15))
    flat.apply_translation((0, 40, 0))
    return trimesh.util.concatenate([torus, flat])


@pytest.mark.parametrize("count", [400, 3000])
def test_fewer_triangles_are_closed_outward_and_of_the_same_volume(count):
    full = two_bodies()
    thin = simplified(full, count)
    assert 0.5 * count < len(thin.faces) <= count
    assert thin.is_watertight and thin.is_winding_consistent
    assert thin.volume == pytest.approx(full.volume, rel=0.005)


def test_the_deviation_is_the_largest_distance_either_way():
    ball = trimesh.creation.icosphere(4, radius=10.0)
    thin = simplified(ball, 320)
    sagitta = 10.0 - np.linalg.norm(thin.triangles_center, axis=1).min()
    assert deviation_mm(ball, thin) == pytest.approx(sagitta, abs=0.1) and deviation_mm(ball, ball) < 1e-6
    spiked = ball.copy()
    spiked.vertices[0] *= 1.3
    assert deviation_mm(ball, spiked) == pytest.approx(3.0) == deviation_mm(spiked, ball)
    assert deviation_mm(ball, simplified(ball, 2000)) < deviation_mm(ball, thin)


def test_a_surface_with_few_triangles_stays_as_it_is():
    ball = trimesh.creation.icosphere(1)
    assert simplified(ball, 0) is ball and simplified(ball, 1000) is ball


def test_what_falls_together_keeps_more_triangles(monkeypatch):
    ball = trimesh.creation.icosphere(4)
    tried = []

    def torn(self, face_count):
        tried.append(face_count)
        return trimesh.Trimesh(self.vertices, self.faces[1:], process=False)

    monkeypatch.setattr(trimesh.Trimesh, "simplify_quadric_decimation", torn)
    assert simplified(ball, 1000) is ball and tried == [1000, 2000, 4000]
