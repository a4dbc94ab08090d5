"""Which cases of a folder belong to which part of an organ pack's split: "train", "validation" or "test".

Two things are left to those who train. A prior learns from what a folder has of the training part; a U-Net takes the
pack's split only where the folder has all of it. Where a pack holds out no validation part, both take the last cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..organ.pack import OrganPack
from .find import VOLUMES, case_name, list_masks, match_name

Item = TypeVar("Item")


def evenly_spaced(count: int, limit: int) -> list[int]:
    """Return at most `limit` indices spread evenly over range(count)."""
    return list(range(count)) if count <= limit else np.linspace(0, count - 1, limit).round().astype(int).tolist()


def hold_out(items: Sequence[Item], count: int) -> tuple[list[Item], list[Item]]:
    """Return all but the last `count` items, and these."""
    kept = len(items) - count
    return list(items[:kept]), list(items[kept:])


def fold_of_each(names: Sequence[str], folds: int, among: Sequence[str] = ()) -> list[int]:
    """Return the fold of each case, 0 to `folds` - 1, in turn.

    Cases of one patient are in one fold: `scan_09` and those that begin with `scan_09_`, as `match_name` has it.

    Args:
        names: of the cases.
        folds: how many.
        among: all names that tell who is one patient, where `names` are but some of them.

    Raises:
        ValueError: fewer than two folds, or more than there are patients.
    """
    of_each = [min((one for one in [*names, *among] if match_name(name, [one])), key=len) for name in names]
    patients = list(dict.fromkeys(of_each))
    if not 2 <= folds <= len(patients):
        raise ValueError(f"{len(patients)} patients cannot be split into {folds} folds: give 2 to {len(patients)}")
    return [patients.index(patient) % folds for patient in of_each]


def split_patients(pack: OrganPack, split: str) -> list[str] | None:
    """Return the names of the cases in a part of the pack's split, without ending; None where no part is asked for.

    Raises:
        ValueError: the pack has no such part.
    """
    if not split:
        return None
    if split not in pack.split:
        raise ValueError(
            f"organ '{pack.name}' has no split '{split}'; it has {sorted(pack.split) or 'none'}. For a folder of "
            "cases that the pack has not seen, give --split ''"
        )
    return part_names(pack, split)


def part_names(pack: OrganPack, part: str) -> list[str]:
    """Return the names of the cases in a part of the pack's split, without ending; [] where it has no such part."""
    return [case_name(file) if file.lower().endswith(VOLUMES) else file for file in pack.split.get(part, [])]


def choose_labels(label_dir: str | Path, pack: OrganPack, split: str = "", cases: int = 0) -> list[Path]:
    """Return the label maps of a folder that belong to a part of the pack's split, in its order.

    Args:
        label_dir: folder of label maps.
        pack: the organ pack.
        split: the part; "" for all of the folder, by name.
        cases: at most so many, spread evenly; 0 for all.

    Raises:
        ValueError: the pack has no such part, or the folder lacks one of its files.
    """
    files = {case_name(file): file for file in list_masks(label_dir)}
    names = split_patients(pack, split)
    names = sorted(files, key=lambda name: files[name].name) if names is None else names
    missing = [name for name in names if name not in files]
    if missing or not names:
        raise ValueError(
            f"{label_dir} lacks cases of the split '{split}' ({', '.join(missing[:5]) or 'it is empty'}): add them, or "
            "give --split '' for all that are there"
        )
    return [files[names[i]] for i in evenly_spaced(len(names), cases or len(names))]


def training_files(pack: OrganPack, label_dir: str | Path) -> list[Path]:
    """Return the label maps of the pack's training part; all of the folder where the pack has no split.

    Raises:
        ValueError: the folder lacks one of its files.
    """
    return choose_labels(label_dir, pack, "train" if pack.split.get("train") else "")
