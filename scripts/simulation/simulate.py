"""Folders of label maps with simulated errors, a folder a kind: what a shape prior is validated on."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..cases.errors import UnrefinableCase
from ..cases.find import case_name
from ..cases.given import GivenLabels
from ..cases.sources import LabelSource
from ..cases.split import choose_labels
from ..cases.write import copy_volume, write_label_map
from ..geometry.affine import box_affine
from ..organ.pack import OrganPack, Structure, structure_masks
from .damage import damage, damage_box

CLEAN = "clean"
RECIPES: Mapping[str, Sequence[str]] = {  # folder → the kinds of damage that it holds, see `damage`
    "missing": ("chunk",),
    "cut": ("cut",),
    "islands": ("islands",),
    "steps": ("steps",),
    "rough": ("rough", "leak"),
    "mixed": ("chunk", "rough", "leak", "islands"),  # a network's errors; steps are the scan's
    CLEAN: (),
}


def simulate(
    label_dir: str,
    organ: str,
    output_dir: str,
    kinds: str | Sequence[str] = "",
    split: str = "",
    cases: int = 0,
    seed: int = 0,
    severity: float = 1.0,
    slices: str = "axial",
    label_source: str = "",
) -> str:
    """Write label maps with simulated errors to OUTPUT_DIR/<kind>/<case>.nii.gz, on the grid and in the type they had.

    Label maps of another source are written with the organ pack's values, without what is none of its labels.

    The kinds: missing (a chunk of each structure), cut (one end of it, along a plane), islands, steps (thick slices),
    rough (a wavering boundary and leaks), mixed (missing, rough, leaks and islands at once), clean (the untouched label
    map, as a control).

    Args:
        label_dir: folder of true label maps.
        organ: name of the organ pack, or path of its folder; each of its structures is damaged by itself.
        output_dir: where the folders go.
        kinds: which kinds, such as missing,steps; empty for all.
        split: only the organ pack's cases of this split, such as test; empty for all of the folder.
        cases: at most so many, spread evenly over their sorted names; 0 for all.
        seed: of the errors. Each structure of each case and kind has its own generator, so that a case's errors do not
            depend on which others are there.
        severity: factor of all sizes.
        slices: how thick slices lie: axial, coronal or sagittal.
        label_source: whose labels they have, one of the organ pack's sources, where no names tell.

    Returns:
        What was written.

    Raises:
        ValueError: an option makes no sense, or the split's label maps are not in the folder.
        CaseError: a label map cannot be used.
    """
    pack = OrganPack.load(organ)
    chosen = choose_kinds(kinds)
    labels = LabelSource.of(pack, label_source)
    files = choose_labels(label_dir, pack, split, cases)
    write_simulated(files, labels, Path(output_dir), chosen, seed, severity, slices)
    return f"{len(files)} cases each of {', '.join(chosen)}: {output_dir}"


def choose_kinds(kinds: str | Sequence[str]) -> list[str]:
    """Return kinds given as a list or separated by commas; all where there are none.

    Raises:
        ValueError: one is unknown.
    """
    parts = kinds.split(",") if isinstance(kinds, str) else kinds
    chosen = [str(part).strip() for part in parts if str(part).strip()] or list(RECIPES)
    unknown = sorted(set(chosen) - set(RECIPES))
    if unknown:
        raise ValueError(f"unknown kinds {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    return list(dict.fromkeys(chosen))


def read_truth(file: Path, labels: LabelSource) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice, slice]]:
    """Read a label map, but only that part of it in which simulated errors may lie.

    Of packs whose structures are sides, the part has the same middle plane as the whole.

    Returns:
        The part (X, Y, Z) with the pack's values, its affine (4, 4), and its slices of the whole.

    Raises:
        CaseError: the label map cannot be read, has no usable affine, or holds none of the pack's structures.
    """
    given = labels.read(file)
    truth = _in_pack_values(given)
    masks = structure_masks(labels.pack.structures, truth, given.affine).values()
    boxes = [damage_box(mask, given.affine) for mask in masks if mask.any()]
    if not boxes:
        raise UnrefinableCase(f"{file} holds none of the structures of '{labels.pack.name}'")
    ranges = [(min(one.start for one in axis), max(one.stop for one in axis)) for axis in zip(*boxes, strict=True)]
    if any(structure.side for structure in labels.pack.structures):
        for axis in np.flatnonzero(given.affine[0, :3]):  # sides are told apart by the volume's middle plane: keep it
            edge = min(ranges[axis][0], truth.shape[axis] - ranges[axis][1])
            ranges[axis] = edge, truth.shape[axis] - edge
    box = tuple(slice(*one) for one in ranges)
    affine = box_affine(given.affine, [one.start for one in box])
    return truth[box].copy(order="C"), affine, (box[0], box[1], box[2])


def _in_pack_values(given: GivenLabels) -> np.ndarray:
    """Return a label map (X, Y, Z) with the pack's values; of another source, what is none of its labels goes."""
    return given.values if given.is_own else np.maximum(given.in_pack_values(), 0)


def write_simulated(
    files: Sequence[Path],
    labels: LabelSource,
    out_dir: Path,
    kinds: Sequence[str],
    seed: int = 0,
    severity: float = 1.0,
    slices: str = "axial",
) -> None:
    """Write every label map with every kind of error to `out_dir`/<kind>/<case>.nii.gz, in the pack's values.

    Raises:
        CaseError: a label map cannot be read, or has no usable affine.
    """
    structures = labels.pack.structures
    with tqdm(total=len(kinds) * len(files), desc="simulate", unit="mask", disable=None) as progress:
        for file in files:
            given = labels.read(file)
            truth = _in_pack_values(given)
            for kind in kinds:
                target = out_dir / kind / f"{case_name(file)}.nii.gz"
                if RECIPES[kind]:
                    case = f"{seed}/{kind}/{case_name(file)}"
                    damaged = with_errors(truth, given.affine, structures, kind, case, severity, slices)
                    write_label_map(target, damaged, file, extensions=given.is_own)
                elif given.is_own:
                    copy_volume(file, target)
                else:
                    write_label_map(target, truth, file, extensions=False)
                progress.update()


def with_errors(
    labels: np.ndarray,
    affine: np.ndarray,
    structures: Sequence[Structure],
    kind: str,
    seed: str,
    severity: float = 1.0,
    slices: str = "axial",
) -> np.ndarray:
    """Return a label map (X, Y, Z) with one kind of error in each structure that it has; `seed` is any text."""
    result = labels
    for name, mask in structure_masks(structures, labels, affine).items():
        if mask.any():
            own_seed = zlib.crc32(f"{seed}/{name}".encode())
            result = damage(result, affine, own_seed, RECIPES[kind], mask, severity, slices)
    return result
