"""A whole organ from a few drawn slices: what lies between them is the fitted prior's to say.

The mask is filled between its slices first, see `drawing`, and aligned. The prior is fitted to the contours alone. Then
the fit is followed, corrected so that it agrees with what was drawn: how far it is from the contours is known in the
drawn slices, and interpolated between.
"""

from __future__ import annotations

import numpy as np
import trimesh

from ..geometry.affine import apply_affine
from ..geometry.surface import sample_surface
from .drawing import DrawnSlices
from .finer import BAND_MM, correction
from .stages import TrustedSamples

NEAR_VOXELS = 0.3  # of a slice: the filled surface is the drawn contour this far from the slice's middle
SPARE = 1.5  # times as many points are drawn from a surface as its share near the slices asks for


def contour_samples(
    drawn: DrawnSlices, surface: trimesh.Trimesh, affine: np.ndarray, count: int, seed: int
) -> TrustedSamples:
    """Sample the drawn contours: all of them are to be trusted, and nothing between them is known.

    Args:
        drawn: the slices.
        surface: of the filled mask, world mm.
        affine: (4, 4) voxel → world mm of the mask.
        count: about how many points at most.
        seed: of the points.
    """
    share = 2 * NEAR_VOXELS * len(drawn.places) / (drawn.places[-1] - drawn.places[0] + 1)
    points, normals = sample_surface(surface, int(count * max(1.0, SPARE / share)), seed)
    across = apply_affine(np.linalg.inv(affine), points)[:, drawn.axis]
    near = np.flatnonzero(np.abs(across[:, None] - np.array(drawn.places)).min(axis=1) <= NEAR_VOXELS)
    kept = np.sort(np.random.default_rng(seed).permutation(near)[:count])
    return TrustedSamples(points[kept], normals[kept], np.ones(len(kept)), np.ones(len(kept)))


def follow(drawn: DrawnSlices, mask: np.ndarray, fit_mm: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the fit's signed distance, corrected so that its side in the drawn slices is the mask's.

    Args:
        drawn: the slices.
        mask: (X, Y, Z) bool, filled between the slices.
        fit_mm: (X, Y, Z) signed distance of the fit.
        spacing: (3,) mm.

    Returns:
        (X, Y, Z) float32, mm, negative inside.
    """
    if not drawn.places:  # all lie beyond the fit's surroundings
        return fit_mm
    fitted, axis, places = fit_mm.clip(-BAND_MM, BAND_MM), drawn.axis, np.array(drawn.places)
    change = np.moveaxis(correction(fitted, mask, spacing, axis), axis, 0)
    wanted = np.arange(len(change))
    carried = drawn.between(wanted.clip(places[0], places[-1]), change[places])
    far = np.moveaxis(fitted, axis, 0) >= BAND_MM  # of the fit, where it knows nothing of the distance any more
    carried[far & ((wanted < places[0]) | (wanted > places[-1]))[:, None, None]] = 0.0
    return (fitted + np.moveaxis(carried, 0, axis)).astype(np.float32)
