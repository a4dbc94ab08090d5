"""From how deep on a fit overrules a mask.

What a prior cannot describe of a true shape grows with the shape: so the depths are shares of its radius, the same for
all organs. Beside a joint model half is enough, but no less than a voxel and a half: it knows surfaces no better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .settings import RefineSettings

LEAST_VOXELS = 1.5  # edges of a cube of a voxel's volume


@dataclass(frozen=True)
class Limits:
    """The gate's limits for one shape.

    Attributes:
        island_mm: islands go where the fit is at least this far away on average.
        excess_mm: attached material goes where it lies so far outside of the fit.
        missing_mm: material is added where it lies so deep inside of the fit.
        min_region_mm3: smaller regions are not judged.
        least_mm: the least depth where a joint model says the same and half is enough.
    """

    island_mm: float
    excess_mm: float
    missing_mm: float
    min_region_mm3: float
    least_mm: float

    @classmethod
    def of(cls, settings: RefineSettings, radius_mm: float, min_region_mm3: float, voxel_mm3: float) -> Limits:
        """Return the limits for a shape of that radius, see `FittedShape.radius_mm`, in voxels of that volume."""
        return cls(
            island_mm=round(radius_mm * settings.island_radii, 2),
            excess_mm=round(radius_mm * settings.excess_radii, 2),
            missing_mm=round(radius_mm * settings.missing_radii, 2),
            min_region_mm3=min_region_mm3,
            least_mm=round(LEAST_VOXELS * float(np.cbrt(voxel_mm3)), 2),
        )
