"""The cases of a run in the order in which they should be looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .run_report import FAILED, KEPT


def worst_first(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of a report's cases, those first that most need a look.

    Failed cases come before those with a doubtful fit or an unknown shape, these before masks that were kept, and of
    each kind those before others of whose structures the lowest DSC is predicted. Else the report's order stays.
    """
    return sorted(range(len(records)), key=lambda number: _need(records[number]))


def _need(record: Mapping[str, Any]) -> tuple[int, float]:
    """Return what a case is sorted by: the kind of what is wrong, then the lowest predicted DSC."""
    structures = record.get("structures", [])
    said = [one.get("quality", {}) for one in structures]
    predicted = [one["predicted_dsc"]["refined"][0] for one in said if one.get("predicted_dsc", {}).get("refined")]
    lowest = min(map(float, predicted), default=math.inf)
    if record.get("status") == FAILED:
        return 0, lowest
    if any(one.get("doubtful") or one.get("outside_prior") for one in said):
        return 1, lowest
    return (2 if record.get("status") == KEPT or any(one.get("failure") for one in structures) else 3), lowest
