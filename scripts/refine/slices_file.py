"""A file that names the slices in which cases were drawn, where these cannot be found from the voxels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from .planes import DrawnSlices

DIRECTIONS = ("sagittal", "coronal", "axial")  # slices across the patient's left-right, front-back and feet-head axis
EXAMPLE = '{"case_001": {"axial": [12, 30], "sagittal": [41]}}'


@dataclass(frozen=True)
class SlicesFile:
    """The slices of cases by name.

    Attributes:
        path: of the file; "" for none.
        text: what stands in it.
        cases: case → direction → indices, counted from 0 in the order of the mask's file.
    """

    path: str = ""
    text: str = ""
    cases: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path | None) -> SlicesFile:
        """Read a JSON file such as `EXAMPLE`; none where there is no path.

        Raises:
            ValueError: it cannot be read, or says something else.
        """
        if not path:
            return cls()
        try:
            text = Path(path).read_text(encoding="utf-8")
            cases = json.loads(text)
        except (OSError, ValueError) as error:
            raise ValueError(f"slices_file: {path} cannot be read as JSON ({error})") from None
        if not isinstance(cases, dict) or not all(map(_is_entry, cases.values())):
            raise ValueError(f"slices_file: {path} must say the slices of each case, counted from 0, such as {EXAMPLE}")
        return cls(str(path), text, cases)

    def of(self, case: str, affine: np.ndarray, shape: Sequence[int]) -> DrawnSlices | None:
        """Return the slices of a case, which may be of another direction in the array; None where it is not named.

        Args:
            case: its name.
            affine: (4, 4) voxel → world mm.
            shape: (X, Y, Z) of its map.

        Raises:
            ValueError: the map has no such slice.
        """
        if case not in self.cases:
            return None
        across = nib.io_orientation(affine)[:, 0].tolist()  # of each axis of the array, that of the world
        named: dict[int, Sequence[int]] = {}
        for direction, places in self.cases[case].items():
            axis = across.index(DIRECTIONS.index(direction))
            beyond = [one for one in places if one >= shape[axis]]
            if beyond:
                last = shape[axis] - 1
                raise ValueError(f"{self.path}: {direction} slice {beyond[0]} is not there, the last is {last}")
            named[axis] = places
        return DrawnSlices.across(named)


def _is_entry(entry: Any) -> bool:
    """Whether it is what a file says of a case."""
    return isinstance(entry, dict) and all(
        direction in DIRECTIONS
        and isinstance(places, list)
        and all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in places)
        for direction, places in entry.items()
    )
