"""From reconstructions to one label map: structures side by side without overlaps, and what a report says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry.affine import spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask, within
from ..prior.volume import UsualVolume
from .agreement import Agreement
from .expected import readers_of
from .inward import to_usual_mm
from .likeness import cut_flat, unknown_shape
from .reconstruction import Reconstruction
from .stages import Fitted


def merge(
    label_map: np.ndarray, affine: np.ndarray, parts: Sequence[tuple[Fitted, Reconstruction]]
) -> tuple[np.ndarray, dict[str, BoxedMask]]:
    """Replace structures of a label map by their reconstructions.

    Args:
        label_map: (X, Y, Z).
        affine: (4, 4) voxel → world mm.
        parts: the structures to replace; their masks are of this label map and do not overlap. Who gets what two of
            them would have, see `_wins`.

    Returns:
        The refined label map, and structure name → its voxels there.
    """
    refined = label_map.copy(order="K")  # arrays of mixed memory order are compared very slowly
    after = {fitted.name: fitted.mask.around(part.box) for fitted, part in parts}
    for fitted, part in parts:
        refined[part.box][fitted.mask[part.box]] = 0
        refined[tuple(part.outside.T)] = 0
        after[fitted.name].remove(part.outside)
    wanted = [(part.signed_mm < 0) & (refined[part.box] == 0) for _, part in parts]
    for index, one in enumerate(parts):
        for other in range(index):
            shared = _overlap(one[1].box, parts[other][1].box)
            if shared is not None:
                mine, its = wanted[index][shared[0]], wanted[other][shared[1]]
                both = mine & its
                if both.any():
                    wins = _wins(one, parts[other], shared)
                    mine &= ~both | wins
                    its &= ~both | ~wins
    for (fitted, part), inside in zip(parts, wanted, strict=True):
        own = fitted.mask[part.box]
        kept, add = own & inside, ~own & inside
        refined[part.box][kept] = label_map[part.box][kept]
        refined[part.box][add] = _new_labels(fitted, label_map[part.box], affine, own, add)
        after[fitted.name].put(part.box, inside)
    return refined, after


def _wins(
    one: tuple[Fitted, Reconstruction],
    other: tuple[Fitted, Reconstruction],
    shared: tuple[tuple[slice, ...], tuple[slice, ...]],
) -> np.ndarray:
    """Where a structure gets a voxel that it and another, which comes before it, would have.

    Where an image was asked of both, and neither is doubtful, it is the likelier of the two. Otherwise a structure
    keeps its own voxels, and what neither had goes to the one whose surface it lies deeper in.

    Args:
        one: the structure.
        other: the other one.
        shared: slices of what their boxes share, in the structure's box and in the other's.

    Returns:
        Array of what they share, bool.
    """
    (fitted, part), (its_fitted, its), (here, there) = one, other, shared
    wins = part.signed_mm[here] < its.signed_mm[there]
    wins |= fitted.mask[part.box][here]
    wins &= ~its_fitted.mask[its.box][there]
    if part.probability is None or its.probability is None or part.doubtful or its.doubtful:
        return wins
    more = part.probability[here] - its.probability[there]
    return np.where(np.isnan(more), wins, more > 0)


def _new_labels(
    fitted: Fitted, label_map: np.ndarray, affine: np.ndarray, own: np.ndarray, add: np.ndarray
) -> np.ndarray:
    """Labels (N,) of the added voxels: the structure's only one, or that of the nearest of its own initial voxels."""
    if len(fitted.structure.labels) == 1 or not add.any() or not own.any():
        return np.full(int(add.sum()), fitted.structure.labels[0], label_map.dtype)
    nearest = ndimage.distance_transform_edt(
        ~own, sampling=spacing_mm(affine), return_distances=False, return_indices=True
    )
    return label_map[tuple(nearest[:, add])]


