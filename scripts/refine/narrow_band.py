"""Signed distances of a fitted shape on a grid: closely near its surface, coarsely elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..geometry.affine import apply_affine
from ..geometry.resample import WorldGrid

COARSE_MM = 4.0
FINE_CANONICAL = 1 / 80  # what the fields resolve: smaller voxels are interpolated
EVALUATED_AT_ONCE = 1_000_000  # points, for memory


def evaluate_near_surface(
    sdf_mm: Callable[[np.ndarray], np.ndarray],
    grid: WorldGrid,
    spacing: np.ndarray,
    band_mm: float,
    fine_mm: float = 0.0,
) -> np.ndarray:
    """Evaluate a signed distance at a grid's voxel centres: closely within `band_mm` of its surface, else coarsely.

    Args:
        sdf_mm: world points (N, 3) → signed distances (N,) in mm.
        grid: whose voxel centres are evaluated.
        spacing: (3,) mm of the grid.
        band_mm: 0 evaluates coarsely everywhere (about every 4 mm, linearly interpolated).
        fine_mm: within the band the field is evaluated at every voxel or, where voxels are smaller, about every
            `fine_mm`, and interpolated linearly: off by at most `fine_mm² / 4 R` at a surface of radius of curvature R.

    Returns:
        (X, Y, Z) float32.
    """
    counts = node_counts(grid.shape, spacing, COARSE_MM)
    values = sdf_mm(_node_points(grid, counts)).reshape(counts).astype(np.float32)
    if band_mm > 0:
        fine = node_counts(grid.shape, spacing, fine_mm)
        values = interpolate_nodes(values, fine)
        # a node beyond the band may still be a corner of the cell that a voxel of the band lies in
        near = np.argwhere(np.abs(values) < band_mm + (fine_mm if fine != grid.shape else 0.0))
        for part in np.array_split(near, len(near) // EVALUATED_AT_ONCE + 1):
            values[tuple(part.T)] = sdf_mm(_node_points(grid, fine, part))
    return interpolate_nodes(values, grid.shape)


def node_counts(shape: Sequence[int], spacing: np.ndarray, step_mm: float) -> tuple[int, int, int]:
    """Return how many nodes an axis needs to have one at least every `step_mm`; never more than it has voxels."""
    wanted = [(n - 1) * h / step_mm if step_mm > 0 else n for n, h in zip(shape, spacing, strict=True)]
    x, y, z = (min(n, max(int(np.ceil(w)) + 1, 2)) for n, w in zip(shape, wanted, strict=True))
    return x, y, z


def _node_points(grid: WorldGrid, counts: Sequence[int], nodes: np.ndarray | None = None) -> np.ndarray:
    """Return the world points (N, 3) of nodes (N, 3), of all where there are none, spread evenly over a grid."""
    if nodes is None:
        nodes = np.stack(np.meshgrid(*[np.arange(c) for c in counts], indexing="ij"), -1).reshape(-1, 3)
    step = [(n - 1) / max(c - 1, 1) for n, c in zip(grid.shape, counts, strict=True)]
    return apply_affine(grid.affine, nodes * np.array(step))


def interpolate_nodes(values: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Interpolate nodes (X, Y, Z) linearly at `counts` nodes an axis spread over the same range."""
    for axis, (have, want) in enumerate(zip(values.shape, counts, strict=True)):
        if have == want:
            continue
        position = np.arange(want) * (have - 1) / max(want - 1, 1)
        low = np.minimum(position.astype(int), have - 2)
        share = (position - low).astype(np.float32)
        found = np.empty([want if a == axis else n for a, n in enumerate(values.shape)], values.dtype)
        if axis == 0:
            for place, below, part in zip(found, low, share, strict=True):
                place[:] = values[below] * (1 - part) + values[below + 1] * part
        else:  # plane by plane, for memory
            part = share[:, None] if axis == 1 else share
            for place, plane in zip(found, values, strict=True):
                place[:] = plane.take(low, axis - 1) * (1 - part) + plane.take(low + 1, axis - 1) * part
        values = found
    return values
