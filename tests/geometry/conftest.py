"""Voxel-to-world frames that every geometric routine must survive."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation


def _frame(spacing, degrees, flip):
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, :3] = rotation @ np.diag(flip) @ np.diag(spacing)
    affine[:3, 3] = (-31.5, 12.25, 170.0)
    return affine


FRAMES = {
    "identity": np.eye(4),
    "anisotropic": _frame((0.8, 1.1, 2.0), (0, 0, 0), (1, 1, 1)),
    "oblique": _frame((1.0, 0.9, 1.5), (20, -15, 35), (1, 1, 1)),
    "flipped": _frame((0.9, 0.9, 1.2), (0, 0, 0), (-1, 1, 1)),
    "flipped_oblique": _frame((1.2, 0.8, 1.0), (-25, 10, 40), (1, -1, 1)),
}


@pytest.fixture(params=list(FRAMES))
def frame(request):
    """A (4, 4) affine: identity, anisotropic, oblique, flipped, or flipped and oblique."""
    return FRAMES[request.param].copy()
