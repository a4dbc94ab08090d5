"""A slice's mask as closed contours, and back, voxel by voxel."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from skimage import measure
from skimage.draw import polygon2mask

LEAST_POINTS = 3  # of a contour
WAYS = 64  # between a hole and the contour around it, of which one is looked for
CLEARANCE = 0.1  # voxels


def contours_of(mask: np.ndarray) -> list[np.ndarray]:
    """Return closed contours (P, 2) of a mask (columns, rows) bool, in voxel indices; the last point is not repeated.

    They run half way between the centres of voxels inside and outside, so that each voxel's centre is on its side. A
    hole is joined to the contour around it by a line there and back (DICOM PS3.3, C.8.8.6.3: keyhole), for many
    programs fill contours one by one.
    """
    found = [one[:-1] - 1.0 for one in measure.find_contours(np.pad(mask, 1).astype(float), 0.5)]
    if not found:
        return []
    largest = max(map(_area, found), key=abs)  # no hole: it would lie in a larger one
    outer = [one for one in found if _area(one) * largest > 0]
    holes = [one for one in found if _area(one) * largest < 0]
    owners = [_innermost(outer, hole) for hole in holes]
    for number in range(len(outer)):
        own = [hole for hole, owner in zip(holes, owners, strict=True) if owner == number]
        while own:
            nearest = min(range(len(own)), key=lambda n: cdist(outer[number], own[n]).min())
            outer[number] = _joined(outer[number], own.pop(nearest))
    return outer


def mask_of(contours: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the voxels (columns, rows) bool whose centres an odd number of contours (P, 2) encloses."""
    mask = np.zeros(shape, bool)
    for contour in contours:
        if len(contour) >= LEAST_POINTS:
            mask ^= polygon2mask(shape, contour)
    return mask


def _joined(outer: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return a contour that goes on along a hole in it, from the middle of an edge, and back on the same way.

    The shortest way is taken that passes no voxel's centre: there programs would not agree on what is inside.
    """
    starts, ends = (0.5 * (one + np.roll(one, -1, axis=0)) for one in (outer, hole))
    ways = np.argsort(cdist(starts, ends), axis=None)[:WAYS]
    found = [tuple(int(n) for n in np.unravel_index(way, (len(starts), len(ends)))) for way in ways]
    i, j = next((pair for pair in found if _is_clear(starts[pair[0]], ends[pair[1]])), found[0])
    way, back = [starts[i], ends[j]], [ends[j], starts[i]]
    return np.concatenate([outer[: i + 1], way, hole[j + 1 :], hole[: j + 1], back, outer[i + 1 :]])


def _is_clear(start: np.ndarray, end: np.ndarray) -> bool:
    """Whether a line keeps away from the centres of voxels."""
    steps = np.linspace(0.0, 1.0, 2 + int(np.linalg.norm(end - start) / (0.5 * CLEARANCE)))[:, None]
    points = start + steps * (end - start)
    return bool(np.linalg.norm(points - np.rint(points), axis=1).min() > CLEARANCE)


def _area(contour: np.ndarray) -> float:
    """Return the area of a contour, negative where it runs the other way round."""
    x, y = contour.T
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def _innermost(outer: list[np.ndarray], hole: np.ndarray) -> int:
    """Return the number of the smallest contour that encloses a hole, with which it has no point in common."""
    around = [number for number, one in enumerate(outer) if measure.points_in_poly(hole[:1], one)[0]]
    return min(around, key=lambda number: abs(_area(outer[number])))
