"""A fitted field on a grid of voxels: all of them, or closely near its surface only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry.affine import Similarity, apply_affine
from ..geometry.resample import WorldGrid
from ..prior.prior import ShapePrior
from ..refine.narrow_band import COARSE_MM, EVALUATED_AT_ONCE, evaluate_near_surface
from ..refine.stages import evaluate_mm
from .compare import Task

EDGE = 128  # of the grid, voxels
REACH = 1.1  # half the grid's edge, canonical: the shapes have radii of about 0.9


def mean_shape(prior: ShapePrior, edge: int) -> tuple[Callable[[np.ndarray], np.ndarray], WorldGrid, float]:
    """Return a prior's mean shape, world points (N, 3) → signed distance (N,) in mm, and a cube of voxels that just
    holds it, with their edge in mm.
    """
    pose = Similarity(1.0 / prior.scale_mm, np.eye(3), np.zeros(3))
    alpha, beta = prior.split_codes(prior.code_mean[None])
    weights = prior.field.weights(beta)
    step_mm = 2 * REACH * prior.scale_mm / (edge - 1)
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = -REACH * prior.scale_mm

    def sdf_mm(points_world: np.ndarray) -> np.ndarray:
        return evaluate_mm(lambda points: prior.field.sdf(weights, alpha, points), pose, points_world)

    return sdf_mm, WorldGrid(affine, (edge, edge, edge)), step_mm


def field_on_grid(prior: ShapePrior, edge: int = EDGE) -> Task:
    """Return the evaluation of a prior's mean shape on a cube of voxels that just holds it."""
    sdf_mm, grid, step_mm = mean_shape(prior, edge)

    def every_voxel() -> np.ndarray:
        index = np.indices(grid.shape).reshape(3, -1).T
        pieces = np.array_split(index, len(index) // EVALUATED_AT_ONCE + 1)
        return np.concatenate([sdf_mm(apply_affine(grid.affine, piece)) for piece in pieces]).reshape(grid.shape)

    def near_surface() -> np.ndarray:
        return evaluate_near_surface(sdf_mm, grid, np.full(3, step_mm), COARSE_MM)

    return Task(
        f"field on {edge}³ voxels of {step_mm:.2f} mm",
        "every voxel",
        f"within {COARSE_MM:g} mm of the surface, coarsely elsewhere",
        every_voxel,
        near_surface,
        lambda plain, ours: float(((plain < 0) != (ours < 0)).mean()),
        0.0,
        "of the voxels on another side",
    )
