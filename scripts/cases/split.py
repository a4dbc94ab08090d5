"""Which cases of a folder belong to which part of an organ pack's split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..organ.pack import OrganPack
from .find import SUFFIXES, case_name, list_volumes


def evenly_spaced(count: int, limit: int) -> list[int]:
    """At most `limit` indices spread evenly over range(count)."""
    return list(range(count)) if count <= limit else np.linspace(0, count - 1, limit).round().astype(int).tolist()


def split_patients(pack: OrganPack, split: str) -> list[str] | None:
    """Return the names of the labels in a split of the pack, without ending; None where no split is asked for.

    Raises:
        ValueError: the pack has no such split.
    """
    if not split:
        return None
    if split not in pack.split:
        raise ValueError(f"organ '{pack.name}' has no split '{split}'; it has {sorted(pack.split) or 'none'}")
    return [case_name(file) if file.lower().endswith(SUFFIXES) else file for file in pack.split[split]]


def choose_labels(label_dir: str | Path, pack: OrganPack, split: str = "", cases: int = 0) -> list[Path]:
    """Return the label maps of a folder that belong to a split of the pack, at most `cases` spread over their names.

    Raises:
        ValueError: the pack has no such split, or the folder lacks one of its files.
    """
    files = list_volumes(label_dir)
    if split:
        if split not in pack.split:
            raise ValueError(
                f"organ '{pack.name}' has no split '{split}'; it has {sorted(pack.split) or 'none'}. For a folder of "
                "shapes that the prior has not seen, give --split ''"
            )
        by_name = {case_name(file): file for file in files}
        names = [case_name(name) for name in pack.split[split]]
        missing = [name for name in names if name not in by_name]
        if missing or not names:
            raise ValueError(
                f"{label_dir} lacks cases of the split '{split}': {', '.join(missing[:5]) or 'it is empty'}"
            )
        files = [by_name[name] for name in names]
    return [files[i] for i in evenly_spaced(len(files), cases or len(files))]


def training_names(pack: OrganPack, label_dir: Path) -> list[str]:
    names = pack.split.get("train") or sorted(p.name for p in label_dir.glob("*.nii*"))
    missing = [name for name in names if not (label_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{label_dir} lacks {', '.join(missing)}, which the pack's split lists")
    return names
