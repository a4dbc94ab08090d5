"""Evidence: what the network that made the mask says of each structure at a point in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry.resample import inside_grid
from ..organ.pack import OrganPack
from ..organ.sides import Sides, split_sides

UNSEEN = 0.5  # sum of a voxel's probabilities below which the network said nothing of it


@dataclass(frozen=True)
class Evidence:
    """Probabilities of structures on one grid.

    Attributes:
        probability: structure name → (X, Y, Z); NaN where the network saw nothing.
        affine: (4, 4) voxel → world mm of that grid.
    """

    probability: dict[str, np.ndarray]
    affine: np.ndarray

    def of(self, name: str, points_world: np.ndarray) -> np.ndarray:
        """Return the probability (N,) of a structure at world points (N, 3); NaN outside the evidence's grid."""
        volume = self.probability[name]
        index = (points_world - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        values = ndimage.map_coordinates(volume, index.T, order=1, mode="nearest")
        return np.where(inside_grid(points_world, self.affine, volume.shape), values, np.nan)


def evidence_from_probabilities(
    prob: np.ndarray, label_map: np.ndarray, affine: np.ndarray, pack: OrganPack
) -> Evidence:
    """Return evidence from class probabilities.

    Args:
        prob: (C, X, Y, Z), background, then the pack's labels in their order; all 0 where the network saw nothing.
        label_map: (X, Y, Z) the mask on the same grid, which tells where one side ends and the other begins.
        affine: (4, 4) voxel index → world mm of that grid.
        pack: organ pack.

    Raises:
        ValueError: the number of channels is not one more than the pack's labels.
    """
    if len(prob) != len(pack.labels) + 1:
        raise ValueError(f"expected {len(pack.labels) + 1} probability channels, got {len(prob)}")
    channel = {label: k + 1 for k, label in enumerate(pack.labels)}
    found: dict[str, np.ndarray] = {}
    split: dict[tuple[int, ...], Sides] = {}
    unseen = prob.sum(0) < UNSEEN
    for structure in pack.structures:
        own = [prob[channel[v]] for v in structure.labels]
        whole = own[0] if len(own) == 1 and not structure.side else np.sum(own, axis=0)  # no copy of a large volume
        if structure.side:
            if structure.labels not in split:
                split[structure.labels] = split_sides(structure.union(label_map), affine)
            whole[~split[structure.labels].territory(structure.side, affine)] = 0.0
        if unseen.any():
            whole = np.where(unseen, np.float32(np.nan), whole)
        found |= {shape.name: whole for shape in (structure, *structure.pair)}  # a side's mask or head bounds it
    return Evidence(found, affine)
