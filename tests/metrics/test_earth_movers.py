"""Earth Mover's distance: all permutations, closed forms, the noise floor, the policy, and the speed."""

import itertools
import time

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from scripts.metrics.earth_movers import compute_earth_movers_distance, earth_movers_distance
from scripts.metrics.surface import EmptyPolicy
from tests.helpers.balls import AFFINES, ANISOTROPIC, ball, one_hot, random_directions


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_best_of_all_permutations(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)) + (2, 0, 0)
    best = min(np.linalg.norm(a - b[list(order)], axis=1).mean() for order in itertools.permutations(range(7)))
    assert earth_movers_distance(a, b) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("shift", [(0, 0, 0), (0.3, 0.1, 0), (5, 0, 0)])
def test_centred_costs_have_the_same_optimum(shift):
    a, b = random_directions(300, 0), random_directions(300, 1) * (1, 0.4, 0.4) + shift
    cost = cdist(a, b)
    expected = cost[linear_sum_assignment(cost)].mean()
    assert earth_movers_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_a_shifted_copy_is_the_shift_apart():
    """No bijection beats the mean displacement, and the identity reaches it."""
    points, shift = random_directions(500, 0), np.array([0.2, -0.3, 0.6])
    shuffled = points[np.random.default_rng(1).permutation(500)]
    assert earth_movers_distance(points, shuffled + shift) == pytest.approx(np.linalg.norm(shift), rel=1e-9)


def test_a_scaled_copy_is_the_mean_growth_apart():
    points = random_directions(500, 0)
    assert earth_movers_distance(points, 1.3 * points) == pytest.approx(0.3, rel=1e-9)


def test_differing_counts_are_refused():
    with pytest.raises(ValueError, match="as many points"):
        earth_movers_distance(np.zeros((3, 3)), np.zeros((4, 3)))


@pytest.mark.parametrize(("count", "stated"), [(512, 0.065), (1024, 0.052)])
def test_noise_floor_of_the_unit_sphere(count, stated):
    floors = [
        earth_movers_distance(0.5 * random_directions(count, seed), 0.5 * random_directions(count, seed + 50))
        for seed in range(5)
    ]
    assert np.mean(floors) == pytest.approx(stated, rel=0.2)


@pytest.mark.parametrize("kind", AFFINES)
def test_shifted_balls_on_any_grid(kind):
    """Far beyond the floor the distance is the shift over the truth's diameter; independent normalisation hides it."""
    affine = AFFINES[kind]
    shift = np.array([6.0, -4.0, 5.0])
    pred, truth = (one_hot(ball(14.0, affine, s), affine=affine)[None] for s in (shift, (0, 0, 0)))
    distance = compute_earth_movers_distance(pred, truth).item()
    assert distance == pytest.approx(np.linalg.norm(shift) / 28.0, rel=0.1)
    floor = compute_earth_movers_distance(truth, truth).item()
    assert 0.03 < floor < 0.09
    assert compute_earth_movers_distance(pred, truth, normalisation="independent").item() < 0.1


def test_empty_masks_follow_the_policy():
    truth = one_hot(ball(15.0, ANISOTROPIC), affine=ANISOTROPIC)[None]
    empty = one_hot(np.zeros_like(ball(15.0, ANISOTROPIC)), affine=ANISOTROPIC)[None]
    policy = EmptyPolicy(distance_penalty_mm=60.0)
    assert compute_earth_movers_distance(empty, truth, policy=policy).item() == pytest.approx(60 / 30, rel=0.06)
    assert torch.isnan(compute_earth_movers_distance(empty, empty)).all()


@pytest.mark.parametrize("offset", [0.0, 0.1, 1.0])
def test_speed_on_one_core(offset):
    """Prints what 1000 against 1000 points take: `pytest tests/metrics -k speed -s`."""
    a, b = 0.5 * random_directions(1000, 0), 0.45 * random_directions(1000, 1) + (offset, 0, 0)
    start = time.process_time()
    earth_movers_distance(a, b)
    seconds = time.process_time() - start
    print(f"\nEMD 1k/1k, spheres {offset:g} diameters apart: {seconds:.3f} s of processor time")
    assert seconds < 2.0
