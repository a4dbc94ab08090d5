"""Strays: parts of a label that lie on the patient's other side, where its partner belongs, a fault of networks.

A left kidney's label that holds a part of the right one, say. The pairs of a label map tell together where the middle
of the body is, so that a pair can be mended of which one label is missing. World x grows to the patient's right (RAS+).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry.affine import apply_affine
from .exchange import PairPlace, seen_in_steps
from .sides import LARGE_SHARE, LEFT, RIGHT, split_pair

DEEP = 0.2  # of how far the pair's voxels usually lie from the midplane: what is as deep beyond it is a stray
TOUCH = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Midplane:
    """The plane between the patient's left and right.

    Attributes:
        normal: (3,) unit vector, world, to the right.
        offset_mm: where the plane is along it.
    """

    normal: np.ndarray
    offset_mm: float

    def right_mm(self, points_world: np.ndarray) -> np.ndarray:
        """Return how far to the right of it points (N, 3) lie, world mm: (N,), negative on the left."""
        return points_world @ self.normal - self.offset_mm


@dataclass(frozen=True)
class Stray:
    """The part of a label that lies on the wrong side.

    Attributes:
        label: its value.
        belongs: value of the label of that side.
        value: what its voxels shall become: that label, or 0 where a label map cannot hold it.
        side: "left" or "right", where it lies.
        voxels: indices (N, 3).
    """

    label: int
    belongs: int
    value: int
    side: str
    voxels: np.ndarray


def midplane(
    label_map: np.ndarray, affine: np.ndarray, pairs: Mapping[int, int], places: Sequence[PairPlace]
) -> Midplane | None:
    """Find the plane between left and right.

    Args:
        label_map: (X, Y, Z) whole numbers.
        affine: (4, 4) voxel index → world mm.
        pairs: value of the left label → value of the right one.
        places: of the pairs that have one.

    Returns:
        The plane half way between most pairs, or, where no pair has a place, between two bodies under one pair's
        labels. None where there are no such either, or where as many pairs are exchanged as are not.
    """
    right = [place for place in places if not place.exchanged]
    if right and 2 * len(right) > len(places):
        normal = np.sum([place.right_mm - place.left_mm for place in right], axis=0)
        normal /= np.linalg.norm(normal)
        return Midplane(normal, float(np.median([normal @ (one.left_mm + one.right_mm) / 2 for one in right])))
    if places:
        return None
    seen, matrix = seen_in_steps(label_map, affine)
    found = [split_pair(np.isin(seen, pair), matrix) for pair in pairs.items()]
    middles_mm = [sides.midline_mm for sides in found if sides is not None]
    return Midplane(np.array([1.0, 0.0, 0.0]), float(np.median(middles_mm))) if middles_mm else None


def strays(
    label_map: np.ndarray, affine: np.ndarray, pairs: Mapping[int, int], places: Sequence[PairPlace]
) -> list[Stray]:
    """Find what lies on the wrong side of the plane between left and right.

    Organs reach across that plane, but true ones not half as deep as `DEEP`. Crumbs are left to the refinement.

    Args:
        label_map: (X, Y, Z) whole numbers.
        affine: (4, 4) voxel index → world mm.
        pairs: value of the left label → value of the right one.
        places: of the pairs that have one.

    Returns:
        One for each label that has such a part.
    """
    plane = midplane(label_map, affine, pairs, places)
    if plane is None:
        return []
    seen, matrix = seen_in_steps(label_map, affine)
    found = []
    for left, right in pairs.items():
        right_mm = {
            value: plane.right_mm(apply_affine(matrix, np.argwhere(seen == value).astype(np.float32)))
            for value in (left, right)
        }
        both_mm = np.abs(np.concatenate(list(right_mm.values())))
        least_mm = DEEP * float(np.median(both_mm)) if len(both_mm) else 0.0
        for value, partner, side, sign in ((left, right, RIGHT, 1.0), (right, left, LEFT, -1.0)):
            own_mm = sign * right_mm[value]
            if np.count_nonzero(own_mm > least_mm) < max(LARGE_SHARE * len(own_mm), 1.0):
                continue
            voxels = _beyond(label_map == value, affine, plane, sign, least_mm)
            if len(voxels):
                found.append(Stray(value, partner, partner, side, voxels))
    return found


def _beyond(mask: np.ndarray, affine: np.ndarray, plane: Midplane, sign: float, least_mm: float) -> np.ndarray:
    """Return the voxels (N, 3) of pieces beyond the plane that are so deep in the mean; `sign` is 1.0 on the right."""
    voxels = np.argwhere(mask)
    beyond_mm = sign * plane.right_mm(apply_affine(affine, voxels.astype(float)))
    voxels, beyond_mm = voxels[beyond_mm > 0], beyond_mm[beyond_mm > 0]
    corner = voxels.min(axis=0)
    part = np.zeros(voxels.max(axis=0) - corner + 1, bool)
    part[tuple((voxels - corner).T)] = True
    piece = ndimage.label(part, TOUCH)[0][tuple((voxels - corner).T)]
    mean_mm = np.bincount(piece, beyond_mm) / np.maximum(np.bincount(piece), 1)
    return voxels[(mean_mm > least_mm)[piece]]


def moved(label_map: np.ndarray, found: Iterable[Stray]) -> np.ndarray:
    """Return a label map (X, Y, Z) in which strays have their new values."""
    result = label_map.copy(order="K")
    for stray in found:
        result[tuple(stray.voxels.T)] = stray.value
    return result
