"""Structures: the shapes of an organ pack, each one label, several, or one side of such."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .checks import (
    PRIOR_SUFFIX,
    OrganError,
    flag,
    key_text,
    list_of,
    mapping_of,
    one_of,
    prior_file,
    safe_name,
    text,
    whole,
)
from .fields import read, setting
from .places import BLIND_FILE, EVIDENCE_FILE, JOINT_FILE
from .sides import GAP_SHARE, SIDES, Sides, split_pair, split_sides

MIRROR_CHOICES = ("never", "auto", "always")
MOST_LABEL = 1 << 20
LABEL = whole(1, MOST_LABEL)


def anything(value: Any, where: str) -> Any:
    return value


REFINE = mapping_of(text, anything)  # keys and values are those of the refinement, which checks them


@dataclass(frozen=True)
class Structure:
    """One shape: one label, several that make one organ, or one side of such.

    Attributes:
        name: the structure's name, used in file names and tables.
        labels: the label values whose union is the shape; refined voxels keep their part.
        prior: path of the shape prior (it need not exist before training); structures may share one, also with those of
            another pack, which trains it.
        mirror: whether the prior may be mirrored: "never", "auto" (both handednesses are tried) or "always". Of two
            sides that share a prior, one may be "never" and the other "always".
        refine: settings of the refinement (keys of `configs/presets.yaml`) that hold for this structure only.
        side: "left" or "right" where the labels always hold both sides of the patient, see `sides`; "" for all of them.
        paired: whether the labels may hold the left and the right one, each of which is a shape by itself then.
        flat_ends: whether experts end it in a plane, as vessels and airways that go on; others that end so were cut.
    """

    name: str = setting(safe_name)
    labels: tuple[int, ...] = setting(list_of(LABEL, least=1))
    prior: Path = setting(prior_file, default=Path())
    mirror: str = setting(one_of(MIRROR_CHOICES), default="never")
    refine: dict[str, Any] = setting(REFINE, default_factory=dict)
    side: str = setting(one_of(SIDES), default="")
    paired: bool = setting(flag, default=False)
    flat_ends: bool = setting(flag, default=False)

    @property
    def pair(self) -> tuple[Structure, ...]:
        """The right and the left one, named `<name>_right` and `<name>_left`; () where it is not `paired`."""
        sides = reversed(SIDES) if self.paired and not self.side else ()
        return tuple(replace(self, name=f"{self.name}_{side}", side=side) for side in sides)

    def union(self, label_map: np.ndarray) -> np.ndarray:
        """Return the voxels of the structure's labels, of both sides where it is one of them, (X, Y, Z) bool."""
        mask = label_map == self.labels[0]
        for value in self.labels[1:]:
            mask |= label_map == value
        return mask

    def mask(self, label_map: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Return the structure's voxels of a whole label map, (X, Y, Z) bool; `affine` is (4, 4), voxel → world mm."""
        return structure_masks([self], label_map, affine)[self.name]


def structure_masks(
    structures: Iterable[Structure], label_map: np.ndarray, affine: np.ndarray
) -> dict[str, np.ndarray]:
    """Return structure name → voxels of a label map, (X, Y, Z) bool, see `each_mask`."""
    return {structure.name: mask for structure, mask in each_mask(structures, label_map, affine)}


def each_mask(
    structures: Iterable[Structure], label_map: np.ndarray, affine: np.ndarray
) -> Iterator[tuple[Structure, np.ndarray]]:
    """Yield structure after structure with its voxels, (X, Y, Z) bool; sides of the same labels are split once.

    Args:
        structures: of one pack.
        label_map: (X, Y, Z) whole numbers, of the whole volume: where sides end depends on its middle.
        affine: (4, 4) voxel index → world mm.
    """
    split: dict[tuple[int, ...], Sides] = {}
    for structure in structures:
        if structure.side and structure.labels not in split:
            gap_share = 0.0 if structure.paired else GAP_SHARE
            split[structure.labels] = split_sides(structure.union(label_map), affine, gap_share)
        sides = split.get(structure.labels) if structure.side else None
        yield structure, structure.union(label_map) if sides is None else sides.of(structure.side)


def shapes_of(
    structures: Iterable[Structure], label_map: np.ndarray, affine: np.ndarray
) -> Iterator[tuple[Structure, np.ndarray]]:
    """Yield the shapes that a label map holds, with their voxels (X, Y, Z) bool.

    They are the structures, but that a paired one of which the map holds both sides is two shapes, see
    `Structure.pair`.

    Args:
        structures: of one pack.
        label_map: (X, Y, Z) whole numbers, of the whole volume.
        affine: (4, 4) voxel index → world mm.
    """
    for structure, mask in each_mask(structures, label_map, affine):
        sides = split_pair(mask, affine) if structure.pair else None
        if sides is None:
            yield structure, mask
        else:
            for one in structure.pair:
                yield one, sides.of(one.side)


def structure_list(value: Any, where: str) -> tuple[Structure, ...]:
    """Check the section `structures`: at least one, whose names, labels and priors fit together.

    Priors are file names still, see `in_folder`.
    """

    def one(item: Any, at: str) -> Structure:
        own = item.get("name") if isinstance(item, dict) else None
        return read(Structure, item, f"{where}: {key_text(own)}" if own is not None else at)

    if not isinstance(value, list) or not value:
        raise OrganError(f"{where} must be a list of at least one structure, such as [{{name: liver, labels: [1]}}]")
    found = tuple(one(item, f"{where}: entry {place}") for place, item in enumerate(value, 1))
    found = tuple(s if s.prior.name else replace(s, prior=Path(s.name + PRIOR_SUFFIX)) for s in found)
    for structure in found:
        if structure.prior.name in (JOINT_FILE, EVIDENCE_FILE, BLIND_FILE):
            raise OrganError(
                f"{where}: {structure.name}: prior must not be {structure.prior.name}, which is another file of the "
                "pack: give `prior` another name"
            )
    for structure in found:
        if structure.paired and (structure.side or structure.mirror != "auto"):
            raise OrganError(
                f"{where}: {structure.name}: paired needs mirror: auto, for one prior serves both: give it, and no side"
            )
    for pair in combinations((shape for one in found for shape in (one, *one.pair)), 2):
        _check_pair(*pair, where)
    return found


def in_folder(structure: Structure, folder: Path) -> Structure:
    """Return a structure whose prior, a file name, is that file in a folder, or in one beside it.

    The folder may be given as `.` or `..`, which have no parent by their names.
    """
    above, *below = structure.prior.parts
    beside = folder.resolve().parent.joinpath(*below) if above == ".." else folder / structure.prior
    return replace(structure, prior=beside)


def _check_pair(one: Structure, other: Structure, where: str) -> None:
    """Check that two structures of a pack have names and voxels of their own, and agree where they share a prior.

    Raises:
        OrganError: they do not.
    """
    pair = f"{where}: '{one.name}' and '{other.name}'"
    if one.name.casefold() == other.name.casefold():
        raise OrganError(f"{pair} have the same name, and so the same files: rename one")
    if set(one.labels) & set(other.labels) and not {one.name, other.name} & {s.name for s in (*one.pair, *other.pair)}:
        if set(one.labels) != set(other.labels) or {one.side, other.side} != set(SIDES):
            raise OrganError(f"{pair} share labels: give both the same labels, and one side left, the other side right")
    if one.prior == other.prior and one.mirror != other.mirror and "auto" in (one.mirror, other.mirror):
        raise OrganError(f"{pair} share a prior: give both mirror: auto, or one never and the other always")
