"""How good a mask is by what the readers of an image say, in plain numbers: what its quality is predicted from.

The voxel head, and the second reader where it has a say, give each voxel a probability. It says how large the Dice
coefficient of a mask with the unknown truth should be, and where the likelier surface is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import spatial

from ..geometry.affine import box_affine
from ..geometry.boxed import BoxedMask, within
from ..geometry.resample import WorldGrid
from .agreement import places, surface_voxels
from .odds import OWN, is_of_network
from .reconstruction import Reconstruction
from .stages import Fitted

HEAD, SECOND = "head", "second"  # the readers, as their figures are called


@dataclass(frozen=True)
class Expected:
    """What one reader says of a structure's voxels.

    Attributes:
        reader: its name.
        probability: (x, y, z); where it says nothing, 1 in the refined mask and 0 elsewhere.
        affine: (4, 4), voxel of the box → world mm.
    """

    reader: str
    probability: np.ndarray
    affine: np.ndarray

    def figures(self, mask: np.ndarray, radius_mm: float) -> dict[str, float | None]:
        """Return the figures of a mask.

        Args:
            mask: (x, y, z) bool.
            radius_mm: of the fitted shape, in shares of which HD95 is given.

        Returns:
            `<reader>_dice`, the Dice coefficient that the mask should have; `<reader>_hd95`, its HD95 with the likelier
            voxels, None where there is no such voxel.
        """
        rim, likelier = _rim(mask, self.affine), self._likelier
        hd95_mm = None if rim is None or likelier is None else max(_away(rim, likelier), _away(likelier, rim))
        return {
            f"{self.reader}_dice": round(_dice(mask, self.probability), 4),
            f"{self.reader}_hd95": None if hd95_mm is None else round(hd95_mm / radius_mm, 4),
        }

    @cached_property
    def _likelier(self) -> tuple[np.ndarray, spatial.cKDTree] | None:
        return _rim(self.probability > 0.5, self.affine)


def readers_of(fitted: Fitted, part: Reconstruction, after: BoxedMask) -> Iterator[Expected]:
    """Give what the readers of an image say of a structure, in the box of its voxels in the refined label map.

    The second reader is left out where nobody has asked it about the case, or the mask is its own.
    """
    if part.probability is None:
        return
    x, y, z = part.probability.shape
    grid = WorldGrid(box_affine(fitted.affine, [side.start for side in part.box]), (x, y, z))
    affine = box_affine(fitted.affine, [side.start for side in after.box])

    def reader(name: str, said: np.ndarray) -> Expected:
        probability = after.part.astype(np.float32)
        np.copyto(probability[within(part.box, after.box)], said, where=np.isfinite(said))
        return Expected(name, probability, affine)

    if np.isfinite(part.probability).any():
        yield reader(HEAD, part.probability)
    second = fitted.seen.second if fitted.seen is not None else None
    other = second.known(fitted.name, grid) if second is not None else None
    if other is not None and np.isfinite(other).any() and not _is_own(fitted.mask[part.box], other):
        yield reader(SECOND, other)


def _is_own(mask: np.ndarray, probability: np.ndarray) -> bool:
    """Whether a mask is the second reader's own, which cannot judge it."""
    said = np.isfinite(probability)
    return is_of_network(mask[said], probability[said], OWN)


def _dice(mask: np.ndarray, probability: np.ndarray) -> float:
    """The Dice coefficient that a mask has if every voxel is the organ's with its own probability."""
    both = float(probability.sum(dtype=np.float64)) + int(np.count_nonzero(mask))
    return 2.0 * float(probability[mask].sum(dtype=np.float64)) / max(1.0, both)


def _rim(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, spatial.cKDTree] | None:
    """Some points (n, 3) of a mask's surface, world mm, and all of them as a tree; None of an empty one."""
    voxels = surface_voxels(mask)
    if not len(voxels):
        return None
    return places(voxels, affine), spatial.cKDTree(places(voxels, affine, len(voxels)))


def _away(one: tuple[np.ndarray, spatial.cKDTree], other: tuple[np.ndarray, spatial.cKDTree]) -> float:
    """The 95th percentile of the distances from one surface to the other, mm."""
    return float(np.percentile(other[1].query(one[0])[0], 95))
