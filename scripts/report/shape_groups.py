"""Which group the shapes of a run are in, and how two groups differ."""

from __future__ import annotations

import csv
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..metrics.groups import LEAST, Comparison, compare_groups

STRUCTURE = "structure"  # as the file of groups: structures that share a prior are the groups, such as left and right
NEEDED = ("case", "group")
NAMED_AT_MOST = 5  # cases in a message

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


@dataclass(frozen=True)
class Grouping:
    """Which group each shape is said to be in.

    Attributes:
        names: of the groups, in the order of their first lines; the first of the two is compared with the second.
        groups: case and structure → group.
    """

    names: tuple[str, ...]
    groups: Mapping[Key, str]

    def group_of(self, case: str, structure: str) -> str:
        """Return the group of a shape; "" where it has none."""
        return self.groups.get((case, structure), self.groups.get((case, ""), ""))


def read_groups(file: str, cases: Collection[str], structures: Collection[str]) -> Grouping:
    """Read a table of groups.

    Args:
        file: CSV with the columns case and group, and structure where the structures of a case are in several.
        cases: of the run; lines of others are left out, which is logged.
        structures: of the run.

    Raises:
        ValueError: it is no such table, contradicts itself, names a structure that the run does not have, or gives not
            two groups.
        OSError: it cannot be read.
    """
    names: list[str] = []
    found: dict[Key, str] = {}
    unknown: list[str] = []
    for number, row in _lines(file):
        case, group, structure = row["case"], row["group"], row.get(STRUCTURE, "")
        where = f"{file}, line {number}"
        if not case or not group:
            raise ValueError(f"{where} has no {'group' if case else 'case'}: fill it in or remove the line")
        if structure and structure not in structures:
            raise ValueError(f"{where}: the run has no structure {structure}: give one of {', '.join(structures)}")
        before = found.setdefault((case, structure), group)
        if before != group:
            raise ValueError(f"{where}: {case} is in the group {group} here and in {before} above: remove one")
        names.append(group)
        unknown += [case] if case not in cases else []
    if unknown:
        logger.warning(f"{file} names cases that the run does not have: {_few(dict.fromkeys(unknown))}")
    used = {group for (case, _), group in found.items() if case in cases}
    ordered = tuple(name for name in dict.fromkeys(names) if name in used)
    if len(ordered) != 2:
        raise ValueError(f"{file} must give the run's cases two groups, not {len(ordered)}: {_few(ordered)}")
    return Grouping(ordered, found)


def _lines(file: str) -> list[tuple[int, dict[str, str]]]:
    """Return the number of each line of a table that is not blank, and its cells.

    Raises:
        ValueError: it is no table, or lacks a column.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, skipinitialspace=True)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no CSV in UTF-8: {error}") from error
    rows = [(number, row) for number, row in rows if any(row)]
    head = rows[0][1] if rows else []
    missing = [name for name in NEEDED if name not in head]
    if missing:
        raise ValueError(f"{file} has no column {' or '.join(missing)}: its first line must be case,group")
    for number, row in rows:
        if any(row[len(head) :]):
            raise ValueError(f"{file}, line {number} has {len(row)} cells, the first line {len(head)}")
    return [(number, dict(zip(head, [*row, *[""] * (len(head) - len(row))], strict=True))) for number, row in rows[1:]]


def two_groups(cases: Sequence[str], groups: Sequence[str], names: Sequence[str]) -> Groups | None:
    """Return the two groups that shapes are in; None where there are not two with enough shapes each.

    Where no case has two shapes in a group and at least half of the shapes have a partner, a shape of the same case in
    the other group, they are compared in pairs. The others are left out, which is logged.

    Args:
        cases: of each shape.
        groups: of each shape; "" for none.
        names: of all groups, in the order in which they are compared.
    """
    found = [name for name in dict.fromkeys(names) if name in groups]
    if len(found) != 2:
        return None
    rows = [np.flatnonzero(np.array(groups) == name) for name in found]
    if min(map(len, rows)) < LEAST:
        return None
    own = [{cases[row]: row for row in part.tolist()} for part in rows]
    both = sorted(own[0].keys() & own[1].keys())
    once = all(len(part) == len(one) for part, one in zip(rows, own, strict=True))
    paired = once and len(both) >= LEAST and 4 * len(both) >= sum(map(len, rows))
    if paired:
        alone = sorted(own[0].keys() ^ own[1].keys())
        if alone:
            logger.warning(f"compared in pairs, so without those that have no partner: {_few(alone)}")
        rows = [np.array([one[case] for case in both]) for one in own]
    return Groups((found[0], found[1]), (rows[0], rows[1]), paired)


def _few(names: Iterable[str]) -> str:
    """Return some of many names as text."""
    found = list(names)
    more = f" and {len(found) - NAMED_AT_MOST} more" if len(found) > NAMED_AT_MOST else ""
    return f"{', '.join(found[:NAMED_AT_MOST])}{more}"


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
