"""Point-to-surface distance in mm: balls in closed form, trimesh's own nearest points, the policy."""

import numpy as np
import pytest
import torch
import trimesh

from scripts.geometry.distance import surface_distance
from scripts.metrics.point_to_surface import compute_point_to_surface, point_to_surface_mm
from scripts.metrics.shapes import SampledShape
from scripts.metrics.surface import EmptyPolicy
from tests.helpers.balls import AFFINES, ANISOTROPIC, ball, one_hot


@pytest.mark.parametrize("kind", AFFINES)
def test_concentric_balls_are_the_difference_of_radii_apart(kind):
    affine = AFFINES[kind]
    pred, truth = (one_hot(ball(radius, affine), affine=affine)[None] for radius in (13.0, 18.0))
    # the steps of voxels bring the nearest point nearer, most on a grid whose steps are all as large
    assert compute_point_to_surface(pred, truth).item() == pytest.approx(5.0, abs=0.35)
    assert compute_point_to_surface(truth, truth).item() < 1e-5


def test_smooth_spheres_are_exact():
    shapes = [SampledShape(mesh, mesh.vertices) for mesh in (trimesh.creation.icosphere(5, radius=r) for r in (8, 10))]
    assert point_to_surface_mm(shapes[0], shapes[1], 1.0) == pytest.approx(2.0, abs=0.005)


def test_both_directions_count():
    """Of two balls far apart one is missed: only the way from the truth tells, and it is half of the mean."""
    far = ball(6.0, ANISOTROPIC, (16, 0, 0))
    near = ball(6.0, ANISOTROPIC, (-16, 0, 0))
    both, one = (SampledShape.of_mask(m, ANISOTROPIC, 5000) for m in (far | near, near))
    # points of the far sphere lie 32 mm less or more from the near one's surface, up to the sphere's curvature
    assert point_to_surface_mm(one, both, 1.0) == pytest.approx((0.5 * (32 - 6)) / 2, rel=0.04)
    assert point_to_surface_mm(one, both, 1.0) == pytest.approx(point_to_surface_mm(both, one, 1.0))


def test_unsigned_distance_equals_trimesh():
    mesh = trimesh.creation.torus(5.0, 2.0)
    points = np.random.default_rng(0).uniform(-9, 9, (300, 3))
    expected = trimesh.proximity.closest_point_naive(mesh, points)[1]
    np.testing.assert_allclose(surface_distance(mesh, points), expected, atol=1e-9)


def test_empty_masks_follow_the_policy():
    truth = one_hot(ball(15.0, ANISOTROPIC), affine=ANISOTROPIC)[None]
    empty = one_hot(np.zeros_like(ball(15.0, ANISOTROPIC)), affine=ANISOTROPIC)[None]
    spacing, shape = np.diag(ANISOTROPIC)[:3], truth.shape[2:]
    diagonal = float(np.linalg.norm(spacing * shape))
    assert compute_point_to_surface(empty, truth).item() == pytest.approx(diagonal, rel=1e-6)
    assert compute_point_to_surface(truth, empty).item() == pytest.approx(diagonal, rel=1e-6)
    assert torch.isnan(compute_point_to_surface(empty, empty)).all()
    assert torch.isnan(compute_point_to_surface(empty, truth, policy=EmptyPolicy(prediction_empty="ignore"))).all()
