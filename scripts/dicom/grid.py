"""Blocks of voxels put into a grid voxel by voxel, whatever the order and direction of their axes."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np

from ..geometry.affine import apply_affine, grid_corners, grids_apart_mm, same_grid

OFF = 0.1  # voxels along each axis: how far a slice of a series, and what was drawn on it, may lie from its place
ROUNDING = 0.005  # voxels: by which numbers in files of a series differ from the series' own


class OffGrid(ValueError):
    """Voxels do not fall upon those of a grid; the message says how they lie."""


def turned(values: np.ndarray, affine: np.ndarray, onto: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a volume with its axes in the order and direction that are nearest to those of a grid.

    Args:
        values: (X, Y, Z).
        affine: (4, 4) voxel → world mm.
        onto: (4, 4) of the grid.

    Returns:
        The same voxels, and their affine.
    """
    axes = nib.io_orientation(np.linalg.inv(onto) @ affine)
    return nib.apply_orientation(values, axes), affine @ nib.orientations.inv_ornt_aff(axes, values.shape)


def on_grid(values: np.ndarray, affine: np.ndarray, shape: Sequence[int], grid: np.ndarray) -> np.ndarray:
    """Return a volume (X, Y, Z) that covers a grid of the shape `shape` and affine `grid`, as it lies there.

    Raises:
        OffGrid: it lies on another grid.
    """
    own, own_affine = turned(values, affine, grid)
    if tuple(own.shape) != tuple(shape):
        raise OffGrid(f"it has {_times(own.shape)} voxels, the series {_times(shape)} (columns, rows, slices)")
    if not same_grid(shape, grid, own.shape, own_affine):
        raise OffGrid(f"it lies up to {grids_apart_mm(shape, grid, own_affine):.3g} mm from the series' voxels")
    return own


def add_block(target: np.ndarray, grid: np.ndarray, block: np.ndarray, affine: np.ndarray) -> tuple[slice, ...]:
    """Return where in a grid a block of voxels lies, after turning the block is as large as that.

    Args:
        target: (X, Y, Z) on the grid.
        grid: (4, 4) its affine.
        block: (x, y, z) whose axes are already those of the grid, see `turned`.
        affine: (4, 4) of the block.

    Raises:
        OffGrid: it lies between the grid's voxels, or beyond it.
    """
    to_index = np.linalg.inv(grid) @ affine
    first = np.rint(to_index[:3, 3]).astype(int)
    corners = grid_corners(block.shape, 0.5)
    off = apply_affine(to_index, corners) - (corners + first)
    if np.abs(off).max() > OFF + ROUNDING:
        apart_mm = np.linalg.norm(off @ grid[:3, :3].T, axis=1).max()
        raise OffGrid(f"it lies up to {apart_mm:.3g} mm from the series' voxels")
    if (first < 0).any() or (first + block.shape > target.shape).any():
        raise OffGrid("it reaches beyond the series")
    return tuple(slice(a, a + n) for a, n in zip(first, block.shape, strict=True))


def _times(shape: Sequence[int]) -> str:
    return " x ".join(str(int(n)) for n in shape)
