"""What a mask's labels are called, coloured and coded in DICOM."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..organ.pack import OrganPack
from ..organ.palette import structure_colours
from ..organ.sources import plain

OTHER = "Organ"  # the code of labels that have none of their own
SIDES = ("Left", "Right")
MOST = 255  # label values
VALUE = re.compile(r"label (\d+)")  # what a label is called that no pack names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segment:
    """One label of a mask.

    Attributes:
        value: in the label map.
        name: shown by viewers.
        colour: (red, green, blue), 0 to 255.
        keyword: SNOMED CT's of what it is, as `pydicom.sr.codedict` names it.
    """

    value: int
    name: str
    colour: tuple[int, int, int]
    keyword: str

    @property
    def side(self) -> str:
        """Left or Right where the name says so, else ""."""
        return next((side for side in SIDES if side.lower() in self.name.lower().split("_")), "")


@dataclass(frozen=True)
class Part:
    """A segment of a SEG file, or a region of an RTSTRUCT file.

    Attributes:
        number: by which the file refers to it.
        name: in the file.
        value: that it says to have in a label map.
    """

    number: int
    name: str
    value: int


def segments_of(values: Iterable[int], pack: OrganPack | None) -> list[Segment]:
    """Return the segments of a label map's values, in their order.

    Names and codes are the organ pack's, or `label <value>` and that of an organ. Colours are those that the pack's
    labels have elsewhere.
    """
    found = sorted(set(values) - {0})
    names, keywords = ({}, {}) if pack is None else (dict(pack.labels), pack.codes)
    known = [*sorted(names), *(value for value in found if value not in names)]
    colours = dict(zip(known, structure_colours(len(known)), strict=True))
    segments = [
        Segment(value, names.get(value, f"label {value}"), colours[value], keywords.get(value, OTHER))
        for value in found
    ]
    plainly = ", ".join(one.name for one in segments if one.value not in keywords)
    if plainly:
        advice = "give --organ" if pack is None else "add them to `codes` in its organ.yaml"
        logger.warning(f"coded as an organ, of no kind: {plainly}; {advice}")
    return segments


def values_of(parts: Sequence[Part], pack: OrganPack | None) -> dict[int, int]:
    """Return the number of each part of a file → its value in a label map, from 1 to 255.

    With a pack it is that of the label of this name, as in the masks that the pack refines; parts that it does not know
    are left out, which is logged.

    Raises:
        ValueError: a value is too large, or the pack knows none of the parts.
    """
    if pack is None:
        found = {part.number: part.value for part in parts}
    else:
        known = pack.named()
        meant = {part.number: known.get(plain(part.name)) or _value_in(part.name, pack) for part in parts}
        found = {number: value for number, value in meant.items() if value}
        left = ", ".join(part.name for part in parts if part.number not in found)
        if not found:
            raise ValueError(f"the organ pack {pack.name} knows none of its parts ({left}): read it without --organ")
        if left:
            logger.warning(f"left out, since the organ pack {pack.name} does not know them: {left}")
    for part in parts:
        if not 1 <= found.get(part.number, 1) <= MOST:
            raise ValueError(f"{part.name} has the value {found[part.number]}: label maps are written up to {MOST}")
    return found


def _value_in(name: str, pack: OrganPack) -> int:
    """Return the value of a label called `label <value>`, 0 where it is called otherwise or the pack has none."""
    told = VALUE.fullmatch(name)
    return int(told[1]) if told and int(told[1]) in pack.labels else 0
