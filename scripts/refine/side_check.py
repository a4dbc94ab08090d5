"""Left and right: whether the labels of the two sides are exchanged, all of them, in pieces, or one structure's.

Where a pair's labels lie is looked at first, which is cheap (`organ.exchange`, `organ.strays`). Only where that is odd,
or a structure without its partner fits its prior badly, is a mask aligned with the prior of the other side, too, and
with the mirror image of its own: exchanged labels fit the first, a header whose axis is reversed the second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
import torch

from ..geometry.affine import voxel_volume_mm3
from ..geometry.picct import PICCT, CanonicalTransform
from ..geometry.surface import mask_to_surface, sample_surface
from ..geometry.turns import GAIN, TIGHT_SIGMA
from ..organ.exchange import exchanged, pair_places
from ..organ.pack import OrganPack, Structure
from ..organ.side_names import paired_labels
from ..organ.strays import Stray, moved, strays
from .bodies import in_ml
from .steps import Steps

LOOSE = 0.3  # of the anchor's RMS radius: the misfit of a mask that cannot be aligned
HEADER = "check the orientation in the header, and which label is which"


class Leave(Enum):
    """Which pieces on the wrong side stay where they are: none, all, or those whose partner is there, too."""

    NONE = "none"
    ALL = "all"  # as of drawn slices
    BESIDE_PARTNER = "beside partner"  # with a joint model, which knows better what they are


@dataclass(frozen=True)
class SidesFound:
    """What of a label map is of the other side.

    Attributes:
        pairs: value of a left label → value of the right one, of those to exchange everywhere; {} for none.
        strays: pieces that go to their partners' labels, or the background.
        said: what a user should know.
    """

    pairs: Mapping[int, int] = field(default_factory=dict)
    strays: list[Stray] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def mend(self, label_map: np.ndarray) -> np.ndarray:
        """Return a label map (X, Y, Z) with both sides right."""
        return moved(exchanged(label_map, self.pairs), self.strays)

    def mend_probabilities(self, prob: torch.Tensor, channel: Mapping[int, int]) -> torch.Tensor:
        """Return class probabilities (C, X, Y, Z) with both sides right; `channel` is that of each label."""
        order = list(range(len(prob)))
        for left, right in self.pairs.items():
            order[channel[left]], order[channel[right]] = channel[right], channel[left]
        result = prob[order]
        for stray in self.strays:
            own, other = ({0: 0, **channel}[value] for value in (stray.label, stray.value))
            where = tuple(stray.voxels.T)
            result[own][where], result[other][where] = result[other][where], result[own][where]
        return result

    def renamed(self, labels: Mapping[int, int]) -> SidesFound:
        """Return the same with other label values; `labels` is theirs → ours."""
        pairs = {labels[left]: labels[right] for left, right in self.pairs.items()}
        to = {0: 0, **labels}
        parts = [replace(one, label=to[one.label], belongs=to[one.belongs], value=to[one.value]) for one in self.strays]
        return SidesFound(pairs, parts, self.said)

    def __add__(self, other: SidesFound) -> SidesFound:
        """Return what both found, of different labels."""
        return SidesFound({**self.pairs, **other.pairs}, self.strays + other.strays, self.said + other.said)


def partners(pack: OrganPack) -> dict[str, str]:
    """Return structure → the same of the other side, where the names of their labels say so and each has a prior."""
    left_right = paired_labels(pack.labels)
    other = left_right | {right: left for left, right in left_right.items()}
    by_labels = {frozenset(one.labels): one for one in pack.structures}
    found = {}
    for one in pack.structures:
        partner = by_labels.get(frozenset(other.get(label, 0) for label in one.labels))
        if partner is not None and partner.prior != one.prior:
            found[one.name] = partner.name
    return found


def in_place(label_map: np.ndarray, affine: np.ndarray, pack: OrganPack) -> set[int]:
    """Return the labels of a map (X, Y, Z) whose partner is there, too, and that lie on the right side of it."""
    places = pair_places(label_map, affine, paired_labels(pack.labels))
    return {label for place in places if not place.exchanged for label in (place.left, place.right)}


def as_partner(picct: PICCT, its: PICCT, points_world: np.ndarray, found: CanonicalTransform, seed: int) -> bool:
    """Return whether a mask fits the prior of the other side clearly better than its own, also mirrored.

    Args:
        picct: of the mask's own prior.
        its: of the other side's.
        points_world: (N, 3) of the mask's surface, world mm.
        found: their alignment with the own prior; where it is tight, or came to nothing, no other is tried.
        seed: of the subsets drawn.
    """
    own = _misfit(found, picct)
    if found.failure or own <= TIGHT_SIGMA:
        return False
    other = _misfit(its(points_world, seed), its)
    return other < GAIN * own and other <= _mirrored(picct, points_world, seed)


def mend_sides(
    label_map: np.ndarray,
    affine: np.ndarray,
    pack: OrganPack,
    steps: Mapping[str, Steps],
    seed: int,
    fix: bool,
    known: Collection[int] | None = None,
    leave: Leave = Leave.NONE,
) -> SidesFound:
    """Look whether labels of left and right are exchanged, or pieces of them lie on the wrong side.

    Args:
        label_map: (X, Y, Z), the pack's label values.
        affine: (4, 4) voxel → world mm.
        pack: the organ pack.
        steps: structure name → its steps.
        seed: of the samples.
        fix: whether labels that are all exchanged are to be exchanged back. Pieces go to the other side's label anyway,
            but for those to `leave`.
        known: values that the label map's source has labels for; None for all of the pack's. A piece whose own label
            is none of them goes to the background.
        leave: which pieces are named only.

    Returns:
        What is to be done, and what a user should know.
    """
    pairs = paired_labels(pack.labels)
    places = pair_places(label_map, affine, pairs)
    wrong = [place for place in places if place.exchanged]
    if not wrong or 2 * len(wrong) < len(places):
        return _pieces(label_map, strays(label_map, affine, pairs, places), affine, pack, known, leave)
    names = "; ".join(f"{pack.labels[p.left]} lies to the right of {pack.labels[p.right]}" for p in wrong)
    if len(wrong) < len(places):
        return SidesFound(said=[f"left and right are exchanged in a part of the labels: {names}: {HEADER}"])
    own, other, mirrored = _misfits(label_map, affine, pack, steps, seed)
    said = f"left and right are exchanged: {names}"
    if mirrored < GAIN * own and mirrored < other:
        why = "the shapes are mirror images: an axis of the header is reversed, rather than the labels exchanged"
        return SidesFound(said=[f"{said}; {why}: check the orientation in the header"])
    if own and not other < GAIN * own:
        why = "but with the labels exchanged the shapes would not fit better"
        return SidesFound(said=[f"{said}; {why}: {HEADER}"])
    if not fix:
        return SidesFound(said=[f"{said}: {HEADER}; --fix_sides true exchanges the labels"])
    said = f"left and right were exchanged ({names}): the labels were exchanged back before the refinement"
    right = exchanged(label_map, pairs)
    rest = strays(right, affine, pairs, pair_places(right, affine, pairs))
    return SidesFound(pairs, said=[said]) + _pieces(right, rest, affine, pack, known, leave)


def _misfits(
    label_map: np.ndarray, affine: np.ndarray, pack: OrganPack, steps: Mapping[str, Steps], seed: int
) -> tuple[float, float, float]:
    """Return the summed misfits of the structures to their own priors, the other sides', and their own mirrored.

    They are 0 where no structure's partner has a prior of its own.
    """
    sums = np.zeros(3)
    for name, other in partners(pack).items():
        points = _surface(pack.structure(name), label_map, affine, steps[name].settings.samples, seed)
        if points is not None:
            own, its = steps[name].picct, steps[other].picct
            sums += _misfit(own(points, seed), own), _misfit(its(points, seed), its), _mirrored(own, points, seed)
    return float(sums[0]), float(sums[1]), float(sums[2])


def _surface(
    structure: Structure, label_map: np.ndarray, affine: np.ndarray, count: int, seed: int
) -> np.ndarray | None:
    mask = structure.mask(label_map, affine)
    try:
        return sample_surface(mask_to_surface(mask, affine), count, seed)[0] if mask.any() else None
    except ValueError:
        return None


def _misfit(found: CanonicalTransform, picct: PICCT) -> float:
    """Return how loosely a mask is aligned, over the anchor's RMS radius."""
    return LOOSE if found.failure else found.sigma / picct.rms_radius


def _mirrored(picct: PICCT, points_world: np.ndarray, seed: int) -> float:
    return _misfit(picct.from_start(points_world, picct.moment_start(points_world, mirrored=True), seed), picct)


def _pieces(
    label_map: np.ndarray,
    found: list[Stray],
    affine: np.ndarray,
    pack: OrganPack,
    known: Collection[int] | None,
    leave: Leave,
) -> SidesFound:
    """Decide what becomes of pieces on the wrong side, and say it."""
    parts, said = [], []
    for one in found:
        stays = leave == Leave.ALL or (leave == Leave.BESIDE_PARTNER and bool((label_map == one.belongs).any()))
        stray = one if known is None or one.belongs in known else replace(one, value=0)
        became = f"became {pack.labels[one.belongs]}"
        if not stray.value:
            became = f"was removed, since the mask's labels have no {pack.labels[one.belongs]}"
        if stays:
            became = "was left there"
        else:
            parts.append(stray)
        volume = in_ml(len(one.voxels) * voxel_volume_mm3(affine))
        said.append(f"{volume} of {pack.labels[one.label]} lay on the patient's {one.side}, and {became}")
    return SidesFound(strays=parts, said=said)
