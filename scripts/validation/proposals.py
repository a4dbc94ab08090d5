"""The fits of a mask as proposals for its repair: how good each is, and what a gate that knew the truth would gain."""

from __future__ import annotations

import numpy as np

from ..geometry.affine import spacing_mm
from ..refine.fusion import cut_regions, follow, fuse
from ..refine.lengths import Lengths
from ..refine.narrow_band import COARSE_MM, FINE_CANONICAL, evaluate_near_surface
from ..refine.reconstruct import ReconstructShape
from ..refine.stages import Fitted
from ..training.prior.check import dice

MAJORITY = "majority"  # of the fits, voxel by voxel: the median of their distances


def score_proposals(fitted: Fitted, reconstruct: ReconstructShape, truth: np.ndarray) -> dict[str, float]:
    """Return the DSC in % of each fit, and of what a gate that knew the truth would make of the mask with it.

    Such a gate refuses a region of which no more than half is right; all else is as in the refinement by shape alone.

    Args:
        fitted: a structure with its fits.
        reconstruct: its step of the chain.
        truth: (X, Y, Z) bool.

    Returns:
        `dsc_<fit>` and `gate_<fit>`, for each fit and the majority.
    """
    measured = reconstruct.measure(fitted)
    assert measured.mask_mm is not None  # fusion is on
    box, spacing, lengths = measured.box, spacing_mm(measured.grid.affine), Lengths.of(fitted.prior)
    band, fine_mm = lengths.tau_mm + COARSE_MM, FINE_CANONICAL / fitted.fit.similarity.scale
    fields = {
        name: evaluate_near_surface(fit, measured.grid, spacing, band, fine_mm)
        for name, fit in fitted.fit.witnesses.items()
    }
    fields[MAJORITY] = np.median(list(fields.values()), axis=0)
    initial = fitted.mask.whole()
    found = {}
    for name, fit_mm in fields.items():
        alone, proposal = np.zeros_like(initial), np.zeros_like(initial)
        alone[box] = fit_mm < 0
        fused = fuse(measured.mask_mm, fit_mm, lengths.tau_mm)
        proposal[box] = fused < 0
        refused = mostly_wrong(initial, proposal, truth, fitted.affine)
        gated = np.where(refused, initial, proposal)
        fused[refused[box]] = measured.mask_mm[refused[box]]
        gated[box] = follow(fused, initial[box], fit_mm, spacing, lengths.reach_mm, refused[box]) < 0
        found[f"dsc_{name}"], found[f"gate_{name}"] = dsc(alone, truth), dsc(gated, truth)
    return found


def mostly_wrong(initial: np.ndarray, proposal: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the regions of a proposal, as the gate cuts them, of which no more than half of the voxels are right.

    Args:
        initial: (X, Y, Z) bool.
        proposal: (X, Y, Z) bool.
        truth: (X, Y, Z) bool.
        affine: (4, 4) voxel → world mm.

    Returns:
        (X, Y, Z) bool.
    """
    gain = np.where(proposal == truth, 1.0, -1.0)
    wrong = np.zeros_like(initial)
    for change in (initial & ~proposal, ~initial & proposal):
        labels, whole = cut_regions(change, affine)
        refused = np.bincount(labels.ravel(), gain.ravel(), len(whole)) <= 0
        wrong |= change & refused[labels]
    return wrong


def dsc(mask: np.ndarray, truth: np.ndarray) -> float:
    """DSC of two masks (X, Y, Z) bool in %."""
    return 100.0 * dice(mask, truth)
