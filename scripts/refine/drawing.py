"""Label maps of which a few slices were drawn: which slices show each structure, and what fills the gaps at first.

Each structure counts by itself: a slice that does not show it says nothing of it. The gaps are filled by interpolation
of each slice's signed distance (Raya and Udupa 1990): so there is a surface that a prior can be aligned with, see
`sparse`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..geometry.affine import spacing_mm
from ..geometry.boxed import Box, BoxedMask
from ..geometry.surface import mask_signed_distance
from ..organ.pack import OrganPack
from .find_planes import find_planes
from .planes import AXES, FILLED, DrawnSlices

REACH_MM = 6.0  # of distances in slices across several axes: what lies farther off counts as that far
APART_MM = 1e4  # between slices, so that the nearest contour is one of the same slice


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
        slices: in which anything was drawn.
        parts: the structures.
    """

    slices: DrawnSlices
    parts: tuple[DrawnPart, ...]

    @classmethod
    def of(
        cls, label_map: np.ndarray, affine: np.ndarray, pack: OrganPack, named: DrawnSlices | None = None
    ) -> Drawing:
        """Find what was drawn of a label map (X, Y, Z); voxels below 0 are others' and no drawing.

        Args:
            label_map: (X, Y, Z).
            affine: (4, 4) voxel → world mm.
            pack: the organ pack.
            named: the drawn slices, where a user has named them; else they are found, see `find_planes`.

        Raises:
            ValueError: see `find_planes`; or the named slices do not hold all that was drawn.
        """
        parts = parts_of(label_map, affine, pack)
        drawing = cls(named or find_planes([part.mask for part in parts]), tuple(parts))
        for part in parts if named else ():
            voxels = np.argwhere(part.mask.part) + [side.start for side in part.mask.box]
            lost = voxels[~drawing.slices.near(voxels)]
            if len(lost):
                where = ", ".join(map(str, lost[0]))
                raise ValueError(
                    f"{len(lost)} voxels of {part.name}, such as ({where}), lie in no slice that was named: name their "
                    "slices too, or empty these voxels"
                )
        return drawing

    def __str__(self) -> str:
        said = []
        for axis in self.slices.axes:
            counts = [(part.name, len(self.slices_of(part.mask).places[axis])) for part in self.parts]
            said.append(f"{AXES[axis]} axis: " + ", ".join(f"{name} {count}" for name, count in counts if count))
        return "slices drawn across the " + "; across the ".join(said)

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
        return self.slices.showing(np.argwhere(drawn & mask.part) + [side.start for side in mask.box])

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
        for part in self.parts:
            slices = self.slices_of(part.mask)
            if not slices.enough:
                continue
            box = _around(part.mask, slices)
            shape, here = [side.stop - side.start for side in box], slices.within(box)
            solid = here.of(part.mask[box])
            drawn = {axis: np.where(own, here.of(label_map[box])[axis], 0) for axis, own in solid.items()}
            inside = {axis: mask_signed_distance(own, _sides(spacing, axis)) for axis, own in solid.items()}
            if len(here.axes) > 1:  # where slices cross, each has a distance of its own
                inside = {axis: own.clip(-REACH_MM, REACH_MM) for axis, own in inside.items()}
            field = here.spread(inside, shape, spacing).astype(np.float32)
            there = np.unique(np.concatenate([own[own > 0] for own in drawn.values()]))
            labels = np.full(field.shape, there[0], label_map.dtype)
            nearest = np.full(field.shape, np.inf, np.float32)
            for label in there if len(there) > 1 else ():
                far = {axis: _distances(own == label, here, axis, spacing) for axis, own in drawn.items()}
                own = here.spread(far, shape, spacing)
                labels[own < nearest] = label
                nearest = np.minimum(own, nearest, dtype=np.float32)
            yield box, labels, field


def parts_of(label_map: np.ndarray, affine: np.ndarray, pack: OrganPack) -> list[DrawnPart]:
    """Return the structures of a label map (X, Y, Z) of drawn slices, and each label that no structure has."""
    shapes = [(shape.name, mask) for shape, mask in pack.shapes(label_map, affine) if mask.any()]
    parts = [DrawnPart(name, BoxedMask.of(mask), True) for name, mask in shapes]
    known = {label for structure in pack.structures for label in structure.labels}
    for label in sorted({*np.unique(label_map[label_map > 0]).tolist()} - known):
        parts.append(DrawnPart(pack.labels.get(label, f"label {label}"), BoxedMask.of(label_map == label), False))
    return parts


def _around(mask: BoxedMask, slices: DrawnSlices) -> Box:
    """Return the box of a mask, wider by half a gap across drawn slices, and by a voxel along them."""
    gaps = [int(np.median(np.diff(own))) if len(own) > 1 else 2 for own in slices.places]
    x, y, z = (
        slice(max(side.start - gap // 2, 0), min(side.stop + gap // 2, size))
        for side, gap, size in zip(mask.box, gaps, mask.shape, strict=True)
    )
    return x, y, z


def _sides(spacing: np.ndarray, axis: int) -> np.ndarray:
    """Return the spacing (3,) of a stack (K, A, B) of slices across an axis."""
    return np.array([APART_MM, *np.delete(spacing, axis)])


def _distances(mask: np.ndarray, slices: DrawnSlices, axis: int, spacing: np.ndarray) -> np.ndarray:
    """Return the signed distance (K, A, B) of a label in each drawn slice, mm, or to the next if it is not there."""
    distances = mask_signed_distance(mask, _sides(spacing, axis))
    there = np.flatnonzero(mask.any(axis=(1, 2)))
    for empty in np.flatnonzero(~mask.any(axis=(1, 2))) if len(there) else ():
        next_one = there[np.argmin(np.abs(there - empty))]
        gap_mm = abs(slices.places[axis][empty] - slices.places[axis][next_one]) * spacing[axis]
        distances[empty] = np.hypot(distances[next_one].clip(min=0.0), gap_mm)
    return distances
