"""The rules of fusion and gate: where the fit may overrule the mask, decided region by region of disagreement.

`s = median(s_mask, s_fit - τ, s_fit + τ)` overrules the mask only where the two differ by more than τ; it is
continuous, symmetric, and serves voxels and mesh alike. What it would change falls into connected regions, long ones
cut into slabs, and each is accepted or refused from figures that need no truth. What is not convincing stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from ..geometry.affine import apply_affine, voxel_volume_mm3
from ..geometry.runs import label_pieces
from ..geometry.surface import crop_box, grow, with_neighbours
from .limits import Limits

REMOVE, ADD = "remove", "add"

SPOKEN_FOR = 0.5  # of a depth is enough where the joint model says the same
SEGMENTER_DOUBT = 0.98  # a region of which the network that made the mask was so sure is not removed
SLAB_MM = 10.0  # long regions are cut into slabs of about this length before they are judged
LEAST_SOUND = 0.25  # where the shape alone decides, removals need this share of the surface within 2 mm of the fit
SOUND_SHARE = 0.5  # and additions this share
# Without joint model, only islands are changed where the mask's Dice with its own fit is below this: a shape that the
# prior does not know, a fit gone astray, or a mask with so much beside the organ that it cannot be told.
SOUND_DICE = 0.75
SAMPLED = 500  # voxels at which figures of a region beyond the box are read


@dataclass(frozen=True)
class Soundness:
    """How well a fit explains the initial mask.

    Attributes:
        near: share of the mask's surface within 2 mm of the fit.
        dice: Dice coefficient of the mask, islands and all, with the fit.
        alike: whether the mask looks like its organ, see `likeness`; otherwise nothing but islands goes.
    """

    near: float = 1.0
    dice: float = 1.0
    alike: bool = True


ALL_SOUND = Soundness()


@dataclass(frozen=True)
class Region:
    """One connected region in which proposal and mask disagree.

    Attributes:
        kind: "remove" or "add".
        volume_mm3: its volume.
        fit_mm: mean signed distance of the fit, negative inside.
        context_mm: mean signed distance of the joint model's fit, or None.
        probability: mean probability from the evidence, or None.
        island: for removals, whether the connected change that it is a part of touches nothing that is kept.
        accepted: the decision.
        reason: why, in words.
        centre_world: its centroid, world mm.
    """

    kind: str
    volume_mm3: float
    fit_mm: float
    context_mm: float | None
    probability: float | None
    island: bool
    accepted: bool
    reason: str
    centre_world: tuple[float, float, float]

    def as_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return asdict(self)


def fuse(s_mask: np.ndarray, s_other: np.ndarray, tau_mm: float) -> np.ndarray:
    """Return `median(s_mask, s_other - τ, s_other + τ)`, element by element; NaN in `s_other` leaves the mask's."""
    fused = np.maximum(s_mask, s_other - tau_mm)
    np.minimum(fused, s_other + tau_mm, out=fused)
    np.copyto(fused, s_mask, where=np.isnan(s_other))
    return fused


