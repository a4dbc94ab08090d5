"""How far from a refined surface the true one may be, from the spread of the fits and of the mask about it.

Linear fit, fit by codes and tuned fit explain the same mask with more and more freedom. Where they and the mask lie on
the refined surface, all agree on it; elsewhere errors are larger. So one standard deviation at a vertex is the root
mean square of the four distances from it, no less than what a voxel hides, times one factor for all organs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..geometry.affine import voxel_volume_mm3
from ..geometry.distance import surface_distance
from .settings import RefineSettings
from .stages import Fitted

FACTOR = 1.4  # one deviation holds two thirds of the surface where errors are all over: docs/meshes.md
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


def uncertainty_mm(fitted: Fitted, points_world: np.ndarray) -> np.ndarray:
    """Return one standard deviation of the true surface from a refined one, (N,) float32 in mm.

    Args:
        fitted: the structure, with its fits and the surface of its mask.
        points_world: (N, 3) of the refined surface, mm.
    """
    distances = [fit(points_world) for fit in fitted.fit.witnesses.values()]
    distances.append(surface_distance(fitted.surface, points_world))
    least_mm = LEAST_VOXELS * np.cbrt(voxel_volume_mm3(fitted.affine))
    square = np.mean(np.square(distances, dtype=np.float64), axis=0)
    return (FACTOR * np.sqrt(square + least_mm**2)).astype(np.float32)


def summary(uncertainty: np.ndarray) -> dict[str, float]:
    """Return what a report says of the uncertainty (V,) of a mesh's vertices, mm."""
    median, p90 = np.percentile(uncertainty, [50, 90])
    return {"median": round(float(median), 3), "p90": round(float(p90), 3)}
