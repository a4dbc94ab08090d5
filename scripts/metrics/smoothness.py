"""How smooth a surface is: how many of its normals differ from those around them."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import cKDTree

ROUGH_DEG = 20.0
PLACES = 4000


def rough_share(mesh: trimesh.Trimesh, reach_mm: float, seed: int = 0) -> float:
    """Share of a surface, by area, whose normal is more than 20° off the mean normal within a reach of it.

    A plane and a large ball have none of it; the steps of a voxel mask's surface have a third.

    Args:
        mesh: in mm.
        reach_mm: how far around; one voxel.
        seed: of the places that are looked at.
    """
    areas, centres, normals = mesh.area_faces, mesh.triangles_center, mesh.face_normals
    places = np.random.default_rng(seed).choice(len(areas), PLACES, p=areas / areas.sum())
    tree = cKDTree(centres)
    rough = 0
    for place, around in zip(places, tree.query_ball_point(centres[places], reach_mm), strict=True):
        mean = areas[around] @ normals[around]
        rough += normals[place] @ mean < np.cos(np.deg2rad(ROUGH_DEG)) * np.linalg.norm(mean)
    return float(rough) / PLACES
