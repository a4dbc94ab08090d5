"""What a voxel head's odds make of a mask: the proposal that the gate then judges region by region."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage, special

from ..geometry.runs import filled, label_pieces
from ..geometry.surface import with_neighbours

SURE = 2.0  # the odds from which on a voxel head overrules a mask that may be an expert's
THIN = 1.25  # steps of a voxel head's grid within which experts' own masks differ from what the image shows
LEAST_DEEP = 0.03  # of the mask's volume: an image that changes less than that deeper than `THIN` leaves the rest, too
NEAR = 4.0  # steps around deep changes: there each voxel goes where it is likelier to belong
POOR = 0.25  # of the mask's surface: where more than that lies so near to deep changes, the whole mask is poor
SUREST = 0.999  # a network's probability, at most: most are surer of themselves than they should be
OF_NETWORK = 0.95  # Dice of a mask with a network's more probable half; less where somebody has corrected the mask
OWN = 0.98  # the same of a second reader that has made the mask itself; two networks seldom agree so well
BELIEVED = 0.5  # agreement of the two readers: below it one of them cannot read the image where a structure is
LEGIBLE = 2 / 3  # the same: where no structure reaches it, nothing of the image is followed


def follow_odds(mask: np.ndarray, log_odds: np.ndarray, least: float = 1.0) -> np.ndarray:
    """Return a mask (X, Y, Z) bool with the voxels changed that a voxel head contradicts by more than the least odds.

    Args:
        mask: (X, Y, Z) bool, initial.
        log_odds: (X, Y, Z) natural logarithm of the odds that a voxel belongs to it; NaN where nothing is known.
        least: odds; 1 for whatever is likelier.
    """
    limit = np.log(least)
    return np.where(mask, ~(log_odds < -limit), log_odds > limit)


def is_of_network(mask: np.ndarray, probability: np.ndarray, least_dice: float = OF_NETWORK) -> bool:
    """Whether a mask (X, Y, Z) bool is what a network's probabilities (X, Y, Z) say, NaN where they say nothing."""
    return _dice(mask, probability > 0.5) >= least_dice


