"""A part of a run's cases, such as the second of eight, for jobs on several machines that write into one folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..organ.checks import shown


def read_part(text: str) -> tuple[int, int]:
    """Return which part is meant, and of how many: "2/8" is (2, 8), "" the whole, (1, 1).

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text or "1/1")
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"part must be such as 2/8, the second of eight, not {shown(text)}")
    return int(found[1]), int(found[2])


def share_of(items: Sequence[Any], part: str) -> list[Any]:
    """Return a part's share of the items: of eight parts, the second has the 2nd, the 10th and so on.

    Raises:
        ValueError: see `read_part`.
    """
    number, count = read_part(part)
    return list(items[number - 1 :: count])


def named(file: str, part: str) -> str:
    """Return the name that a file of the run has for a part: report.json of 2/8 is report.part-2-of-8.json.

    Raises:
        ValueError: see `read_part`.
    """
    number, count = read_part(part)
    stem, dot, ending = file.rpartition(".")
    return f"{stem}.part-{number}-of-{count}{dot}{ending}" if part else file
