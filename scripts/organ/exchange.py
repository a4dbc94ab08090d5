"""Left and right exchanged: labels of the patient's one side that lie on the other, a fault of networks and headers.

World x grows to the patient's right (RAS+). Where a label map has both labels of a pair, such as the two lungs' upper
lobes, they must lie beside each other, the right one to the right. Nothing is known of a label without its partner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..geometry.affine import apply_affine
from .sides import COMPARABLE_SHARE

LOOKED_AT = 4_000_000  # voxels: of larger label maps every second one along each axis, or every third
FEWEST = 8  # of these, for a label to have a place


@dataclass(frozen=True)
class PairPlace:
    """Where the two labels of a pair lie.

    Attributes:
        left: value of the left label.
        right: value of the right one.
        left_mm: (3,) middle of the left one, world mm.
        right_mm: (3,) of the right one.
    """

    left: int
    right: int
    left_mm: np.ndarray
    right_mm: np.ndarray

    @property
    def exchanged(self) -> bool:
        """Whether the left one lies where the right one must, and the reverse."""
        return bool(self.left_mm[0] > self.right_mm[0])


def seen_in_steps(label_map: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a label map (X, Y, Z) with at most `LOOKED_AT` of its voxels, and the affine (4, 4) of these."""
    step = int(np.ceil(np.cbrt(max(label_map.size / LOOKED_AT, 1.0))))
    return label_map[::step, ::step, ::step], affine @ np.diag([step, step, step, 1.0])


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
    seen, matrix = seen_in_steps(label_map, affine)
    found = []
    for left, right in pairs.items():
        world = [apply_affine(matrix, np.argwhere(seen == value).astype(np.float32)) for value in (left, right)]
        counts = sorted(map(len, world))
        if counts[0] < FEWEST or counts[0] < COMPARABLE_SHARE * counts[1]:
            continue
        left_mm, right_mm = (np.median(own, axis=0) for own in world)  # strays hardly move it
        apart_mm = np.abs(right_mm - left_mm)
        if apart_mm[0] >= apart_mm[1:].max():
            found.append(PairPlace(left, right, left_mm, right_mm))
    return found


def exchanged(label_map: np.ndarray, pairs: Mapping[int, int]) -> np.ndarray:
    """Return a label map (X, Y, Z) with the values of pairs exchanged."""
    result = label_map.copy(order="K")
    for left, right in pairs.items():
        result[label_map == left], result[label_map == right] = right, left
    return result