def _overlap(one: tuple[slice, ...], other: tuple[slice, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Slices into two boxes' arrays where the boxes overlap, or None."""
    lower = [max(a.start, b.start) for a, b in zip(one, other, strict=True)]
    upper = [min(a.stop, b.stop) for a, b in zip(one, other, strict=True)]
    if any(a >= b for a, b in zip(lower, upper, strict=True)):
        return None
    own = [
        tuple(slice(a - s.start, b - s.start) for a, b, s in zip(lower, upper, box, strict=True))
        for box in (one, other)
    ]
    return own[0], own[1]


def describe(fitted: Fitted, part: Reconstruction, after: BoxedMask) -> dict[str, Any]:
    """Return what a report says of one structure: figures of alignment and fit, volumes, and every region judged.

    `steps_mm` are the steps of stairs that were smoothed, along the axes of the grid, see `stairs`; `taken_in_mm` is by
    how much a mask larger than its organ can be was taken inward, see `oversize`, `inward_mm` by how much as the run
    asked for, and `to_usual_mm` by how much the initial one must be to have a usual volume, see `inward`.
    `followed_ml` changed around accepted regions without belonging to one; `left_to_others_ml` would be the
    structure's, but is another label's. `doubtful` says that the fit cannot be right, `outside_prior` that the prior
    does not know such a shape. `agreement` holds the figures that the quality is predicted from, see
    `Agreement` and `expected`. `after` are the structure's voxels in the refined label map, in a box that holds its
    initial ones.
    """
    before, transform = fitted.mask[after.box], fitted.transform
    voxel_ml = voxel_volume_mm3(fitted.affine) / 1000.0
    usual = UsualVolume.from_card(fitted.prior.card)
    wanted = part.signed_mm < 0
    fit = np.zeros(after.part.shape, bool)
    fit[within(part.box, after.box)] = part.fit
    figures = Agreement(fitted, before, fit, after.box)
    known = first = figures.of(before)
    changed = int(np.count_nonzero(before != after.part))
    if changed:
        known = figures.of(after.part)
    for reader in readers_of(fitted, part, after):
        first |= reader.figures(before, fitted.fit.radius_mm)
        known |= reader.figures(after.part, fitted.fit.radius_mm)
    agreed = part.agreement if fitted.seen is None or fitted.seen.disputed is None else fitted.seen.disputed
    strange = unknown_shape(part.doubtful or part.taken_in_mm > 0, part.warnings, known["dice_with_fit"] or 0.0)
    cut = "" if fitted.drawn is not None else cut_flat(fitted.structure, known["initial_flat_end"] or 0.0)
    return {
        "alignment": {
            "mirrored": transform.mirrored,
            "rotation_deg": round(transform.rotation_deg, 2),
            "scale": round(fitted.fit.similarity.scale * fitted.prior.scale_mm, 3),
            "converged": transform.converged,
        },
        "fit": {
            **fitted.fit.figures,
            "dice_with_fit": round(part.dice_with_fit, 3),
            "radius_mm": round(fitted.fit.radius_mm, 3),
            "codes": fitted.fit.codes.round(3).tolist(),
        },
        "evidence": part.evidence,
        "second_reader_dice": None if agreed is None else round(agreed, 3),
        "doubtful": part.doubtful,
        "warnings": [*part.warnings, *([cut] if cut else [])],
        "volume_ml": {"initial": round(before.sum() * voxel_ml, 4), "refined": round(after.part.sum() * voxel_ml, 4)},
        "changed_voxels": changed,
        "removed_ml": round(float((before & ~after.part).sum()) * voxel_ml, 4),
        "added_ml": round(float((after.part & ~before).sum()) * voxel_ml, 4),
        "steps_mm": None if part.steps_mm is None else part.steps_mm.round(2).tolist(),
        "taken_in_mm": round(part.taken_in_mm, 2),
        "inward_mm": round(part.inward_mm, 2),
        "to_usual_mm": None if usual is None else round(to_usual_mm(fitted.mask, fitted.affine, usual), 2),
        "followed_ml": round(part.followed * voxel_ml, 4),
        "left_to_others_ml": round(float((wanted & ~after[part.box]).sum()) * voxel_ml, 4),
        "outside_prior": bool(strange),
        "outside_prior_reason": strange,
        "agreement": {"initial": first, "refined": known},
        "regions": [region.as_json() for region in part.regions],
    }
