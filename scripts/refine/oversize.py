"""Masks larger than their organ can be: networks of few training cases, or of weighted losses, make them so.

A fit follows a mask that is too large all around, and so does every rule that asks how far mask and fit lie apart. What
tells is the volume, where it varies little among people. A mask larger than nearly all organs is taken inward, as if
its surface lay everywhere too far out by the same depth, and what remains is refined. Disease enlarges organs, too, but
a mask in many pieces is that of a network which does not know, so of such a mask less is enough.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.surface import mask_signed_distance
from ..prior.volume import UsualVolume
from .bodies import TOUCH, in_ml, other_bodies
from .fusion import REMOVE, SAMPLED, SLAB_MM, Region
from .gate import beyond, dice
from .likeness import doubts, hopeless, unlike
from .reconstruction import Reconstruction
from .stages import Fitted, Whole

# deviations of the volume, see `UsualVolume`, beyond which a mask is too large: 3 and 13 of 543 training organs are
FAR_DEVIATIONS, LARGE_DEVIATIONS = 3.0, 2.0
MANY_PIECES = 4  # of a mask for which the second is enough, and whose second body is no organ; experts' have fewer
PIECE_SHARE = 0.001  # of the largest, which the third of them has at least: or they are stray voxels
USUAL_DEVIATIONS = 1.0  # of what remains: the least change that makes it a usual organ
MOST_MEANS = 6.0  # times the mean volume: beyond it is no mask of this organ
# where organs vary more (spleen, stomach, ventricles, kidneys with tumours), their volume says nothing
WIDE_LOG_SD = 0.45


def taken_in(
    mask: BoxedMask, affine: np.ndarray, usual: UsualVolume | None, side: str = ""
) -> tuple[BoxedMask, Whole] | None:
    """Return what remains of a mask that is too large, its largest body taken inward, and what it was.

    Args:
        mask: of a grid.
        affine: (4, 4) voxel → world mm.
        usual: the organ's volume; None where it is not known.
        side: see `bodies.twin_share`.

    Returns:
        None of a mask that is not too large, too large for any mask of the organ, or of few pieces whose second may be
        an organ, too; and of organs of all sizes.
    """
    voxel_ml = voxel_volume_mm3(affine) / 1000.0
    if usual is None or usual.log_sd > WIDE_LOG_SD or mask.count * voxel_ml <= usual.volume_ml_at(LARGE_DEVIATIONS):
        return None
    pieces, count = ndimage.label(mask.part, TOUCH)
    sizes = np.bincount(pieces.ravel())[1:]
    is_many = count >= MANY_PIECES and np.sort(sizes)[-3] >= PIECE_SHARE * sizes.max()
    least_ml = usual.volume_ml_at(LARGE_DEVIATIONS if is_many else FAR_DEVIATIONS)
    if not least_ml < float(sizes.max()) * voxel_ml <= MOST_MEANS * usual.mean_ml:
        return None
    kept = np.zeros(mask.shape, bool)
    kept[mask.box] = pieces == sizes.argmax() + 1
    others = other_bodies(mask.whole(), kept, affine, SLAB_MM, side)
    if others and not is_many:
        return None
    body, spacing = BoxedMask.of(kept), spacing_mm(affine)
    margins = [(int(s.start > 0), int(s.stop < n)) for s, n in zip(body.box, body.shape, strict=True)]
    inner = tuple(slice(low, low + n) for (low, _), n in zip(margins, body.part.shape, strict=True))
    depth_mm = -mask_signed_distance(np.pad(body.part, margins), spacing)  # beyond the image nothing is known
    # depths come in steps of a voxel; smoothed, they rank the voxels of a step
    order = ndimage.gaussian_filter(depth_mm, spacing.min() / spacing, mode="nearest")[inner]
    last = min(round(usual.volume_ml_at(USUAL_DEVIATIONS) / voxel_ml), body.count - 1)
    inward_mm = float(np.sort(depth_mm[inner][body.part])[::-1][last])
    kept[body.box] &= order > np.sort(order[body.part])[::-1][last]
    return (BoxedMask.of(kept), Whole(mask, inward_mm, tuple(others))) if kept.any() else None


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
    agreement = dice(whole[box], part.fit, whole.count - int(np.count_nonzero(whole[box])))
    if part.doubtful:
        signs, lost = doubts(fitted, part.dice_with_fit), hopeless(fitted, part.dice_with_fit)
        why = f"it {unlike(fitted.name, signs, 'nothing was changed')}" if signs else lost
        return replace(fitted, mask=whole, whole=None), Reconstruction(
            box,
            mask_signed_distance(whole[box], spacing_mm(affine)),
            part.fit,
            [],
            np.zeros((0, 3), int),
            dice_with_fit=agreement,
            evidence=part.evidence,
            warnings=(f"{_said(fitted, fitted.whole)}; taken inward, {why}",),
            doubtful=True,
        )
    too_much = whole.around(box)
    too_much.put(box, whole[box] & ~fitted.mask[box] & (part.signed_mm >= 0))
    too_much.part[fitted.mask[too_much.box]] = False
    gone = np.argwhere(too_much.part) + [side.start for side in too_much.box]
    others = "".join(f"; another body of {in_ml(b.volume_mm3)}{b.away}, was removed" for b in fitted.whole.others)
    inward = f"it was taken inward by {fitted.whole.inward_mm:.1f} mm, and the rest refined{others}; look at it"
    return replace(fitted, mask=whole, whole=None), replace(
        part,
        outside=np.concatenate([part.outside, beyond(gone, box)]),
        regions=[*([_region(gone, fitted)] if len(gone) else []), *part.regions],
        dice_with_fit=agreement,
        warnings=(f"{_said(fitted, fitted.whole)}: {inward}", *part.warnings),
        taken_in_mm=fitted.whole.inward_mm,
    )


def _said(fitted: Fitted, whole: Whole) -> str:
    """Say that the mask is too large."""
    usual = UsualVolume.from_card(fitted.prior.card)
    assert usual is not None  # or nothing would have been taken inward
    low, high = (in_ml(1000.0 * usual.volume_ml_at(deviations)) for deviations in (-1.96, 1.96))
    volume = in_ml(whole.mask.count * voxel_volume_mm3(fitted.affine))
    return f"a mask of {volume} is far too large for {fitted.name} (19 of 20 have {low.removesuffix(' ml')} to {high})"


def _region(gone: np.ndarray, fitted: Fitted) -> Region:
    """Return the voxels (N, 3) that were too much as a region of the report."""
    world = apply_affine(fitted.affine, gone[:: len(gone) // SAMPLED + 1].astype(float))
    x, y, z = (round(float(v), 1) for v in world.mean(0))
    fit_mm = round(float(fitted.fit.sdf_mm(world).mean()), 3)
    volume_mm3 = round(len(gone) * voxel_volume_mm3(fitted.affine), 1)
    why = "the mask is larger than nearly all organs are"
    return Region(REMOVE, volume_mm3, fit_mm, None, None, False, True, why, (x, y, z))
