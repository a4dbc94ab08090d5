"""Bodies beside the organ: what is comparable to it in size is no island, but another organ in the same mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.surface import crop_box, grow
from ..organ.sides import COMPARABLE_SHARE

TOUCH = np.ones((3, 3, 3), bool)
SAMPLED = 2000  # surface voxels between which a gap is measured


@dataclass(frozen=True)
class Body:
    """Pieces of a mask that lie together.

    Attributes:
        voxels: their indices (N, 3) in the mask's grid.
        volume_mm3: their volume.
        gap_mm: how far from the organ they lie; None where nothing of it is left.
        centre_world: their centroid, world mm.
    """

    voxels: np.ndarray
    volume_mm3: float
    gap_mm: float | None
    centre_world: tuple[float, float, float]

    def beside(self, name: str) -> str:
        """Say what a user should know of it."""
        away = "" if self.gap_mm is None else f", {self.gap_mm:.0f} mm away"
        return (
            f"another body of {self.volume_mm3 / 1000:.2g} ml beside the {name}{away}: two organs in one mask? "
            "It was left as it is; give each organ a mask of its own"
        )


def is_comparable(going: int, voxels: int) -> bool:
    """Return whether what goes of a mask is so much that a body comparable to the rest may be among it."""
    return going > 0 and going >= COMPARABLE_SHARE * (voxels - going)


def other_bodies(mask: np.ndarray, kept: np.ndarray, affine: np.ndarray, together_mm: float) -> list[Body]:
    """Find what would go as islands, but is together comparable to what is kept.

    Args:
        mask: (X, Y, Z) bool.
        kept: (X, Y, Z) bool, what of the mask is to be kept.
        affine: (4, 4) voxel → world mm.
        together_mm: pieces nearer to each other than this are one body.

    Returns:
        The bodies; each has at least `COMPARABLE_SHARE` of the volume kept.
    """
    if not is_comparable(int(np.count_nonzero(mask & ~kept)), int(np.count_nonzero(mask))):
        return []
    least = COMPARABLE_SHARE * np.count_nonzero(kept)
    box = crop_box(mask)
    corner = np.array([s.start for s in box])
    pieces, count = ndimage.label(mask[box], TOUCH)
    is_island = np.ones(count + 1, bool)
    is_island[np.unique(pieces[kept[box]])] = is_island[0] = False
    islands = is_island[pieces]
    groups, found = ndimage.label(grow(islands, spacing_mm(affine), together_mm / 2.0), TOUCH)
    groups[~islands] = 0
    sizes = np.bincount(groups.ravel(), minlength=found + 1)
    bodies = []
    for number in np.flatnonzero(sizes[1:] >= max(least, 1.0)) + 1:
        voxels = np.argwhere(groups == number) + corner
        x, y, z = (round(float(v), 1) for v in apply_affine(affine, voxels.astype(float)).mean(0))
        gap_mm = _gap_mm(groups == number, kept[box], affine)
        bodies.append(Body(voxels, len(voxels) * voxel_volume_mm3(affine), gap_mm, (x, y, z)))
    return bodies


def two_organs(mask: np.ndarray, affine: np.ndarray) -> str:
    """Say that a mask holds two bodies of comparable size; "" where it does not."""
    box = crop_box(mask)
    pieces, count = ndimage.label(mask[box], TOUCH)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    if count < 2 or np.sort(sizes)[-2] < COMPARABLE_SHARE * sizes.max():
        return ""
    one, other = np.argsort(-sizes, kind="stable")[:2]
    volumes = " and ".join(f"{sizes[k] * voxel_volume_mm3(affine) / 1000:.2g} ml" for k in (one, other))
    gap_mm = _gap_mm(pieces == one + 1, pieces == other + 1, affine)
    return (
        f"the mask holds two bodies, of {volumes}, {gap_mm:.0f} mm apart: two organs in one mask? "
        "Give each organ a mask of its own"
    )


def _gap_mm(one: np.ndarray, other: np.ndarray, affine: np.ndarray) -> float | None:
    """Return the least distance (mm) between voxels of two masks (X, Y, Z) bool; None where one is empty."""
    clouds = [apply_affine(affine, np.argwhere(m & ~ndimage.binary_erosion(m)).astype(float)) for m in (one, other)]
    if not all(len(cloud) for cloud in clouds):
        return None
    thinned = [cloud[:: len(cloud) // SAMPLED + 1] for cloud in clouds]
    return float(cKDTree(thinned[0]).query(thinned[1])[0].min())
