"""Label maps of which a few slices were drawn: which slices show each structure, and what fills the gaps at first.

Each structure counts by itself: a slice that does not show it says nothing of it. The gaps are filled by interpolation
of each slice's signed distance (Raya and Udupa 1990): so there is a surface that a prior can be aligned with, see
`sparse`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from ..geometry.affine import spacing_mm
from ..geometry.boxed import Box, BoxedMask
from ..geometry.surface import mask_signed_distance
from ..organ.pack import OrganPack

APART_MM = 1e4  # between slices, so that the nearest contour is one of the same slice
LEAST_DRAWN = 2  # slices that must show a structure
CLEARLY = 2.0  # times as thick are the pieces along the other axes at least
AXES = ("first", "second", "third")
FILLED = "what lies between the drawn slices was interpolated without the prior"
LONE = "a single drawn slice shows it, and it stays as it was drawn"


@dataclass(frozen=True)
class DrawnSlices:
    """The slices in which one structure was drawn.

    Attributes:
        axis: of the array, across the slices.
        places: their indices, rising.
    """

    axis: int
    places: tuple[int, ...]

    @property
    def enough(self) -> bool:
        """Whether anything can be said of what lies between them."""
        return len(self.places) >= LEAST_DRAWN

    @property
    def unfitted(self) -> str:
        """What came of the structure where its prior was not fitted."""
        return FILLED if self.enough else LONE

    def within(self, box: Sequence[slice]) -> DrawnSlices:
        """Return the drawn slices of a part of the map, with their indices there."""
        side = box[self.axis]
        inside = [place - side.start for place in self.places if side.start <= place < side.stop]
        return DrawnSlices(self.axis, tuple(inside))

    def between(self, wanted: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Interpolate values (K, A, B) of the slices at wanted places between them, without overshooting."""
        if not self.enough:
            return values[wanted - self.places[0]]
        return PchipInterpolator(np.array(self.places), values, axis=0)(wanted)


@dataclass(frozen=True)
class DrawnPart:
    """What was drawn of one structure.

    Attributes:
        name: the structure's, or its label's where the pack refines no structure of that label.
        mask: its drawn voxels.
        has_prior: whether the pack refines it.
    """

    name: str
    mask: BoxedMask
    has_prior: bool


