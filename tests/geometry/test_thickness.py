"""Thickness against closed-form answers."""

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from scripts.geometry.thickness import wall_thickness

TURN = Rotation.from_euler("xyz", [20, -35, 50], degrees=True)


def moved(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The mesh turned and far from the origin."""
    return trimesh.Trimesh(TURN.apply(mesh.vertices) + (90, -40, 300), mesh.faces, process=False)


@pytest.mark.parametrize("place", [trimesh.Trimesh.copy, moved])
def test_a_ball_is_as_thick_as_its_diameter(place):
    ball = place(trimesh.creation.icosphere(subdivisions=4, radius=9.0))
    np.testing.assert_allclose(wall_thickness(ball, ball.vertices, ball.vertex_normals), 18.0, atol=0.1)


@pytest.mark.parametrize("place", [trimesh.Trimesh.copy, moved])
def test_a_plate_is_as_thick_as_its_opposite_sides_are_apart(place):
    plate = place(trimesh.creation.box((20.0, 16.0, 3.0)))
    points, faces = trimesh.sample.sample_surface(plate, 400, seed=0)
    areas = plate.area_faces[faces]
    expected = np.where(np.isclose(areas, 160.0), 3.0, np.where(np.isclose(areas, 30.0), 16.0, 20.0))
    np.testing.assert_allclose(wall_thickness(plate, points, plate.face_normals[faces]), expected, atol=1e-3)


def test_thickness_is_unknown_where_the_wall_that_is_met_stands_across():
    wedge = trimesh.creation.cone(radius=6.0, height=24.0, sections=128)  # its wall is 14° from upright
    points = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    found = wall_thickness(wedge, points, np.tile([0.0, 0.0, -1.0], (2, 1)))
    assert np.isnan(found).all()
    blunt = trimesh.creation.cone(radius=6.0, height=1.0, sections=128)
    found = wall_thickness(blunt, points[1:], np.array([[0.0, 0.0, -1.0]]))
    np.testing.assert_allclose(found, 0.5, atol=0.01)


def test_no_points_have_no_thickness():
    assert wall_thickness(trimesh.creation.icosphere(), np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)
