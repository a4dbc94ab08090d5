"""The mesh of a refined structure, drawn from its signed distances."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy import ndimage

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.surface import crop_box, field_surface, with_volume

LIMIT_MM = 6.0  # of distances: only those near the surface draw it
SMOOTH_MM = 0.5  # smoothing of the mesh's distance field
TAUBIN_STEPS = 10
MESH_VOXELS = 64_000_000  # of the grid that a mesh is drawn on: a shape with more, at 0.8 mm, is drawn more coarsely


def draw_mesh(signed_mm: np.ndarray, affine: np.ndarray) -> trimesh.Trimesh | None:
    """Return the zero level of a signed distance as a smooth closed mesh in world mm; None where there is none.

    The distances are brought to near-isotropic spacing and smoothed lightly before marching cubes, and the mesh is
    smoothed without shrinking (Taubin). It encloses the volume of the mask, the voxels of negative distance, and ends
    on the voxel's face where the mask touches the border of the grid.
    """
    mask = signed_mm < 0
    if not mask.any():
        return None
    spacing = spacing_mm(affine)
    box = crop_box(mask, 2)
    reach_mm = 0.5 * float(spacing.max())
    part = np.pad(signed_mm[box].clip(-LIMIT_MM, LIMIT_MM), 1, mode="edge")
    rim = np.ones(part.shape, bool)
    rim[1:-1, 1:-1, 1:-1] = False
    part[rim] = np.abs(part[rim])  # as far outside as the border is inside: the surface ends on the voxel's face
    part = np.pad(part, 1, constant_values=LIMIT_MM + reach_mm)
    extent = (np.array(part.shape) - 1) * spacing
    step = max(spacing.min(), 0.8, float(np.cbrt(extent.prod() / MESH_VOXELS)))
    counts = [max(int(round((n - 1) * h / step)) + 1, 2) for n, h in zip(part.shape, spacing, strict=True)]
    fine = ndimage.zoom(part, [c / n for c, n in zip(counts, part.shape, strict=True)], order=1, grid_mode=False)
    ratio = (np.array(part.shape) - 1) / (np.array(fine.shape) - 1)
    fine = ndimage.gaussian_filter(fine, SMOOTH_MM / (spacing * ratio))
    placed = affine @ np.diag([*ratio, 1.0])
    placed[:3, 3] = apply_affine(affine, np.array([side.start - 2 for side in box]))
    volume_mm3 = np.count_nonzero(mask) * voxel_volume_mm3(affine)
    mesh = field_surface(fine, placed, volume_mm3, reach_mm)
    if mesh is None:
        return None
    return with_volume(trimesh.smoothing.filter_taubin(mesh, iterations=TAUBIN_STEPS), volume_mm3, 0.5 * step)
