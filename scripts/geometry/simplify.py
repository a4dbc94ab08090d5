"""Surfaces with fewer triangles, and how far they lie from the full ones."""

from __future__ import annotations

import numpy as np
import trimesh

from .distance import surface_distance
from .surface import with_volume


def simplified(mesh: trimesh.Trimesh, face_count: int) -> trimesh.Trimesh:
    """Return a closed surface with about so many triangles, that encloses the same volume.

    Edges are collapsed where that changes the shape least (quadric error). Where the result is not closed, as thin
    parts may fall together, twice as many triangles are kept, and so on; in the end, all.

    Args:
        mesh: closed, in mm, normals outward.
        face_count: how many triangles; 0, or more than there are, for the mesh itself.
    """
    while 0 < face_count < len(mesh.faces):
        thin = mesh.simplify_quadric_decimation(face_count=face_count)
        if thin.is_watertight and thin.is_winding_consistent:
            edge_mm = float(np.median(thin.edges_unique_length))
            return with_volume(thin, float(mesh.volume), 0.1 * edge_mm)
        face_count *= 2
    return mesh


def deviation_mm(one: trimesh.Trimesh, other: trimesh.Trimesh) -> float:
    """Return how far two surfaces lie apart at most, in mm: from the corners and centres of each to the other."""
    return max(
        float(surface_distance(there, np.concatenate([here.vertices, here.triangles_center])).max())
        for here, there in ((one, other), (other, one))
    )