@dataclass(frozen=True)
class Drawing:
    """What was drawn of a label map.

    Attributes:
        axis: of the array, across the drawn slices; the same for all structures.
        parts: the structures.
    """

    axis: int
    parts: tuple[DrawnPart, ...]

    @classmethod
    def of(cls, label_map: np.ndarray, affine: np.ndarray, pack: OrganPack) -> Drawing:
        """Find what was drawn of a label map (X, Y, Z); voxels below 0 are others' and no drawing.

        The slices lie across the axis along which the structures are in the thinnest pieces: parts of one, such as an
        island, may lie apart along another axis, too.

        Raises:
            ValueError: no structure has more than one slice, nothing was left out between them, or along two axes
                alike.
        """
        parts = parts_of(label_map, affine, pack)
        found = [[_places(part.mask, axis) for axis in range(3)] for part in parts]
        gaps = [[len(places) > 1 and np.diff(places).max() > 1 for places in own] for own in found]
        if found and all(min(map(len, own)) == 1 for own in found):
            raise ValueError("a single slice was drawn of each structure: draw two at least, better five")
        thick: dict[int, float] = {}
        for axis in range(3):
            if any(own[axis] for own in gaps):
                lengths = [own[axis] for own, gap in zip(found, gaps, strict=True) if any(gap)]
                pieces = [1 + np.count_nonzero(np.diff(places) > 1) for places in lengths]
                thick[axis] = sum(map(len, lengths)) / sum(pieces)
        if not thick:
            raise ValueError("no slice was left out between the drawn ones: there is nothing to fill in")
        thinnest, *others = sorted(thick, key=lambda axis: thick[axis])
        if others and thick[others[0]] < CLEARLY * thick[thinnest]:
            raise ValueError("slices were left out along more than one axis: they must all lie across the same one")
        return cls(thinnest, tuple(parts))

    def __str__(self) -> str:
        counts = ", ".join(f"{part.name} {len(_places(part.mask, self.axis))}" for part in self.parts)
        return f"slices drawn across the {AXES[self.axis]} axis: {counts}"

    @property
    def warnings(self) -> list[str]:
        """What a user should know of labels that no prior knows."""
        filled = [part for part in self.parts if not part.has_prior and self.slices_of(part.mask).enough]
        return [f"{part.name} has no prior: {FILLED}" for part in filled]

    def slices_of(self, mask: BoxedMask) -> DrawnSlices:
        """Return the slices in which the voxels of a mask of the filled map were drawn."""
        drawn = np.zeros_like(mask.part)
        for part in self.parts:
            drawn = drawn | part.mask[mask.box]
        places = np.flatnonzero(_across(drawn & mask.part, self.axis)) + mask.box[self.axis].start
        return DrawnSlices(self.axis, tuple(int(place) for place in places))

    def fill(self, label_map: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Fill each structure between the slices that show it, and half a gap beyond the outermost ones.

        Args:
            label_map: (X, Y, Z), the drawn one.
            affine: (4, 4) voxel → world mm.

        Returns:
            (X, Y, Z) of the same type; no voxel that is not 0 is another than it was. A voxel that several structures
            would fill goes to the one whose interpolated surface it lies deeper in.
        """
        filled, nearest = label_map.copy(order="K"), np.zeros(label_map.shape, np.float32)
        for box, labels, field in self._fields(label_map, spacing_mm(affine)):
            deeper = (field < nearest[box]) & (label_map[box] == 0)
            filled[box][deeper], nearest[box][deeper] = labels[deeper], field[deeper]
        return filled

    def _fields(self, label_map: np.ndarray, spacing: np.ndarray) -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
        """Yield a box of each structure, the label of each voxel there and the interpolated signed distance in mm."""
        sides = np.array([APART_MM, *np.delete(spacing, self.axis)])
        for part in self.parts:
            slices = self.slices_of(part.mask)
            if not slices.enough:
                continue
            box = _around(part.mask, self.axis, int(np.median(np.diff(slices.places))) // 2)
            start, stop = box[self.axis].start, box[self.axis].stop
            wanted = np.arange(start, stop).clip(slices.places[0], slices.places[-1])
            rows = np.array(slices.places) - start
            solid = np.moveaxis(part.mask[box], self.axis, 0)[rows]
            drawn = np.where(solid, np.moveaxis(label_map[box], self.axis, 0)[rows], 0)
            field = slices.between(wanted, mask_signed_distance(solid, sides)).astype(np.float32)
            there = np.unique(drawn[drawn > 0])
            labels = np.full(field.shape, there[0], label_map.dtype)
            nearest = np.full(field.shape, np.inf, np.float32)
            for label in there if len(there) > 1 else ():
                own = slices.between(wanted, _distances(drawn == label, slices, sides, spacing[self.axis]))
                labels[own < nearest] = label
                nearest = np.minimum(own, nearest, dtype=np.float32)
            yield box, np.moveaxis(labels, 0, self.axis), np.moveaxis(field, 0, self.axis)


def parts_of(label_map: np.ndarray, affine: np.ndarray, pack: OrganPack) -> list[DrawnPart]:
    """Return the structures of a label map (X, Y, Z) of drawn slices, and each label that no structure has."""
    shapes = [(shape.name, mask) for shape, mask in pack.shapes(label_map, affine) if mask.any()]
    parts = [DrawnPart(name, BoxedMask.of(mask), True) for name, mask in shapes]
    known = {label for structure in pack.structures for label in structure.labels}
    for label in sorted({*np.unique(label_map[label_map > 0]).tolist()} - known):
        parts.append(DrawnPart(pack.labels.get(label, f"label {label}"), BoxedMask.of(label_map == label), False))
    return parts


def _across(mask: np.ndarray, axis: int) -> np.ndarray:
    """Return whether each slice of a mask (X, Y, Z) bool across an axis has voxels."""
    return np.asarray(np.moveaxis(mask, axis, 0).any(axis=(1, 2)))


def _places(mask: BoxedMask, axis: int) -> np.ndarray:
    """Return the indices of the slices of the whole grid that a mask has voxels in."""
    return np.flatnonzero(_across(mask.part, axis)) + mask.box[axis].start


def _around(mask: BoxedMask, axis: int, more: int) -> Box:
    """Return the box of a mask, wider by `more` slices along an axis, and by a voxel along the others."""
    room = [more if one == axis else 1 for one in range(3)]
    x, y, z = (
        slice(max(side.start - wide, 0), min(side.stop + wide, size))
        for side, wide, size in zip(mask.box, room, mask.shape, strict=True)
    )
    return x, y, z


def _distances(mask: np.ndarray, slices: DrawnSlices, sides: np.ndarray, across_mm: float) -> np.ndarray:
    """Return the signed distance (K, A, B) of a label in each drawn slice, mm, or to the next if it is not there."""
    distances = mask_signed_distance(mask, sides)
    there = np.flatnonzero(mask.any(axis=(1, 2)))
    for empty in np.flatnonzero(~mask.any(axis=(1, 2))):
        next_one = there[np.argmin(np.abs(there - empty))]
        gap_mm = abs(slices.places[empty] - slices.places[next_one]) * across_mm
        distances[empty] = np.hypot(distances[next_one].clip(min=0.0), gap_mm)
    return distances
