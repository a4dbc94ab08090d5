"""Two balls as structures of a pack."""

import numpy as np

STRUCTURES = [{"name": "shell", "labels": [1]}, {"name": "core", "labels": [2]}]


def two_balls(dtype=np.int16) -> np.ndarray:
    """Return two balls that do not touch, with the labels 1 and 2, and a voxel of another label."""
    x, y, z = np.ogrid[:60, :40, :36]
    labels = np.zeros((60, 40, 36), dtype)
    labels[(x - 17) ** 2 + (y - 20) ** 2 + (z - 18) ** 2 <= 81] = 1
    labels[(x - 42) ** 2 + (y - 20) ** 2 + (z - 18) ** 2 <= 81] = 2
    labels[59, 39, 35] = 7
    return labels
