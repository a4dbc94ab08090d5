"""How far from a refined surface the true one may be, from the spread of the fits.

Linear fit, fit by codes and tuned fit explain the same mask with more and more freedom. Where all three lie on the
refined surface, mask and prior agree on it; elsewhere errors are larger. So one standard deviation at a vertex is the
root mean square of the fits' distances from it, no less than what a voxel hides, times one factor for all organs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..geometry.affine import voxel_volume_mm3
from .settings import RefineSettings
from .stages import FittedShape

FACTOR = 1.25  # one deviation holds two thirds of the surface where errors are all over: docs/meshes.md
LEAST_VOXELS = 0.25  # of a voxel's side (that of a cube of its volume), before the factor
THREE_FITS = "robust"  # the method that makes them


def check_uncertainty(settings: Mapping[str, RefineSettings], asked: bool) -> bool:
    """Return whether uncertainty is asked for.

    Args:
        settings: structure → its settings.
        asked: as the options say.

    Raises:
        ValueError: it is, and the preset does not make all three fits.
    """
    if asked and any(own.method != THREE_FITS for own in settings.values()):
        raise ValueError("uncertainty comes from the three fits of the preset 'default': take that, or leave it out")
    return asked


def uncertainty_mm(fit: FittedShape, affine: np.ndarray, points_world: np.ndarray) -> np.ndarray:
    """Return one standard deviation of the true surface from a refined one, (N,) float32 in mm.

    Args:
        fit: of the mask, with its witnesses.
        affine: (4, 4) voxel → world mm of the mask.
        points_world: (N, 3) of the refined surface, mm.
    """
    squares = [of(points_world).astype(np.float64) ** 2 for of in fit.witnesses.values()]
    least_mm = LEAST_VOXELS * np.cbrt(voxel_volume_mm3(affine))
    return (FACTOR * np.sqrt(np.mean(squares, axis=0) + least_mm**2)).astype(np.float32)


def summary(uncertainty: np.ndarray) -> dict[str, float]:
    """Return what a report says of the uncertainty (V,) of a mesh's vertices, mm."""
    median, p90 = np.percentile(uncertainty, [50, 90])
    return {"median": round(float(median), 3), "p90": round(float(p90), 3)}
