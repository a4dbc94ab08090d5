"""Samples of one shape."""

import numpy as np
import pytest
import trimesh

from scripts.shapes.samples import SampleSettings, sample_shape, smooth_displacement

SMALL = SampleSettings(n_surface=400, n_free=300, grid_size=12, box_points=2000, picct_points=150)


def test_samples_of_a_sphere_are_exact():
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.6)
    shape = sample_shape(mesh, "sphere", SMALL)
    points, normals = shape.surface[:, :3], shape.surface[:, 3:]
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.6, atol=2e-3)
    np.testing.assert_allclose(normals, points / np.linalg.norm(points, axis=1, keepdims=True), atol=0.01)
    np.testing.assert_allclose(shape.free[:, 3], np.linalg.norm(shape.free[:, :3], axis=1) - 0.6, atol=2e-3)
    axis = np.linspace(-1.1, 1.1, 12)
    radius = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), axis=-1)
    np.testing.assert_allclose(shape.grid, radius - 0.6, atol=2e-3)
    cell = np.prod((shape.box[1] - shape.box[0]) / (shape.box_shape - 1))
    assert shape.box_inside.sum() * cell == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.05)
    assert len(shape.box_grid()) == len(shape.box_inside)


def test_half_of_the_free_points_are_near_the_surface():
    shape = sample_shape(trimesh.creation.icosphere(subdivisions=3, radius=0.5), "sphere", SMALL)
    assert np.abs(shape.free[:150, 3]).mean() < 0.08
    assert np.linalg.norm(shape.free[150:, :3], axis=1).max() <= SMALL.ball_radius


def test_displacements_are_smooth_and_of_the_asked_size():
    points = np.random.default_rng(0).uniform(-1, 1, size=(500, 3))
    moves = np.stack([smooth_displacement(points, 0.05, 1.0, seed) for seed in range(40)])
    assert np.sqrt((moves**2).sum(-1).mean()) == pytest.approx(0.05, rel=0.1)
    near = smooth_displacement(points + 1e-3, 0.05, 1.0, 0) - moves[0]
    assert np.abs(near).max() < 2e-3
