"""The refined organs on a finer grid than the mask's, between its slices too.

A mask says of each voxel's centre whether it is inside, and nothing of what lies between two slices; a fitted shape
does. So the fine surface is the fit's, corrected where the mask says otherwise. Two measures of that are averaged, both
known in the mask's slices and interpolated between them: what the fit is at the nearest contour in the slice, where it
should be zero; and the difference of the mask's signed distance and the fit's, softened where it is large, since
distances across thick slices are rough guesses. What is left of a contradiction is then removed voxel by voxel: at the
centre of each of the mask's voxels the result has the mask's side. The farther the fit is from the mask's contours, the
more the mask's signed distance itself is interpolated instead, see `weight`; where there is no fit to follow, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry.affine import box_affine, spacing_mm
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import crop_box, mask_signed_distance
from ..organ.pack import OrganPack
from .drawing import APART_MM
from .narrow_band import FINE_CANONICAL, evaluate_near_surface
from .stages import FittedShape

FINEST_MM = 0.1
SOFT_MM = 2.0  # a difference of that much is halved
BAND_MM = 6.0  # from the fit's surface: what lies farther off counts as that far
MARGIN_MM = 12.0
SIDE_SHARE = 0.25  # of the smallest spacing: how far a mask's voxel lies on its side at least
CONTOUR_MM = 1.5  # smoothing of what the fit is at the contour
BETWEEN_SHARE = 0.2  # of the slices' thickness: how far interpolation of signed distances is off between them
PAD = 2  # voxels beyond a box, with the values of its border
LINEAR, CUBIC = 1, 3


def check_fine(fine_mm: object) -> float:
    """Return the largest voxel side of the finer grid in mm, 0 for none.

    Raises:
        ValueError: it is no such length.
    """
    number = isinstance(fine_mm, (int, float)) and not isinstance(fine_mm, bool)
    if not number or not (fine_mm == 0 or FINEST_MM <= fine_mm < np.inf):  # type: ignore[operator]
        raise ValueError(f"fine_mm '{fine_mm}': give a length in mm from {FINEST_MM} on, or 0 for no finer mask")
    return float(fine_mm)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Split:
    """How a grid's voxels are divided.

    Attributes:
        parts: (3,) into how many voxels each is divided along each axis.
    """

    parts: tuple[int, int, int]

    @classmethod
    def to(cls, affine: np.ndarray, fine_mm: float) -> Split:
        """Return the least division after which no side is longer than `fine_mm`, but for a hundredth."""
        x, y, z = np.maximum(np.ceil(spacing_mm(affine) / fine_mm - 0.01), 1).astype(int)
        return cls((int(x), int(y), int(z)))

    def grid(self, affine: np.ndarray, shape: Sequence[int]) -> WorldGrid:
        """Return the finer grid of a grid: it fills the same space, so the first centres are not the same."""
        fine = np.array(affine, float)
        fine[:3, :3] /= self.parts
        fine[:3, 3] += affine[:3, :3] @ (0.5 / np.array(self.parts) - 0.5)
        x, y, z = (int(n * part) for n, part in zip(shape, self.parts, strict=True))
        return WorldGrid(fine, (x, y, z))

    def box(self, box: Sequence[slice]) -> tuple[slice, slice, slice]:
        """Return the same part of the finer grid."""
        x, y, z = (slice(side.start * n, side.stop * n) for side, n in zip(box, self.parts, strict=True))
        return x, y, z


def finer_labels(
    pack: OrganPack, label_map: np.ndarray, affine: np.ndarray, shapes: Sequence[Any], split: Split
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a refined label map on a finer grid.

    Args:
        pack: the organ pack.
        label_map: (X, Y, Z), refined.
        affine: (4, 4) voxel → world mm.
        shapes: what came of each structure, `Refined` or `Unrefined`; the fits of those that are sound are followed.
        split: of the voxels.

    Returns:
        The labels of the pack (X', Y', Z') uint8 on the finer grid, and its affine (4, 4).
    """
    whole = split.grid(affine, label_map.shape)
    labels = np.zeros(whole.shape, np.uint8)
    nearest = np.full(whole.shape, np.inf, np.float16)
    fits = {shape.name: shape.fit for shape in shapes if _is_sound(shape)}
    for structure, mask in pack.shapes(label_map, affine):
        if not mask.any():
            continue
        box = crop_box(mask, (np.ceil(MARGIN_MM / spacing_mm(affine)).astype(int) + 1).tolist())
        part_affine, fine_box = box_affine(affine, [side.start for side in box]), split.box(box)
        field = finer_field(mask[box], part_affine, split, fits.get(structure.name))
        deeper = (field < 0) & (field < nearest[fine_box])
        own = np.where(mask[box], label_map[box], 0)
        labels[fine_box][deeper] = _labels_at(own, structure.labels, part_affine, split)[deeper]
        nearest[fine_box][deeper] = field[deeper]
    return labels, whole.affine


def finer_field(
    mask: np.ndarray,
    affine: np.ndarray,
    split: Split,
    fit: FittedShape | None = None,
) -> np.ndarray:
    """Return a mask's surface as a signed field on a finer grid, negative inside.

    Args:
        mask: (X, Y, Z) bool, not empty.
        affine: (4, 4) voxel → world mm.
        split: of its voxels.
        fit: to follow between the voxels; None where there is none.

    Returns:
        (X', Y', Z') float32 in mm; at the centres of the mask's voxels its sign is the mask's.
    """
    x, y, z = mask.shape
    grid, spacing = WorldGrid(affine, (x, y, z)), spacing_mm(affine)
    fine = split.grid(affine, grid.shape)
    distance = mask_signed_distance(mask, spacing)
    field = _between(distance, affine, fine)
    if fit is None:
        return field
    fitted, across = _fitted(fit, grid), int(np.argmax(spacing))
    contour = at_contour(fitted, mask, spacing, across)
    followed = _fitted(fit, fine)
    followed += _between(correction(fitted, mask, distance, contour, spacing), affine, fine)
    # linearly, so that a weight stays between 0 and 1
    field += _between(weight(contour, spacing[across]), affine, fine, LINEAR) * (followed - field)
    return field


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


def _between(values: np.ndarray, affine: np.ndarray, fine: WorldGrid, order: int = CUBIC) -> np.ndarray:
    """Interpolate values (X, Y, Z) at the centres of a finer grid by splines, which keep them where they are."""
    padded = np.pad(values.astype(np.float32), PAD, mode="edge")
    return resample(padded, box_affine(affine, [-PAD] * 3), fine, order=order)


def _labels_at(own: np.ndarray, labels: Sequence[int], affine: np.ndarray, split: Split) -> np.ndarray:
    """Return the label (X', Y', Z') of each fine voxel: the one whose own voxels it lies deepest in or nearest to."""
    x, y, z = own.shape
    fine = split.grid(affine, (x, y, z))
    there = [label for label in labels if (own == label).any()]
    if len(there) == 1:
        return np.broadcast_to(np.uint8(there[0]), fine.shape)
    spacing = spacing_mm(affine)
    fields = [_between(mask_signed_distance(own == label, spacing), affine, fine) for label in there]
    return np.array(there, np.uint8)[np.argmin(fields, axis=0)]


def _is_sound(shape: Any) -> bool:
    """Whether there is a fit to follow, which no sign speaks against."""
    return getattr(shape, "fit", None) is not None and not shape.quality.get("doubtful", True)
