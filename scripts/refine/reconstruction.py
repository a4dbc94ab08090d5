"""What is known of a structure before its reconstruction is decided, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.affine import spacing_mm
from ..geometry.boxed import Box, BoxedMask
from ..geometry.resample import WorldGrid
from ..geometry.surface import crop_box
from .fusion import Region
from .side_by_side import LARGE_VOXELS

SHAPE, DRAWN = "shape", "drawn slices"
IMAGE, MASK = "image", "mask"  # that a voxel head decided: with an image, or by mask and fits
TRIMMED_MM = 4.0  # that are left around a large organ, and at least
TRIMMED = 4  # voxels: as far as its mesh is drawn anew beside others


@dataclass(frozen=True)
class Reconstruction:
    """One structure's refined signed distance in its box of the original grid.

    Attributes:
        box: slices of the original grid.
        signed_mm: (x, y, z) float32, negative inside.
        fit: (x, y, z) bool, the inside of the fitted shape.
        regions: what was judged.
        outside: voxels of the initial mask beyond the box that are removed, as indices (N, 3) of the original grid.
        followed: how many voxels were changed around accepted regions, or by a voxel head, without belonging to one.
        dice_with_fit: Dice coefficient of the initial mask with the fit.
        evidence: what decided: "image" or "mask" (the voxel head, with image or without), "probability", "drawn
            slices", or "shape" where none of these did.
        warnings: what a user should know of the structure.
        doubtful: whether the fit cannot be right.
        probability: (x, y, z) of the voxel head with the image, NaN where it says nothing; None without an image.
        steps_mm: (3,) how long the steps were that were smoothed, see `stairs`; None where the mask had none.
        taken_in_mm: by how much the mask was taken inward before, see `oversize`; 0 for most.
        inward_mm: by how much it was as the run asked for, see `inward`; negative for outward.
        poor: whether a voxel head takes the mask for poor, see `odds.proposed`.
        agreement: of the second reader of the image with the voxel head (Dice), see `odds.proposed`; None where it had
            no say.
    """

    box: Box
    signed_mm: np.ndarray
    fit: np.ndarray
    regions: list[Region]
    outside: np.ndarray
    followed: int = 0
    dice_with_fit: float = 0.0
    evidence: str = SHAPE
    warnings: tuple[str, ...] = ()
    doubtful: bool = False
    probability: np.ndarray | None = None
    steps_mm: np.ndarray | None = None
    taken_in_mm: float = 0.0
    inward_mm: float = 0.0
    poor: bool = False
    agreement: float | None = None

    def trimmed(self, mask: BoxedMask, affine: np.ndarray) -> Reconstruction:
        """Return a large one in the box of what the initial mask, the fit and it hold, which takes less memory.

        Args:
            mask: the initial one; the whole one, where a part of it or a smaller one was fitted.
            affine: (4, 4) voxel → world mm.
        """
        if self.fit.size < LARGE_VOXELS or self.probability is not None:  # of an image the rest is judged, too
            return self
        held = mask[self.box] | self.fit | (self.signed_mm < 0)
        if not held.any():
            return self
        margin = np.maximum(np.ceil(TRIMMED_MM / spacing_mm(affine)), TRIMMED).astype(int)
        inner = crop_box(held, margin.tolist())
        x, y, z = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(self.box, inner, strict=True))
        return replace(self, box=(x, y, z), signed_mm=self.signed_mm[inner].copy(), fit=self.fit[inner].copy())


@dataclass(frozen=True)
class Measured:
    """What a structure's reconstruction decides on, in its box of the original grid; no limit of the gate enters it.

    Attributes:
        box: slices of the mask's grid.
        grid: the box's own grid.
        fit_mm: (x, y, z) signed distance of the fit.
        mask_mm: (x, y, z) signed distance of the initial mask, its stairs smoothed; None without fusion.
        context_mm: (x, y, z) signed distance of the joint model; None without one.
        log_odds: (x, y, z) of the voxel head, NaN where it says nothing; None where none was asked.
        steps_mm: (3,) how long the steps of the mask's stairs are, see `stairs`; None where it has none.
    """

    box: Box
    grid: WorldGrid
    fit_mm: np.ndarray
    mask_mm: np.ndarray | None
    context_mm: np.ndarray | None
    log_odds: np.ndarray | None = None
    steps_mm: np.ndarray | None = None