def cut_regions(change: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Label the connected regions (26 neighbours) of a change.

    Those longer than twice `SLAB_MM` are cut into slabs across their longest axis.

    Args:
        change: (X, Y, Z) bool.
        affine: (4, 4) voxel → world mm.

    Returns:
        (X, Y, Z) int32 labels from 1; and for each label, from 0, the one that its connected region's first slab has.
    """
    labels, count = label_pieces(change)
    whole = list(range(count + 1))
    boxes = ndimage.find_objects(labels)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for number in range(1, len(boxes) + 1):
        box = boxes[number - 1]
        if max((s.stop - s.start) * h for s, h in zip(box, spacing, strict=True)) < 2 * SLAB_MM:
            continue
        index = np.argwhere(labels[box] == number)
        world = index @ affine[:3, :3].T
        centred = world - world.mean(0)
        axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        along = centred @ axis
        slabs = int((along.max() - along.min()) // SLAB_MM)
        if slabs < 2:
            continue
        slab = np.minimum((along - along.min()) / (along.max() - along.min()) * slabs, slabs - 1e-6).astype(int)
        moved = slab > 0
        labels[box][tuple(index[moved].T)] = len(whole) - 1 + slab[moved]
        whole += [number] * (slabs - 1)
    return labels, whole


def decide(
    kind: str,
    fit_mm: float,
    context_mm: float | None,
    probability: float | None,
    head: str,
    island: bool,
    sound: Soundness,
    limits: Limits,
) -> tuple[bool, str]:
    """Decide on one region and say why.

    Args:
        kind: "remove" or "add".
        fit_mm: mean signed distance of the fit.
        context_mm: mean signed distance of the joint model, or None.
        probability: mean probability from the evidence, or None.
        head: "image" or "mask" where the probability is of a voxel head, with or without image; otherwise "", and it is
            of the network that made the mask.
        island: whether it touches nothing that is kept.
        sound: how well the fit explains the mask.
        limits: the gate's limits.
    """
    if not sound.alike:
        far = f"island {fit_mm:.1f} mm outside of the fit; here islands are removed from {limits.excess_mm:g} mm on"
        return (
            (fit_mm > limits.excess_mm, far)
            if kind == REMOVE and island
            else (False, "the mask does not look like its organ: see the warning")
        )
    if head and probability is not None:
        return _by_head(kind, fit_mm, context_mm, probability, head, island)
    return _by_shape(kind, fit_mm, context_mm, None if head else probability, island, sound, limits)


def _by_head(
    kind: str, fit_mm: float, context_mm: float | None, probability: float, head: str, island: bool
) -> tuple[bool, str]:
    """Decide on what a voxel head proposes: only parts that nothing else speaks for are refused."""
    said = f"{head} evidence {'for' if kind == ADD else 'against'} it (mean probability {probability:.2f})"
    if kind == ADD and island and min(fit_mm, fit_mm if context_mm is None else context_mm) > 0:
        return False, f"{said}, but it touches nothing and lies {fit_mm:.1f} mm outside of the fit"
    return True, said


def _by_shape(
    kind: str,
    fit_mm: float,
    context_mm: float | None,
    segmenter_probability: float | None,
    island: bool,
    sound: Soundness,
    limits: Limits,
) -> tuple[bool, str]:
    """Decide where no voxel head decides; `segmenter_probability` is of the network that made the mask."""
    if kind == REMOVE and segmenter_probability is not None and segmenter_probability > SEGMENTER_DOUBT:
        return False, f"the network was sure of it (mean probability {segmenter_probability:.2f})"
    if context_mm is not None and (context_mm < 0) == (kind == REMOVE):
        side = "inside" if context_mm < 0 else "outside"
        return (
            False,
            f"the other structures speak against it ({abs(context_mm):.1f} mm {side} of where they expect the surface)",
        )
    if context_mm is None and not island and sound.dice < SOUND_DICE:
        return False, f"the mask's Dice with its fit is {sound.dice:.2f}: too little to change it by shape alone"
    agrees = f"only {100 * sound.near:.0f} % of the surface agrees with the fit: too little to"
    where = f"{abs(fit_mm):.1f} mm {'inside' if fit_mm < 0 else 'outside'} of the fit"
    if kind == REMOVE:
        if sound.near < LEAST_SOUND and context_mm is None:
            return False, f"{agrees} remove material"
        limit = limits.island_mm if island else limits.excess_mm
        limit = limit if context_mm is None else max(SPOKEN_FOR * limit, limits.least_mm)
        return fit_mm > limit, f"{'island' if island else 'excess'} {where}; removed from {limit:g} mm on"
    if sound.near < SOUND_SHARE:
        return False, f"{agrees} add material"
    limit = limits.missing_mm if context_mm is None else max(SPOKEN_FOR * limits.missing_mm, limits.least_mm)
    return fit_mm < -limit, f"missing part {where}; added from {limit:g} mm on"


def judge_regions(
    mask: np.ndarray,
    proposal: np.ndarray,
    s_fit: np.ndarray,
    affine: np.ndarray,
    limits: Limits,
    context: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    head: str = "",
    sound: Soundness = ALL_SOUND,
) -> tuple[np.ndarray, np.ndarray, list[Region]]:
    """Decide on every region in which the proposal differs from the mask.

    Args:
        mask: (X, Y, Z) bool, initial.
        proposal: (X, Y, Z) bool.
        s_fit: (X, Y, Z) signed distance of the fit, mm.
        affine: (4, 4) voxel → world mm of these arrays.
        limits: the gate's limits, and the volume below which regions are specks.
        context: (X, Y, Z) signed distance of the joint model, mm.
        probability: (X, Y, Z) from the evidence, NaN where it says nothing.
        head: see `decide`.
        sound: see `decide`.

    Returns:
        (X, Y, Z) bool, where the proposal is refused; (X, Y, Z) bool, specks of it, which are not judged; and the
        regions judged.
    """
    voxel_mm3 = voxel_volume_mm3(affine)
    refused, specks = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    regions: list[Region] = []
    kept = mask & proposal
    for kind, change in ((REMOVE, mask & ~proposal), (ADD, ~mask & proposal)):
        if not change.any():
            continue
        outer = crop_box(change, 1)  # of a large mask, little may change
        labels, whole = cut_regions(change[outer], affine)
        touching = _touching(labels, whole, kept[outer])
        for number, inner in enumerate(ndimage.find_objects(labels, len(whole) - 1), 1):
            if inner is None:
                continue
            own = labels[inner] == number
            box = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))
            volume = float(own.sum()) * voxel_mm3
            if volume < limits.min_region_mm3:
                specks[box] |= own
                continue
            centre = np.argwhere(own).mean(0) + [s.start for s in box]
            fit_mm = round(float(s_fit[box][own].mean()), 3)
            context_mm = None if context is None else round(float(context[box][own].mean()), 3)
            mean_probability = _mean_or_none(probability, box, own)
            island = not touching[number]
            accepted, reason = decide(kind, fit_mm, context_mm, mean_probability, head, island, sound, limits)
            if not accepted:
                refused[box] |= own
            world = _rounded(affine[:3, :3] @ centre + affine[:3, 3])
            figures = (round(volume, 1), fit_mm, context_mm, mean_probability, island)
            regions.append(Region(kind, *figures, accepted, reason, world))
    return refused, specks, regions


def judge_beyond(
    mask: np.ndarray,
    box: tuple[slice, slice, slice],
    affine: np.ndarray,
    limits: Limits,
    fit_mm_at: Callable[[np.ndarray], np.ndarray],
    context_mm_at: Callable[[np.ndarray], np.ndarray] | None = None,
    probability_at: Callable[[np.ndarray], np.ndarray] | None = None,
    sound: Soundness = ALL_SOUND,
) -> tuple[np.ndarray, list[Region]]:
    """Decide on every region of a mask that lies beyond the box of its reconstruction, far from the fit.

    Args:
        mask: (X, Y, Z) bool, initial, of the whole image.
        box: slices of it that the reconstruction covers.
        affine: (4, 4) voxel → world mm of the image.
        limits: see `judge_regions`; specks go, and are recorded as one region.
        fit_mm_at: world points (N, 3) → signed distance (N,) of the fit, mm.
        context_mm_at: the same of the joint model.
        probability_at: world points (N, 3) → probability (N,) from the evidence, NaN where it says nothing.
        sound: see `decide`.

    Returns:
        Indices (N, 3) of the voxels that are removed; and the regions judged.
    """
    rest = mask.copy(order="K")
    rest[box] = False
    if not rest.any():
        return np.zeros((0, 3), int), []
    outer = crop_box(rest, 1)
    corner = np.array([s.start for s in outer])
    voxel_mm3 = voxel_volume_mm3(affine)
    labels, whole = cut_regions(rest[outer], affine)
    touching = _touching(labels, whole, mask[outer] & ~rest[outer])
    index = np.argwhere(labels > 0)
    numbers = labels[tuple(index.T)]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(index[order] + corner, np.flatnonzero(np.diff(numbers[order])) + 1)
    removed, specks, regions = [], [], []
    for number, voxels in zip(np.unique(numbers), groups, strict=True):
        if len(voxels) * voxel_mm3 < limits.min_region_mm3:
            specks.append(voxels)
            continue
        points = apply_affine(affine, voxels[:: len(voxels) // SAMPLED + 1].astype(float))
        fit_mm = round(float(fit_mm_at(points).mean()), 3)
        context_mm = None if context_mm_at is None else round(float(context_mm_at(points).mean()), 3)
        probability = None if probability_at is None else _mean_of_known(probability_at(points))
        island = not touching[number]
        accepted, reason = decide(REMOVE, fit_mm, context_mm, probability, "", island, sound, limits)
        if accepted:
            removed.append(voxels)
        figures = (round(len(voxels) * voxel_mm3, 1), fit_mm, context_mm, probability, island)
        regions.append(Region(REMOVE, *figures, accepted, reason, _rounded(apply_affine(affine, voxels).mean(0))))
    if specks:
        every = np.concatenate(specks)
        points = apply_affine(affine, every.astype(float))
        fit_mm = round(float(fit_mm_at(points[:: len(points) // SAMPLED + 1]).mean()), 3)
        reason = f"{len(specks)} specks of less than {limits.min_region_mm3:g} mm³ each, far from the fit"
        figures = (round(len(every) * voxel_mm3, 1), fit_mm, None, None, True)
        regions.append(Region(REMOVE, *figures, True, reason, _rounded(points.mean(0))))
        removed.append(every)
    return np.concatenate(removed) if removed else np.zeros((0, 3), int), regions


def follow(
    fused: np.ndarray,
    mask: np.ndarray,
    target: np.ndarray,
    spacing: np.ndarray,
    reach_mm: float,
    refused: np.ndarray,
) -> np.ndarray:
    """Follow the fit to its surface where a change was accepted.

    The fusion stops τ short of the fit. Where it changes the mask at all, the mask is wrong, so next to a change
    (within `reach_mm`) voxels that mask and target judge differently follow the target.

    Args:
        fused: (X, Y, Z) signed distance after the gate, mm.
        mask: (X, Y, Z) bool, initial.
        target: (X, Y, Z) signed distance of the fit, mm.
        spacing: (3,) mm.
        reach_mm: how far.
        refused: (X, Y, Z) bool, what the gate refused: it stays.

    Returns:
        (X, Y, Z) signed distance.
    """
    changed = (fused < 0) != mask
    if not changed.any() or reach_mm <= 0:
        return fused
    result = fused.copy()
    for wanted in (True, False):
        core = changed & (mask != wanted)
        if core.any():
            near = grow(core, spacing, reach_mm)
            follows = near & ~refused & (mask != wanted) & ((target < 0) == wanted)
            result[follows] = target[follows]
    return result


def _touching(labels: np.ndarray, whole: list[int], other: np.ndarray) -> np.ndarray:
    """Return, per label from 0, whether the connected region that it is a part of has a voxel next to `other`."""
    touching = np.zeros(len(whole), bool)
    touching[np.unique(labels[(labels > 0) & with_neighbours(other)])] = True
    owner = np.array(whole)
    return np.isin(owner, owner[touching])


def _mean_or_none(values: np.ndarray | None, box: tuple[slice, ...], own: np.ndarray) -> float | None:
    return None if values is None else _mean_of_known(values[box][own])


def _mean_of_known(values: np.ndarray) -> float | None:
    """Mean of the values that are not NaN; None where these are less than half."""
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 3) if known.size and known.size * 2 >= values.size else None


def _rounded(point: np.ndarray) -> tuple[float, float, float]:
    return round(float(point[0]), 1), round(float(point[1]), 1), round(float(point[2]), 1)
