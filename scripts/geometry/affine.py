"""Frames and the maps between them: voxel indices, world millimetres, canonical coordinates.

The half-voxel convention, stated here once and used everywhere:

* A voxel index is a float whose integer values are voxel *centres*: voxel ``i`` covers ``[i - 0.5, i + 0.5]``.
* ``w = affine @ [i, 1]`` maps index to world millimetres, as nibabel defines it (RAS+ world). So an array of shape
  ``n`` covers ``[-0.5, n - 0.5]`` in index space, and ``affine[:3, 3]`` is the centre of voxel 0, not its corner.
* A mask's surface lies half way between the centre of the last voxel inside and that of the first voxel outside.

The affine multiplies from the left, so columns carry the spacings (Eq. 18-23: ``w = o + R_dir diag(spacing) i``).
World to canonical is a similarity, ``c = scale * R w + t`` (Eq. 35-39).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray[Any, np.dtype[Any]]

EDGE_MM = (0.01, 100.0)  # of a voxel in which an organ is seen
MOST_ASPECT = 100.0  # how many times longer than wide a voxel may be
MOST_EXTENT_MM = 5_000.0  # of a volume along an axis: no scanner sees more
MOST_VOLUME_MM3 = 4e9  # of a volume: 4 m long, and 1 m across
MOST_WORLD_MM = 100_000.0  # from the world's origin, up to which single precision holds a hundredth of a millimetre
LEAST_UPRIGHT = 0.1  # volume of unit steps along the axes, 1 at right angles: below it they are nearly parallel
SHEAR_COSINE = 1e-3  # of the angle between two axes, up to which they count as orthogonal: headers round
SAME_GRID_SHARE = 0.05  # of the smallest voxel edge, see `same_grid`: headers round, and none is a tenth of a voxel off


def check_affine(affine: ArrayLike) -> Array:
    """Return an affine as float64 after checking that it is usable.

    Args:
        affine: (4, 4) matrix from voxel indices to world mm.

    Returns:
        A (4, 4) float64 copy.

    Raises:
        ValueError: when it is not 4x4, not finite, its last row is not (0, 0, 0, 1), or it is singular.
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"an affine must be 4x4, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("the affine holds NaN or infinity")
    if not np.allclose(matrix[3], (0.0, 0.0, 0.0, 1.0), atol=1e-6):
        raise ValueError(f"the affine's last row must be (0, 0, 0, 1), got {matrix[3].tolist()}")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if (lengths <= 0).any() or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
        raise ValueError("the affine is singular")
    return matrix


def check_place(affine: ArrayLike, shape: Sequence[int]) -> Array:
    """Return the affine of a volume of a patient, after checking that it is a plausible one.

    What lies beyond is an error of a header, and would make grids in millimetres without end.

    Args:
        affine: (4, 4) voxel index → world mm.
        shape: (X, Y, Z) of the volume.

    Returns:
        A (4, 4) float64 copy.

    Raises:
        ValueError: see `check_affine`; or the voxels, the volume or its distance from the origin are out of the ranges
            above.
    """
    matrix = check_affine(affine)
    edges = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (edges >= 0.999 * EDGE_MM[0]).all() or not (edges <= 1.001 * EDGE_MM[1]).all():
        sizes = " x ".join(f"{edge:.4g}" for edge in edges)
        raise ValueError(f"its voxels measure {sizes} mm, where {EDGE_MM[0]:g} to {EDGE_MM[1]:g} mm are plausible")
    if edges.max() > MOST_ASPECT * edges.min():
        times = edges.max() / edges.min()
        raise ValueError(f"its voxels are {times:.4g} times longer than wide, where {MOST_ASPECT:g} are plausible")
    if abs(np.linalg.det(matrix[:3, :3] / edges)) < LEAST_UPRIGHT:
        raise ValueError("its axes are nearly parallel")
    extent = edges * (np.array(shape) - 1)
    if extent.max() > MOST_EXTENT_MM or extent.prod() > MOST_VOLUME_MM3:
        sizes = " x ".join(f"{side / 1000:.4g}" for side in extent)
        raise ValueError(
            f"it measures {sizes} m, where {MOST_EXTENT_MM / 1000:g} m and {MOST_VOLUME_MM3 / 1e9:g} m³ are the most"
        )
    away = float(np.abs(apply_affine(matrix, grid_corners(shape))).max())
    if away > MOST_WORLD_MM:
        raise ValueError(f"it lies {away / 1000:.4g} m away, where {MOST_WORLD_MM / 1000:g} m are plausible")
    return matrix


def apply_affine(affine: ArrayLike, points: ArrayLike) -> Array:
    """Apply a 4x4 affine to points.

    Args:
        affine: (4, 4) matrix.
        points: (N, 3) points in the affine's source frame.

    Returns:
        (N, 3) float64 points in its target frame.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def spacing_mm(affine: ArrayLike) -> Array:
    """Voxel edge lengths (3,) in mm: the norms of the affine's columns."""
    return np.linalg.norm(check_affine(affine)[:3, :3], axis=0)


def voxel_volume_mm3(affine: ArrayLike) -> float:
    """Volume of a voxel: |det| of the affine's axes, which holds under shear where the product of edges does not."""
    return abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])))


