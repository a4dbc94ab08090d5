"""Masks of large grids, of which only the box that holds their voxels is kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .affine import grid_corners
from .surface import crop_box

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class BoxedMask:
    """A mask of a whole grid, kept in its box.

    Attributes:
        shape: (X, Y, Z) of the grid.
        box: slices of the grid; all beyond them is outside of the mask.
        part: (x, y, z) bool, the mask in the box.
    """

    shape: tuple[int, ...]
    box: Box
    part: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> BoxedMask:
        """Keep the bounding box of a mask (X, Y, Z) bool; its memory order stays.

        Raises:
            ValueError: the mask is empty.
        """
        box = crop_box(mask)
        return cls(mask.shape, box, mask[box].copy(order="K"))

    @property
    def count(self) -> int:
        """How many voxels the mask has."""
        return int(np.count_nonzero(self.part))

    def __getitem__(self, box: Box) -> np.ndarray:
        """Return a copy of the mask in any box of the grid, slices with start and stop."""
        result = np.zeros_like(self.part, shape=tuple(side.stop - side.start for side in box))
        shared = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, box, strict=True)]
        if all(low < high for low, high in shared):
            here, there = (
                tuple(slice(low - s.start, high - s.start) for (low, high), s in zip(shared, sides, strict=True))
                for sides in (box, self.box)
            )
            result[here] = self.part[there]
        return result

    def whole(self) -> np.ndarray:
        """Return the mask of the whole grid, (X, Y, Z) bool."""
        x, y, z = (slice(0, n) for n in self.shape)
        return self[x, y, z]

    def around(self, box: Box) -> BoxedMask:
        """Return the same mask, kept in the least box that holds its own and another; its part is a copy."""
        x, y, z = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(self.box, box, strict=True))
        return BoxedMask(self.shape, (x, y, z), self[x, y, z])

    def put(self, box: Box, values: np.ndarray) -> None:
        """Replace the mask in a box that lies in its own, by (x, y, z) bool."""
        self.part[within(box, self.box)] = values

    def remove(self, voxels: np.ndarray) -> None:
        """Take voxels of its box, indices (N, 3) of the grid, out of the mask."""
        self.part[tuple((voxels - [side.start for side in self.box]).T)] = False


def within(box: Box, larger: Box) -> Box:
    """Return the slices of a box in one that holds it."""
    x, y, z = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, larger, strict=True))
    return x, y, z


def box_corners(box: Sequence[slice]) -> np.ndarray:
    """Return the corners (8, 3) of a box, its outermost centres, in voxel indices of its grid."""
    return grid_corners([side.stop - side.start for side in box]) + [side.start for side in box]
