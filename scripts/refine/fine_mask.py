"""The refined label map on one more grid: a finer one, or that of another file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..cases.arrays import label_array
from ..cases.errors import CaseError
from ..cases.read import read_grid
from ..geometry.affine import apply_affine, spacing_mm
from ..geometry.resample import WorldGrid, inside_grid
from ..organ.pack import OrganPack
from .chain import Refiner
from .draw_mesh import check_length
from .finer import labels_on
from .transforms import SHAPES

FINE = "_fine"
FINE_SAID = "_fine_said"
MOST_VOXELS = 500_000_000  # of the grid: three bytes each, and some twenty in the boxes of the organs


def check_fine(fine_mm: object) -> float:
    """Return the largest voxel side of the finer grid in mm, 0 for none.

    Raises:
        ValueError: it is no such length.
    """
    return check_length("fine_mm", fine_mm, "no finer mask")


def finer_grid(affine: np.ndarray, shape: Sequence[int], fine_mm: float) -> WorldGrid:
    """Return the grid that fills the same space as another one, its voxels divided until no side is longer than asked.

    A side that is longer by a hundredth is left. The first centres are not the same.

    Args:
        affine: (4, 4) voxel → world mm.
        shape: (X, Y, Z).
        fine_mm: the longest side.
    """
    parts = np.maximum(np.ceil(spacing_mm(affine) / fine_mm - 0.01), 1).astype(int)
    fine = np.array(affine, float)
    fine[:3, :3] /= parts
    fine[:3, 3] += affine[:3, :3] @ (0.5 / parts - 0.5)
    x, y, z = (int(n * part) for n, part in zip(shape, parts, strict=True))
    return WorldGrid(fine, (x, y, z))


class FineMaskd(MapTransform):
    """Adds `<key>_fine`, the refined label map (1, X', Y', Z') on one more grid, where that is asked for; see `finer`.

    And `<key>_fine_said`, what a user should know: a list of texts, such as that a structure lies partly beyond the
    grid. Where there can be no such label map, the text says why.

    Args:
        keys: the label map, refined.
        refiner: of the organ.
        fine_mm: where given, no side of the grid's voxels is longer.
        grid_key: key of a file's path, whose grid it is; nothing is done for cases without it.
        allow_missing_keys: see MapTransform.

    Raises:
        ValueError: `fine_mm` is no such length.
    """

    def __init__(
        self,
        keys: KeysCollection,
        refiner: Refiner,
        fine_mm: float = 0.0,
        grid_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.refiner = refiner
        self.fine_mm = check_fine(fine_mm)
        self.grid_key = grid_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the label map, and what is to be said of it."""
        result = dict(data)
        file = result.get(self.grid_key) if self.grid_key else None
        for key in self.key_iterator(result) if self.fine_mm or file else ():
            label_map, affine = label_array(result[key])
            try:
                grid = read_grid(file) if file else finer_grid(affine, label_map.shape, self.fine_mm)
                source = str(file) if file else f"fine_mm {self.fine_mm:g}"
                said = check_grid(grid, source, self.refiner.pack, label_map, affine)
            except (CaseError, ValueError) as error:
                result[f"{key}{FINE_SAID}"] = [f"no fine mask: {error}"]
                continue
            labels = labels_on(self.refiner.pack, label_map, affine, result[f"{key}{SHAPES}"], grid)
            result[f"{key}{FINE}"] = MetaTensor(labels[None], affine=torch.as_tensor(grid.affine))
            result[f"{key}{FINE_SAID}"] = said
        return result


def check_grid(grid: WorldGrid, source: str, pack: OrganPack, label_map: np.ndarray, affine: np.ndarray) -> list[str]:
    """Return which structures of a label map lie beyond a grid, in words.

    Args:
        grid: on which the label map is to be drawn.
        source: where the grid is from, for messages.
        pack: the organ pack.
        label_map: (X, Y, Z).
        affine: (4, 4) voxel → world mm.

    Raises:
        ValueError: the grid has too many voxels, or all of them lie beyond it.
    """
    count = int(np.prod(grid.shape, dtype=np.int64))
    if count > MOST_VOXELS:
        size = " x ".join(map(str, grid.shape))
        raise ValueError(f"{source} would be {size} voxels, more than {MOST_VOXELS // 10**6} million: ask for fewer")
    beyond = {}
    for structure, mask in pack.shapes(label_map, affine):
        if mask.any():
            points = apply_affine(affine, np.argwhere(mask).astype(float))
            beyond[structure.name] = 1.0 - float(inside_grid(points, grid.affine, grid.shape).mean())
    if beyond and min(beyond.values()) == 1.0:
        raise ValueError(f"{source} shows nothing of the refined mask: give a file that lies where the mask does")
    return [
        f"the fine mask lacks {'less than 1' if share < 0.01 else f'{100 * share:.0f}'} % of {name}, which lies beyond "
        f"the grid of {source}"
        for name, share in beyond.items()
        if share > 0
    ]


FineMaskD = FineMaskDict = FineMaskd
