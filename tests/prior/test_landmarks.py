"""Landmarks of a template on meshes whose correspondence is known."""

import numpy as np
import pytest
import trimesh

from scripts.prior.landmarks import Landmarks

BALL = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
POINTS = np.random.default_rng(0).normal(size=(300, 3))
POINTS *= 0.5 / np.linalg.norm(POINTS, axis=1, keepdims=True)
RADII = np.array([20.0, 30.0, 10.0])


def test_points_of_a_ball_are_found_on_an_ellipsoid():
    found = Landmarks.find(POINTS, BALL.vertices, BALL.faces)
    assert found.gap.max() < 0.002
    np.testing.assert_allclose(found.of(BALL.vertices / 0.5 * RADII), POINTS / 0.5 * RADII, atol=0.08)


def test_any_value_of_the_vertices_is_taken_along():
    found = Landmarks.find(POINTS, BALL.vertices, BALL.faces)
    np.testing.assert_allclose(found.of(BALL.vertices[:, 2:])[:, 0], POINTS[:, 2], atol=0.002)


def test_a_part_that_a_mesh_lacks_has_a_gap():
    upper = BALL.faces[BALL.triangles_center[:, 2] > 0]
    found = Landmarks.find(POINTS, BALL.vertices, upper)
    low = POINTS[:, 2] < -0.1
    assert (found.gap[low] > 0.09).all() and (found.gap[POINTS[:, 2] > 0.05] < 0.002).all()


def test_triangles_that_correspond_to_one_place_hold_no_landmark():
    faces = np.concatenate([BALL.faces, BALL.faces[:50, [0, 0, 1]]])
    found = Landmarks.find(POINTS, BALL.vertices, faces)
    assert np.isfinite(found.shares).all() and found.gap.max() < 0.002
    with pytest.raises(ValueError, match="covers nothing"):
        Landmarks.find(POINTS, BALL.vertices, BALL.faces[:9, [0, 0, 1]])
