"""Masks as runs of voxels: what is counted from the ends of the runs costs as much as a surface, not as a volume.

A mask that is mostly speckle has nearly as many runs as voxels, and costs more than voxel by voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

FACES = ((0, 1), (1, 0))  # columns beside one, each pair once
FACES_AND_CORNERS = ((0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class Pairs:
    """Runs of neighbouring columns that touch.

    Attributes:
        one: (P,) index of a run.
        other: (P,) index of a run of the other column.
        start: (P,) the later of their first voxels.
        stop: (P,) the earlier of the voxels after their last.
    """

    one: np.ndarray
    other: np.ndarray
    start: np.ndarray
    stop: np.ndarray


@dataclass(frozen=True)
class Runs:
    """The runs of a mask along its last axis, in the order of its voxels.

    Attributes:
        shape: (X, Y, Z) of the grid.
        column: (N,) of each run, ``x * Y + y``.
        start: (N,) its first voxel.
        stop: (N,) the voxel after its last.
    """

    shape: tuple[int, int, int]
    column: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> Runs:
        """Find the runs of a mask (X, Y, Z), non-zero inside."""
        mask = np.asarray(mask, bool)
        size_x, size_y, size_z = mask.shape
        columns = mask.reshape(-1, size_z)
        first, last = np.flatnonzero(columns[:, 0]), np.flatnonzero(columns[:, -1])
        begun, ended = (
            _rows_and_columns(columns[:, 1:] > columns[:, :-1]),
            _rows_and_columns(columns[:, 1:] < columns[:, :-1]),
        )
        starts = np.sort(np.concatenate([first * (size_z + 1), begun[0] * (size_z + 1) + begun[1]]))
        stops = np.sort(np.concatenate([last * (size_z + 1) + size_z, ended[0] * (size_z + 1) + ended[1]]))
        column, start = np.divmod(starts, size_z + 1)
        return cls((size_x, size_y, size_z), column, start, stops - column * (size_z + 1))

    @cached_property
    def length(self) -> np.ndarray:
        """(N,) voxels of each run."""
        return self.stop - self.start

    @property
    def count(self) -> int:
        """How many voxels the mask has."""
        return int(self.length.sum())

    def pairs(self, columns_apart: tuple[tuple[int, int], ...], slack: int) -> Pairs:
        """Return which runs of columns so far apart, in x and y, have voxels at most `slack` apart in z."""
        size_x, size_y, size_z = self.shape
        x, y = np.divmod(self.column, size_y)
        width = size_z + 2  # between the numbers of the same voxel of two columns
        starts, stops = self.column * width + self.start, self.column * width + self.stop
        one, other = [], []
        for step_x, step_y in columns_apart:
            there = np.flatnonzero((x + step_x < size_x) & (y + step_y >= 0) & (y + step_y < size_y))
            shift = (step_x * size_y + step_y) * width
            begin = np.searchsorted(stops, starts[there] + (shift - slack), side="right")
            many = np.maximum(np.searchsorted(starts, stops[there] + (shift + slack), side="left") - begin, 0)
            one.append(np.repeat(there, many))
            before = np.cumsum(many) - many
            other.append(np.arange(many.sum()) + np.repeat(begin - before, many))
        ones, others = np.concatenate(one), np.concatenate(other)
        begin, end = np.maximum(self.start[ones], self.start[others]), np.minimum(self.stop[ones], self.stop[others])
        return Pairs(ones, others, begin, end)

    def pieces(self, corners: bool = True) -> tuple[np.ndarray, int]:
        """Return the piece (N,) of each run, from 0 in the order of their first voxels, and how many there are.

        Args:
            corners: whether voxels that touch by an edge or a corner belong together, or only those by a face.
        """
        found = self.pairs(FACES_AND_CORNERS, 1) if corners else self.pairs(FACES, 0)
        ones, many = np.ones(len(found.one), bool), len(self.column)
        graph = sparse.coo_array((ones, (found.one, found.other)), (many, many))
        count, piece = csgraph.connected_components(graph, directed=False)
        return piece, int(count)

    def enclosed(self) -> tuple[np.ndarray, int]:
        """Return whether (N,) each run lies in a piece that does not reach the grid's end, and how many such there are.

        Voxels of a piece touch by faces, as those of a hole do.
        """
        size_x, size_y, size_z = self.shape
        x, y = np.divmod(self.column, size_y)
        ends = (x % (size_x - 1 or 1) == 0) | (y % (size_y - 1 or 1) == 0) | (self.start == 0) | (self.stop == size_z)
        piece, count = self.pieces(corners=False)
        reaching = np.bincount(piece, ends, count) > 0
        return ~reaching[piece], count - int(np.count_nonzero(reaching))

    def rim(self) -> np.ndarray:
        """Return the voxels (M, 3), in order, that lack one of their six neighbours, at the grid's end too."""
        found, ends = self.pairs(FACES, 0), np.cumsum(self.length)
        offset = ends - self.stop  # from a voxel's place in its column to its place among all voxels
        beside = np.zeros(self.count + 1, np.int8)  # of how many more than before the next voxel has a neighbour
        for run in (found.one, found.other):
            np.add.at(beside, offset[run] + found.start, 1)
            np.add.at(beside, offset[run] + found.stop, -1)
        lacking = np.cumsum(beside[:-1], dtype=np.int8) < 4
        lacking[offset + self.start] = lacking[ends - 1] = True
        voxel = np.flatnonzero(lacking)
        run = np.searchsorted(ends, voxel, side="right")
        return np.stack([*np.divmod(self.column[run], self.shape[1]), voxel - offset[run]], axis=1)

    def sections(self, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the voxels (K,) of each slice across an axis, and those (K - 1,) that are in the next one, too."""
        size = self.shape[axis]
        if axis == 2:
            ends = np.bincount(self.stop, minlength=size + 1)
            section = np.cumsum(np.bincount(self.start, minlength=size + 1) - ends)[:size]
            return section, (section - ends[1:])[:-1]
        place = np.divmod(self.column, self.shape[1])[axis]
        found = self.pairs((FACES[1 - axis],), 0)
        shared = np.bincount(place[found.one], found.stop - found.start, size)
        return np.bincount(place, self.length, size).astype(int), shared.astype(int)[:-1]


def _rows_and_columns(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of what is true in (N, M), and the columns plus one."""
    found = np.divmod(np.flatnonzero(where), where.shape[1])
    return found[0], found[1] + 1


def label_pieces(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the pieces of a mask (X, Y, Z), non-zero inside, whose voxels touch by faces, edges or corners.

    Returns:
        (X, Y, Z) int32, 0 outside, and how many pieces there are: as ``scipy.ndimage.label`` numbers them.
    """
    runs = Runs.of(mask)
    piece, count = runs.pieces()
    labels = np.zeros(mask.shape, np.int32)
    labels[np.asarray(mask, bool)] = np.repeat(piece.astype(np.int32) + 1, runs.length)
    return labels, count


def filled(mask: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) as bool, with what it encloses, as ``scipy.ndimage.binary_fill_holes`` does."""
    mask = np.asarray(mask, bool)
    around = Runs.of(~mask)
    result = mask.copy()
    result[~mask] = np.repeat(around.enclosed()[0], around.length)
    return result
