"""Masks that are plainly not of the organ that they are compared with: a wrong folder, other labels, another frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .pairing import STAGE_MARK

LEAST_DSC = 5.0  # %: below it the voxels that mask and label share may be accidental
MOST_SHARE = 0.8  # of a method's masks: with so many elsewhere, it is not the cases that are at fault


def is_elsewhere(row: Mapping[str, Any]) -> bool:
    """Return whether a mask shares next to nothing with its label, and lies a label's radius away from it."""
    if not row["volume_ml"] or not row["truth_volume_ml"]:
        return False
    radius_mm = float(np.cbrt(3.0 * 1000.0 * row["truth_volume_ml"] / (4.0 * np.pi)))
    return bool(row["dsc"] < LEAST_DSC and row["centroid_distance_mm"] > radius_mm)


def refuse_other_organs(
    rows: Sequence[Mapping[str, Any]], methods: Mapping[str, str | Path], label_dir: str | Path
) -> None:
    """Refuse to compare masks with labels of another organ, and say which folder is probably the wrong one.

    Args:
        rows: scores, a row a case, structure and method.
        methods: method → its folder; baselines that are computed have none.
        label_dir: folder of the labels.

    Raises:
        ValueError: of two patients or more, nearly all masks of a method lie elsewhere than their labels.
    """
    counts: dict[str, tuple[int, int]] = {}
    wrong = []
    for method in methods:
        both = [r for r in rows if r["method"] == method and r["volume_ml"] and r["truth_volume_ml"]]
        counts[method] = sum(map(is_elsewhere, both)), len(both)
        several = len({row["patient"] for row in both}) > 1
        if several and counts[method][0] >= MOST_SHARE * len(both):
            wrong.append(method)
    if not wrong:
        return
    folders = [str(methods[method]).partition(STAGE_MARK)[0] for method in wrong]
    if len(wrong) < len(methods):
        suspect = f"probably {', '.join(folders)} is the wrong folder, since other methods' masks do meet the labels"
    elif len(set(folders)) > 1:
        suspect = f"probably {label_dir} is the wrong folder, since no method's masks meet these labels"
    else:
        suspect = f"{folders[0]} or {label_dir} is the wrong folder"
    number, of = counts[wrong[0]]
    raise ValueError(
        f"{wrong[0]}: {number} of {of} masks lie elsewhere than their labels, DSC below {LEAST_DSC:g} %: {suspect}: "
        "masks of another organ, other label values (see --source), or another frame"
    )


def elsewhere_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the note of single masks that lie elsewhere than their labels; none where there are none."""
    found = [f"{r['case']}, {r['structure']} ({r['method']})" for r in rows if is_elsewhere(r)]
    return [f"Look at these, they lie elsewhere than their labels: {'; '.join(found)}."] if found else []
