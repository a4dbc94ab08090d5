"""Points on a bean, which has no symmetry, and poses that it may stand in."""

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.geometry.affine import Similarity


def bean(count, seed):
    """Points on an asymmetric ellipsoid-like surface, about 80 x 56 x 40 mm, nearly uniform by area."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(30 * count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    x, y, z = direction.T
    points = direction * (1 + 0.25 * x * y + 0.2 * z**3 + 0.15 * x)[:, None] * (40.0, 28.0, 20.0)
    _, first = np.unique(np.floor(points / 3.0).astype(int), axis=0, return_index=True)
    return points[rng.permutation(first)[:count]]


def world(degrees, scale=1.0, shift=(50.0, -120.0, 300.0), axis=(0.36, 0.48, 0.8)):
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array(axis)).as_matrix()
    return Similarity(scale, rotation, np.array(shift))
