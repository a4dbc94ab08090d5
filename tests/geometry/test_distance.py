"""Signed distances against closed forms and trimesh, also for nested and overlapping components."""

import numpy as np
import pytest
import trimesh

from scripts.geometry.affine import Similarity
from scripts.geometry.distance import signed_distance
from scripts.geometry.surface import mask_to_surface


def sphere(radius, centre=(0, 0, 0), inward=False):
    mesh = trimesh.creation.icosphere(4, radius=radius)
    mesh.apply_translation(centre)
    if inward:
        mesh.invert()
    return mesh


def to_ball(points, radius, centre=(0, 0, 0)):
    return np.linalg.norm(points - np.array(centre), axis=1) - radius


POINTS = np.random.default_rng(0).uniform(-14, 14, (3000, 3))


def test_sphere():
    np.testing.assert_allclose(signed_distance(sphere(10.0), POINTS), to_ball(POINTS, 10.0), atol=0.02)


def test_box_is_exact():
    half = np.array([3.0, 5.0, 2.0])
    outside = np.abs(POINTS) - half
    expected = np.linalg.norm(np.maximum(outside, 0), axis=1) + np.minimum(outside.max(axis=1), 0)
    np.testing.assert_allclose(signed_distance(trimesh.creation.box(2 * half), POINTS), expected, atol=1e-9)


def test_nested_and_separate_components():
    parts = [sphere(10.0), sphere(6.0, (1, 0, 0), inward=True), sphere(2.0, (1, 0, 0)), sphere(2.0, (0, 0, 13))]
    distances = np.stack(
        [
            to_ball(POINTS, 10.0),
            to_ball(POINTS, 6.0, (1, 0, 0)),
            to_ball(POINTS, 2.0, (1, 0, 0)),
            to_ball(POINTS, 2.0, (0, 0, 13)),
        ]
    )
    inside = ((distances[0] < 0) & (distances[1] > 0)) | (distances[2] < 0) | (distances[3] < 0)
    magnitude = np.abs(distances).min(axis=0)
    found = signed_distance(trimesh.util.concatenate(parts), POINTS)
    clear = magnitude > 0.05
    np.testing.assert_array_equal((found < 0)[clear], inside[clear])
    np.testing.assert_allclose(np.abs(found), magnitude, atol=0.03)


def test_sign_is_right_where_components_overlap():
    found = signed_distance(trimesh.util.concatenate([sphere(6.0, (-3, 0, 0)), sphere(6.0, (3, 0, 0))]), POINTS)
    union = np.minimum(to_ball(POINTS, 6.0, (-3, 0, 0)), to_ball(POINTS, 6.0, (3, 0, 0)))
    clear = np.abs(union) > 0.05
    np.testing.assert_array_equal((found < 0)[clear], (union < 0)[clear])


def test_matches_trimesh_on_a_meshed_mask():
    rng = np.random.default_rng(2)
    mask = np.zeros((10, 9, 8), dtype=bool)
    mask[2:7, 2:7, 2:6] = True
    mask[5:9, 4, 4] = True
    mesh = mask_to_surface(mask, np.diag([-1.0, 1.0, 1.5, 1.0]))
    points = rng.uniform(mesh.bounds[0] - 2, mesh.bounds[1] + 2, (300, 3))
    found = signed_distance(mesh, points)
    _, expected, _ = trimesh.proximity.closest_point_naive(mesh, points)
    np.testing.assert_allclose(np.abs(found), expected, atol=1e-6)
    index = np.rint(points / (-1.0, 1.0, 1.5)).astype(int)
    within = ((index >= 0) & (index < mask.shape)).all(axis=1)
    solid = np.zeros(len(points), dtype=bool)
    solid[within] = mask[tuple(index[within].T)]
    clear = expected > 1.0
    np.testing.assert_array_equal((found < 0)[clear], solid[clear])


def test_scales_with_a_similarity():
    mesh = sphere(5.0, (1, 2, 3))
    similarity = Similarity(0.07, np.eye(3)[[1, 2, 0]], np.array([0.4, -0.1, 0.2]))
    moved = trimesh.Trimesh(similarity.apply(mesh.vertices), mesh.faces, process=False)
    np.testing.assert_allclose(
        signed_distance(moved, similarity.apply(POINTS)), 0.07 * signed_distance(mesh, POINTS), atol=1e-9
    )


def test_far_from_the_origin():
    offset = np.array([900.0, -700.0, 1500.0])
    mesh = sphere(10.0, offset)
    np.testing.assert_allclose(signed_distance(mesh, POINTS + offset), to_ball(POINTS, 10.0), atol=0.02)


def test_bad_input():
    mesh = sphere(1.0)
    assert signed_distance(mesh, np.zeros((0, 3))).shape == (0,)
    assert signed_distance(mesh, np.zeros((1, 3))).shape == (1,)
    with pytest.raises(ValueError, match="shape"):
        signed_distance(mesh, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="finite"):
        signed_distance(mesh, [[np.nan, 0, 0]])
    with pytest.raises(ValueError, match="triangles"):
        signed_distance(trimesh.Trimesh(), POINTS)
