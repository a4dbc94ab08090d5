"""The left and the right one of a paired organ whose two parts share their labels, told apart in the world.

World x grows to the patient's right (RAS+), so the sides are those of the patient, whatever the volume's axes are.
Nothing here knows an organ: all lengths are relative to the shapes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..geometry.affine import apply_affine
from ..geometry.runs import label_pieces
from ..geometry.surface import crop_box

LEFT, RIGHT = "left", "right"
SIDES = (LEFT, RIGHT)
LARGE_SHARE = 0.02  # of the largest component's voxels; smaller components are islands
COMPARABLE_SHARE = 0.2  # of the larger side's voxels; less beyond a gap or a waist is no other side
GAP_SHARE = 0.5  # of the wider side's extent; a gap as wide as that parts two organs, not two pieces of one
BESIDE = 2.0  # how much farther apart in x than in any other direction a pair's bodies lie
WAIST_SHARE = 0.5  # of the lower of two peaks of the profile along x; a waist is at most as thick
PROFILE_BINS, PROFILE_SMOOTHING = 200, 10.0


@dataclass(frozen=True)
class Sides:
    """The two sides of a mask.

    Attributes:
        left: (X, Y, Z) bool, the patient's left part.
        right: (X, Y, Z) bool, the rest.
        midline_mm: world x between them; infinite, so that all is on the one side, where there is no other.
    """

    left: np.ndarray
    right: np.ndarray
    midline_mm: float

    def of(self, side: str) -> np.ndarray:
        """Return the part of one side, (X, Y, Z) bool."""
        return self.right if side == RIGHT else self.left

    def territory(self, side: str, affine: np.ndarray) -> np.ndarray:
        """Return the voxels (X, Y, Z) bool that are nearer to one side: its part and what lies beyond the midline."""
        result = np.empty(self.left.shape, bool)
        _, y_mm, z_mm = (affine[0, axis] * np.arange(result.shape[axis]) for axis in range(3))
        plane_mm = affine[0, 3] + y_mm[:, None] + z_mm[None, :]
        for i in range(len(result)):  # a whole volume of coordinates would be many times the mask
            result[i] = (plane_mm + affine[0, 0] * i >= self.midline_mm) == (side == RIGHT)
        return (result | self.of(side)) & ~(self.left if side == RIGHT else self.right)


def split_sides(mask: np.ndarray, affine: np.ndarray, gap_share: float = GAP_SHARE) -> Sides:
    """Split a mask into the patient's left and right part.

    Connected components (26 neighbours) stay whole and go to the side their centroid lies on, seen from the middle of
    the gap between two bodies of comparable size or, where there is no such gap, from the volume's middle plane. So a
    single organ is found on its side. One component that reaches across with two lobes (a horseshoe, or a mask that
    runs from one to the other) is cut at its waist. Islands go with the large component they are nearest to.

    Args:
        mask: (X, Y, Z) bool, whole: a crop has another middle plane.
        affine: (4, 4) voxel index → world mm.
        gap_share: how wide a gap must be, of the wider side's extent.
    """
    left, right = np.zeros_like(mask), np.zeros_like(mask)
    if not mask.any():
        return Sides(left, right, 0.0)
    box = crop_box(mask)
    part = mask[box]
    pieces, count = label_pieces(part)
    where = np.nonzero(part)
    piece = pieces[where] - 1
    x_mm = affine[0, 3] + sum(affine[0, a] * (where[a] + box[a].start) for a in range(3))
    sizes = np.bincount(piece)
    large = np.flatnonzero(sizes >= LARGE_SHARE * sizes.max())
    middle_mm = float(affine[0] @ [*((np.array(mask.shape) - 1) / 2), 1.0])
    found = _gap([x_mm[piece == k] for k in large], gap_share)
    midline_mm = middle_mm if found is None else found
    is_right = (np.bincount(piece, x_mm) / sizes >= midline_mm)[piece]
    for k in large:
        own = piece == k
        waist = _waist(x_mm[own], midline_mm)
        if waist is not None:
            is_right[own] = x_mm[own] >= waist
    if len(large) < count:
        _follow(is_right, where, piece, large, ndimage.binary_erosion(part)[where], affine)
    for side, chosen in ((left, ~is_right), (right, is_right)):
        side[box][tuple(index[chosen] for index in where)] = True
    return Sides(left, right, _between(x_mm[~is_right], x_mm[is_right], midline_mm))


def split_pair(mask: np.ndarray, affine: np.ndarray) -> Sides | None:
    """Split a mask that holds a left and a right organ; None where it does not.

    They are two bodies of comparable size beside each other: parted in world x by a gap, be it narrow, and at least
    `BESIDE` times as far apart in x as in any other direction. The pieces of one broken organ seldom are.

    Args:
        mask: (X, Y, Z) bool, whole.
        affine: (4, 4) voxel index → world mm.
    """
    if not mask.any():
        return None
    box = crop_box(mask)
    pieces, _ = label_pieces(mask[box])
    index = np.argwhere(pieces)
    piece = pieces[tuple(index.T)] - 1
    world = apply_affine(affine, index + [side.start for side in box])
    sizes = np.bincount(piece)
    large = np.flatnonzero(sizes >= LARGE_SHARE * sizes.max())
    midline_mm = _gap([world[piece == k, 0] for k in large], 0.0)
    if midline_mm is None:
        return None
    bodies = world[np.isin(piece, large)]
    is_right = bodies[:, 0] >= midline_mm
    apart_mm = np.abs(bodies[is_right].mean(0) - bodies[~is_right].mean(0))
    return split_sides(mask, affine, 0.0) if apart_mm[0] >= BESIDE * apart_mm[1:].max() else None


def _gap(bodies_mm: list[np.ndarray], least_share: float) -> float | None:
    """Return the middle of the widest gap in world x that parts bodies, (N,) x of their voxels, into two sides.

    It is at least `least_share` of the wider side's extent.
    """
    spans = sorted((float(x.min()), float(x.max()), len(x)) for x in bodies_mm)
    widest, middle = 0.0, None
    for cut in range(1, len(spans)):
        low, high = spans[:cut], spans[cut:]
        end, start = max(s[1] for s in low), high[0][0]
        extent = max(end - low[0][0], max(s[1] for s in high) - start)
        sizes = sorted(sum(s[2] for s in group) for group in (low, high))
        comparable = sizes[0] >= COMPARABLE_SHARE * sizes[1]
        if comparable and start - end > widest and start - end >= least_share * extent:
            widest, middle = start - end, (start + end) / 2
    return middle


def _waist(x_mm: np.ndarray, midline_mm: float) -> float | None:
    """Return the world x at which a body, (N,) x of its voxels, is thinnest between two lobes about the midline."""
    low, high = float(x_mm.min()), float(x_mm.max())
    if not low < midline_mm < high:
        return None
    counts, edges = np.histogram(x_mm, PROFILE_BINS, (low, high))
    profile = ndimage.gaussian_filter1d(counts.astype(float), PROFILE_SMOOTHING, mode="constant")
    before, after = np.maximum.accumulate(profile), np.maximum.accumulate(profile[::-1])[::-1]
    depth = profile / np.minimum(before, after)
    thinnest = np.flatnonzero(depth <= depth.min() + 0.01)
    waist = float(edges[thinnest[len(thinnest) // 2]] + (edges[1] - edges[0]) / 2)
    lobes = x_mm[x_mm < waist], x_mm[x_mm >= waist]
    sizes = sorted(len(lobe) for lobe in lobes)
    if depth.min() > WAIST_SHARE or sizes[0] < COMPARABLE_SHARE * sizes[1]:
        return None
    return waist if lobes[0].mean() < midline_mm < lobes[1].mean() else None


def _follow(
    is_right: np.ndarray,
    where: tuple[np.ndarray, ...],
    piece: np.ndarray,
    large: np.ndarray,
    is_inner: np.ndarray,
    affine: np.ndarray,
) -> None:
    """Put every small piece, (N,) numbers of the voxels' pieces, on the side of the large voxel next to its centroid.

    `where` are the voxels' indices, three times (N,), `is_inner` (N,) whether they have only neighbours of the mask.
    """
    belongs = np.isin(piece, large)
    index = np.stack(where, axis=1)
    rim = belongs & ~is_inner
    tree = cKDTree(apply_affine(affine, index[rim]))
    sizes = np.bincount(piece)
    centres = np.stack([np.bincount(piece, column) for column in where], axis=1) / sizes[:, None]
    nearest = is_right[rim][tree.query(apply_affine(affine, centres))[1]]
    is_right[~belongs] = nearest[piece[~belongs]]


def _between(left_mm: np.ndarray, right_mm: np.ndarray, midline_mm: float) -> float:
    """Return the world x half way between two sides, (N,) x of their voxels; `midline_mm` where they overlap in x."""
    if not len(left_mm) or not len(right_mm):
        return float("-inf") if len(right_mm) else float("inf")
    end, start = float(left_mm.max()), float(right_mm.min())
    return (end + start) / 2 if end < start else midline_mm
