"""Volumes between grids, by world coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .affine import apply_affine, grid_corners


@dataclass(frozen=True)
class WorldGrid:
    """A voxel grid: `affine` takes voxel indices to world mm, `shape` is (X, Y, Z)."""

    affine: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def from_box(cls, lower_world: np.ndarray, upper_world: np.ndarray, spacing_mm: float) -> WorldGrid:
        """Return the grid along the world axes whose voxel centres cover the box from lower (3,) to upper (3,), mm."""
        lower, upper = np.asarray(lower_world, float), np.asarray(upper_world, float)
        counts = np.ceil((upper - lower) / spacing_mm).astype(int) + 1
        affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
        affine[:3, 3] = (lower + upper) / 2 - (counts - 1) / 2 * spacing_mm
        return cls(affine, (int(counts[0]), int(counts[1]), int(counts[2])))

    @classmethod
    def covering(cls, affine: np.ndarray, shape: tuple[int, ...], spacing_mm: float) -> WorldGrid:
        """Return the grid along the world axes that covers the voxel centres of another grid."""
        world = apply_affine(affine, grid_corners(shape[:3]))
        return cls.from_box(world.min(0), world.max(0), spacing_mm)

    def points_world(self) -> np.ndarray:
        """Return the voxel centres in world mm, (X, Y, Z, 3)."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in self.shape], indexing="ij"), -1)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]


def resample(volume: np.ndarray, affine: np.ndarray, grid: WorldGrid, order: int = 1, fill: float = 0.0) -> np.ndarray:
    """Interpolate a volume at the voxel centres of another grid.

    Args:
        volume: (X, Y, Z).
        affine: (4, 4) voxel → world mm of `volume`.
        grid: where to interpolate.
        order: spline order; 0 for label maps.
        fill: value of grid points outside the volume.

    Returns:
        Array of `grid.shape`; of the volume's type for order 0, else float32.
    """
    to_source = (np.linalg.inv(affine) @ grid.affine).round(9)  # a grid maps to whole indices of itself
    source = volume if order == 0 else volume.astype(np.float32, copy=False)
    matrix, offset = to_source[:3, :3], to_source[:3, 3]
    mode = (
        "grid-constant" if order == 0 else "constant"
    )  # a label fills its voxel, half of which lies beyond its centre
    return ndimage.affine_transform(
        source, matrix, offset, output_shape=grid.shape, order=order, mode=mode, cval=fill, prefilter=order > 1
    )


def inside_grid(points_world: np.ndarray, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return which world points (N, 3) lie in the field of view of a grid (half a voxel beyond the centres), (N,)."""
    index = (points_world - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return np.all((index >= -0.5) & (index <= np.asarray(shape[:3]) - 0.5), axis=-1)