def with_network(log_odds: np.ndarray, probability: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Return log odds (X, Y, Z) of a voxel head and a network together, whose log odds are added.

    Both have seen the image, and err in other places.

    Args:
        log_odds: (X, Y, Z) of the head, NaN where nothing is known.
        probability: (X, Y, Z) of the network, NaN where nothing is known.
        weight: how much the network counts beside the head.
    """
    own = special.logit(np.clip(probability, 1.0 - SUREST, SUREST))
    return (log_odds + weight * np.nan_to_num(own)).astype(np.float32)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    shared, both = (int(np.count_nonzero(found)) for found in (one & other, one | other))
    return 2.0 * shared / max(shared + both, 1)


class Proposed(NamedTuple):
    """What a voxel head makes of a mask.

    Attributes:
        mask: (X, Y, Z) bool.
        log_odds: (X, Y, Z) that it follows, NaN where nothing is known.
        poor: whether the head takes the initial mask for poor.
        agreement: Dice of what the second reader sees and what the head does, where both say something; None where it
            had no say.
    """

    mask: np.ndarray
    log_odds: np.ndarray
    poor: bool
    agreement: float | None = None


def proposed(
    mask: np.ndarray,
    known: np.ndarray,
    log_odds: np.ndarray,
    mask_mm: np.ndarray,
    spacing_mm: np.ndarray,
    step_mm: float,
    network: np.ndarray | None = None,
    second: Callable[[], np.ndarray | None] | None = None,
) -> Proposed:
    """Return what a voxel head, and a second reader where there is one, make of a mask.

    Next to its surface a head takes the mask of an expert, too, for slightly wrong. So odds of more than `SURE` are
    asked for, and connected changes that stay within `THIN` steps of the surface, or within one voxel, count only
    beside deeper ones, of `LEAST_DEEP` of the mask. Closed holes are deep: no expert leaves them. A mask with deep
    changes next to much of its surface is poor: near these each voxel goes where it is likelier to belong; the rest may
    be good. Nor is one that is a network's own an expert's: there thin changes count that head and network together
    find likelier.

    A second reader is asked where the head finds deep changes. In a poor mask, and near deep changes of another, both
    decide together, see `second_weight`. Elsewhere only what both want is changed.

    Args:
        mask: (X, Y, Z) bool, initial.
        known: (X, Y, Z) bool, what the head made of it at first; it stays where the odds say nothing, or too little.
        log_odds: (X, Y, Z) of a voxel head, NaN where nothing is known.
        mask_mm: (X, Y, Z) signed distance of the mask, mm.
        spacing_mm: (3,) of the voxels.
        step_mm: the head's spacing.
        network: (X, Y, Z) probability of the network whose mask it is, NaN where it says nothing; None of other masks.
        second: returns the same of a network that has not made the mask, or None; it may take its time.
    """
    sure = follow_odds(known, log_odds, SURE)
    inner = _deep_voxels(mask, mask_mm, step_mm)
    deep = _only_deep(mask, sure, inner)
    share = np.count_nonzero(deep != mask) / max(int(np.count_nonzero(mask)), 1)
    wanted, both, agreement = deep if share < LEAST_DEEP else sure, log_odds, None
    other = second() if second is not None and share else None
    if other is not None:
        said = np.isfinite(other)
        likely = other > 0.5
        if not is_of_network(mask[said], other[said], OWN):
            seen = said & np.isfinite(log_odds)
            agreement = _dice(likely[seen], follow_odds(known, log_odds)[seen])
            both = with_network(log_odds, other, second_weight(agreement))
            wanted = np.where(said & (likely == mask), mask, wanted)
    if share >= LEAST_DEEP:
        near = _near(inner & (sure != mask), spacing_mm, step_mm)
        poor = _share_of_surface(mask, near) > POOR
        if poor and agreement is not None:
            wanted = follow_odds(known, both, SURE)
        if poor or agreement is not None:
            wanted = np.where(near, follow_odds(known, both), wanted)
        return Proposed(wanted, both, poor, agreement)
    if network is None:
        return Proposed(wanted, both, False, agreement)
    own = with_network(log_odds, network)
    return Proposed(np.where(wanted != mask, wanted, follow_odds(mask, own)), own, False, agreement)


def second_weight(agreement: float) -> float:
    """Return how much a second reader's log odds count beside those of a head with which it agrees so well (Dice)."""
    return max(2.0 * agreement - 1.0, 0.0) ** 2


def _near(voxels: np.ndarray, spacing_mm: np.ndarray, step_mm: float) -> np.ndarray:
    """Return the voxels (X, Y, Z) bool within `NEAR` steps of some; a voxel longer than a step counts as one."""
    if not voxels.any():
        return voxels
    return ndimage.distance_transform_edt(~voxels, np.minimum(spacing_mm, step_mm)) <= NEAR * step_mm


def _share_of_surface(mask: np.ndarray, near: np.ndarray) -> float:
    """Return the share of the voxels next to a mask's surface that are among some (X, Y, Z) bool."""
    edge = with_neighbours(mask) & with_neighbours(~mask)
    return int(np.count_nonzero(edge & near)) / max(int(np.count_nonzero(edge)), 1)


def _deep_voxels(mask: np.ndarray, mask_mm: np.ndarray, step_mm: float) -> np.ndarray:
    """Return the voxels (X, Y, Z) bool that do not lie next to a mask's surface, and its closed holes."""
    edge = with_neighbours(mask) & with_neighbours(~mask)
    deep = ~edge & (np.abs(mask_mm) > THIN * step_mm)
    return deep | (filled(mask) & ~mask)


def _only_deep(mask: np.ndarray, proposal: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) bool with those connected changes of a proposal that are deep somewhere."""
    result = mask.copy()
    for change in (mask & ~proposal, ~mask & proposal):
        labels, count = label_pieces(change)
        reaches = np.zeros(count + 1, bool)
        reaches[np.unique(labels[change & deep])] = True
        result ^= reaches[labels]
    return result
