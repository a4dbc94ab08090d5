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
from ..geometry.boxed import Box, BoxedMask, within
from ..geometry.resample import WorldGrid
from ..geometry.runs import Runs
from .agreement import places
from .odds import OWN, is_of_network
from .reconstruction import Reconstruction
from .stages import Fitted

HEAD, SECOND = "head", "second"  # the readers, as their figures are called


@dataclass(frozen=True)
class Expected:
    """What one reader says of a structure's voxels.

    Attributes:
        reader: its name.
        said: (a, b, c) probability, NaN where it says nothing; there, and beyond, the refined mask stands for it.
        at: slices of the following arrays in which it says that.
        refined: (x, y, z) bool.
        affine: (4, 4), voxel of (x, y, z) → world mm.
    """

    reader: str
    said: np.ndarray
    at: Box
    refined: np.ndarray
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
            f"{self.reader}_dice": round(self._dice(mask), 4),
            f"{self.reader}_hd95": None if hd95_mm is None else round(hd95_mm / radius_mm, 4),
        }

    def _dice(self, mask: np.ndarray) -> float:
        """The Dice coefficient that a mask has if every voxel is the organ's with its own probability."""
        shared = self._expected(mask & self.refined, mask[self.at])
        whole = self._expected(self.refined, np.ones((), bool))
        return 2.0 * shared / max(1.0, whole + int(np.count_nonzero(mask)))

    def _expected(self, sure: np.ndarray, here: np.ndarray) -> float:
        """How many voxels are expected: of some (x, y, z) beyond the slices all, and of some (a, b, c) there."""
        beyond = int(np.count_nonzero(sure)) - int(np.count_nonzero(sure[self.at]))
        return beyond + float(self._probability.sum(dtype=np.float64, where=here))

    @cached_property
    def _probability(self) -> np.ndarray:
        return np.where(np.isnan(self.said), self.refined[self.at], self.said)

    @cached_property
    def _likelier(self) -> tuple[np.ndarray, spatial.cKDTree] | None:
        likelier = self.refined.copy()
        likelier[self.at] = self._probability > 0.5
        return _rim(likelier, self.affine)


def readers_of(fitted: Fitted, part: Reconstruction, after: BoxedMask) -> Iterator[Expected]:
    """Give what the readers of an image say of a structure, in the box of its voxels in the refined label map.

    The second reader is left out where nobody has asked it about the case, or the mask is its own.
    """
    if part.probability is None:
        return
    x, y, z = part.probability.shape
    grid = WorldGrid(box_affine(fitted.affine, [side.start for side in part.box]), (x, y, z))
    own = within(part.box, after.box), after.part, box_affine(fitted.affine, [side.start for side in after.box])
    if np.isfinite(part.probability).any():
        yield Expected(HEAD, part.probability, *own)
    second = fitted.seen.second if fitted.seen is not None else None
    other = second.known(fitted.name, grid) if second is not None else None
    if other is not None and np.isfinite(other).any() and not _is_own(fitted.mask[part.box], other):
        yield Expected(SECOND, other, *own)


def _is_own(mask: np.ndarray, probability: np.ndarray) -> bool:
    """Whether a mask is the second reader's own, which cannot judge it."""
    said = np.isfinite(probability)
    return is_of_network(mask[said], probability[said], OWN)


def _rim(mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, spatial.cKDTree] | None:
    """Some points (n, 3) of a mask's surface, world mm, and all of them as a tree; None of an empty one."""
    voxels = Runs.of(mask).rim()
    if not len(voxels):
        return None
    return places(voxels, affine), spatial.cKDTree(places(voxels, affine, len(voxels)))


def _away(one: tuple[np.ndarray, spatial.cKDTree], other: tuple[np.ndarray, spatial.cKDTree]) -> float:
    """The 95th percentile of the distances from one surface to the other, mm."""
    return float(np.percentile(other[1].query(one[0])[0], 95))
