"""Organs that the field of view cuts: how much of them, and where nothing is known.

A border is a plane (4,): n and d with n·x + d the distance of x from it, positive in the image. Only the faces of the
volume that the organ touches are borders: beyond the others there is nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..geometry.affine import Similarity, box_affine, check_affine

EXTENSION_VOXELS, EXTENSION_MM = 3, 5.0


@dataclass(frozen=True)
class Face:
    """A face of the volume that a mask touches: its axis, whether it is the far one, and the area there in mm²."""

    axis: int
    far: bool
    area_mm2: float


def touched_faces(mask: np.ndarray, affine: ArrayLike) -> list[Face]:
    """Faces of the volume in whose first layer of voxels a mask (X, Y, Z) bool has some."""
    matrix = check_affine(affine)
    faces = []
    for axis in range(3):
        one, two = (matrix[:3, other] for other in range(3) if other != axis)
        area_mm2 = float(np.linalg.norm(np.cross(one, two)))
        for far in (False, True):
            count = int(np.count_nonzero(mask.take(-1 if far else 0, axis=axis)))
            if count:
                faces.append(Face(axis, far, count * area_mm2))
    return faces


def border_planes(faces: list[Face], shape: tuple[int, ...], affine: ArrayLike) -> np.ndarray:
    """Planes (P, 4) in world mm of faces of a volume; they lie half a voxel beyond the last centres."""
    inverse = np.linalg.inv(check_affine(affine))
    planes = []
    for face in faces:
        row = -inverse[face.axis] if face.far else inverse[face.axis].copy()
        row[3] += shape[face.axis] - 0.5 if face.far else 0.5
        planes.append(row / np.linalg.norm(row[:3]))
    return np.array(planes).reshape(-1, 4)


def extend_beyond(mask: np.ndarray, affine: ArrayLike, faces: list[Face]) -> tuple[np.ndarray, np.ndarray]:
    """Repeat a mask's outermost voxels beyond the faces it touches.

    Its surface then runs straight across the border, and the cap that closes it lies beyond.

    Returns:
        The longer mask and its affine (4, 4).
    """
    matrix = check_affine(affine)
    widths = [[0, 0], [0, 0], [0, 0]]
    for face in faces:
        length_mm = float(np.linalg.norm(matrix[:3, face.axis]))
        widths[face.axis][int(face.far)] = max(EXTENSION_VOXELS, int(np.ceil(EXTENSION_MM / length_mm)))
    longer = np.pad(mask, widths, mode="edge")
    return longer, box_affine(matrix, [-before for before, _ in widths])


def moved_planes(planes: np.ndarray, similarity: Similarity) -> np.ndarray:
    """Planes (P, 4) after a similarity; distances scale with it."""
    normals = similarity.apply_directions(planes[:, :3])
    offsets = similarity.scale * planes[:, 3] - normals @ similarity.translation
    return np.concatenate([normals, offsets[:, None]], axis=1)


def border_distance(planes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance (N,) of points (N, 3) from the nearest border, negative beyond; infinite where there is none."""
    if not len(planes):
        return np.full(len(points), np.inf)
    return (points @ planes[:, :3].T + planes[:, 3]).min(axis=1)


def is_known(planes: np.ndarray, points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Where the distance (N,) of points (N, 3) from the seen surface is the distance from the whole one, (N,) bool.

    What is unseen lies beyond the border. So a point nearer to the seen surface than to the border has its true
    distance; of any other one only bounds are known.
    """
    return np.abs(distance) <= border_distance(planes, points)
