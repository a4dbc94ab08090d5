"""Chamfer distance: brute force, closed forms of spheres on several grids, the noise floor, and the speed."""

import time

import numpy as np
import pytest
import torch
import trimesh

from scripts.geometry.surface import sample_surface
from scripts.metrics.chamfer import ChamferDistanceMetric, chamfer_distance, compute_chamfer_distance
from scripts.metrics.shapes import SampledShape, score_shapes
from scripts.metrics.surface import EmptyPolicy
from tests.helpers.balls import AFFINES, ANISOTROPIC, ball, one_hot, random_directions


def test_equals_brute_force():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 3)), rng.normal(size=(300, 3)) * (1, 2, 0.5) + 0.4
    squared = ((a[:, None] - b[None]) ** 2).sum(-1)
    assert chamfer_distance(a, b) == pytest.approx(1000 * (squared.min(1).mean() + squared.min(0).mean()), rel=1e-12)


def test_concentric_spheres():
    """Radii r and R: every squared nearest distance is (R - r)², plus the little that sampling adds."""
    small, large = 0.4 * random_directions(30_000, 0), 0.5 * random_directions(30_000, 1)
    assert chamfer_distance(small, large) == pytest.approx(2000 * 0.1**2, rel=0.01)


@pytest.mark.parametrize(("count", "stated"), [(1000, 2.0), (10_000, 0.2), (30_000, 2000 / 30_000)])
def test_noise_floor_of_the_unit_sphere(count, stated):
    """2000 A / (π N) for area A, here π: the nearest of N random points on a plane has E[d²] = A / (π N)."""
    sphere = [0.5 * random_directions(count, seed) for seed in (0, 1)]
    assert chamfer_distance(*sphere) == pytest.approx(stated, rel=0.1)


def diameter_of(mask: np.ndarray, affine: np.ndarray) -> float:
    shape = SampledShape.of_mask(mask, affine, 1)
    assert shape is not None
    return shape.diameter_mm


@pytest.mark.parametrize("kind", AFFINES)
def test_scaled_balls_on_any_grid(kind):
    """Shared: twice the squared difference of radii, in the truth's diameters; independent: little but the floor."""
    affine = AFFINES[kind]
    pred, truth = (one_hot(ball(radius, affine), affine=affine)[None] for radius in (14.0, 18.0))
    shared = compute_chamfer_distance(pred, truth)
    assert shared.shape == (1, 1)
    diameter = diameter_of(ball(18.0, affine), affine)
    assert diameter == pytest.approx(36.0, abs=1.5)  # the farthest vertex of a ball of voxels
    # the steps of voxels bring the nearest point nearer, most on a grid whose steps are all as large
    assert shared.item() == pytest.approx(2000 * (4 / diameter) ** 2, rel=0.1)
    floor = compute_chamfer_distance(truth, truth).item()
    assert floor == pytest.approx(2000 / 30_000, rel=0.15)
    independent = compute_chamfer_distance(pred, truth, normalisation="independent").item()
    assert independent < 0.05 * shared.item()


@pytest.mark.parametrize("kind", AFFINES)
def test_shifted_balls_on_any_grid(kind):
    """A sphere of radius r shifted by t: the point at angle θ lies | |t + r n| - r | from the other sphere."""
    affine = AFFINES[kind]
    shift = np.array([3.0, -2.0, 4.0])
    pred, truth = (one_hot(ball(16.0, affine, s), affine=affine)[None] for s in (shift, (0, 0, 0)))
    cosine = np.linspace(-1, 1, 20_001)
    t = np.linalg.norm(shift)
    squared = (np.sqrt(16.0**2 + t**2 + 2 * 16.0 * t * cosine) - 16.0) ** 2
    expected = 2000 * squared.mean() / diameter_of(ball(16.0, affine), affine) ** 2
    assert compute_chamfer_distance(pred, truth).item() == pytest.approx(expected, rel=0.1)
    assert compute_chamfer_distance(pred, truth, normalisation="independent").item() < 0.05 * expected


@pytest.mark.parametrize("normalisation", ["shared", "independent"])
def test_smooth_spheres_have_the_closed_form(normalisation):
    """Radii 8 and 10 mm, no voxels: 2000 (2/20)² shared; independent is the floor alone."""
    small, large = (trimesh.creation.icosphere(6, radius=r) for r in (8.0, 10.0))
    shapes = [SampledShape(mesh, sample_surface(mesh, 30_000, seed)[0]) for seed, mesh in enumerate((small, large))]
    distance = score_shapes(shapes[0], shapes[1], chamfer_distance, 1.0, normalisation)
    assert distance == pytest.approx(20.0 if normalisation == "shared" else 2000 / 30_000, rel=0.03)


def test_seed_fixes_the_samples():
    pred, truth = (one_hot(ball(radius, ANISOTROPIC), affine=ANISOTROPIC)[None] for radius in (14.0, 15.0))
    first, again, other = (compute_chamfer_distance(pred, truth, count=500, seed=s).item() for s in (3, 3, 5))
    assert first == again != other


def test_empty_masks_follow_the_policy():
    truth = one_hot(ball(15.0, ANISOTROPIC), affine=ANISOTROPIC)[None]
    empty = one_hot(np.zeros_like(ball(15.0, ANISOTROPIC)), affine=ANISOTROPIC)[None]
    policy = EmptyPolicy(distance_penalty_mm=60.0)
    missed = compute_chamfer_distance(empty, truth, policy=policy).item()
    found = compute_chamfer_distance(truth, empty, policy=policy).item()
    assert missed == pytest.approx(2000 * (60 / diameter_of(ball(15.0, ANISOTROPIC), ANISOTROPIC)) ** 2, rel=1e-6)
    assert found == missed
    assert torch.isnan(compute_chamfer_distance(empty, empty)).all()
    assert compute_chamfer_distance(empty, empty, policy=EmptyPolicy(both_empty="perfect")).item() == 0
    assert torch.isnan(compute_chamfer_distance(empty, truth, policy=EmptyPolicy(prediction_empty="ignore"))).all()


def test_metric_collects_batches_and_lists():
    metric = ChamferDistanceMetric(count=500, reduction="mean_batch")
    balls = {radius: one_hot(ball(radius, ANISOTROPIC), affine=ANISOTROPIC) for radius in (13.0, 15.0, 17.0)}
    metric([balls[13.0], balls[17.0]], [balls[15.0], balls[15.0]])
    metric(balls[15.0][None], balls[15.0][None])
    assert metric.get_buffer().shape == (3, 1)
    expected = [compute_chamfer_distance(b[None], balls[15.0][None], count=500).item() for b in balls.values()]
    assert metric.aggregate().item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_unknown_normalisation_is_refused():
    shape = SampledShape.of_mask(ball(10.0, ANISOTROPIC), ANISOTROPIC, 100)
    with pytest.raises(ValueError, match="normalisation must be one of"):
        score_shapes(shape, shape, chamfer_distance, 1.0, "none")


@pytest.mark.parametrize("offset", [0.0, 0.1, 1.0])
def test_speed_on_one_core(offset):
    """Prints what 30,000 against 30,000 points take: `pytest tests/metrics -k speed -s`."""
    a, b = 0.5 * random_directions(30_000, 0), 0.45 * random_directions(30_000, 1) + (offset, 0, 0)
    chamfer_distance(a, b)
    start = time.process_time()
    chamfer_distance(a, b)
    seconds = time.process_time() - start
    print(f"\nCD 30k/30k, spheres {offset:g} diameters apart: {seconds:.3f} s of processor time")
    assert seconds < 1.0 + 4.0 * offset
