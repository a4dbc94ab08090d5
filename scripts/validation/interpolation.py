"""Masks of thick slices made of thin ones, and brought back to thin slices without a prior: what to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry.surface import mask_signed_distance

APART_MM = 1e4  # between slices, where each is measured by itself


def thickened(label_map: np.ndarray, affine: np.ndarray, axis: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Make one thick slice of each `count` thin ones; a rest of fewer is left out.

    A voxel has a label where at least half of the thin ones do, that of the most of them: what a scan of thick slices,
    whose voxels are means, shows of an organ.

    Args:
        label_map: (X, Y, Z) whole numbers, not negative.
        affine: (4, 4) voxel → world mm.
        axis: across the slices.
        count: how many.

    Returns:
        The label map of thick slices, and its affine.
    """
    thin = np.moveaxis(label_map, axis, 0)
    thin = thin[: len(thin) // count * count].reshape(-1, count, *thin.shape[1:])
    thick, most = np.zeros_like(thin[:, 0]), np.zeros(thin[:, 0].shape, int)
    for label in np.unique(thin[thin > 0]):
        own = (thin == label).sum(axis=1)
        thick[own > most] = label
        most = np.maximum(most, own)
    thick[2 * (thin > 0).sum(axis=1) < count] = 0
    moved = affine.copy()
    moved[:3, axis] *= count
    moved[:3, 3] += affine[:3, axis] * (count - 1) / 2
    return np.moveaxis(thick, 0, axis), moved


def nearest(mask: np.ndarray, spacing: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Repeat each slice of a mask (X, Y, Z) bool `count` times."""
    return np.repeat(mask, count, axis)


def nearest_drawn(label_map: np.ndarray, axis: int, places: Sequence[int]) -> np.ndarray:
    """Give each slice of a label map (X, Y, Z) the labels of the nearest drawn one, to half a gap beyond the ends."""
    known, every = np.array(places), np.arange(label_map.shape[axis])
    apart = np.abs(every[:, None] - known)
    near = apart.min(axis=1) <= np.median(np.diff(known)) // 2
    near |= (every > known[0]) & (every < known[-1])
    found = np.take(label_map, known[apart.argmin(axis=1)], axis)
    np.moveaxis(found, axis, 0)[~near] = 0
    return found


def linear(mask: np.ndarray, spacing: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Interpolate between the slices of a mask linearly, as numbers 0 and 1, and take what is above a half."""
    return between_slices(mask.astype(np.float32), axis, count) > 0.5


def shape_based(mask: np.ndarray, spacing: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Interpolate between the slices' own distances (Raya and Udupa 1990), each signed and measured in its slice.

    A slice without the organ has no such distance; it takes that to the next slices, in 3D.
    """
    space = mask_signed_distance(mask, spacing)
    sides = spacing.copy()
    sides[axis] = APART_MM
    slices = np.moveaxis(mask, axis, 0)
    alone = np.array([one.any() and not one.all() for one in slices])
    alone = alone.reshape([-1 if a == axis else 1 for a in range(3)])
    field = np.where(alone, mask_signed_distance(mask, sides), space)
    return between_slices(field, axis, count) < 0


def distance_field(mask: np.ndarray, spacing: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Interpolate linearly between the slices of a mask's signed distance in 3D."""
    return between_slices(mask_signed_distance(mask, spacing), axis, count) < 0


def between_slices(values: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Interpolate values (X, Y, Z) linearly at `count` thin slices in the place of each, constant beyond the last."""
    thick = np.moveaxis(values, axis, 0)
    place = ((np.arange(len(thick) * count) + 0.5) / count - 0.5).clip(0, len(thick) - 1)
    lower = np.minimum(place.astype(int), max(len(thick) - 2, 0))
    upper = np.minimum(lower + 1, len(thick) - 1)
    share = (place - lower).astype(np.float32).reshape(-1, 1, 1)
    return np.moveaxis(thick[lower] * (1 - share) + thick[upper] * share, 0, axis)


METHODS = {
    "nearest": nearest,
    "linear": linear,
    "shape-based": shape_based,
    "distance field": distance_field,
}
