"""A label map as another model gave it: what its values mean, and how a refined one is given back with these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..geometry.affine import spacing_mm
from ..geometry.surface import crop_box
from .labels import COUNTED_AT_ONCE, label_values, narrow
from .layers import Place

GIVEN = "_given"  # what is appended to a key of a label map for what it was read from, `GivenLabels`
OTHER = -1  # what belongs to no label of the pack: it is never overwritten
LONGEST_TABLE = 1 << 20  # from the lowest to the highest value; of files with more, each voxel's value is searched for


@dataclass(frozen=True)
class GivenLabels:
    """A label map as another model gave it, and what its values mean.

    Attributes:
        values: (X, Y, Z), the values of the file, or the numbers of `files` or `places`; in a small type, see `narrow`.
        affine: (4, 4) voxel index → world mm.
        meaning: value → label of the pack.
        files: value → binary mask file; empty where it was one label map.
        places: value → layer and value of a segment of 3D Slicer's; empty where these do not overlap.
        label_map: the file that was read of a case's folder; None where the case is a file, or a folder of masks.
        exchanged: value of a left organ → value of the right one, where each lies on the other's side.
        mend_sides: whether these are written as each other.
        common: of several packs, label → its name among them, which goes into the results' headers; {} for one pack.
        beside: further binary mask files of the case's folder, which are given back with it; of several packs only.
        others: names, or values, of what is in it and is none of the pack's labels.
        is_own: whether the values are just the pack's own.
        named: whether names or a source say what the values mean.
        warnings: what a user should know, such as a left organ that lies on the right.
    """

    values: np.ndarray
    affine: np.ndarray
    meaning: dict[int, int]
    files: dict[int, Path] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    is_own: bool = True
    named: bool = False
    warnings: list[str] = field(default_factory=list)
    places: dict[int, Place] = field(default_factory=dict)
    label_map: Path | None = None
    exchanged: dict[int, int] = field(default_factory=dict)
    mend_sides: bool = False
    common: dict[int, str] = field(default_factory=dict)
    beside: list[Path] = field(default_factory=list)

    def with_sides(self, fix: bool) -> GivenLabels:
        """Return the same with the sides to be mended, where `fix` and they are exchanged, and warnings that say so."""
        if not self.exchanged:
            return self
        if fix:
            said = "left and right were exchanged: the labels are exchanged back in what is written as it was given"
        else:
            said = "left and right are exchanged; --fix_sides true exchanges the labels"
        return replace(self, mend_sides=fix, warnings=[*self.warnings, said])

    def given_files(self) -> list[Path]:
        """Return the files of a case's folder that were read; [] where the case is a file."""
        return list(self.files.values()) or ([self.label_map] if self.label_map else [])

    @property
    def writable_labels(self) -> set[int]:
        """The pack's labels that can be written, also those that no voxel has; any data type holds up to 127."""
        most = max(127, int(self.values.max(initial=0)))
        return {label for value, label in self.meaning.items() if value <= most}

    def in_pack_values(self) -> np.ndarray:
        """Return the label map (X, Y, Z) with the pack's values, `OTHER` where it has none; see `narrow`."""
        if self.is_own:
            return self.values
        low, high = min(int(self.values.min()), 0), int(self.values.max())
        highest = max(self.meaning.values(), default=0)  # also of labels that no voxel has, which may come to be drawn
        if high - low > LONGEST_TABLE:  # a label of 2^31 - 1 takes no table up to it
            found = label_values(self.values)
            means = [0 if value == 0 else self.meaning.get(value, OTHER) for value in found]
            return narrow(np.array(means, np.int32), highest)[np.searchsorted(found, self.values)]
        table = np.full(high - low + 1, OTHER, np.int32)
        table[-low] = 0
        for value, label in self.meaning.items():
            if 0 <= value - low < len(table):
                table[value - low] = label
        table = narrow(table, highest)
        pieces = np.nditer(
            [self.values, None],
            ["external_loop", "buffered"],
            [["readonly"], ["writeonly", "allocate"]],
            [self.values.dtype, table.dtype],
            buffersize=COUNTED_AT_ONCE,
        )
        with pieces:  # places in a table take eight bytes a voxel
            for values, ours in pieces:
                ours[...] = table[values.astype(np.intp) - low]
            return pieces.operands[1]

    def in_given_values(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the given label map with what was changed of it, (X, Y, Z).

        Where several values mean one label, a new voxel takes that of the nearest voxel of these, or the first of them
        where there is none.

        Args:
            before: (X, Y, Z) what `in_pack_values` returned.
            after: (X, Y, Z) the same, refined.
        """
        result = self.values.copy(order="K")
        changed = before != after
        result[changed] = 0
        for label in label_values(after[changed]):
            added = changed & (after == label)
            origin = before == label
            if label == 0:
                continue
            if not origin.any():
                value = next((value for value, means in self.meaning.items() if means == label), 0)
                result = result.astype(np.promote_types(result.dtype, np.min_scalar_type(value)), copy=False)
                result[added] = value
                continue
            box = crop_box(added | origin)
            nearest = ndimage.distance_transform_edt(
                ~origin[box], spacing_mm(self.affine), return_distances=False, return_indices=True
            )
            result[box][added[box]] = self.values[box][tuple(nearest[:, added[box]])]
        return result
