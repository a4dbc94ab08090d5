"""Which slices of a label map were drawn, across one axis or several, as its voxels tell.

A voxel in a drawn slice lies in a row of few voxels across it, and in longer ones along it. So it speaks for the axis
along which its row is the shortest; where two slices cross it speaks for none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry.boxed import BoxedMask
from .planes import DrawnSlices

CLEARLY = 2.0  # times as long are the rows along the other axes at least
LEAST_SHARE = 0.25  # of a slice's voxels speak for it, where others cross it
LEFT_SHARE = 0.02  # of a structure's voxels may lie in no slice that was found
HEARD_SHARE = 0.5  # of all voxels speak for the slices that were found, or these are none
NAME_THEM = "name them in a file, --slices_file FILE (docs/few_slices.md)"


def find_planes(masks: Sequence[BoxedMask]) -> DrawnSlices:
    """Find the slices that were drawn of some structures.

    Slices across one axis are all that have voxels. Across several, those for which their voxels speak.

    Args:
        masks: their drawn voxels.

    Raises:
        ValueError: nothing was drawn, or a single slice, or lines; no slice was left out; or it cannot be told which
            slices were drawn.
    """
    if not masks:
        raise ValueError("nothing was drawn: the map has no label of the organ pack")
    voxels = [np.argwhere(mask.part) + [side.start for side in mask.box] for mask in masks]
    spoken = [_speaking(own) for own in voxels]
    planes = [_planes(own, spoken_for) for own, spoken_for in zip(voxels, spoken, strict=True)]
    found = DrawnSlices.across({a: sorted({k for own in planes for k in own.places[a]}) for a in range(3)})
    heard = 0
    for own, said in zip(voxels, spoken, strict=True):
        heard += sum(int(np.isin(own[said == a, a], found.places[a]).sum()) for a in range(3))
    if heard < HEARD_SHARE * sum(map(len, voxels)):  # such as the thin parts of a whole mask
        found = DrawnSlices.across({})
    if len(found.axes) > 1:
        for own in voxels:
            lost = own[~found.near(own)]
            if len(lost) > LEFT_SHARE * len(own):
                where = ", ".join(map(str, lost[len(lost) // 2]))
                raise ValueError(f"it cannot be told in which slice the voxel ({where}) was drawn: {NAME_THEM}")
        return found
    places = [[np.unique(own[:, axis]) for axis in range(3)] for own in voxels]
    axis = found.axes[0] if found.axes else None
    if all(min(map(len, own)) == 1 for own in places):
        if axis is None:
            raise ValueError("what was drawn is a voxel thick: paint the whole organ in each slice, not a line")
        raise ValueError("a single slice was drawn of each structure: draw two at least, better five")
    axis = _thinnest(places, range(3) if axis is None else (axis,))
    return DrawnSlices.across({axis: sorted({int(k) for own in places for k in own[axis]})})


def _speaking(voxels: np.ndarray) -> np.ndarray:
    """Return the axis that each voxel (N, 3) speaks for, (N,), -1 for none."""
    rows = np.stack([_row_lengths(voxels, axis) for axis in range(3)])
    first, second = np.sort(rows, axis=0)[:2]
    return np.where(CLEARLY * first <= second, rows.argmin(axis=0), -1)


def _row_lengths(voxels: np.ndarray, axis: int) -> np.ndarray:
    """Return how many voxels the row along an axis has in which each voxel (N, 3) lies, (N,)."""
    one, other = (k for k in range(3) if k != axis)
    order = np.lexsort((voxels[:, axis], voxels[:, one], voxels[:, other]))
    step = np.diff(voxels[order], axis=0)
    begins = np.r_[True, (step[:, [one, other]] != 0).any(axis=1) | (step[:, axis] != 1)]
    row = np.cumsum(begins) - 1
    lengths = np.empty(len(voxels), int)
    lengths[order] = np.bincount(row)[row]
    return lengths


def _planes(voxels: np.ndarray, spoken: np.ndarray) -> DrawnSlices:
    """Return the slices for which the voxels (N, 3) of a structure speak, without those that others hold as well."""
    found: dict[int, list[int]] = {}
    votes: list[tuple[int, int, int]] = []
    for axis in range(3):
        size = voxels[:, axis].max() + 1
        every, own, others = (
            np.bincount(voxels[chosen, axis], minlength=size)
            for chosen in (spoken > -2, spoken == axis, (spoken != axis) & (spoken >= 0))
        )
        places = np.flatnonzero((own > others) & (own >= LEAST_SHARE * every) & (own > 0))
        found[axis] = places.tolist()
        votes += [(int(own[k]), axis, int(k)) for k in places]
    inside = np.stack([np.isin(voxels[:, axis], found[axis]) for axis in range(3)], axis=1)
    for _, axis, place in sorted(votes):
        held = voxels[:, axis] == place
        if (inside[held].sum(axis=1) > 1).all():
            inside[held, axis] = False
            found[axis].remove(place)
    return DrawnSlices.across(found)


def _thinnest(places: Sequence[Sequence[np.ndarray]], axes: Sequence[int]) -> int:
    """Return the axis along which the structures are in the thinnest pieces, of those with gaps.

    Args:
        places: of each structure, axis → the indices of the slices that have voxels.
        axes: that may be it.
    """
    gaps = [[len(own[axis]) > 1 and np.diff(own[axis]).max() > 1 for axis in range(3)] for own in places]
    thick: dict[int, float] = {}
    for axis in axes:
        if any(gap[axis] for gap in gaps):
            lengths = [own[axis] for own, gap in zip(places, gaps, strict=True) if any(gap)]
            pieces = [1 + np.count_nonzero(np.diff(own) > 1) for own in lengths]
            thick[axis] = sum(map(len, lengths)) / sum(pieces)
    if not thick:
        raise ValueError(
            "no slice was left out between the drawn ones: there is nothing to fill in; where too many cross to tell, "
            + NAME_THEM
        )
    thinnest, *others = sorted(thick, key=lambda axis: thick[axis])
    if others and thick[others[0]] < CLEARLY * thick[thinnest]:
        raise ValueError(
            f"slices were left out along more than one axis, and which were drawn is not clear: {NAME_THEM}"
        )
    return thinnest
