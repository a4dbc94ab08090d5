"""Left and right exchanged: labels of the patient's one side that lie on the other, a fault of networks and headers.

World x grows to the patient's right (RAS+). Where a label map has both labels of a pair, such as the two lungs' upper
lobes, they must lie beside each other, the right one to the right. Nothing is known of a label without its partner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..geometry.affine import apply_affine, voxel_volume_mm3
from .sides import COMPARABLE_SHARE, LARGE_SHARE

LOOKED_AT = 4_000_000  # voxels: of larger label maps every second one along each axis, or every third
FEWEST = 8  # of these, for a label to have a place
STRAY = 0.6  # of the way to the partner's place in x: what lies beyond is where the partner is


@dataclass(frozen=True)
class PairPlace:
    """Where the two labels of a pair lie.

    Attributes:
        left: value of the left label.
        right: value of the right one.
        exchanged: whether the left one lies where the right one must, and the reverse.
        strays_ml: label → volume of what of it lies where the other is, if that is more than a crumb; of pairs that lie
            right.
    """

    left: int
    right: int
    exchanged: bool
    strays_ml: Mapping[int, float]


def pair_places(label_map: np.ndarray, affine: np.ndarray, pairs: Mapping[int, int]) -> list[PairPlace]:
    """Return where the pairs of a label map lie.

    Args:
        label_map: (X, Y, Z) whole numbers.
        affine: (4, 4) voxel index → world mm.
        pairs: value of the left label → value of the right one.

    Returns:
        One for each pair whose labels are both there, of comparable size, and farther apart in world x than in any
        other direction; in a turned volume there may be none.
    """
    step = int(np.ceil(np.cbrt(max(label_map.size / LOOKED_AT, 1.0))))
    seen = label_map[::step, ::step, ::step]
    matrix = affine @ np.diag([step, step, step, 1.0])
    found = []
    for left, right in pairs.items():
        world = [apply_affine(matrix, np.argwhere(seen == value).astype(np.float32)) for value in (left, right)]
        counts = sorted(map(len, world))
        if counts[0] < FEWEST or counts[0] < COMPARABLE_SHARE * counts[1]:
            continue
        middles = [np.median(own, axis=0) for own in world]  # strays hardly move it
        apart_mm = middles[1] - middles[0]
        if abs(apart_mm[0]) < np.abs(apart_mm[1:]).max():
            continue
        strays_ml: dict[int, float] = {}
        if apart_mm[0] > 0:
            for value, points, middle, side in zip((left, right), world, middles, (1.0, -1.0), strict=True):
                beyond = np.count_nonzero(side * (points[:, 0] - middle[0]) > STRAY * apart_mm[0])
                if beyond >= LARGE_SHARE * len(points):
                    strays_ml[value] = beyond * voxel_volume_mm3(matrix) / 1000.0
        found.append(PairPlace(left, right, bool(apart_mm[0] < 0), strays_ml))
    return found


def exchanged(label_map: np.ndarray, pairs: Mapping[int, int]) -> np.ndarray:
    """Return a label map (X, Y, Z) with the values of pairs exchanged."""
    result = label_map.copy(order="K")
    for left, right in pairs.items():
        result[label_map == left], result[label_map == right] = right, left
    return result
