"""The mesh of a refined structure, drawn from its signed distances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy import ndimage

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.distance import surface_distance
from ..geometry.runs import Runs
from ..geometry.surface import crop_box, field_surface, meshing_mm, with_volume
from .narrow_band import interpolate_nodes

LIMIT_MM = 6.0  # of distances: only those near the surface draw it
SMOOTH_MM = 0.5  # smoothing of the mesh's distance field
TAUBIN_STEPS = 10
MESH_VOXELS = 64_000_000  # of the grid that a mesh is drawn on: a shape with more is drawn more coarsely
FINEST_MM, LONGEST_MM, LEAST_FACES = 0.1, 1e6, 100  # that can be asked for
FAR_SHARE, VOLUME_SHARE, PLACES = 0.03, 0.02, 5000  # see `shows`


@dataclass(frozen=True)
class MeshRequest:
    """What is asked of a run's meshes.

    Attributes:
        mesh_mm: spacing of the grid that they are drawn on; 0 for the voxels' smallest side, at least 0.8 mm.
        faces: about how many triangles one has; 0 for all that it is drawn with.
        uncertain: whether the vertices get their uncertainty.
        shared: whether meshes of structures that touch share their faces, see `shared_surfaces`.
    """

    mesh_mm: float = 0.0
    faces: int = 0
    uncertain: bool = False
    shared: bool = False


def check_mesh_mm(mesh_mm: object) -> float:
    """Return the spacing of the grid that meshes are drawn on in mm, 0 for the default.

    Raises:
        ValueError: it is no such length.
    """
    return check_length("mesh_mm", mesh_mm, "the default")


def check_length(name: str, length_mm: object, none: str) -> float:
    """Return a spacing that can be asked for, in mm; 0 asks for `none`.

    Raises:
        ValueError: it is no such length; named so.
    """
    number = isinstance(length_mm, (int, float)) and not isinstance(length_mm, bool)
    if not number or not (length_mm == 0 or FINEST_MM <= length_mm <= LONGEST_MM):  # type: ignore[operator]
        raise ValueError(f"{name} '{length_mm}': give a length in mm from {FINEST_MM} on, or 0 for {none}")
    return float(length_mm)  # type: ignore[arg-type]


def check_faces(count: object) -> int:
    """Return how many triangles a surface may have, 0 for all.

    Raises:
        ValueError: it is no such number.
    """
    if isinstance(count, bool) or not isinstance(count, int) or (count != 0 and count < LEAST_FACES):
        raise ValueError(f"mesh_faces '{count}': give 0 for all triangles, or a whole number from {LEAST_FACES} on")
    return count


def draw_mesh(signed_mm: np.ndarray, affine: np.ndarray, mesh_mm: float = 0.0) -> tuple[trimesh.Trimesh | None, float]:
    """Return the zero level of a signed distance as a smooth closed mesh in world mm, and the spacing of its grid, mm.

    The distances are brought to near-isotropic spacing and smoothed lightly before marching cubes, and the mesh is
    smoothed without shrinking (Taubin). It encloses the volume of the mask, the voxels of negative distance, and ends
    on the voxel's face where the mask touches the border of the grid. There is none where there is no such voxel.

    Args:
        signed_mm: (X, Y, Z), negative inside.
        affine: (4, 4) voxel → world mm.
        mesh_mm: spacing that is asked for, 0 for the default. It is less where the mesh would not show its mask, see
            `spacings`, and more where the grid would have too many voxels.
    """
    mask = signed_mm < 0
    if not mask.any():
        return None, mesh_mm
    boxed = BoxedMask.of(mask)
    for step in spacings(mesh_mm, affine):
        mesh, used = _drawn_on(signed_mm, affine, step)
        if step <= meshing_mm(affine) or shows(mesh, boxed, affine, used):
            break
    return mesh, used


def spacings(mesh_mm: float, affine: np.ndarray) -> Iterator[float]:
    """Yield the spacings in mm to draw meshes with, until these show their masks.

    The first is what is asked for; a coarse one is halved, down to the default, with which a mesh is taken as it is.

    Args:
        mesh_mm: what is asked for, 0 for the default.
        affine: (4, 4) voxel → world mm.
    """
    step, least = mesh_mm or meshing_mm(affine), meshing_mm(affine)
    yield step
    while step > least:
        step = max(0.5 * step, least)
        yield step


def said_of(mesh_mm: float, used_mm: float) -> list[str]:
    """Return what is to be said where a mesh is drawn with another spacing than was asked for: a text, or none."""
    if mesh_mm == 0 or np.isclose(used_mm, mesh_mm):
        return []
    why = "is too coarse for its shape" if used_mm < mesh_mm else "would take too much memory"
    return [f"its mesh is drawn with {used_mm:.2f} mm: mesh_mm {mesh_mm:g} {why}"]


def shows(mesh: trimesh.Trimesh | None, mask: BoxedMask, affine: np.ndarray, step_mm: float) -> bool:
    """Whether a mesh that was drawn on a coarse grid shows all of its mask.

    It does where it is closed and encloses the mask's volume within two per cent, and where at most three per cent of
    the voxels on the mask's boundary lie farther from it than half the grid's spacing and half a voxel.

    Args:
        mesh: world mm; or None.
        mask: of the structure, not empty.
        affine: (4, 4) voxel → world mm.
        step_mm: spacing of the mesh's grid.
    """
    if mesh is None or not (mesh.is_watertight and mesh.is_winding_consistent):
        return False
    if abs(mesh.volume / (mask.count * voxel_volume_mm3(affine)) - 1.0) > VOLUME_SHARE:
        return False
    edge = Runs.of(mask.part).rim() + [side.start for side in mask.box]
    away_mm = surface_distance(mesh, apply_affine(affine, edge[:: len(edge) // PLACES + 1].astype(float)))
    return float((away_mm > 0.5 * (step_mm + spacing_mm(affine).max())).mean()) <= FAR_SHARE


def _drawn_on(signed_mm: np.ndarray, affine: np.ndarray, step_mm: float) -> tuple[trimesh.Trimesh | None, float]:
    """Draw the mesh on a grid of a spacing, or of the least one that memory allows; return that, too."""
    mask = signed_mm < 0
    spacing = spacing_mm(affine)
    box = crop_box(mask, 2)
    reach_mm = 0.5 * float(spacing.max())
    part = np.full([side.stop - side.start + 4 for side in box], LIMIT_MM + reach_mm, np.float32)
    np.clip(signed_mm[box], -LIMIT_MM, LIMIT_MM, out=part[2:-2, 2:-2, 2:-2])
    for axis in range(3):
        along = np.moveaxis(part, axis, 0)
        for beyond, last in ((1, 2), (-2, -3)):  # as far outside as the border is inside: it ends on the voxel's face
            np.abs(along[last], out=along[beyond])
    extent = (np.array(part.shape) - 1) * spacing
    step = max(step_mm, float(np.cbrt(extent.prod() / MESH_VOXELS)))
    counts = [max(int(round((n - 1) * h / step)) + 1, 2) for n, h in zip(part.shape, spacing, strict=True)]
    ratio = (np.array(part.shape) - 1) / (np.array(counts) - 1)
    placed = affine @ np.diag([*ratio, 1.0])
    placed[:3, 3] = apply_affine(affine, np.array([side.start - 2 for side in box]))
    volume_mm3 = np.count_nonzero(mask) * voxel_volume_mm3(affine)
    fine = interpolate_nodes(part, counts)
    del mask, part  # of large organs two meshes are drawn at once: what is not needed any more goes
    ndimage.gaussian_filter(fine, SMOOTH_MM / (spacing * ratio), output=fine)
    mesh = field_surface(fine, placed, volume_mm3, reach_mm)
    del fine
    if mesh is None:
        return None, step
    smooth = trimesh.smoothing.filter_taubin(mesh, iterations=TAUBIN_STEPS)
    return with_volume(smooth, volume_mm3, 0.5 * step), step
