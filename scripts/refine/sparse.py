"""A whole organ from a few drawn slices: what lies between them is the fitted prior's to say.

The mask is filled between its slices first, see `drawing`, and aligned. The prior is fitted to the contours alone. Then
the fit is followed, corrected so that it agrees with what was drawn: how far it is from the contours is known in the
drawn slices, and interpolated between.
"""

from __future__ import annotations

import numpy as np
import trimesh

from ..geometry.affine import apply_affine
from ..geometry.surface import mask_signed_distance, sample_surface
from .finer import BAND_MM, at_contour, correction
from .planes import DrawnSlices
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
    to_voxels = np.linalg.inv(affine)
    spans = np.ptp(apply_affine(to_voxels, np.asarray(surface.vertices)), axis=0)
    spans = [own[-1] - own[0] + 1 if len(own) > 1 else span for own, span in zip(drawn.places, spans, strict=True)]
    share = sum(2 * NEAR_VOXELS * len(own) / span for own, span in zip(drawn.places, spans, strict=True))
    points, normals = sample_surface(surface, int(count * max(1.0, SPARE / share)), seed)
    near = np.flatnonzero(drawn.near(apply_affine(to_voxels, points), NEAR_VOXELS))
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
    if not drawn.axes:  # all lie beyond the fit's surroundings
        return fit_mm
    fitted = fit_mm.clip(-BAND_MM, BAND_MM)
    distance, change = mask_signed_distance(mask, spacing), {}
    for axis in drawn.axes:
        contour = at_contour(fitted, mask, spacing, axis)
        change[axis] = drawn.of(correction(fitted, mask, distance, contour, spacing))[axis]
    carried = drawn.spread(change, mask.shape, spacing)
    beyond = np.ones(mask.shape, bool)
    for axis in drawn.axes:
        beyond &= np.expand_dims(drawn.beyond(axis, mask.shape[axis]) > 0, [one for one in range(3) if one != axis])
    carried[beyond & (fitted >= BAND_MM)] = 0.0  # far from the fit, where it knows nothing of the distance any more
    return (fitted + carried).astype(np.float32)
