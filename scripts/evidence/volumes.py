"""Signed distances of a label map's structures on a coarse grid, as the evidence network reads them."""

from __future__ import annotations

import numpy as np

from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import mask_signed_distance
from ..organ.pack import OrganPack
from .network import CLAMP_MM


def distances_on_grid(label_map: np.ndarray, affine: np.ndarray, pack: OrganPack, grid: WorldGrid) -> np.ndarray:
    """Signed distances (S, X, Y, Z) in mm of a label map's structures on a grid, clamped to ±20 mm.

    A structure that is missing is far away everywhere.
    """
    result = np.full((len(pack.structures), *grid.shape), CLAMP_MM, np.float32)
    spacing = float(np.linalg.norm(grid.affine[:3, 0]))
    for row, mask in zip(result, pack.masks(label_map, affine).values(), strict=True):
        soft = resample(mask.astype(np.float32), affine, grid, order=1)
        if (soft > 0.5).any():
            coarse = mask_signed_distance(soft > 0.5, np.full(3, spacing))
            # next to the surface, the interpolated mask tells the distance better than whole voxels do
            fine = (0.5 - soft) * spacing
            row[:] = np.where((soft > 0.02) & (soft < 0.98) & (np.abs(coarse) < spacing), fine, coarse)
    return result.clip(-CLAMP_MM, CLAMP_MM)
