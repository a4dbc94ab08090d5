"""A large mask: distances near its surface, and what is counted of it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..geometry.runs import Runs
from ..geometry.surface import boundary, mask_signed_distance
from ..prior.prior import ShapePrior
from ..refine.gate import LIMIT_MM
from ..refine.narrow_band import COARSE_MM, evaluate_near_surface
from .compare import Task
from .field import mean_shape

EDGE = 256  # of the grid, voxels


def mask_of(prior: ShapePrior, edge: int = EDGE) -> tuple[np.ndarray, float]:
    """Return a prior's mean shape as a mask on a cube of voxels that just holds it, and their edge in mm."""
    sdf_mm, grid, step_mm = mean_shape(prior, edge)
    return evaluate_near_surface(sdf_mm, grid, np.full(3, step_mm), COARSE_MM, COARSE_MM / 2) < 0, step_mm


def distances(prior: ShapePrior, edge: int = EDGE) -> Task:
    """Return the signed distances of a prior's mean shape, exact near its surface."""
    mask, step_mm = mask_of(prior, edge)
    spacing = np.full(3, step_mm)

    def everywhere() -> np.ndarray:
        return mask_signed_distance(mask, spacing).clip(-LIMIT_MM + step_mm / 2, LIMIT_MM - step_mm / 2)

    return Task(
        f"signed distances of a mask on {edge}³ voxels",
        "SciPy's distance transform, inside and outside",
        f"the same up to {LIMIT_MM:g} mm from the surface",
        everywhere,
        lambda: mask_signed_distance(mask, spacing, LIMIT_MM),
        lambda plain, ours: float(np.abs(plain - ours).max()),
        1e-4,
        "mm at most",
    )


def counts(prior: ShapePrior, edge: int = EDGE) -> Task:
    """Return the count of pieces, holes and surface voxels of a prior's mean shape with a hole and an island."""
    mask = mask_of(prior, edge)[0]
    middle = np.argwhere(mask).mean(0).astype(int)
    mask[tuple(slice(k - 1, k + 2) for k in middle)] ^= True
    mask[:2, :2, :2] = True

    def voxel_by_voxel() -> tuple[int, int, int]:
        around, count = ndimage.label(np.pad(~mask, 1, constant_values=True))
        return ndimage.label(mask, np.ones((3, 3, 3)))[1], count - 1, len(np.argwhere(boundary(mask)))

    def run_by_run() -> tuple[int, int, int]:
        runs = Runs.of(mask)
        return runs.pieces()[1], Runs.of(~mask).enclosed()[1], len(runs.rim())

    return Task(
        f"pieces, holes and surface voxels of a mask on {edge}³ voxels",
        "voxel by voxel: SciPy's label, shifted masks",
        "by the ends of the mask's runs",
        voxel_by_voxel,
        run_by_run,
        lambda plain, ours: float(plain != ours),
        0.0,
        "of the counts",
    )
