"""The refined organs on another grid than the mask's, such as a finer one, between its slices too.

A mask says of each voxel's centre whether it is inside, and nothing of what lies between two slices; a fitted shape
does. So the surface there is the fit's, corrected where the mask says otherwise. Two measures of that are averaged,
both known in the mask's slices and interpolated between them: what the fit is at the nearest contour in the slice,
where it should be zero; and the difference of the mask's signed distance and the fit's, softened where it is large,
since distances across thick slices are rough guesses. What is left of a contradiction is then removed voxel by voxel:
at the centre of each of the mask's voxels the result has the mask's side. The farther the fit is from the mask's
contours, the more the mask's signed distance itself is interpolated instead, see `weight`; where there is no fit to
follow, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry.affine import apply_affine, box_affine, grid_corners, spacing_mm
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import crop_box, mask_signed_distance
from ..organ.pack import OrganPack
from .drawing import APART_MM
from .narrow_band import FINE_CANONICAL, evaluate_near_surface
from .stages import FittedShape

SOFT_MM = 2.0  # a difference of that much is halved
BAND_MM = 6.0  # from the fit's surface: what lies farther off counts as that far
MARGIN_MM = 12.0
SIDE_SHARE = 0.25  # of the smallest spacing: how far a mask's voxel lies on its side at least
CONTOUR_MM = 1.5  # smoothing of what the fit is at the contour
BETWEEN_SHARE = 0.2  # of the slices' thickness: how far interpolation of signed distances is off between them
ROUNDING = 1e-6  # of voxel indices
PAD = 2  # voxels beyond a box, with the values of its border
LINEAR, CUBIC = 1, 3


def labels_on(
    pack: OrganPack, label_map: np.ndarray, affine: np.ndarray, shapes: Sequence[Any], grid: WorldGrid
) -> np.ndarray:
    """Draw a refined label map on another grid.

    Args:
        pack: the organ pack.
        label_map: (X, Y, Z), refined.
        affine: (4, 4) voxel → world mm.
        shapes: what came of each structure, `Refined` or `Unrefined`; the fits of those that are sound are followed.
        grid: the other one, of any spacing, orientation and field of view; beyond that of the label map it stays empty.

    Returns:
        The labels of the pack (X', Y', Z') uint8.
    """
    labels = np.zeros(grid.shape, np.uint8)
    nearest = np.full(grid.shape, np.inf, np.float16)
    fits = {shape.name: shape.fit for shape in shapes if _is_sound(shape)}
    for structure, mask in pack.shapes(label_map, affine):
        if not mask.any():
            continue
        box = crop_box(mask, (np.ceil(MARGIN_MM / spacing_mm(affine)).astype(int) + 1).tolist())
        own = np.where(mask[box], label_map[box], 0)
        own_affine = box_affine(affine, [side.start for side in box])
        there = _box_of(grid, own_affine, own.shape)
        if there is None:
            continue
        x, y, z = (side.stop - side.start for side in there)
        part = WorldGrid(box_affine(grid.affine, [side.start for side in there]), (x, y, z))
        field = field_on(mask[box], own_affine, part, fits.get(structure.name))
        deeper = (field < 0) & (field < nearest[there])
        labels[there][deeper] = _labels_at(own, structure.labels, own_affine, part)[deeper]
        nearest[there][deeper] = field[deeper]
    return labels


def field_on(mask: np.ndarray, affine: np.ndarray, other: WorldGrid, fit: FittedShape | None = None) -> np.ndarray:
    """Return a mask's surface as a signed field on another grid, negative inside.

    Args:
        mask: (X, Y, Z) bool, not empty.
        affine: (4, 4) voxel → world mm.
        other: the grid.
        fit: to follow between the voxels; None where there is none.

    Returns:
        (X', Y', Z') float32 in mm, infinite beyond the mask's grid; at the centres of the mask's voxels its sign is the
        mask's.
    """
    x, y, z = mask.shape
    grid, spacing = WorldGrid(affine, (x, y, z)), spacing_mm(affine)
    distance = mask_signed_distance(mask, spacing)
    field = _between(distance, affine, other)
    if fit is not None:
        fitted, across = _fitted(fit, grid), int(np.argmax(spacing))
        contour = at_contour(fitted, mask, spacing, across)
        followed = _fitted(fit, other)
        followed += _between(correction(fitted, mask, distance, contour, spacing), affine, other)
        # linearly, so that a weight stays between 0 and 1
        field += _between(weight(contour, spacing[across]), affine, other, LINEAR) * (followed - field)
    field[resample(np.ones(mask.shape, np.uint8), affine, other, order=0) == 0] = np.inf
    return field


def _box_of(grid: WorldGrid, affine: np.ndarray, shape: Sequence[int]) -> tuple[slice, slice, slice] | None:
    """Return the box of a grid around the field of view of another one; None where they do not overlap."""
    corners = apply_affine(np.linalg.inv(grid.affine) @ affine, grid_corners(shape, 0.5))
    low = np.maximum(np.ceil(corners.min(axis=0) - ROUNDING), 0).astype(int)
    high = np.minimum(np.floor(corners.max(axis=0) + ROUNDING) + 1, grid.shape).astype(int)
    if (low >= high).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def weight(contour: np.ndarray, thickness_mm: float) -> np.ndarray:
    """Return how far to follow a fit, 0 to 1, against interpolation of the mask's signed distance.

    Both err; the weight is inverse to the variances, `w = e² / (e² + f²)`: the fit by `f`, what it is at the contours,
    the interpolation by `e`, a share of the slices' thickness.

    Args:
        contour: (X, Y, Z) what the fit is at the nearest contour, mm.
        thickness_mm: of the slices.

    Returns:
        (X, Y, Z).
    """
    return 1.0 / (1.0 + (contour / (BETWEEN_SHARE * thickness_mm)) ** 2)


def correction(
    fitted: np.ndarray, mask: np.ndarray, distance: np.ndarray, contour: np.ndarray, spacing: np.ndarray
) -> np.ndarray:
    """Return what to add to a fit's values so that they agree with a mask, at its voxels' centres.

    Args:
        fitted: (X, Y, Z) signed distance of the fit, mm.
        mask: (X, Y, Z) bool.
        distance: (X, Y, Z) signed distance of the mask, mm.
        contour: (X, Y, Z) what the fit is at the nearest contour, mm.
        spacing: (3,) mm.

    Returns:
        (X, Y, Z) mm; the sum has the mask's side everywhere.
    """
    beyond = distance - fitted
    change = 0.5 * (beyond / (1.0 + np.abs(beyond) / SOFT_MM) - contour)
    least = np.minimum(np.abs(distance), SIDE_SHARE * spacing.min())
    now = fitted + change
    change += np.where(mask, np.minimum(0.0, -least - now), np.maximum(0.0, least - now))
    return change


def _fitted(fit: FittedShape, grid: WorldGrid) -> np.ndarray:
    """Return a fit's signed distance (X, Y, Z) in mm, alike on all grids: far from its surface it is only a side."""
    fine_mm = FINE_CANONICAL / fit.similarity.scale
    values = evaluate_near_surface(fit.sdf_mm, grid, spacing_mm(grid.affine), BAND_MM, fine_mm)
    return values.clip(-BAND_MM, BAND_MM)


def at_contour(fitted: np.ndarray, mask: np.ndarray, spacing: np.ndarray, across: int) -> np.ndarray:
    """Return a fit's values (X, Y, Z) at the nearest place of the mask's contour, of the same slice where it has one.

    The contour's value is the mean of the nearest voxels on
    both of its sides, and is smoothed within the slice, for voxels are coarse.
    """
    cross = ndimage.generate_binary_structure(3, 1)
    cross[tuple(slice(None, None, 2) if axis == across else slice(None) for axis in range(3))] = False
    inner = mask & ~ndimage.binary_erosion(mask, cross, border_value=1)
    outer = ~mask & ndimage.binary_dilation(mask, cross)
    if not (inner.any() and outer.any()):
        return np.zeros_like(fitted)
    sides = np.where(np.arange(3) == across, APART_MM, spacing)
    values = np.zeros_like(fitted)
    for edge in (inner, outer):
        near = ndimage.distance_transform_edt(~edge, sampling=sides, return_distances=False, return_indices=True)
        values += 0.5 * fitted[tuple(near)]
    return ndimage.gaussian_filter(values, np.where(np.arange(3) == across, 0.0, CONTOUR_MM / spacing))


def _between(values: np.ndarray, affine: np.ndarray, other: WorldGrid, order: int = CUBIC) -> np.ndarray:
    """Interpolate values (X, Y, Z) at the centres of another grid by splines, which keep them where they are."""
    padded = np.pad(values.astype(np.float32), PAD, mode="edge")
    return resample(padded, box_affine(affine, [-PAD] * 3), other, order=order)


def _labels_at(own: np.ndarray, labels: Sequence[int], affine: np.ndarray, other: WorldGrid) -> np.ndarray:
    """Return the label of each voxel of another grid: the one whose own voxels it lies deepest in or nearest to."""
    there = [label for label in labels if (own == label).any()]
    if len(there) == 1:
        return np.broadcast_to(np.uint8(there[0]), other.shape)
    spacing = spacing_mm(affine)
    fields = [_between(mask_signed_distance(own == label, spacing), affine, other) for label in there]
    return np.array(there, np.uint8)[np.argmin(fields, axis=0)]


def _is_sound(shape: Any) -> bool:
    """Whether there is a fit to follow, which no sign speaks against."""
    return getattr(shape, "fit", None) is not None and not shape.quality.get("doubtful", True)
