"""From reconstructions to one label map: structures side by side without overlaps, and what a report says of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry.affine import spacing_mm, voxel_volume_mm3
from .reconstruct import Reconstruction
from .shape_case import ShapeCase


def merge(
    label_map: np.ndarray,
    affine: np.ndarray,
    masks: Mapping[str, np.ndarray],
    parts: list[tuple[ShapeCase, Reconstruction]],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Replace structures of a label map by their reconstructions.

    Args:
        label_map: (X, Y, Z).
        affine: (4, 4) voxel → world mm.
        masks: structure name → its voxels there, (X, Y, Z) bool; they do not overlap.
        parts: the structures to replace.

    Returns:
        The refined label map, and structure name → its voxels there.
    """
    refined = label_map.copy(order="K")  # arrays of mixed memory order are compared very slowly
    after = {case.name: masks[case.name].copy(order="K") for case, _ in parts}
    for case, part in parts:
        gone = masks[case.name][part.box] & (part.signed_mm >= 0)
        for volume in (refined, after[case.name]):
            volume[part.box][gone] = 0
            volume[tuple(part.outside.T)] = 0
    depth: dict[int, np.ndarray] = {}
    for index, (_, part) in enumerate(parts):
        add = (part.signed_mm < 0) & (refined[part.box] == 0)
        for other, (_, rival) in enumerate(parts):
            shared = _overlap(part.box, rival.box) if other != index else None
            if shared is not None:
                mine, its = part.signed_mm[shared[0]], rival.signed_mm[shared[1]]
                wins = (mine < its) | ((mine == its) & (index < other))
                add[shared[0]] &= wins | (its >= 0)
        depth[index] = add
    for index, (case, part) in enumerate(parts):
        new = _new_labels(case, label_map[part.box], affine, masks[case.name][part.box], depth[index])
        refined[part.box][depth[index]] = new
        after[case.name][part.box] |= depth[index]
    return refined, after


def _new_labels(
    case: ShapeCase, label_map: np.ndarray, affine: np.ndarray, own: np.ndarray, add: np.ndarray
) -> np.ndarray:
    """Labels (N,) of the added voxels: the structure's only one, or that of the nearest of its own initial voxels."""
    if len(case.structure.labels) == 1 or not add.any() or not own.any():
        return np.full(int(add.sum()), case.structure.labels[0], label_map.dtype)
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


def describe(
    case: ShapeCase, part: Reconstruction, before: np.ndarray, after: np.ndarray, affine: np.ndarray
) -> dict[str, Any]:
    """Return what a report says of one structure: figures of alignment and fit, volumes, and every region judged.

    `followed_ml` changed around accepted regions without belonging to one; `left_to_others_ml` would have been added,
    but is another label's. `before` and `after` are its voxels (X, Y, Z) bool of the initial and the refined label map.
    """
    assert case.transform is not None and case.fitted is not None
    voxel_ml = voxel_volume_mm3(affine) / 1000.0
    wanted = (part.signed_mm < 0) & ~before[part.box]
    return {
        "alignment": {
            "mirrored": case.transform.mirrored,
            "rotation_deg": round(case.transform.rotation_deg, 2),
            "scale": round(case.fitted.similarity.scale * (case.prior.scale_mm if case.prior else 1.0), 3),
            "converged": case.transform.converged,
        },
        "fit": {**case.fitted.figures, "dice_with_fit": round(part.dice_with_fit, 3)},
        "evidence": part.evidence,
        "volume_ml": {"initial": round(before.sum() * voxel_ml, 4), "refined": round(after.sum() * voxel_ml, 4)},
        "removed_ml": round(float((before & ~after).sum()) * voxel_ml, 4),
        "added_ml": round(float((after & ~before).sum()) * voxel_ml, 4),
        "followed_ml": round(part.followed * voxel_ml, 4),
        "left_to_others_ml": round(float((wanted & ~after[part.box]).sum()) * voxel_ml, 4),
        "regions": [region.as_json() for region in part.regions],
    }
