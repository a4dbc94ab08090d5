"""Strays: pieces of a label that lie on the patient's other side, where its partner belongs, a fault of networks.

A left kidney's label that holds a part of the right one, say. The pairs of a label map tell together where the middle
of the body is, so that a pair can be mended of which one label is missing. World x grows to the patient's right (RAS+).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..geometry.affine import apply_affine, box_affine
from ..geometry.runs import label_pieces
from ..geometry.surface import crop_box
from .exchange import PairPlace, seen_in_steps
from .sides import GAP_SHARE, LARGE_SHARE, LEFT, RIGHT, split_pair

DEEP = 0.2  # of how far the pair's voxels usually lie from the midplane: a stray's lie deeper beyond it in the mean
ACROSS_SHARE = 0.05  # of a stray, which may lie on its own side: organs that reach across the middle are no strays
LEAST_PAIRS, LEAST_COSINE = 3, 0.866  # for the midplane to lean, by 30 degrees at most
TWIN_SHARE = 0.5  # of the larger of two bodies under one label, for the smaller to be the other side's organ
ALL_BUT_ISLANDS = (2, 98)  # percentiles between which a body lies


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


def midplane(places: Sequence[PairPlace]) -> Midplane | None:
    """Return the plane half way between the labels of most pairs; None without a pair.

    It leans as the patient lies, if several pairs tell of that: one kidney may be lower than the other.
    """
    if not places:
        return None
    normal = np.sum([place.right_mm - place.left_mm for place in places], axis=0)
    normal /= np.linalg.norm(normal)
    if len(places) < LEAST_PAIRS or normal[0] < LEAST_COSINE:
        normal = np.array([1.0, 0.0, 0.0])
    return Midplane(normal, float(np.median([normal @ (one.left_mm + one.right_mm) / 2 for one in places])))


def between_twins(seen: np.ndarray, affine: np.ndarray, pair: tuple[int, int]) -> Midplane | None:
    """Return the plane between two bodies under one pair's labels, where no pair tells where the middle is.

    Args:
        seen: (X, Y, Z) label map.
        affine: (4, 4) voxel index → world mm.
        pair: values of the left and the right label.

    Returns:
        None where they are no twins: not beside each other, far less than their own width apart, one much smaller than
        the other, or the middle of all that is labelled not between them.
    """
    sides = split_pair(np.isin(seen, pair), affine)
    if sides is None:
        return None
    left_mm, right_mm = (_x_mm(sides.of(side), affine) for side in (LEFT, RIGHT))
    smaller, larger = sorted((len(left_mm), len(right_mm)))
    edges_mm = [np.percentile(x, ALL_BUT_ISLANDS) for x in (left_mm, right_mm)]
    gap_mm, width_mm = edges_mm[1][0] - edges_mm[0][1], np.diff(edges_mm).max()
    middle_mm = _x_mm(seen != 0, affine).mean()
    if smaller < TWIN_SHARE * larger or gap_mm < GAP_SHARE * width_mm:
        return None
    if not left_mm.mean() < middle_mm < right_mm.mean():
        return None
    return Midplane(np.array([1.0, 0.0, 0.0]), sides.midline_mm)


def strays(
    label_map: np.ndarray, affine: np.ndarray, pairs: Mapping[int, int], places: Sequence[PairPlace]
) -> list[Stray]:
    """Find the pieces of labels that lie on the wrong side of the plane between left and right.

    Crumbs are left to the refinement, and so is what hangs together with the organ on its own side.

    Args:
        label_map: (X, Y, Z) whole numbers.
        affine: (4, 4) voxel index → world mm.
        pairs: value of the left label → value of the right one.
        places: of the pairs that have one; those that are exchanged tell nothing of the middle.

    Returns:
        One for each label that has such pieces.
    """
    plane = midplane([place for place in places if not place.exchanged])
    seen, matrix = seen_in_steps(label_map, affine)
    found = []
    for left, right in pairs.items():
        between = plane or between_twins(seen, matrix, (left, right))
        if between is None:
            continue
        right_mm = {
            value: between.right_mm(apply_affine(matrix, np.argwhere(seen == value).astype(np.float32)))
            for value in (left, right)
        }
        both_mm = np.abs(np.concatenate(list(right_mm.values())))
        least_mm = DEEP * float(np.median(both_mm)) if len(both_mm) else 0.0
        for value, partner, side, sign in ((left, right, RIGHT, 1.0), (right, left, LEFT, -1.0)):
            crumb = max(LARGE_SHARE * len(right_mm[value]), 1.0)
            if np.count_nonzero(sign * right_mm[value] > least_mm) < crumb:
                continue
            mask = label_map == value
            voxels = _beyond(mask, affine, between, sign, least_mm)
            if len(voxels) >= LARGE_SHARE * np.count_nonzero(mask):
                found.append(Stray(value, partner, partner, side, voxels))
    return found


def _beyond(mask: np.ndarray, affine: np.ndarray, plane: Midplane, sign: float, least_mm: float) -> np.ndarray:
    """Return the voxels (N, 3) of pieces that lie beyond the plane, so deep in the mean; `sign` is 1.0 on the right."""
    box = crop_box(mask)
    corner = [side.start for side in box]
    pieces, count = label_pieces(mask[box])
    own = box_affine(affine, corner)
    along = [np.arange(n, dtype=np.float32) * np.float32(plane.normal @ own[:3, k]) for k, n in enumerate(pieces.shape)]
    beyond_mm = along[0][:, None, None] + along[1][:, None] + along[2] + np.float32(plane.right_mm(own[None, :3, 3])[0])
    sizes = np.maximum(np.bincount(pieces.ravel(), minlength=count + 1), 1)
    mean_mm = sign * np.bincount(pieces.ravel(), beyond_mm.ravel(), count + 1) / sizes
    on_own_side = np.bincount(pieces[sign * beyond_mm < 0], minlength=count + 1) / sizes
    goes = (mean_mm > least_mm) & (on_own_side <= ACROSS_SHARE)
    goes[0] = False
    return np.argwhere(goes[pieces]) + corner


def _x_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return world x (N,) of a mask's voxels (X, Y, Z) bool."""
    return apply_affine(affine, np.argwhere(mask).astype(np.float32))[:, 0]


def moved(label_map: np.ndarray, found: Iterable[Stray]) -> np.ndarray:
    """Return a label map (X, Y, Z) in which strays have their new values."""
    result = label_map.copy(order="K")
    for stray in found:
        result[tuple(stray.voxels.T)] = stray.value
    return result
