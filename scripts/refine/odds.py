"""What a voxel head's odds make of a mask: the proposal that the gate then judges region by region."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..geometry.surface import with_neighbours

SURE = 2.0  # the odds from which on a voxel head overrules the mask
THIN = 1.25  # steps of a voxel head's grid within which experts' own masks differ from what the image shows
LEAST_DEEP = 0.03  # of the mask's volume: an image that changes less than that deeper than `THIN` leaves the rest, too
TOUCH = np.ones((3, 3, 3), bool)


def follow_odds(mask: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) bool with the voxels changed that an image contradicts by odds of more than `SURE`.

    Args:
        mask: (X, Y, Z) bool, initial.
        log_odds: (X, Y, Z) natural logarithm of the odds that a voxel belongs to it; NaN where nothing is known.
    """
    limit = np.log(SURE)
    return np.where(mask, ~(log_odds < -limit), log_odds > limit)


def without_thin(mask: np.ndarray, proposal: np.ndarray, mask_mm: np.ndarray, step_mm: float) -> np.ndarray:
    """Return an image's proposal (X, Y, Z) bool without its thin changes, where there is little else.

    Next to its surface a head takes the mask of an expert, too, for slightly wrong. So connected changes that stay
    within `THIN` steps of the surface, or within one voxel, count only beside deeper ones, of `LEAST_DEEP` of the mask.
    Closed holes always count: no expert leaves them.

    Args:
        mask: (X, Y, Z) bool, initial.
        proposal: (X, Y, Z) bool.
        mask_mm: (X, Y, Z) signed distance of the mask, mm.
        step_mm: the head's spacing.
    """
    edge = with_neighbours(mask) & with_neighbours(~mask)
    deep = ~edge & (np.abs(mask_mm) > THIN * step_mm)
    deep |= ndimage.binary_fill_holes(mask) & ~mask
    result = mask.copy()
    for change in (mask & ~proposal, ~mask & proposal):
        labels, count = ndimage.label(change, structure=TOUCH)
        reaches = np.zeros(count + 1, bool)
        reaches[np.unique(labels[change & deep])] = True
        result ^= reaches[labels]
    many = np.count_nonzero(result != mask) >= LEAST_DEEP * np.count_nonzero(mask)
    return proposal if many else result
