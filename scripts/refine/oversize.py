"""Masks larger than their organ can be: networks of few training cases, or of weighted losses, make them so.

A fit follows a mask that is too large all around, and so does every rule that asks how far mask and fit lie apart. What
tells is the volume, which varies little among people. A mask larger than nearly all organs is taken inward, as if its
surface lay everywhere too far out by the same depth, and what remains is refined. Disease enlarges organs, too, but a
mask in many pieces is that of a network which does not know, so of such a mask less is enough.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.surface import mask_signed_distance
from ..prior.volume import UsualVolume
from .bodies import TOUCH, other_bodies
from .fusion import REMOVE, SAMPLED, SLAB_MM, Region
from .reconstruction import Reconstruction
from .stages import Fitted

FAR, LARGE = 3.0, 2.0  # deviations of the volume, see `UsualVolume`: 3 and 13 of 543 training organs are larger
MANY = 4  # pieces of a mask for which `LARGE` is enough; those of experts have fewer
USUAL = 1.0  # deviations of what remains: the least change that makes it a usual organ
MOST = 6.0  # times the mean volume: beyond it is no mask of this organ


def taken_in(
    mask: BoxedMask, affine: np.ndarray, usual: UsualVolume | None, side: str = ""
) -> tuple[BoxedMask, float] | None:
    """Return what remains of a mask that is too large, its largest body taken inward, and by how many mm.

    Args:
        mask: of a grid.
        affine: (4, 4) voxel → world mm.
        usual: the organ's volume; None where it is not known.
        side: see `bodies.twin_share`.

    Returns:
        None of a mask that is not too large, too large for any mask of the organ, or whose second body may be an organ,
        too.
    """
    voxel_ml = voxel_volume_mm3(affine) / 1000.0
    if usual is None or not mask.count * voxel_ml > usual.at(LARGE):
        return None
    pieces, count = ndimage.label(mask.part, TOUCH)
    sizes = np.bincount(pieces.ravel())[1:]
    body = pieces == sizes.argmax() + 1
    volume_ml = float(sizes.max()) * voxel_ml
    if not usual.at(LARGE if count >= MANY else FAR) < volume_ml <= MOST * usual.mean_ml:
        return None
    kept = np.zeros(mask.shape, bool)
    kept[mask.box] = body
    if other_bodies(mask.whole(), kept, affine, SLAB_MM, side):
        return None
    spacing = spacing_mm(affine)
    margins = [(int(s.start > 0), int(s.stop < n)) for s, n in zip(mask.box, mask.shape, strict=True)]
    inner = tuple(slice(low, low + n) for (low, _), n in zip(margins, body.shape, strict=True))
    depth_mm = -mask_signed_distance(np.pad(body, margins), spacing)  # beyond the image nothing is known
    # distances come in steps of a voxel; smoothed, they rank the voxels of a step
    depth_mm = ndimage.gaussian_filter(depth_mm, spacing.min() / spacing, mode="nearest")[inner]
    within = np.sort(depth_mm[body])[::-1]
    limit_mm = float(within[min(round(usual.at(USUAL) / voxel_ml), len(within) - 1)])
    kept[mask.box] &= depth_mm > limit_mm
    return (BoxedMask.of(kept), limit_mm) if kept.any() else None


def without(label_map: np.ndarray, whole: BoxedMask, remains: BoxedMask) -> None:
    """Take what is too much of a mask out of a label map (X, Y, Z), in place."""
    label_map[whole.box][whole.part & ~remains[whole.box]] = 0


def of_whole(fitted: Fitted, part: Reconstruction) -> tuple[Fitted, Reconstruction]:
    """Return a structure whose mask was taken inward, and its reconstruction, as those of the whole mask.

    Where what remains does not look like its organ, all of the mask stays.
    """
    if fitted.whole is None:
        return fitted, part
    affine, box, whole = fitted.affine, part.box, fitted.whole.mask
    if part.doubtful:
        signed_mm = mask_signed_distance(whole[box], spacing_mm(affine))
        return replace(fitted, mask=whole), replace(
            part, signed_mm=signed_mm, regions=[], outside=np.zeros((0, 3), int), followed=0, steps_mm=None
        )
    usual = UsualVolume.from_card(fitted.prior.card)
    low_ml, high_ml = (0.0, 0.0) if usual is None else (usual.at(-1.96), usual.at(1.96))
    too_much = whole.around(box)
    too_much.put(box, whole[box] & ~fitted.mask[box] & (part.signed_mm >= 0))
    too_much.part[fitted.mask[too_much.box]] = False
    gone = np.argwhere(too_much.part) + [side.start for side in too_much.box]
    beyond = ((gone < [side.start for side in box]) | (gone >= [side.stop for side in box])).any(axis=1)
    volume_ml = whole.count * voxel_volume_mm3(affine) / 1000.0
    said = (
        f"a mask of {volume_ml:.3g} ml is far too large for {fitted.name} (19 of 20 have {low_ml:.2g} to {high_ml:.2g} "
        f"ml): it was taken inward by {fitted.whole.inward_mm:.1f} mm, and the rest refined; look at it"
    )
    both = 2.0 * np.count_nonzero(whole[box] & part.fit) / (whole.count + np.count_nonzero(part.fit))
    return replace(fitted, mask=whole), replace(
        part,
        outside=np.concatenate([part.outside, gone[beyond]]),
        regions=[*([_region(gone, fitted)] if len(gone) else []), *part.regions],
        dice_with_fit=float(both),
        warnings=(said, *part.warnings),
        taken_in_mm=fitted.whole.inward_mm,
    )


def _region(gone: np.ndarray, fitted: Fitted) -> Region:
    """Return the voxels (N, 3) that were too much as a region of the report."""
    world = apply_affine(fitted.affine, gone[:: len(gone) // SAMPLED + 1].astype(float))
    x, y, z = (round(float(v), 1) for v in world.mean(0))
    fit_mm = round(float(fitted.fit.sdf_mm(world).mean()), 3)
    volume_mm3 = round(len(gone) * voxel_volume_mm3(fitted.affine), 1)
    why = "the mask is larger than the organ can be"
    return Region(REMOVE, volume_mm3, fit_mm, None, None, False, True, why, (x, y, z))
