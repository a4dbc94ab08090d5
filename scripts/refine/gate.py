"""Fusion and gate: what becomes of every region in which mask and fit, or mask and voxel head, disagree (METHOD 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy import special

from ..geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import Box, BoxedMask
from ..geometry.resample import resample
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
from .odds import is_of_network, proposed
from .proposal import Proposal
from .reconstruction import IMAGE, MASK, SHAPE, Measured, Reconstruction
from .second_reader import disputed_words
from .seen import Readers
from .settings import RefineSettings
from .stages import Fitted
from .stairs import mask_distance

LIMIT_MM = 6.0  # signed distances of the mask are exact below it; only their signs and what is near 0 decide
LEAST_MM = 0.01  # stands for a voxel's side before its distance is known


@dataclass(frozen=True)
class Question:
    """One structure to be judged, in its box of the original grid.

    Attributes:
        measured: its signed distances.
        fitted: the structure.
        agreement: Dice coefficient of the initial mask with the fit.
        outside: voxels of the mask beyond the box, as indices (N, 3) of the original grid.
        signs: why the mask does not look like its organ; empty where it does.
        mask_mm: (x, y, z) signed distance of the mask that is judged.
        initial: (x, y, z) bool, its inside.
        steps_mm: see `Measured`.
    """

    measured: Measured
    fitted: Fitted
    agreement: float
    outside: np.ndarray
    signs: Sequence[str]
    mask_mm: np.ndarray
    initial: np.ndarray
    steps_mm: np.ndarray | None

    def without(self, pieces: np.ndarray) -> Question:
        """Return the same of a mask with steps but without some of its voxels, (x, y, z) bool."""
        rest, spacing = self.fitted.mask[self.measured.box] & ~pieces, spacing_mm(self.fitted.affine)
        mask_mm, steps_mm = mask_distance(rest, spacing, LIMIT_MM)
        return replace(self, mask_mm=mask_mm, initial=mask_mm < 0, steps_mm=steps_mm)


@dataclass(frozen=True)
class Gated:
    """What the gate lets through.

    Attributes:
        signed_mm: (x, y, z), negative inside.
        outside: see `Reconstruction`.
        regions: what was judged.
        followed: see `Reconstruction`.
        bodies: what was left beside the organ.
        steps_mm: see `Measured`.
    """

    signed_mm: np.ndarray
    outside: np.ndarray
    regions: list[Region] = field(default_factory=list)
    followed: int = 0
    bodies: Sequence[Body] = ()
    steps_mm: np.ndarray | None = None


class Gate:
    """Decides on every region in which a structure's mask and its fit, or voxel head, disagree.

    Args:
        settings: see `RefineSettings`.
        readers: the voxel heads of the structure.
        side: "left" or "right" where the other side has a label of its own, see `bodies.twin_share`.
    """

    def __init__(self, settings: RefineSettings, readers: Readers, side: str) -> None:
        self.settings = settings
        self.readers = readers
        self.side = side

    def __call__(self, measured: Measured, fitted: Fitted) -> Reconstruction:
        """Decide by the voxel head where one was asked, else by rules.

        Without an image the head knows no more than mask and fits, and is seldom sure of a missing end. What it leaves,
        the rules of depth may change.

        Args:
            measured: of this structure, with the same `fusion`.
            fitted: the structure.

        Returns:
            The fused signed distance in the box, and what was judged.
        """
        part = self.once(measured, fitted)
        if part.evidence != MASK:
            return part
        return with_rules(part, self.once(replace(measured, log_odds=None), fitted), fitted)

    def once(self, measured: Measured, fitted: Fitted) -> Reconstruction:
        """Decide by the voxel head alone where one was asked, else by rules; see `__call__`."""
        box, inside, outside = measured.box, measured.fit_mm < 0, beyond_box(fitted.mask, measured.box)
        agreement = dice(fitted.mask[box], inside, len(outside))
        own = _followed(fitted)
        lost = hopeless(fitted, dice(own[box], inside, own.count - int(np.count_nonzero(own[box]))))
        signs = doubts(fitted, agreement)
        said = unlike(fitted.name, signs) if signs else lost
        if said and not (self.settings.fusion and self.settings.gate):  # not judged, a fit is taken or left whole
            why = unlike(fitted.name, signs, "it was left as it is") if signs else f"the mask was left as it is: {lost}"
            return left_whole(measured, fitted, agreement, why)
        fell_back = (fitted.fit.warning,) if fitted.fit.warning else ()
        if measured.mask_mm is None:
            return Reconstruction(box, measured.fit_mm, inside, [], outside, 0, agreement, warnings=fell_back)
        mask_mm, steps_mm = measured.mask_mm, measured.steps_mm
        if steps_mm is not None and said:  # steps of what is not the organ stay
            mask_mm, steps_mm = mask_signed_distance(fitted.mask[box], spacing_mm(fitted.affine), LIMIT_MM), None
        initial = fitted.mask[box] if steps_mm is None else mask_mm < 0
        question = Question(measured, fitted, agreement, outside, signs, mask_mm, initial, steps_mm)
        proposal = self.propose(question)
        gated = Gated(proposal.signed_mm, outside)
        if self.settings.gate:
            gated = self.let_through(question, proposal)
        signed_mm = gated.signed_mm
        if proposal.by_head:
            signed_mm = mask_signed_distance(signed_mm < 0, spacing_mm(fitted.affine), LIMIT_MM)
        return Reconstruction(
            box,
            signed_mm,
            inside,
            gated.regions,
            gated.outside,
            gated.followed,
            agreement,
            proposal.source,
            (
                *filter(None, (said, *fell_back, disputed_words(fitted))),
                *(body.beside(fitted.name) for body in gated.bodies),
            ),
            bool(said),
            special.expit(measured.log_odds) if proposal.source == IMAGE else None,
            gated.steps_mm if self.settings.gate else steps_mm,
            poor=proposal.poor,
            agreement=proposal.agreement,
        )

    def propose(self, question: Question) -> Proposal:
        """Return what the voxel head proposes where it was asked and the mask looks like its organ, else the fit."""
        measured, fitted = question.measured, question.fitted
        reader = self.readers.of(fitted.seen)
        if reader is not None and fitted.seen is not None and measured.log_odds is not None and not question.signs:
            mask, own = fitted.mask[measured.box], _followed(fitted)[measured.box]
            known = own if question.steps_mm is None else np.where(own == mask, question.initial, own)
            network = None if fitted.whole else _by_network(question)
            if network is not None and not is_of_network(mask, network):
                network = None  # somebody has corrected the mask
            ask = fitted.seen.second
            second = None if ask is None else partial(ask, fitted.name, measured.grid)
            given = question.initial, known, measured.log_odds, question.mask_mm, spacing_mm(fitted.affine)
            found = proposed(*given, reader.step_mm, network, second)
            changed = np.where(found.mask, -LEAST_MM, LEAST_MM)
            signed_mm = np.where(found.mask == question.initial, question.mask_mm, changed).astype(np.float32)
            source, probability = MASK if fitted.seen.image is None else IMAGE, special.expit(found.log_odds)
            return Proposal(signed_mm, source, probability, poor=found.poor, agreement=found.agreement)
        signed_mm = _by_depth(question)
        network, evidence = _by_network(question), fitted.evidence
        if network is None or evidence is None or question.signs:
            return Proposal(signed_mm)
        return Proposal(signed_mm, "probability", network, partial(evidence.of, fitted.name))

    def let_through(self, question: Question, proposal: Proposal) -> Gated:
        """Take and refuse, region by region, what is proposed."""
        fitted, measured = question.fitted, question.measured
        mask, box, lengths = fitted.mask, measured.box, Lengths.of(fitted.prior)
        fit_mm, context_mm, affine = measured.fit_mm, measured.context_mm, measured.grid.affine
        sound = Soundness(fitted.fit.figures["share_within_2mm"], question.agreement, not question.signs)
        bodies = self._bodies(question, proposal)
        islands = None if bodies else self._islands(question, proposal, sound)
        spared = _marked(mask.shape, [body.voxels for body in bodies])
        adrift = _marked(mask.shape, [islands.voxels] if islands else [])
        signed_mm = proposal.signed_mm
        if islands is not None and question.steps_mm is not None:  # of an island its smoothed rim goes, too
            question = question.without(adrift[box])
            signed_mm = _by_depth(question)
        limits = Limits.of(self.settings, fitted.fit.radius_mm, lengths.min_region_mm3, voxel_volume_mm3(affine))
        refused, specks, regions = judge_regions(
            question.initial & ~adrift[box],
            ((signed_mm < 0) & ~adrift[box]) | spared[box],
            fit_mm,
            affine,
            limits,
            context_mm,
            proposal.probability,
            proposal.source if proposal.by_head else "",
            sound,
        )
        outside = question.outside
        if len(outside):
            outside, found = judge_beyond(
                mask.whole() & ~(spared | adrift) if bodies or islands else mask.whole(),
                box,
                fitted.affine,
                limits,
                fitted.fit.sdf_mm,
                None if fitted.context is None else partial(fitted.context.of, fitted.name),
                proposal.probability_at,
                sound,
            )
            regions += found
        regions += [_left(body, fitted) for body in bodies]
        stays = refused | spared[box]
        left = stays | adrift[box] if proposal.by_head else stays | adrift[box] | specks
        signed_mm[left] = question.mask_mm[left]
        judged, followed = signed_mm < 0, 0
        if proposal.by_head:
            expected_mm = fit_mm if context_mm is None else np.minimum(fit_mm, context_mm)
            loose = crumbs(judged, expected_mm, proposal.probability if proposal.source == IMAGE else None)
            signed_mm[loose] = LEAST_MM
            followed = int(np.count_nonzero(specks | loose))
        elif not question.signs:
            signed_mm = follow(signed_mm, question.initial, fit_mm, spacing_mm(affine), lengths.reach_mm, stays)
            followed = int(np.count_nonzero(judged != (signed_mm < 0)))
        if islands is not None:
            signed_mm = np.where(adrift[box], np.abs(question.mask_mm), signed_mm)
            outside = np.concatenate([outside, beyond(islands.voxels, box)])
            regions.append(_adrift(islands, fitted))
        return Gated(signed_mm, outside, regions, followed, bodies, question.steps_mm)

    def _bodies(self, question: Question, proposal: Proposal) -> list[Body]:
        """Return what would go, but may be a second organ; a joint model knows of none."""
        fitted, box, initial = question.fitted, question.measured.box, question.initial
        if fitted.context is not None and not question.signs:
            return []
        going = int(np.count_nonzero(initial & (proposal.signed_mm >= 0))) + len(question.outside)
        if not is_comparable(going, int(np.count_nonzero(initial)) + len(question.outside)):
            return []
        whole = fitted.mask.whole()
        kept = np.zeros_like(whole)
        kept[box] = initial & (proposal.signed_mm < 0)
        return other_bodies(whole, kept, fitted.affine, SLAB_MM, self.side)

    def _islands(self, question: Question, proposal: Proposal, sound: Soundness) -> Islands | None:
        """Return the far islands of a mask of which nothing else can tell what is to go."""
        fitted = question.fitted
        tells = not question.signs and question.agreement >= SOUND_DICE and sound.near >= LEAST_SOUND
        if tells or fitted.context is not None or proposal.source != SHAPE:
            return None
        return far_islands(fitted.mask, fitted.affine, Lengths.of(fitted.prior).long_mm, self.side)


def left_whole(measured: Measured, fitted: Fitted, agreement: float, why: str, evidence: str = SHAPE) -> Reconstruction:
    """Return a mask as it is, doubted, and why."""
    own_mm = mask_signed_distance(fitted.mask[measured.box], spacing_mm(fitted.affine), LIMIT_MM)
    told = 0, agreement, evidence, (why,), True
    return Reconstruction(measured.box, own_mm, measured.fit_mm < 0, [], np.zeros((0, 3), int), *told)


def with_rules(part: Reconstruction, rules: Reconstruction, fitted: Fitted) -> Reconstruction:
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


def dice(one: np.ndarray, other: np.ndarray, beyond: int) -> float:
    """Dice coefficient of two masks of a box, the first with `beyond` voxels outside of it."""
    return float(2.0 * (one & other).sum() / max(1, one.sum() + beyond + other.sum()))


def beyond_box(mask: BoxedMask, box: Box) -> np.ndarray:
    """Indices (N, 3) of a mask's voxels outside of a box."""
    if mask.count == np.count_nonzero(mask[box]):
        return np.zeros((0, 3), int)
    rest = mask.around(box)
    rest.put(box, np.zeros((), bool))
    return np.argwhere(rest.part) + [side.start for side in rest.box]


def _by_network(question: Question) -> np.ndarray | None:
    """Return the probability (x, y, z) of the network that made the mask, NaN where it says nothing, or None."""
    evidence = question.fitted.evidence
    if evidence is None:
        return None
    own = evidence.probability[question.fitted.name]
    return resample(own, evidence.affine, question.measured.grid, order=1, fill=np.nan)


def _followed(fitted: Fitted) -> BoxedMask:
    """Return the mask that the fit was to follow."""
    return fitted.mask if fitted.seen is None else fitted.seen.mask


def _by_depth(question: Question) -> np.ndarray:
    """Return the fused signed distance of mask and fit."""
    tau_mm = Lengths.of(question.fitted.prior).tau_mm
    return fuse(question.mask_mm, question.measured.fit_mm, tau_mm).astype(np.float32, copy=False)


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


def beyond(voxels: np.ndarray, box: Box) -> np.ndarray:
    """Return the voxels, indices (N, 3), that lie outside of a box."""
    inside = (voxels >= [side.start for side in box]) & (voxels < [side.stop for side in box])
    return voxels[~inside.all(axis=1)]
