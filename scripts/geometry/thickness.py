"""Thickness of a closed shape: how far the opposite wall lies, straight inwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh
from igl.embree import EmbreeIntersector
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[Any]]

OPPOSITE = -0.5  # cosine between the normals of two walls, up to which they face away from each other
OFF_SHARE = 1e-4  # of the shape's extent: so far below the surface a ray starts, else it would meet its own wall


def wall_thickness(mesh: trimesh.Trimesh, points: ArrayLike, normals: ArrayLike) -> Array:
    """Return the distance from points of a surface to the opposite wall, against their normals.

    Thickness has a meaning between two walls that face away from each other (within 60°). At rims, tips and edges the
    wall that is met stands across, and what is measured says little: there it is NaN.

    Args:
        mesh: closed, normals outward.
        points: (N, 3) on its surface, in its frame.
        normals: (N, 3) outward unit normals there.

    Returns:
        (N,) float64 in the mesh's unit.
    """
    starts, inward = np.asarray(points, float), -np.asarray(normals, float)
    caster = EmbreeIntersector()
    caster.init(np.asarray(mesh.vertices, np.float32, order="F"), np.asarray(mesh.faces, np.int32, order="F"))
    off = OFF_SHARE * float(np.linalg.norm(mesh.extents))
    faces, lengths = np.full(len(starts), -1), np.full(len(starts), np.nan)
    for index, (start, direction) in enumerate(zip(starts.astype(np.float32), inward.astype(np.float32), strict=True)):
        faces[index], lengths[index], _, _ = caster.intersectRay_first(start, direction, off)
    facing = np.einsum("nd,nd->n", mesh.face_normals[faces], -inward) <= OPPOSITE
    return np.where((faces >= 0) & facing, lengths, np.nan)
