"""Landmarks: the places of a surface that correspond to the template's points.

A run's coloured mesh has, at each vertex, the place of the template it corresponds to. Drawn at these places instead of
its own, the mesh lies on the template; the triangle in which a point of the template lies there says where on the
surface that point is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import igl
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

LEAST_AREA = 1e-14  # of a triangle, canonical: smaller ones have no inside in which a point may lie


@dataclass(frozen=True)
class Landmarks:
    """Where N points of the template lie in the triangles of a mesh.

    Attributes:
        corners: (N, 3) vertices of the triangle of each.
        shares: (N, 3) barycentric coordinates in it.
        gap: (N,) how far from it the point lies on the template, canonical: where the mesh has no part that corresponds
            to it, more than nearly nothing.
    """

    corners: Array
    shares: Array
    gap: Array

    @classmethod
    def find(cls, template_points: Array, places: Array, faces: Array) -> Landmarks:
        """Find points of the template on a mesh.

        Args:
            template_points: (N, 3) canonical.
            places: (V, 3) where the mesh's vertices lie on the template, canonical.
            faces: (F, 3) its triangles.

        Raises:
            ValueError: the mesh covers nothing of the template.
        """
        vertices = np.ascontiguousarray(places, np.float64)
        sides = vertices[faces[:, 1:]] - vertices[faces[:, :1]]
        whole = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) > 2 * LEAST_AREA
        if not whole.any():
            raise ValueError("the mesh covers nothing of the template")
        kept = np.ascontiguousarray(faces[whole], np.int64)
        squared, index, nearest = igl.point_mesh_squared_distance(
            np.ascontiguousarray(template_points, np.float64), vertices, kept
        )
        corners = kept[np.reshape(index, -1)]
        a, b, c = (np.ascontiguousarray(vertices[corners[:, k]]) for k in range(3))
        shares = np.clip(igl.barycentric_coordinates(nearest, a, b, c), 0.0, 1.0)
        return cls(corners, shares / shares.sum(axis=1, keepdims=True), np.sqrt(np.reshape(squared, -1)))

    def of(self, values: Array) -> Array:
        """Return what values (V, k) of the mesh's vertices are at the landmarks, (N, k)."""
        return np.einsum("nc,nck->nk", self.shares, np.asarray(values, float)[self.corners])
