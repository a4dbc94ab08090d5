"""Reconstruction: from the fitted field back to voxels and a mesh (METHOD 5).

The field is evaluated at the voxel centres of the original grid, in the organ's box only: coarsely everywhere, closely
near its surface. The mesh is drawn from the same fused signed distances (see `draw_mesh`), so both agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy import special

from ..geometry.affine import apply_affine, box_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import mask_signed_distance
from .bodies import Body, Islands, crumbs, far_islands, is_comparable, other_bodies
from .fusion import (
    LEAST_SOUND,
    REMOVE,
    SAMPLED,
    SLAB_MM,
    SOUND_DICE,
    Region,
    Soundness,
    follow,
    fuse,
    judge_beyond,
    judge_regions,
)
from .lengths import Lengths
from .likeness import doubts, hopeless, unlike
from .limits import Limits
from .narrow_band import COARSE_MM, FINE_CANONICAL, evaluate_near_surface
from .odds import follow_odds, without_thin
from .planes import FILLED, DrawnSlices
from .seen import Readers, scene_of
from .settings import RefineSettings
from .sparse import follow as follow_drawn
from .stages import Fitted
from .stairs import mask_distance

MARGIN_MM = 15.0
LIMIT_MM = 6.0  # signed distances of the mask are exact below it; only their signs and what is near 0 decide
LEAST_MM = 0.01  # stands for a voxel's side before its distance is known
SHAPE, DRAWN = "shape", "drawn slices"
IMAGE, MASK = "image", "mask"  # that a voxel head decided: with an image, or by mask and fits


@dataclass(frozen=True)
class Reconstruction:
    """One structure's refined signed distance in its box of the original grid.

    Attributes:
        box: slices of the original grid.
        signed_mm: (x, y, z) float32, negative inside.
        fit: (x, y, z) bool, the inside of the fitted shape.
        regions: what was judged.
        outside: voxels of the initial mask beyond the box that are removed, as indices (N, 3) of the original grid.
        followed: how many voxels were changed around accepted regions, or by a voxel head, without belonging to one.
        dice_with_fit: Dice coefficient of the initial mask with the fit.
        evidence: what decided: "image" or "mask" (the voxel head, with image or without), "probability", "drawn
            slices", or "shape" where none of these did.
        warnings: what a user should know of the structure.
        doubtful: whether the fit cannot be right.
        probability: (x, y, z) of the voxel head with the image, NaN where it says nothing; None without an image.
        steps_mm: (3,) how long the steps were that were smoothed, see `stairs`; None where the mask had none.
    """

    box: tuple[slice, slice, slice]
    signed_mm: np.ndarray
    fit: np.ndarray
    regions: list[Region]
    outside: np.ndarray
    followed: int = 0
    dice_with_fit: float = 0.0
    evidence: str = SHAPE
    warnings: tuple[str, ...] = ()
    doubtful: bool = False
    probability: np.ndarray | None = None
    steps_mm: np.ndarray | None = None


@dataclass(frozen=True)
class Measured:
    """What a structure's reconstruction decides on, in its box of the original grid; no limit of the gate enters it.

    Attributes:
        box: slices of the mask's grid.
        grid: the box's own grid.
        fit_mm: (x, y, z) signed distance of the fit.
        mask_mm: (x, y, z) signed distance of the initial mask, its stairs smoothed; None without fusion.
        context_mm: (x, y, z) signed distance of the joint model; None without one.
        log_odds: (x, y, z) of the voxel head, NaN where it says nothing; None where none was asked.
        steps_mm: (3,) how long the steps of the mask's stairs are, see `stairs`; None where it has none.
    """

    box: tuple[slice, slice, slice]
    grid: WorldGrid
    fit_mm: np.ndarray
    mask_mm: np.ndarray | None
    context_mm: np.ndarray | None
    log_odds: np.ndarray | None = None
    steps_mm: np.ndarray | None = None


class ReconstructShape:
    """Turns a fitted shape into a refined signed distance on the original grid.

    Args:
        settings: see `RefineSettings`.
        readers: the voxel heads of the structure, if the pack has such.
        side: "left" or "right" where the other side has a label of its own, see `bodies.twin_share`.
    """

    def __init__(self, settings: RefineSettings, readers: Readers | None = None, side: str = "") -> None:
        self.settings = settings
        self.readers = readers or Readers()
        self.side = side

    def __call__(self, fitted: Fitted) -> Reconstruction:
        """Reconstruct one structure.

        Args:
            fitted: the structure; of one of drawn slices all else is the fit's to say.

        Raises:
            ValueError: the fit has left the grid.
        """
        measured = self.measure(fitted)
        drawn = fitted.drawn
        return self.judge(measured, fitted) if drawn is None else self.between(measured, fitted, drawn)

    def measure(self, fitted: Fitted) -> Measured:
        """Evaluate all signed distances of one structure.

        Raises:
            ValueError: the fit has left the grid.
        """
        chosen = self.settings
        mask, affine = fitted.mask, fitted.affine
        box = _box(fitted)
        shape = (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)
        grid = WorldGrid(box_affine(affine, [s.start for s in box]), shape)
        spacing = spacing_mm(affine)
        band = Lengths.of(fitted.prior).tau_mm + COARSE_MM if chosen.fusion else COARSE_MM
        fine_mm = FINE_CANONICAL / fitted.fit.similarity.scale
        fit_mm = evaluate_near_surface(fitted.fit.sdf_mm, grid, spacing, band, fine_mm)
        if not chosen.fusion:
            return Measured(box, grid, fit_mm, None, None)
        mask_mm, steps_mm = mask_distance(mask[box], spacing, LIMIT_MM)
        context_mm = None
        if fitted.context is not None:
            context_mm = evaluate_near_surface(partial(fitted.context.of, fitted.name), grid, spacing, 0.0)
        log_odds = None
        reader = self.readers.of(fitted.seen)
        if reader is not None and fitted.seen is not None:
            scene = scene_of(fitted, fitted.seen, box, grid, fit_mm, context_mm, reader.step_mm)
            log_odds = reader(scene, grid.shape)
        return Measured(box, grid, fit_mm, mask_mm, context_mm, log_odds, steps_mm)

    def between(self, measured: Measured, fitted: Fitted, drawn: DrawnSlices) -> Reconstruction:
        """Follow the fit between drawn slices, see `sparse`; a filled mask that it explains badly stays.

        Args:
            measured: of this structure.
            fitted: the structure, its mask filled between the slices.
            drawn: the slices.
        """
        mask, box, spacing = fitted.mask, measured.box, spacing_mm(fitted.affine)
        initial, inside, outside_box = mask[box], measured.fit_mm < 0, _outside(mask, box)
        agreement = _dice(initial, inside, len(outside_box))
        signs, lost = doubts(fitted, agreement), hopeless(fitted, agreement)
        if signs or lost:
            why = unlike(fitted.name, signs, FILLED) if signs else f"{FILLED}: {lost}"
            own_mm = mask_signed_distance(initial, spacing, LIMIT_MM)
            none = np.zeros((0, 3), int)
            return Reconstruction(box, own_mm, inside, [], none, 0, agreement, DRAWN, (why,), doubtful=True)
        signed_mm = follow_drawn(drawn.within(box), initial, measured.fit_mm, spacing)
        warnings = (fitted.fit.warning,) if fitted.fit.warning else ()
        gone = outside_box[~drawn.near(outside_box)]  # what was drawn stays
        return Reconstruction(box, signed_mm, inside, [], gone, 0, agreement, DRAWN, warnings)

    def judge(self, measured: Measured, fitted: Fitted) -> Reconstruction:
        """Decide on every region in which mask and fit, or mask and voxel head, disagree.

        Without an image the head knows no more than mask and fits, and is seldom sure of a missing end. What it leaves,
        the rules of depth may change.

        Args:
            measured: of this structure, with the same `fusion`.
            fitted: the structure.

        Returns:
            The fused signed distance in the box, and what was judged.
        """
        part = self.judge_once(measured, fitted)
        if part.evidence != MASK:
            return part
        return _with_rules(part, self.judge_once(replace(measured, log_odds=None), fitted), fitted)

    def judge_once(self, measured: Measured, fitted: Fitted) -> Reconstruction:
        """Decide by the voxel head where one was asked, else by rules; see `judge`.

        Args:
            measured: of this structure, with the same `fusion`.
            fitted: the structure.

        Returns:
            The fused signed distance in the box, and what was judged.
        """
        chosen, lengths = self.settings, Lengths.of(fitted.prior)
        mask, box, grid = fitted.mask, measured.box, measured.grid
        fit_mm, mask_mm, context_mm, steps_mm = (
            measured.fit_mm,
            measured.mask_mm,
            measured.context_mm,
            measured.steps_mm,
        )
        initial = mask[box]
        inside, outside_box = fit_mm < 0, _outside(mask, box)
        agreement = _dice(initial, inside, len(outside_box))
        own = mask if fitted.seen is None else fitted.seen.mask  # what the fit was to follow
        lost = hopeless(fitted, _dice(own[box], inside, own.count - int(np.count_nonzero(own[box]))))
        signs = doubts(fitted, agreement)
        if (signs or lost) and not (chosen.fusion and chosen.gate):  # a fit that is not judged is taken or left whole
            why = unlike(fitted.name, signs, "it was left as it is") if signs else f"the mask was left as it is: {lost}"
            own_mm = mask_signed_distance(initial, spacing_mm(fitted.affine), LIMIT_MM)
            none = np.zeros((0, 3), int)
            return Reconstruction(box, own_mm, inside, [], none, 0, agreement, warnings=(why,), doubtful=True)
        if mask_mm is None:
            fell_back = (fitted.fit.warning,) if fitted.fit.warning else ()
            return Reconstruction(box, fit_mm, inside, [], outside_box, 0, agreement, warnings=fell_back)
        if steps_mm is not None and (signs or lost):
            mask_mm, steps_mm = mask_signed_distance(initial, spacing_mm(fitted.affine), LIMIT_MM), None
        initial = initial if steps_mm is None else mask_mm < 0
        log_odds = None if signs else measured.log_odds
        seen = log_odds is not None
        evidence = None if seen or signs else fitted.evidence
        context_at = None if fitted.context is None else partial(fitted.context.of, fitted.name)
        probability = probability_at = None
        source = SHAPE
        reader = self.readers.of(fitted.seen)
        if reader is not None and fitted.seen is not None and log_odds is not None:
            source = MASK if fitted.seen.image is None else IMAGE
            probability = special.expit(log_odds)
            known = own[box] if steps_mm is None else np.where(own[box] == mask[box], initial, own[box])
            proposal = without_thin(initial, follow_odds(known, log_odds), mask_mm, reader.step_mm)
            fused = np.where(proposal == initial, mask_mm, np.where(proposal, -LEAST_MM, LEAST_MM)).astype(np.float32)
        else:
            if evidence is not None:
                source = "probability"
                probability_at = partial(evidence.of, fitted.name)
                probability = _on_grid(evidence.probability[fitted.name], evidence.affine, grid)
            fused = fuse(mask_mm, fit_mm, lengths.tau_mm).astype(np.float32, copy=False)
        regions: list[Region] = []
        bodies: list[Body] = []
        islands: Islands | None = None
        followed = 0
        if chosen.gate:
            if signs or fitted.context is None:  # a joint model knows of no second organ
                going = int(np.count_nonzero(initial & (fused >= 0))) + len(outside_box)
                if is_comparable(going, int(np.count_nonzero(initial)) + len(outside_box)):
                    whole = mask.whole()
                    kept = np.zeros_like(whole)
                    kept[box] = initial & (fused < 0)
                    bodies = other_bodies(whole, kept, fitted.affine, SLAB_MM, self.side)
            sound = Soundness(fitted.fit.figures["share_within_2mm"], agreement, not signs)
            tells = not signs and agreement >= SOUND_DICE and sound.near >= LEAST_SOUND
            if not tells and not bodies and fitted.context is None and evidence is None and not seen:
                islands = far_islands(mask, fitted.affine, lengths.long_mm, self.side)
            voxel_mm3 = voxel_volume_mm3(grid.affine)
            limits = Limits.of(chosen, fitted.fit.radius_mm, lengths.min_region_mm3, voxel_mm3)
            spared = _marked(mask.shape, [body.voxels for body in bodies])
            adrift = _marked(mask.shape, [islands.voxels] if islands else [])
            if islands is not None and steps_mm is not None:  # of an island its smoothed rim goes, too
                mask_mm, steps_mm = mask_distance(mask[box] & ~adrift[box], spacing_mm(fitted.affine), LIMIT_MM)
                initial, fused = mask_mm < 0, fuse(mask_mm, fit_mm, lengths.tau_mm).astype(np.float32, copy=False)
            refused, specks, regions = judge_regions(
                initial & ~adrift[box],
                ((fused < 0) & ~adrift[box]) | spared[box],
                fit_mm,
                grid.affine,
                limits,
                context_mm,
                probability,
                source if seen else "",
                sound,
            )
            if len(outside_box):
                outside_box, beyond = judge_beyond(
                    mask.whole() & ~(spared | adrift) if bodies or islands else mask.whole(),
                    box,
                    fitted.affine,
                    limits,
                    fitted.fit.sdf_mm,
                    context_at,
                    probability_at,
                    sound,
                )
                regions += beyond
            regions += [_left(body, fitted) for body in bodies]
            left = refused | spared[box] | adrift[box]
            if not seen:
                left |= specks
            fused[left] = mask_mm[left]
            judged = fused < 0
            if seen:
                loose = crumbs(judged, fit_mm if context_mm is None else np.minimum(fit_mm, context_mm))
                fused[loose] = LEAST_MM
                followed = int(np.count_nonzero(specks | loose))
            elif not signs:
                stays = refused | spared[box]
                fused = follow(fused, initial, fit_mm, spacing_mm(grid.affine), lengths.reach_mm, stays)
                followed = int(np.count_nonzero(judged != (fused < 0)))
            if islands is not None:
                fused = np.where(adrift[box], np.abs(mask_mm), fused)
                outside_box = np.concatenate([outside_box, _beyond(islands.voxels, box)])
                regions.append(_adrift(islands, fitted))
        if seen:
            fused = mask_signed_distance(fused < 0, spacing_mm(grid.affine), LIMIT_MM)
        said = unlike(fitted.name, signs) if signs else lost
        warnings = [*filter(None, (said, fitted.fit.warning)), *(body.beside(fitted.name) for body in bodies)]
        read = probability if source == IMAGE else None
        told = source, tuple(warnings), bool(said), read, steps_mm
        return Reconstruction(box, fused, inside, regions, outside_box, followed, agreement, *told)


def _with_rules(part: Reconstruction, rules: Reconstruction, fitted: Fitted) -> Reconstruction:
    """Return what a voxel head made of a mask, and beside that what the rules made of the rest."""
    initial = fitted.mask[part.box]
    by_head = part.signed_mm < 0
    inside = np.where(by_head != initial, by_head, rules.signed_mm < 0)
    return replace(
        part,
        signed_mm=mask_signed_distance(inside, spacing_mm(fitted.affine), LIMIT_MM),
        regions=[*part.regions, *(region for region in rules.regions if region.accepted)],
        outside=rules.outside,
        followed=part.followed + rules.followed,
    )


def _box(fitted: Fitted) -> tuple[slice, slice, slice]:
    """Slices of the mask's grid around the fitted shape, with a margin.

    Raises:
        ValueError: they lie outside of the grid.
    """
    cloud = fitted.fit.similarity.inverse().apply(fitted.prior.anchor_points.cpu().numpy())
    index = apply_affine(np.linalg.inv(fitted.affine), cloud)
    margin = np.ceil(MARGIN_MM / spacing_mm(fitted.affine))
    lower = np.maximum(np.floor(index.min(0) - margin), 0).astype(int)
    upper = np.minimum(np.ceil(index.max(0) + margin) + 1, fitted.mask.shape).astype(int)
    if (upper - lower < 2).any():
        raise ValueError("the fitted shape lies outside of the image")
    return (slice(lower[0], upper[0]), slice(lower[1], upper[1]), slice(lower[2], upper[2]))


def _dice(one: np.ndarray, other: np.ndarray, beyond: int) -> float:
    """Dice coefficient of two masks of a box, the first with `beyond` voxels outside of it."""
    return float(2.0 * (one & other).sum() / max(1, one.sum() + beyond + other.sum()))


def _left(body: Body, fitted: Fitted) -> Region:
    """Return a body that is left as a region of the report."""
    return _region(body, fitted, False, body.beside(fitted.name))


def _adrift(islands: Islands, fitted: Fitted) -> Region:
    """Return far islands that go, whatever the fit says, as a region of the report."""
    return _region(islands, fitted, True, f"{islands}, far from the rest; the fit explains the mask too badly to tell")


def _region(pieces: Body | Islands, fitted: Fitted, accepted: bool, reason: str) -> Region:
    points = apply_affine(fitted.affine, pieces.voxels[:: len(pieces.voxels) // SAMPLED + 1].astype(float))
    fit_mm = round(float(fitted.fit.sdf_mm(points).mean()), 3)
    volume = round(pieces.volume_mm3, 1)
    return Region(REMOVE, volume, fit_mm, None, None, True, accepted, reason, pieces.centre_world)


def _marked(shape: tuple[int, ...], voxels: Sequence[np.ndarray]) -> np.ndarray:
    """Return voxels, each (N, 3) indices, as (X, Y, Z) bool; where there are none, a view that takes no memory."""
    if not voxels:
        return np.broadcast_to(np.zeros((), bool), shape)
    marked = np.zeros(shape, bool)
    marked[tuple(np.concatenate(voxels).T)] = True
    return marked


def _beyond(voxels: np.ndarray, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Return the voxels, indices (N, 3), that lie outside of a box."""
    inside = (voxels >= [side.start for side in box]) & (voxels < [side.stop for side in box])
    return voxels[~inside.all(axis=1)]


def _on_grid(volume: np.ndarray, affine: np.ndarray, grid: WorldGrid) -> np.ndarray:
    """Interpolate a volume at a grid's voxel centres; NaN outside of it."""
    return resample(volume, affine, grid, order=1, fill=np.nan)


def _outside(mask: BoxedMask, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Indices (N, 3) of a mask's voxels outside of a box."""
    if mask.count == np.count_nonzero(mask[box]):
        return np.zeros((0, 3), int)
    rest = mask.around(box)
    rest.put(box, np.zeros((), bool))
    return np.argwhere(rest.part) + [side.start for side in rest.box]
