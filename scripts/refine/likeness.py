"""Likeness: whether a mask looks like its organ where its header puts it.

A fit follows nearly any mask somehow. Where the orientation in the header is lost or label values are exchanged, it is
wrong by more than any gate can see region by region, so all signs together are weighed once, before the gate, or where
there is none, before the fit replaces the mask. No single weak sign is proof: true kidneys stand at the limit of the
rotation, and a broken mask has a low Dice with its fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import spatial

from ..geometry.affine import apply_affine, box_affine
from ..geometry.picct import MAX_ROTATION_DEG
from ..geometry.runs import Runs
from ..organ.structure import Structure
from ..prior.context import Context
from .stages import Fitted

ENOUGH = 3  # points of doubt
TURNED, ELSEWHERE, WEAK = 3, 2, 1  # what the signs count; to lie off by more than its radius counts as turned
ELSEWHERE_MM = 8.0  # half of a mask's surface is farther than this from where the joint model expects it
FIT_ELSEWHERE_MM = 5.0  # the same of what is expected and the fit, which was fitted to the mask
LEAST_OTHERS = 2  # structures that must have told the joint model where to expect one before a doubt is dropped
HOPELESS_DICE = 0.3  # of a mask with its own fit: below it, after an alignment that did not settle, nothing is known
LEAST_DICE, LEAST_NEAR, LARGEST_SCALE = 0.75, 0.5, 1.5
CUT_FLAT = 0.7  # an initial mask that ends as flat as this was cut, see `agreement.flat_end`


def doubts(fitted: Fitted, dice: float) -> list[str]:
    """Say why a mask does not look like its organ.

    Where a joint model was fitted, the other structures know best where it must lie, and how the axes run: if they
    agree, or what they expect is in the mask and its fit, there is no doubt. Of a mask that was taken inward, which
    may be that of a larger neighbour, both must hold its organ.

    Args:
        fitted: the structure.
        dice: Dice coefficient of the mask with its fit.

    Returns:
        The signs in words; none where the mask looks like its organ, or the signs are not enough.
    """
    transform, near = fitted.transform, fitted.fit.figures["share_within_2mm"]
    scale = fitted.fit.similarity.scale * fitted.prior.scale_mm  # of anchor to case
    away_mm = 0.0
    if fitted.context is not None:
        away_mm = float(np.median(np.abs(fitted.context.of(fitted.name, fitted.samples.points_world))))
        taken_in = fitted.whole is not None and fitted.whole.inward_mm > 0
        strict = taken_in and _others(fitted, fitted.context) >= LEAST_OTHERS
        if (away_mm < ELSEWHERE_MM and not strict) or _found(fitted, fitted.context):
            return []
        if strict:
            return ["taken inward it lies elsewhere than the other structures say"]
    signs = [
        (TURNED, bool(transform.turn), f"{transform.turn} it would fit"),
        (
            ELSEWHERE if away_mm < fitted.fit.radius_mm else TURNED,
            away_mm >= ELSEWHERE_MM,
            f"it lies {away_mm:.0f} mm from where the other structures say",
        ),
        (WEAK, transform.rotation_deg >= MAX_ROTATION_DEG, f"it stands {MAX_ROTATION_DEG:.0f}° or more from upright"),
        (WEAK, not transform.converged, "its alignment did not settle"),
        (WEAK, dice < LEAST_DICE, f"its Dice with its own fit is {dice:.2f}"),
        (WEAK, near < LEAST_NEAR, f"{100 * near:.0f} % of its surface is near the fit"),
        (WEAK, not 1.0 / LARGEST_SCALE <= scale <= LARGEST_SCALE, f"its size is {1.0 / scale:.2f} of the usual"),
    ]
    found = [(points, words) for points, seen, words in signs if seen]
    return [words for _, words in found] if sum(points for points, _ in found) >= ENOUGH else []


def _found(fitted: Fitted, context: Context) -> bool:
    """Return whether mask and fit have a surface where the other structures say, whatever else the mask holds.

    A leak, or other organs beside it, puts most of a mask's surface elsewhere, but the organ is in it. It is not in
    another organ's mask, or a turned one.
    """
    if _others(fitted, context) < LEAST_OTHERS:
        return False
    expected = context.surface_points(fitted.name)
    if not len(expected) or np.median(np.abs(fitted.fit.sdf_mm(expected))) >= FIT_ELSEWHERE_MM:
        return False
    corner = box_affine(fitted.affine, [side.start for side in fitted.mask.box])
    surface = apply_affine(corner, Runs.of(fitted.mask.part).rim().astype(float))
    return float(np.median(spatial.cKDTree(surface).query(expected)[0])) < ELSEWHERE_MM


def _others(fitted: Fitted, context: Context) -> int:
    """Return how many other structures the joint model was fitted to."""
    return len(set(context.structures) - {fitted.name})


def hopeless(fitted: Fitted, dice: float) -> str:
    """Say that a fit has hardly anything to do with its mask, "" if it has; `dice` is the mask's with its fit."""
    if fitted.transform.converged or dice >= HOPELESS_DICE:
        return ""
    return f"the fit cannot be right: its Dice with the mask is {dice:.2f} and the alignment did not settle: look at it"


def unknown_shape(doubtful: bool, warnings: Sequence[str], dice: float) -> str:
    """Say why the prior does not know a shape, "" if it does: of such a mask nothing reliable can be predicted.

    Args:
        doubtful: whether the fit cannot be right, or the mask was far too large.
        warnings: of the structure; the first says why.
        dice: Dice coefficient of the refined mask, whose islands are gone, with the fit.
    """
    if doubtful and warnings:
        return warnings[0]
    if dice < LEAST_DICE:
        return (
            f"the refined mask's Dice with the fitted shape is {dice:.2f}: surgery, a tumour, another organ, or too "
            "broken to tell"
        )
    return ""


def cut_flat(structure: Structure, share: float) -> str:
    """Say that an initial mask ends in a plane, "" if it does not, or by convention.

    A fit follows such a cut, so that nothing else tells of what is missing. `share` is that of `agreement.flat_end`.
    """
    if structure.flat_ends or share < CUT_FLAT:
        return ""
    return (
        f"the {structure.name} ended in a plane, across {100 * share:.0f} % of its largest section: a part was "
        "probably missing, and may still be"
    )


def unlike(name: str, signs: Sequence[str], done: str = "nothing but far islands was changed") -> str:
    """Say what the signs mean to the user, what was done, and what to check."""
    return (
        f"does not look like {name} where its header puts it ({'; '.join(signs)}): {done}; "
        "check the orientation in the mask's header and the values of its labels"
    )
