"""What every user already has: largest component, hole filling, smoothing.

The results equal MONAI's `KeepLargestConnectedComponent` (26 neighbours) and `FillHoles(connectivity=1)`; working on
the bounding box makes them many times faster on a whole scan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..geometry.runs import filled, label_pieces
from ..geometry.surface import crop_box
from ..metrics.surface import binary_mask, check_spacing

SMOOTHING_MM = 1.5
# Name → smoothing in mm of the baselines that are computed from the reference's masks.
LARGEST = "largest component + fill"
POSTPROCESSING = {
    LARGEST: 0.0,
    "largest component + fill + smooth": SMOOTHING_MM,
}
MOST_SIGMA = 50.0  # voxels: a wider kernel takes for ever, and voxels so small are no scan's


def keep_largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest 26-connected piece of a mask (X, Y, Z); the first in scan order of several as large."""
    array = binary_mask(mask)
    result = np.zeros_like(array)
    if array.any():
        box = crop_box(array)
        pieces, _ = label_pieces(array[box])
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        result[box] = pieces == sizes.argmax()
    return result


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) with its enclosed cavities filled: background that 6-connects to no border."""
    array = binary_mask(mask)
    result = array.copy(order="K")
    if array.any():
        box = crop_box(array)
        result[box] = filled(array[box])
    return result


def smooth_mask(mask: np.ndarray, spacing_mm: Sequence[float], smoothing_mm: float = SMOOTHING_MM) -> np.ndarray:
    """Return a mask (X, Y, Z) blurred with a Gaussian of that standard deviation in mm and cut at one half.

    Beyond the image's border the mask is taken to go on, so an organ cut by the field of view keeps its cut face.

    Raises:
        ValueError: the standard deviation is negative or not finite.
    """
    array, spacing = binary_mask(mask), check_spacing(spacing_mm)
    if not np.isfinite(smoothing_mm) or smoothing_mm < 0:
        raise ValueError(f"smoothing_mm must be finite and not negative, not {smoothing_mm}")
    result = array.copy(order="K")
    if array.any() and smoothing_mm > 0:
        sigma = np.minimum(smoothing_mm / np.asarray(spacing), MOST_SIGMA)
        crop = crop_box(array, _reach(sigma))
        result[crop] = ndimage.gaussian_filter(array[crop].astype(np.float32), sigma, mode="nearest", truncate=4) > 0.5
    return result


def postprocess_mask(
    mask: np.ndarray, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0), smoothing_mm: float = 0.0
) -> np.ndarray:
    """Return the largest component of a mask (X, Y, Z), holes filled, smoothed where `smoothing_mm` is positive."""
    whole = fill_holes(keep_largest_component(mask))
    return smooth_mask(whole, spacing_mm, smoothing_mm) if smoothing_mm > 0 else whole


def postprocess_labels(
    label_map: np.ndarray,
    masks: Sequence[np.ndarray] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    smoothing_mm: float = 0.0,
) -> np.ndarray:
    """Post-process a label map (X, Y, Z) structure by structure.

    Kept voxels keep their value, a structure's new voxels take its nearest part's, and no structure takes a voxel that
    another one had before.

    Args:
        label_map: integers, 0 is background.
        masks: the voxels of each structure, (X, Y, Z) bool; None takes each value for itself.
        spacing_mm: (3,), for the smoothing and for what is nearest.
        smoothing_mm: standard deviation of the smoothing; 0 for none.

    Returns:
        A label map of the same shape and type.
    """
    spacing = check_spacing(spacing_mm)
    masks = [label_map == v for v in np.unique(label_map) if v != 0] if masks is None else masks
    result = label_map.copy(order="K")
    for before in masks:
        if not before.any():
            continue
        crop = crop_box(before, _reach(np.minimum(smoothing_mm / np.asarray(spacing), MOST_SIGMA)))
        after = postprocess_mask(before[crop], spacing, smoothing_mm)
        part, region = label_map[crop], result[crop]  # `region` is a view: what is set there is set in the result
        region[before[crop] & ~after] = 0
        new = after & (part == 0) & (region == 0)
        if new.any():
            nearest = ndimage.distance_transform_edt(
                ~before[crop], sampling=spacing, return_distances=False, return_indices=True
            )
            region[new] = part[tuple(nearest[:, new])]
    return result


def _reach(sigma_voxels: np.ndarray) -> int:
    """Return how many voxels a Gaussian, cut at four standard deviations, spreads, plus one."""
    return int(np.ceil(4 * sigma_voxels).max()) + 1
