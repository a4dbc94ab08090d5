"""Left and right in label maps of other models, where one label of the pack holds both sides.

The pack tells the sides by where they lie; the other model's names, or its numbers, say which is which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..organ.pack import OrganPack
from ..organ.sides import LEFT, RIGHT
from ..organ.sources import plain

REMEDY = "check the orientation in the header, and which label is which"


def side_of(pack: OrganPack, source: str, theirs: Sequence[int | str]) -> str:
    """Return "left" or "right" where another model means a structure of that side, else "".

    Args:
        pack: the organ pack.
        source: one of its sources, or "".
        theirs: how the other model calls it: its value and its names.
    """
    chosen = {name: sides for name, sides in pack.source_sides.items() if source in ("", name)}
    known = {plain(s.name): s.side for s in pack.structures}
    known |= {plain(key): side for sides in chosen.values() for key, side in sides.items() if isinstance(key, str)}
    by_value = chosen.get(source, {})
    found = (by_value.get(key) if isinstance(key, int) else known.get(plain(key)) for key in theirs)
    return next((side for side in found if side), "")


def wrong_sides(
    values: np.ndarray,
    affine: np.ndarray,
    meaning: Mapping[int, int],
    sides: Mapping[int, str],
    names: Mapping[int, str],
) -> tuple[list[str], dict[int, int]]:
    """Say of each organ of one side that lies on the patient's other side.

    Args:
        values: (X, Y, Z) label map.
        affine: (4, 4) voxel index → world mm; x grows to the right.
        meaning: value → label of the pack.
        sides: value that is there → "left" or "right".
        names: value → how the other model calls it.

    Returns:
        The warnings; and value of the left → value of the right one, where all are exchanged and each has its partner.
    """
    found = [(value, side, _middle_x_mm(values == value, affine)) for value, side in sides.items()]
    between_mm = float(affine[0] @ [*((np.array(values.shape) - 1) / 2), 1.0])
    if set(sides.values()) == {LEFT, RIGHT}:
        between_mm = float(np.mean([np.mean([x for _, own, x in found if own == side]) for side in (LEFT, RIGHT)]))
    wrong = [(value, side) for value, side, x_mm in found if (x_mm > between_mm) != (side == RIGHT)]
    warnings = [
        f"{names.get(value, f'the {side} organ, {value},')} lies on the patient's {RIGHT if side == LEFT else LEFT}: "
        f"{REMEDY}"
        for value, side in wrong
    ]
    return warnings, _pairs(sides, meaning) if len(wrong) == len(found) else {}


def _pairs(sides: Mapping[int, str], meaning: Mapping[int, int]) -> dict[int, int]:
    """Return left → right value of those that mean one label, in their order; {} where one has no partner."""
    found: dict[int, int] = {}
    for label in {meaning[value] for value in sides}:
        left, right = (
            sorted(v for v, own in sides.items() if own == side and meaning[v] == label) for side in (LEFT, RIGHT)
        )
        if len(left) != len(right):
            return {}
        found |= dict(zip(left, right, strict=True))
    return found


def _middle_x_mm(mask: np.ndarray, affine: np.ndarray) -> float:
    """Return the world x of a mask's centroid, (X, Y, Z) bool; the mask is not empty."""
    return float(affine[0] @ [*(float(index.mean()) for index in np.nonzero(mask)), 1.0])
