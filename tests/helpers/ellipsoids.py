"""Analytic shapes for tests: signed distances and surface points of ellipsoids, near enough to exact."""

import numpy as np

from scripts.prior.linear import LinearShapeModel


def ellipsoid_sdf(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """First-order signed distance (…,) of an axis-aligned ellipsoid at the origin; exact for spheres."""
    scaled = np.linalg.norm(points / radii, axis=-1)
    slope = np.linalg.norm(points / radii**2, axis=-1)
    return scaled * (scaled - 1.0) / np.maximum(slope, 1e-9)


def ellipsoid_points(radii: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Surface points (N, 3) and outward normals (N, 3)."""
    directions = np.random.default_rng(seed).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = directions * radii
    normals = points / radii**2
    return points, normals / np.linalg.norm(normals, axis=1, keepdims=True)


def grid_points(size: int, extent: float) -> np.ndarray:
    """Grid (G, G, G, 3) over the cube [-extent, extent]."""
    axis = np.linspace(-extent, extent, size)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)


def linear_model(count: int = 12, size: int = 24, seed: int = 0) -> LinearShapeModel:
    """Linear model of ellipsoids whose long axis varies between 0.55 and 0.85."""
    grid = grid_points(size, 1.1)
    longs = np.linspace(0.55, 0.85, count)
    return LinearShapeModel.train(np.stack([ellipsoid_sdf(grid, np.array([0.3, 0.4, z])) for z in longs]), 1.1, 3)
