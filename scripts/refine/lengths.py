"""Lengths of fusion and gate, by the size of the shape: one rule for all organs.

What is wrong in masks is small where the shape is small. So each length is a share of the shape's typical radius, up to
a most: errors of large organs are no larger than those of middling ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..prior.prior import ShapePrior
from .stages import RADIUS

TAU, MOST_TAU_MM = 0.07, 2.5
REACH, MOST_REACH_MM = 0.17, 4.0
REGION, MOST_REGION_MM3 = 0.139, 30.0  # the edge of a cube of that volume, over the radius


@dataclass(frozen=True)
class Lengths:
    """Lengths for the shapes of one prior.

    Attributes:
        tau_mm: the fit overrules the mask only where the two disagree by more.
        reach_mm: around an accepted change the fit is followed to its surface this far.
        min_region_mm3: smaller regions of disagreement are left as they are, but where an image decides.
        long_mm: how long the typical shape is, along its longest axis.
    """

    tau_mm: float
    reach_mm: float
    min_region_mm3: float
    long_mm: float

    @classmethod
    def of(cls, prior: ShapePrior) -> Lengths:
        """Return the lengths for a prior, by the radius of its anchor, the typical shape."""
        radius_mm = RADIUS * prior.scale_mm
        centred = prior.anchor_points - prior.anchor_points.mean(0)
        along = centred @ torch.linalg.eigh(centred.T @ centred)[1][:, -1]
        return cls(
            tau_mm=min(TAU * radius_mm, MOST_TAU_MM),
            reach_mm=min(REACH * radius_mm, MOST_REACH_MM),
            min_region_mm3=min((REGION * radius_mm) ** 3, MOST_REGION_MM3),
            long_mm=round(float(along.max() - along.min()) * prior.scale_mm, 1),
        )
