"""Masks larger than their organ can be: networks of few training cases, or of weighted losses, make them so.

A fit follows a mask that is too large all around, and so does every rule that asks how far mask and fit lie apart. What
tells is the volume, where it varies little among people. A mask larger than nearly all organs is taken inward, as if
its surface lay everywhere too far out by the same depth, and what remains is refined. Disease enlarges organs, too, but
a mask torn into many pieces is that of a network which does not know, so of such a mask less is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.runs import label_pieces
from ..geometry.surface import mask_signed_distance
from ..prior.volume import UsualVolume
from .bodies import in_ml, other_bodies
from .fusion import ADD, REMOVE, SAMPLED, SLAB_MM, Region
from .gate import beyond, dice
from .inward import Depth, asked_words
from .likeness import doubts, hopeless, unlike
from .reconstruction import Reconstruction
from .stages import Aligned, Fitted, Unrefined, Whole

# deviations of the volume, see `UsualVolume`, beyond which a mask is too large: 3 and 13 of 543 training organs are
FAR_DEVIATIONS, LARGE_DEVIATIONS = 3.0, 2.0
PIECE_SHARE = 0.001  # of the largest: smaller pieces are stray voxels
# larger pieces of a mask for which the second limit is enough: 175 masks of good networks have three at most, and a
# network that takes a few islands for the organ, too, may be right about how large that is
TORN_PIECES = 6
MANY_PIECES, OF_THEM = 4, 3  # of a mask whose second body is no organ, and how many of them are no stray voxels
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
    pieces, count = label_pieces(mask.part)
    sizes = np.bincount(pieces.ravel())[1:]
    large = np.count_nonzero(sizes >= PIECE_SHARE * sizes.max())
    is_many = count >= MANY_PIECES and large >= OF_THEM
    least_ml = usual.volume_ml_at(LARGE_DEVIATIONS if large >= TORN_PIECES else FAR_DEVIATIONS)
    if not least_ml < float(sizes.max()) * voxel_ml <= MOST_MEANS * usual.mean_ml:
        return None
    kept = np.zeros(mask.shape, bool)
    kept[mask.box] = pieces == sizes.argmax() + 1
    others = other_bodies(mask.whole(), kept, affine, SLAB_MM, side)
    if others and not is_many:
        return None
    body = BoxedMask.of(kept)
    depth, voxels = Depth.of(body, affine), round(usual.volume_ml_at(USUAL_DEVIATIONS) / voxel_ml)
    inward_mm = float(np.sort(depth.mm[depth.mask.part])[::-1][min(voxels, body.count - 1)])
    kept[depth.mask.box] &= depth.deepest(min(voxels, body.count - 1))
    return (BoxedMask.of(kept), Whole(mask, inward_mm, tuple(others))) if kept.any() else None


def replace_mask(label_map: np.ndarray, whole: BoxedMask, moved: BoxedMask, label: int) -> None:
    """Take what is too much of a mask out of a label map (X, Y, Z), and put what it lacked there, in place."""
    label_map[whole.box][whole.part & ~moved[whole.box]] = 0
    label_map[moved.box][moved.part & ~whole[moved.box]] = label


def with_moved(aligned: Sequence[Aligned | Unrefined], label_map: np.ndarray) -> np.ndarray:
    """Return a label map (X, Y, Z) with the masks that were taken inward or outward; the same where none was."""
    moved = [(one, one.whole) for one in aligned if isinstance(one, Aligned) and one.whole is not None]
    label_map = label_map.copy(order="K") if moved else label_map
    for one, whole in moved:
        replace_mask(label_map, whole.mask, one.mask, one.structure.labels[0])
    return label_map


def of_whole(fitted: Fitted, part: Reconstruction) -> tuple[Fitted, Reconstruction]:
    """Return a structure whose mask was taken inward, and its reconstruction, as those of the whole mask.

    Where what remains does not look like its organ, all of the mask stays.
    """
    if fitted.whole is None:
        return fitted, part
    affine, box, whole = fitted.affine, part.box, fitted.whole.mask
    asked = asked_words(fitted.whole.asked_mm) if fitted.whole.asked_mm else ""
    agreement = dice(whole[box], part.fit, whole.count - int(np.count_nonzero(whole[box])))
    if part.doubtful:
        only_asked = fitted.whole.inward_mm == 0
        kept = _without_islands(whole, fitted.mask, part) if only_asked else whole
        signs, lost = doubts(fitted, part.dice_with_fit), hopeless(fitted, part.dice_with_fit)
        taken_in = asked if only_asked else f"{_said(fitted, fitted.whole)}; taken inward"
        done = "nothing but far islands was changed" if only_asked else "nothing was changed"
        why = f"it {unlike(fitted.name, signs, done)}" if signs else lost
        gone = np.argwhere(whole.part & ~kept[whole.box]) + [side.start for side in whole.box]
        return replace(fitted, mask=whole, whole=None), Reconstruction(
            box,
            mask_signed_distance(kept[box], spacing_mm(affine)),
            part.fit,
            [_region(REMOVE, gone, fitted, "far from the rest")] if len(gone) else [],
            beyond(gone, box),
            dice_with_fit=agreement,
            evidence=part.evidence,
            warnings=(f"{taken_in}, {why}",),
            doubtful=True,
        )
    too_much = whole.around(box)
    too_much.put(box, whole[box] & ~fitted.mask[box] & (part.signed_mm >= 0))
    too_much.part[fitted.mask[too_much.box]] = False
    gone = np.argwhere(too_much.part) + [side.start for side in too_much.box]
    added = np.argwhere((part.signed_mm < 0) & fitted.mask[box] & ~whole[box]) + [side.start for side in box]
    too_large = "the mask is larger than nearly all organs are" if fitted.whole.inward_mm else ""
    why = ", and ".join(filter(None, [asked, too_large]))
    moved = ((REMOVE, gone), (ADD, added))
    regions = [_region(kind, voxels, fitted, why) for kind, voxels in moved if len(voxels)]
    others = "".join(f"; another body of {in_ml(b.volume_mm3)}{b.away}, was removed" for b in fitted.whole.others)
    inward = f"it was taken inward by {fitted.whole.inward_mm:.1f} mm, and the rest refined{others}; look at it"
    said = (f"{_said(fitted, fitted.whole)}: {inward}",) if fitted.whole.inward_mm else ()
    return replace(fitted, mask=whole, whole=None), replace(
        part,
        outside=np.concatenate([part.outside, beyond(gone, box)]),
        regions=[*regions, *part.regions],
        dice_with_fit=agreement,
        warnings=(*said, *part.warnings),
        taken_in_mm=fitted.whole.inward_mm,
        inward_mm=fitted.whole.asked_mm,
    )


def _said(fitted: Fitted, whole: Whole) -> str:
    """Say that the mask is too large."""
    usual = UsualVolume.from_card(fitted.prior.card)
    assert usual is not None  # or nothing would have been taken inward
    low, high = (in_ml(1000.0 * usual.volume_ml_at(deviations)) for deviations in (-1.96, 1.96))
    volume = in_ml(whole.mask.count * voxel_volume_mm3(fitted.affine))
    return f"a mask of {volume} is far too large for {fitted.name} (19 of 20 have {low.removesuffix(' ml')} to {high})"


def _without_islands(whole: BoxedMask, moved: BoxedMask, part: Reconstruction) -> BoxedMask:
    """Return a mask without the pieces that went of what came of it when it was moved."""
    stays = moved.around(part.box)
    stays.put(part.box, moved[part.box] & (part.signed_mm < 0))
    stays.remove(part.outside)
    pieces, count = label_pieces(whole.part)
    had, has = (np.isin(np.arange(count + 1), pieces[mask[whole.box]]) for mask in (moved, stays))
    return BoxedMask(whole.shape, whole.box, whole.part & ~(had & ~has)[pieces])


def _region(kind: str, voxels: np.ndarray, fitted: Fitted, why: str) -> Region:
    """Return the voxels (N, 3) that were too much, or too few, as a region of the report."""
    world = apply_affine(fitted.affine, voxels[:: len(voxels) // SAMPLED + 1].astype(float))
    x, y, z = (round(float(v), 1) for v in world.mean(0))
    fit_mm = round(float(fitted.fit.sdf_mm(world).mean()), 3)
    volume_mm3 = round(len(voxels) * voxel_volume_mm3(fitted.affine), 1)
    return Region(kind, volume_mm3, fit_mm, None, None, False, True, why, (x, y, z))
