"""Scores of fitted shapes: spheres have closed forms."""

import numpy as np
import pytest
import trimesh

from scripts.cases.split import evenly_spaced
from scripts.shapes.samples import SampleSettings, sample_shape
from scripts.training.prior.check import chamfer, dice, noise_floor, score_distances, summary

SETTINGS = SampleSettings(n_surface=20000, n_free=200, grid_size=8, box_points=60000)


@pytest.fixture(scope="module")
def sphere():
    return sample_shape(trimesh.creation.icosphere(subdivisions=5, radius=0.6), "sphere", SETTINGS)


@pytest.mark.parametrize("radius", [0.5, 0.6, 0.66])
def test_scores_of_a_sphere_for_a_sphere(sphere, radius):
    score = score_distances(np.linalg.norm(sphere.box_grid(), axis=1) - radius, sphere)
    inner, outer = min(radius, 0.6) ** 3, max(radius, 0.6) ** 3
    assert score.dice == pytest.approx(2 * inner / (inner + outer), abs=0.01)
    floor = noise_floor([sphere])
    assert floor is not None and 0.05 < floor < 0.3
    assert score.cd == pytest.approx(2000 * (radius - 0.6) ** 2 + floor, rel=0.1)


def test_what_a_fit_adds_beside_the_shape_counts(sphere):
    points = sphere.box_grid()
    plain = np.linalg.norm(points, axis=1) - 0.6
    leak = np.minimum(plain, np.linalg.norm(points - [0.64, 0.0, 0.0], axis=1) - 0.15)
    assert score_distances(leak, sphere).cd > score_distances(plain, sphere).cd + 0.05


def test_beyond_a_border_nothing_is_scored():
    half = sample_shape(
        trimesh.creation.icosphere(subdivisions=5, radius=0.6),
        "half",
        SETTINGS,
        planes=np.array([[0.0, 0.0, -1.0, 0.1]]),
    )
    points = half.box_grid()
    whole = np.linalg.norm(points, axis=1) - 0.6
    capped = np.maximum(whole, points[:, 2] - 0.2)
    one, other = score_distances(whole, half), score_distances(capped, half)
    assert one.dice > 0.98 and other.dice == pytest.approx(one.dice, abs=0.01)
    assert other.cd == pytest.approx(one.cd, rel=0.05)


def test_no_surface_is_no_fit(sphere):
    score = score_distances(np.ones(len(sphere.box_inside)), sphere)
    assert score.dice == 0.0 and score.cd == float("inf")
    figures = summary({"a": score})
    assert figures["cd_mean"] is None and figures["dice_mean"] == 0.0 and figures["n"] == 1
    assert summary({}) == {"n": 0, "dice_mean": None, "dice_min": None, "cd_mean": None, "cd_max": None}


def test_chamfer_of_shifted_points():
    points = np.array([[0.0, 0, 0], [10.0, 0, 0]])
    assert chamfer(points, points + [0.0, 0.3, 0.0]) == pytest.approx(1000 * 2 * 0.09)


def test_dice_and_spread():
    assert dice(np.array([True, False]), np.array([True, True])) == pytest.approx(2 / 3)
    assert dice(np.zeros(2, bool), np.zeros(2, bool)) == 1.0
    assert evenly_spaced(3, 5) == [0, 1, 2] and evenly_spaced(11, 3) == [0, 5, 10]
