"""Stairs: masks that were made on a coarser grid and brought to this one by repeating voxels.

Networks often work on a coarser grid than the image's. Where their masks were brought to the image's grid by the
nearest voxel, all slices of a coarse voxel are alike, along one axis or several, and the surface is a staircase. No
organ looks so: nearly everywhere in it something changes from one slice to the next. So the coarse grid can be read off
the mask, and the surface be drawn between its voxels instead: signed distances on the coarse grid, interpolated
linearly. What is one coarse voxel thin would break or vanish, and stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry.runs import label_pieces
from ..geometry.surface import mask_signed_distance

LEAST_EDGES = 6  # between slices that differ: fewer do not tell
LEAST_STEP = 1.3  # slices in a coarse voxel, in the mean
UNEVEN = 1.01  # slices by which runs of such that are alike may differ: coarse voxels need not be whole slices long
THICK = np.ones((2, 2, 2), bool)  # coarse voxels: what holds no such block is thin


@dataclass(frozen=True)
class Stairs:
    """The coarse grid along one axis of a mask.

    Attributes:
        edges: (E,) slice indices of its voxels' ends, increasing; a slice reaches half an index to both sides.
        step: how many slices a coarse voxel has, in the mean.
    """

    edges: np.ndarray
    step: float

    def centres(self, count: int) -> np.ndarray:
        """Return the centres (K,) of coarse voxels, as slice indices: from before `count` slices to beyond them."""
        before = int(np.ceil((self.edges[0] + 1.0) / self.step)) + 1
        beyond = int(np.ceil((count - self.edges[-1]) / self.step)) + 1
        first = self.edges[0] - self.step * np.arange(before, 0, -1)
        last = self.edges[-1] + self.step * np.arange(1, beyond + 1)
        edges = np.concatenate([first, self.edges, last])
        return (edges[1:] + edges[:-1]) / 2.0


def find_stairs(mask: np.ndarray) -> tuple[Stairs | None, ...]:
    """Return the coarse grid along each axis of a mask (X, Y, Z) bool; None along those where it has no stairs.

    They are looked for in its largest piece, since between pieces nothing changes, either.
    """
    if all(_mean_step(_changes(mask, axis)) < LEAST_STEP for axis in range(3)):
        return (None, None, None)
    pieces, count = label_pieces(mask)
    largest = mask if count < 2 else pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    return tuple(_stairs(_changes(largest, axis)) for axis in range(3))


def mask_distance(mask: np.ndarray, spacing: np.ndarray, limit_mm: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the signed distance of a mask; where it has stairs, that of the surface between their steps.

    Args:
        mask: (X, Y, Z) bool.
        spacing: (3,) mm.
        limit_mm: see `mask_signed_distance`.

    Returns:
        (X, Y, Z) float32, mm, negative inside. And (3,) the length of the steps in mm, 0 along axes without; None where
        there are none, or the largest piece would break without them.
    """
    found, own_mm = find_stairs(mask), mask_signed_distance(mask, spacing, limit_mm)
    if not any(found):
        return own_mm, None
    coarse, places, sides = mask, [], np.array(spacing, float)
    for axis, stairs in enumerate(found):
        if stairs is None:
            continue
        count = mask.shape[axis]
        centres = stairs.centres(count)
        coarse = coarse.take(np.clip(np.round(centres), 0, count - 1).astype(int), axis)
        places.append((axis, np.interp(np.arange(count), centres, np.arange(len(centres)))))
        sides[axis] *= stairs.step
    signed_mm = mask_signed_distance(coarse, sides, limit_mm)
    thin = coarse & ~ndimage.binary_opening(coarse, THICK)
    for axis, place in places:
        signed_mm, thin = _between(signed_mm, axis, place), thin.take(np.round(place).astype(int), axis)
    thin &= mask
    signed_mm[thin] = np.minimum(signed_mm, own_mm)[thin]
    broken, largest_too = _broken(mask, signed_mm < 0)
    if largest_too:
        return own_mm, None
    signed_mm[broken] = own_mm[broken]
    steps_mm = np.where([stairs is not None for stairs in found], sides, 0.0)
    return signed_mm.astype(np.float32, copy=False), steps_mm


def _broken(mask: np.ndarray, smooth: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the pieces of a mask (X, Y, Z) bool that are lost or split in a smooth one, and whether the largest is."""
    pieces, count = label_pieces(mask)
    parts, many = label_pieces(smooth)
    both = (pieces > 0) & (parts > 0)
    pairs = np.unique(pieces[both].astype(np.int64) * (many + 1) + parts[both])  # a number a pair: rows would take long
    whole = np.bincount(pairs // (many + 1), minlength=count + 1) == 1
    whole[0] = True
    return ~whole[pieces], not whole[np.bincount(pieces.ravel())[1:].argmax() + 1]


def _changes(mask: np.ndarray, axis: int) -> np.ndarray:
    """Return where (E,) a mask changes along an axis, between slices: 3.5 between those of index 3 and 4."""
    along = np.moveaxis(mask, axis, 0)
    return np.flatnonzero((along[1:] != along[:-1]).any(axis=(1, 2))) + 0.5


def _mean_step(edges: np.ndarray) -> float:
    """Return how many slices lie between changes (E,), where no change between was missed, in the mean."""
    runs = np.diff(edges)
    return float(runs[runs <= np.median(runs) + UNEVEN].mean()) if len(runs) else 0.0


def _stairs(edges: np.ndarray) -> Stairs | None:
    """Return the coarse grid of which the changes (E,) are the edges; None where they are of none."""
    if len(edges) < LEAST_EDGES:
        return None
    runs, step = np.diff(edges), _mean_step(edges)
    counts = np.maximum(np.round(runs / step), 1.0)
    if step < LEAST_STEP or counts.max() > 2 or (np.abs(runs - counts * step) > UNEVEN).any():
        return None
    middles = (edges[1:] + edges[:-1])[counts == 2] / 2.0  # edges at which nothing happened to change
    return Stairs(np.sort(np.concatenate([edges, middles])), step)


def _between(values: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """Interpolate values along an axis linearly, at places (N,) between its indices."""
    lower = np.minimum(places.astype(int), values.shape[axis] - 2)
    share = np.expand_dims(places - lower, [one for one in range(3) if one != axis]).astype(values.dtype)
    return (1.0 - share) * values.take(lower, axis) + share * values.take(lower + 1, axis)
