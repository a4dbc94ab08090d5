"""Fusion and gate: where the fit may overrule the mask, decided region by region of disagreement.

`s = median(s_mask, s_fit - τ, s_fit + τ)` overrules the mask only where the two differ by more than τ; it is
continuous, symmetric, and serves voxels and mesh alike. What it would change falls into connected regions, long ones
cut into slabs, and each is accepted or refused from figures that need no truth. What is not convincing stays.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from ..geometry.surface import grow
from .settings import RefineSettings

REMOVE, ADD = "remove", "add"


OWN_DOUBT = 0.98  # a region of which the network that made the mask was so sure is not removed


@dataclass(frozen=True)
class Region:
    """One connected region in which proposal and mask disagree.

    Attributes:
        kind: "remove" or "add".
        volume_mm3: its volume.
        fit_mm: mean signed distance of the fit, negative inside.
        context_mm: mean signed distance of the joint model's fit, or None.
        probability: mean probability from the evidence, or None.
        island: for removals, whether it touches nothing of the mask that is kept.
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
    fused = np.minimum(np.maximum(s_mask, s_other - tau_mm), s_other + tau_mm)
    return np.where(np.isnan(s_other), s_mask, fused)


def cut_regions(change: np.ndarray, affine: np.ndarray, slab_mm: float) -> tuple[np.ndarray, int]:
    """Label the connected regions (26 neighbours) of a change, long ones cut into slabs across their longest axis.

    Args:
        change: (X, Y, Z) bool.
        affine: (4, 4) voxel → world mm.
        slab_mm: regions longer than twice this are cut.

    Returns:
        (X, Y, Z) int32 labels from 1, and their number.
    """
    labels, count = ndimage.label(change, structure=np.ones((3, 3, 3)))
    labels = labels.astype(np.int32)
    boxes = ndimage.find_objects(labels)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    for number in range(1, len(boxes) + 1):
        box = boxes[number - 1]
        if max((s.stop - s.start) * h for s, h in zip(box, spacing, strict=True)) < 2 * slab_mm:
            continue
        index = np.argwhere(labels[box] == number)
        world = index @ affine[:3, :3].T
        centred = world - world.mean(0)
        axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        along = centred @ axis
        slabs = int((along.max() - along.min()) // slab_mm)
        if slabs < 2:
            continue
        slab = np.minimum((along - along.min()) / (along.max() - along.min()) * slabs, slabs - 1e-6).astype(int)
        moved = slab > 0
        labels[box][tuple(index[moved].T)] = count + slab[moved]
        count += slabs - 1
    return labels, count


def decide(
    kind: str,
    fit_mm: float,
    context_mm: float | None,
    probability: float | None,
    own_network: bool,
    island: bool,
    sound: float,
    limits: RefineSettings,
) -> tuple[bool, str]:
    """Decide on one region and say why.

    Args:
        kind: "remove" or "add".
        fit_mm: mean signed distance of the fit.
        context_mm: mean signed distance of the joint model, or None.
        probability: mean probability from the evidence, or None.
        own_network: whether the evidence is of the network that made the mask.
        island: whether it touches nothing that is kept.
        sound: share of the initial surface within 2 mm of the fit.
        limits: the gate's limits.
    """
    if probability is not None and not own_network and not 1.0 - limits.sure <= probability <= limits.sure:
        accepted = (probability > limits.sure) == (kind == ADD)
        return accepted, f"image evidence {'for' if accepted else 'against'} it (mean probability {probability:.2f})"
    if kind == REMOVE and probability is not None and own_network and probability > OWN_DOUBT:
        return False, f"the network was sure of it (mean probability {probability:.2f})"
    if context_mm is not None and (context_mm < 0) == (kind == REMOVE):
        return False, f"the joint model disagrees (signed distance {context_mm:.1f} mm)"
    if kind == REMOVE:
        limit = limits.island_mm if island else limits.excess_mm
        what = "island" if island else "excess"
        return fit_mm > limit, f"{what} {fit_mm:.1f} mm outside of the fit (limit {limit:g} mm)"
    if sound < limits.sound_share:
        return False, f"only {100 * sound:.0f} % of the surface agrees with the fit: too little to add material"
    return (
        fit_mm < -limits.missing_mm,
        f"missing part {-fit_mm:.1f} mm inside of the fit (limit {limits.missing_mm:g} mm)",
    )


def judge_regions(
    mask: np.ndarray,
    proposal: np.ndarray,
    s_fit: np.ndarray,
    affine: np.ndarray,
    limits: RefineSettings,
    context: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    own_network: bool = False,
    sound: float = 1.0,
) -> tuple[np.ndarray, list[Region]]:
    """Decide on every region in which the proposal differs from the mask.

    Args:
        mask: (X, Y, Z) bool, initial.
        proposal: (X, Y, Z) bool.
        s_fit: (X, Y, Z) signed distance of the fit, mm.
        affine: (4, 4) voxel → world mm of these arrays.
        limits: the gate's limits, the length of slabs, and the volume below which regions are refused unrecorded.
        context: (X, Y, Z) signed distance of the joint model, mm.
        probability: (X, Y, Z) from the evidence, NaN where it says nothing.
        own_network: see `decide`.
        sound: see `decide`.

    Returns:
        (X, Y, Z) bool, where the proposal is refused; and the regions judged.
    """
    voxel_mm3 = float(abs(np.linalg.det(affine[:3, :3])))
    refused = np.zeros(mask.shape, bool)
    regions: list[Region] = []
    kept = mask & proposal
    for kind, change in ((REMOVE, mask & ~proposal), (ADD, ~mask & proposal)):
        labels, count = cut_regions(change, affine, limits.slab_mm)
        touching = _labels_touching(labels, count, kept)
        for number, box in enumerate(ndimage.find_objects(labels, count), 1):
            if box is None:
                continue
            own = labels[box] == number
            volume = float(own.sum()) * voxel_mm3
            if volume < limits.min_region_mm3:
                refused[box] |= own
                continue
            centre = np.argwhere(own).mean(0) + [s.start for s in box]
            fit_mm = round(float(s_fit[box][own].mean()), 3)
            context_mm = None if context is None else round(float(context[box][own].mean()), 3)
            mean_probability = _mean_or_none(probability, box, own)
            island = not touching[number]
            accepted, reason = decide(kind, fit_mm, context_mm, mean_probability, own_network, island, sound, limits)
            if not accepted:
                refused[box] |= own
            world = affine[:3, :3] @ centre + affine[:3, 3]
            regions.append(
                Region(
                    kind,
                    round(volume, 1),
                    fit_mm,
                    context_mm,
                    mean_probability,
                    island,
                    accepted,
                    reason,
                    (round(float(world[0]), 1), round(float(world[1]), 1), round(float(world[2]), 1)),
                )
            )
    return refused, regions


def follow(
    fused: np.ndarray,
    mask: np.ndarray,
    target: np.ndarray,
    spacing: np.ndarray,
    reach_mm: float,
    probability: np.ndarray | None = None,
    sure: float = 0.9,
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
        probability: (X, Y, Z) from an image, or None: voxels of which it is not sure stay.
        sure: the probability above which, or below one minus which, the image is sure.

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
            follows = near & (mask != wanted) & ((target < 0) == wanted)
            if probability is not None:
                follows &= np.isnan(probability) | ((probability > sure) if wanted else (probability < 1.0 - sure))
            result[follows] = target[follows]
    return result


def _labels_touching(labels: np.ndarray, count: int, other: np.ndarray) -> np.ndarray:
    """Return, per label from 0 to `count`, whether it has a voxel next to `other`."""
    touching = np.zeros(count + 1, bool)
    touching[np.unique(labels[ndimage.binary_dilation(other) & (labels > 0)])] = True
    return touching


def _mean_or_none(values: np.ndarray | None, box: tuple[slice, ...], own: np.ndarray) -> float | None:
    if values is None:
        return None
    inside = values[box][own]
    inside = inside[~np.isnan(inside)]
    return round(float(inside.mean()), 3) if inside.size * 2 >= own.sum() else None
