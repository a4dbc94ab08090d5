"""What a run says of its cases on the console: a line a case, and at the end what needs a look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .run_report import FAILED, KEPT, REFINED, STATUSES, UNCHANGED, CaseRecord, shown
from .sizes import size_line
from .words import counted, ml

NAMED_AT_MOST = 20  # cases that need a look; the page shows all


def case_line(record: CaseRecord) -> str:
    """Return what happened to a case, such as "a refined: heart 0.31 ml removed, 1.20 ml added; aorta unchanged"."""
    said = [record.reason] if record.reason else [_structure(part) for part in record.structures]
    said += [warning for warning in record.warnings if not _is_said(warning, record.structures)]
    if record.left_alone:
        said.append(f"{counted(len(record.left_alone), 'other structure')} left alone")
    return _one_line(f"{record.case} {record.status}" + (f": {'; '.join(said)}" if said else ""))


def _one_line(text: str) -> str:
    """Return a text in one line that can be printed: names may hold line breaks, and bytes that are no UTF-8."""
    return shown(re.sub(r"[\x00-\x1f\x7f]+", " ", text))


def _structure(part: Mapping[str, Any]) -> str:
    """Return what happened to a structure."""
    if part["failure"]:
        return f"{part['name']} {KEPT}: {part['failure']}"
    if part["status"] == UNCHANGED:
        return f"{part['name']} {UNCHANGED}"
    quality = part["quality"]
    moved = [f"{ml(quality[f'{how}_ml'])} {how}" for how in ("removed", "added") if quality.get(f"{how}_ml")]
    return " ".join([part["name"], ", ".join(moved) or REFINED])


def _is_said(warning: str, structures: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a warning only repeats why a structure was kept."""
    return any(part["failure"] and warning == f"{part['name']}: {part['failure']}" for part in structures)


def needs_a_look(record: CaseRecord) -> bool:
    """Whether a user should look at a case: it failed, something was kept, or there is a warning."""
    return record.status in (FAILED, KEPT) or bool(record.warnings)


def summary_line(summary: Mapping[str, Any]) -> str:
    """Return a run's summary, such as "3 cases: 2 refined, 1 kept; 9 structures: 5 refined, 4 kept"."""
    parts = [_counts(summary, "case")]
    structures = dict(summary.get("structures") or {})
    if any(structures.values()):
        parts.append(_counts({"structures": sum(structures.values()), **structures}, "structure"))
    return "; ".join(parts)


def _counts(summary: Mapping[str, Any], noun: str) -> str:
    """Return how many there are, and how many of each status that occurs."""
    found = [f"{summary[status]} {status}" for status in STATUSES if summary.get(status)]
    return counted(summary.get(f"{noun}s", 0), noun) + (f": {', '.join(found)}" if found else "")


def last_lines(records: Sequence[CaseRecord], summary: Mapping[str, Any]) -> list[str]:
    """Return what a run says at its end: the counts, unusual sizes, and the cases that need a look."""
    said = [summary_line(summary), *map(size_line, summary.get("unusual_sizes", []))]
    names = [_one_line(f"{record.case} ({_why(record)})") for record in records if needs_a_look(record)]
    if not names:
        return said
    further = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return [*said, f"look at: {', '.join(names[:NAMED_AT_MOST])}{further}"]


def _why(record: CaseRecord) -> str:
    """Return in a word or two why a case needs a look."""
    if record.status in (FAILED, KEPT):
        return record.status
    kept = [part["name"] for part in record.structures if part["failure"]]
    return f"{', '.join(kept)} {KEPT}" if kept else counted(len(record.warnings), "warning")
