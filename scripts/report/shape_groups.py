"""Which group the shapes of a run are in, and how two groups differ."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..metrics.groups import LEAST, Comparison, compare_groups

STRUCTURE = "structure"  # as the file of groups: structures that share a prior are the groups, such as left and right
NEEDED = ("case", "group")

Key = tuple[str, str]  # case and structure; the structure is "" where the group is that of all of the case's

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Groups:
    """Two groups of shapes.

    Attributes:
        names: of the first and the second one.
        rows: the shapes of each, as numbers; where they are paired, in the order of their cases.
        paired: whether each case has one shape in either group.
    """

    names: tuple[str, str]
    rows: tuple[np.ndarray, np.ndarray]
    paired: bool

    def compare(self, values: np.ndarray) -> Comparison:
        """Compare values (S, N) of all shapes."""
        first, second = (np.asarray(values)[rows] for rows in self.rows)
        return compare_groups(first, second, self.paired)


def read_groups(file: str, cases: Sequence[str]) -> dict[Key, str]:
    """Read a table of groups.

    Args:
        file: CSV with the columns case and group, and structure where the structures of a case are in several.
        cases: of the run.

    Raises:
        ValueError: it has other columns, names no case of the run, or not two groups.
        OSError: it cannot be read.
    """
    with open(file, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file} has no column {' or '.join(missing)}: its first line must be case,group")
        rows = [row for row in reader if row["case"] and row["group"]]
    unknown = sorted({row["case"] for row in rows} - set(cases))
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        logger.warning(f"{file} names cases that the run does not have: {', '.join(unknown[:3])}{more}")
    found = {(row["case"], row.get(STRUCTURE) or ""): row["group"] for row in rows if row["case"] in cases}
    names = list(dict.fromkeys(found.values()))
    if len(names) != 2:
        raise ValueError(f"{file} must give the run's cases two groups, not {len(names)}: {', '.join(names[:5])}")
    return found


def group_of(case: str, structure: str, groups: Mapping[Key, str] | None) -> str:
    """Return the group of a shape; its structure's name where `groups` is None, "" where it has none."""
    if groups is None:
        return structure
    return groups.get((case, structure), groups.get((case, ""), ""))


def two_groups(cases: Sequence[str], groups: Sequence[str]) -> Groups | None:
    """Return the two groups that shapes are in; None where there are not two with enough shapes each.

    Args:
        cases: of each shape.
        groups: of each shape; "" for none.
    """
    names = list(dict.fromkeys(group for group in groups if group))
    if len(names) != 2:
        return None
    rows = [np.flatnonzero(np.array(groups) == name) for name in names]
    if min(map(len, rows)) < LEAST:
        return None
    own = [np.array(cases)[part] for part in rows]
    paired = len(own[0]) == len(set(own[0])) and sorted(own[0]) == sorted(own[1])
    if paired:
        rows = [part[np.argsort(names_of_cases)] for part, names_of_cases in zip(rows, own, strict=True)]
    return Groups((names[0], names[1]), (rows[0], rows[1]), paired)


def is_file_of_groups(groups: str) -> bool:
    """Whether an option names a file, not the structures as groups.

    Raises:
        ValueError: there is no such file.
    """
    if groups == STRUCTURE:
        return False
    if not Path(groups).is_file():
        raise ValueError(f"there is no file {groups}: give a CSV with the columns case,group, or {STRUCTURE}")
    return True