def is_sheared(affine: ArrayLike) -> bool:
    """Whether the axes of a grid are not at right angles, as those of a CT with a tilted gantry are not."""
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    directions = axes / np.linalg.norm(axes, axis=0)
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() > SHEAR_COSINE)


def box_affine(affine: ArrayLike, start: ArrayLike) -> Array:
    """Affine (4, 4) of the part of a grid whose first voxel has the index `start` (3,), also one beyond the grid."""
    matrix = np.array(affine, dtype=np.float64)
    matrix[:3, 3] = apply_affine(matrix, np.asarray(start, dtype=np.float64)[None])[0]
    return matrix


def grids_apart_mm(shape: Sequence[int], affine: ArrayLike, other: ArrayLike) -> float:
    """The largest distance, in mm, between the two places that two affines give an outer corner of a grid (X, Y, Z)."""
    corners = grid_corners(shape, 0.5)
    return float(np.linalg.norm(apply_affine(affine, corners) - apply_affine(other, corners), axis=1).max())


def same_grid(shape: Sequence[int], affine: ArrayLike, other_shape: Sequence[int], other: ArrayLike) -> bool:
    """Whether two volumes (X, Y, Z) lie on one grid: the same shape, and corners that fall together.

    Corners may lie `SAME_GRID_SHARE` of the smallest voxel edge apart, and what float32, in which headers keep an
    affine, cannot tell apart that far from the world's origin.
    """
    if tuple(shape) != tuple(other_shape):
        return False
    edge_mm = min(float(np.linalg.norm(np.asarray(a, float)[:3, :3], axis=0).min()) for a in (affine, other))
    reach_mm = float(np.abs(apply_affine(affine, grid_corners(shape, 0.5))).max())
    rounding_mm = 2.0 * float(np.finfo(np.float32).eps) * reach_mm
    return grids_apart_mm(shape, affine, other) <= SAME_GRID_SHARE * edge_mm + rounding_mm


def grid_corners(shape: Sequence[int], beyond: float = 0.0) -> Array:
    """The corners (8, 3) of a grid (X, Y, Z), in voxel indices: its outermost centres, or `beyond` that, in voxels."""
    return np.array(np.meshgrid(*[(-beyond, n - 1 + beyond) for n in shape])).reshape(3, -1).T


def rotation_angle_deg(rotation: ArrayLike) -> float:
    """Angle in degrees of a (3, 3) rotation matrix of determinant +1."""
    matrix = np.asarray(rotation, dtype=np.float64)
    sine = np.linalg.norm(
        [matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]]
    )  # atan2 keeps small angles exact where arccos of the trace would not
    return float(np.degrees(np.arctan2(sine, np.trace(matrix) - 1.0)))


@dataclass(frozen=True, eq=False)
class Similarity:
    """Similarity transform ``y = scale * rotation @ x + translation``.

    Attributes:
        scale: positive ratio of target to source units (canonical units per mm for world to canonical).
        rotation: (3, 3) orthogonal matrix; determinant -1 means that the map mirrors.
        translation: (3,) in target units.

    Raises:
        ValueError: when a part has the wrong shape, is not finite, or the rotation is not orthogonal.
    """

    scale: float
    rotation: Array
    translation: Array

    def __post_init__(self) -> None:
        rotation = np.array(self.rotation, dtype=np.float64)
        translation = np.array(self.translation, dtype=np.float64)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            raise ValueError(f"expected (3, 3) and (3,), got {rotation.shape} and {translation.shape}")
        if not (np.isfinite(self.scale) and self.scale > 0 and np.isfinite(translation).all()):
            raise ValueError("scale must be positive and all parts finite")
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5):
            raise ValueError("the rotation is not orthogonal")
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation", translation)

    def rounded(self) -> Similarity:
        """Return it without the last digits, in which the same sums of another process may differ."""
        scale = float(f"{self.scale:.9e}")
        return Similarity(scale, self.rotation.round(9), self.translation.round(9))

    @classmethod
    def identity(cls) -> Similarity:
        """The map that changes nothing."""
        return cls(1.0, np.eye(3), np.zeros(3))

    @property
    def mirrored(self) -> bool:
        """Whether the map turns right hands into left hands (a mesh's faces must then be flipped)."""
        return bool(np.linalg.det(self.rotation) < 0)

    def apply(self, points: ArrayLike) -> Array:
        """Map (N, 3) points from source to target coordinates."""
        return self.scale * (np.asarray(points, dtype=np.float64) @ self.rotation.T) + self.translation

    def apply_directions(self, vectors: ArrayLike) -> Array:
        """Rotate (N, 3) directions or unit normals; lengths stay, outward normals stay outward under mirroring."""
        return np.asarray(vectors, dtype=np.float64) @ self.rotation.T

    def inverse(self) -> Similarity:
        """The map from target back to source coordinates."""
        return Similarity(1.0 / self.scale, self.rotation.T, -(self.translation @ self.rotation) / self.scale)

    def compose(self, other: Similarity) -> Similarity:
        """``self`` after ``other``: ``compose(other).apply(x) == self.apply(other.apply(x))``."""
        return Similarity(
            self.scale * other.scale,
            self.rotation @ other.rotation,
            self.scale * (self.rotation @ other.translation) + self.translation,
        )

    def as_matrix(self) -> Array:
        """The same map as a (4, 4) homogeneous float64 matrix."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.scale * self.rotation
        matrix[:3, 3] = self.translation
        return matrix
