"""What a voxel head's odds make of a mask: the proposal that the gate then judges region by region."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage, special

from ..geometry.surface import with_neighbours

SURE = 2.0  # the odds from which on a voxel head overrules a mask that may be an expert's
THIN = 1.25  # steps of a voxel head's grid within which experts' own masks differ from what the image shows
LEAST_DEEP = 0.03  # of the mask's volume: an image that changes less than that deeper than `THIN` leaves the rest, too
POOR = 0.15  # of the mask's volume: where an image changes more than that deeper than `THIN`, no expert drew the mask
NEAR = 3  # voxels around the deep changes of a poor mask: there each voxel goes where it is likelier to belong
SUREST = 0.999  # a network's probability, at most: most are surer of themselves than they should be
OF_NETWORK = 0.95  # Dice of a mask with a network's more probable half; less where somebody has corrected the mask
TOUCH = np.ones((3, 3, 3), bool)


def follow_odds(mask: np.ndarray, log_odds: np.ndarray, least: float = 1.0) -> np.ndarray:
    """Return a mask (X, Y, Z) bool with the voxels changed that a voxel head contradicts by more than the least odds.

    Args:
        mask: (X, Y, Z) bool, initial.
        log_odds: (X, Y, Z) natural logarithm of the odds that a voxel belongs to it; NaN where nothing is known.
        least: odds; 1 for whatever is likelier.
    """
    limit = np.log(least)
    return np.where(mask, ~(log_odds < -limit), log_odds > limit)


def is_of_network(mask: np.ndarray, probability: np.ndarray) -> bool:
    """Whether a mask (X, Y, Z) bool is what a network's probabilities (X, Y, Z) say, NaN where they say nothing."""
    likely = probability > 0.5
    shared, both = (int(np.count_nonzero(found)) for found in (mask & likely, mask | likely))
    return 2.0 * shared >= OF_NETWORK * max(shared + both, 1)


def with_network(log_odds: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return log odds (X, Y, Z) of a voxel head and the network that made the mask, which count alike.

    Both have seen the image, and err in other places.

    Args:
        log_odds: (X, Y, Z) of the head, NaN where nothing is known.
        probability: (X, Y, Z) of the network, NaN where nothing is known.
    """
    own = special.logit(np.clip(probability, 1.0 - SUREST, SUREST))
    return (log_odds + np.nan_to_num(own)).astype(np.float32)


class Proposed(NamedTuple):
    """What a voxel head makes of a mask.

    Attributes:
        mask: (X, Y, Z) bool.
        log_odds: (X, Y, Z) that it follows, NaN where nothing is known.
        poor: whether the head takes the initial mask for poor.
    """

    mask: np.ndarray
    log_odds: np.ndarray
    poor: bool


def proposed(
    mask: np.ndarray,
    known: np.ndarray,
    log_odds: np.ndarray,
    mask_mm: np.ndarray,
    step_mm: float,
    network: np.ndarray | None = None,
) -> Proposed:
    """Return what a voxel head makes of a mask.

    Next to its surface a head takes the mask of an expert, too, for slightly wrong. So odds of more than `SURE` are
    asked for, and connected changes that stay within `THIN` steps of the surface, or within one voxel, count only
    beside deeper ones, of `LEAST_DEEP` of the mask. Closed holes always count: no expert leaves them. A mask with still
    more deep changes is poor: near these each voxel goes where it is likelier to belong; the rest may be good. Nor is
    one that is a network's own an expert's: there thin changes count that head and network together find likelier.

    Args:
        mask: (X, Y, Z) bool, initial.
        known: (X, Y, Z) bool, what the head made of it at first; it stays where the odds say nothing, or too little.
        log_odds: (X, Y, Z) of a voxel head, NaN where nothing is known.
        mask_mm: (X, Y, Z) signed distance of the mask, mm.
        step_mm: the head's spacing.
        network: (X, Y, Z) probability of the network whose mask it is, NaN where it says nothing; None of other masks.
    """
    sure = follow_odds(known, log_odds, SURE)
    inner = _deep_voxels(mask, mask_mm, step_mm)
    deep = _only_deep(mask, sure, inner)
    share = np.count_nonzero(deep != mask) / max(int(np.count_nonzero(mask)), 1)
    if share > POOR:
        near = inner & (sure != mask)
        for _ in range(NEAR):
            near = with_neighbours(near)
        return Proposed(np.where(near, follow_odds(known, log_odds), sure), log_odds, True)
    if share >= LEAST_DEEP:
        return Proposed(sure, log_odds, False)
    if network is None:
        return Proposed(deep, log_odds, False)
    both = with_network(log_odds, network)
    return Proposed(np.where(deep != mask, deep, follow_odds(mask, both)), both, False)


def _deep_voxels(mask: np.ndarray, mask_mm: np.ndarray, step_mm: float) -> np.ndarray:
    """Return the voxels (X, Y, Z) bool that do not lie next to a mask's surface, and its closed holes."""
    edge = with_neighbours(mask) & with_neighbours(~mask)
    deep = ~edge & (np.abs(mask_mm) > THIN * step_mm)
    return deep | (ndimage.binary_fill_holes(mask) & ~mask)


def _only_deep(mask: np.ndarray, proposal: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) bool with those connected changes of a proposal that are deep somewhere."""
    result = mask.copy()
    for change in (mask & ~proposal, ~mask & proposal):
        labels, count = ndimage.label(change, structure=TOUCH)
        reaches = np.zeros(count + 1, bool)
        reaches[np.unique(labels[change & deep])] = True
        result ^= reaches[labels]
    return result
