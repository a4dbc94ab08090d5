"""What a mask's labels are called, coloured and coded in DICOM."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..organ.pack import OrganPack
from ..organ.palette import structure_colours

# Label → SNOMED CT's keyword in pydicom.sr.codedict.
KEYWORDS = {
    "amygdala": "Amygdala",
    "anterior": "Hippocampus",
    "aorta": "Aorta",
    "caudate": "CaudateNucleus",
    "duodenum": "Duodenum",
    "gallbladder": "Gallbladder",
    "heart": "Heart",
    "hippocampus": "Hippocampus",
    "kidney": "Kidney",
    "left_atrium": "LeftAtrium",
    "left_lower": "LowerLobeOfLung",
    "left_upper": "UpperLobeOfLung",
    "liver": "Liver",
    "oesophagus": "Esophagus",
    "pallidum": "GlobusPallidus",
    "pancreas": "Pancreas",
    "posterior": "Hippocampus",
    "putamen": "Putamen",
    "right_lower": "LowerLobeOfLung",
    "right_middle": "MiddleLobeOfRightLung",
    "right_upper": "UpperLobeOfLung",
    "spleen": "Spleen",
    "stomach": "Stomach",
    "thalamus": "Thalamus",
    "trachea": "Trachea",
    "tumour": "Tumor",
    "ventricle": "LateralVentricle",
}
OTHER = "Organ"
SIDES = ("Left", "Right")


@dataclass(frozen=True)
class Segment:
    """One label of a mask.

    Attributes:
        value: in the label map.
        name: shown by viewers.
        colour: (red, green, blue), 0 to 255.
    """

    value: int
    name: str
    colour: tuple[int, int, int]

    @property
    def keyword(self) -> str:
        """SNOMED CT's keyword of what it is, as pydicom names it."""
        plain = "_".join(word for word in self.name.split("_") if word.capitalize() not in SIDES)
        return KEYWORDS.get(self.name, KEYWORDS.get(plain, OTHER))

    @property
    def side(self) -> str:
        """Left or Right where the name says so, else ""."""
        return next((side for side in SIDES if side.lower() in self.name.lower().split("_")), "")


def segments_of(values: Iterable[int], pack: OrganPack | None) -> list[Segment]:
    """Return the segments of a label map's values, in their order.

    Names are the organ pack's, or `label <value>`. Colours are those that the pack's labels have elsewhere.
    """
    found = sorted(set(values) - {0})
    names = dict(pack.labels) if pack is not None else {}
    known = [*sorted(names), *(value for value in found if value not in names)]
    colours = dict(zip(known, structure_colours(len(known)), strict=True))
    return [Segment(value, names.get(value, f"label {value}"), colours[value]) for value in found]
