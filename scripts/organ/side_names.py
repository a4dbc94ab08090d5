"""The patient's side in a name: `left_upper` and `right_upper`, `Left-Hippocampus`, `kidney left`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .sides import LEFT, RIGHT

WORD = re.compile(rf"(?<![a-z])({LEFT}|{RIGHT})(?![a-z])", re.IGNORECASE)


def side_in(name: str) -> str:
    """Return "left" or "right" where a name says one of them, else ""."""
    found = {word.lower() for word in WORD.findall(name)}
    return found.pop() if len(found) == 1 else ""


def other_side(name: str) -> str:
    """Return the name of the same on the patient's other side, in lower case; "" where a name says no side."""
    side = side_in(name)
    return WORD.sub(RIGHT if side == LEFT else LEFT, name).lower() if side else ""


def without_side(name: str) -> str:
    """Return what both sides' names share, in lower case: a key, and no name to show."""
    return WORD.sub("", name).strip(" _-").lower()


def paired_labels(labels: Mapping[int, str]) -> dict[int, int]:
    """Return value of a left label → value of its right one, of labels whose names differ in the side only.

    Args:
        labels: value → name.
    """
    by_name = {name.lower(): value for value, name in labels.items()}
    lefts = {value: other_side(name) for value, name in labels.items() if side_in(name) == LEFT}
    return {value: by_name[other] for value, other in lefts.items() if other in by_name}
