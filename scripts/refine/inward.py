"""Masks taken inward by one depth, or outward: as if their surface lay everywhere too far out by so many millimetres.

Networks that draw too much, or too little, do so by much the same depth in all patients and organs. One mask does not
tell, for organs differ in size, but most masks of a run do: see `report.sizes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry.affine import spacing_mm, voxel_volume_mm3
from ..geometry.boxed import BoxedMask
from ..geometry.surface import crop_box, mask_signed_distance
from ..organ.pack import OrganPack
from ..prior.volume import SITE_DEVIATIONS, UsualVolume

MOST_MM = 20.0
LOOKED_AT = 200_000  # voxels: of larger boxes every second one along an axis, or every third


@dataclass(frozen=True)
class Depth:
    """How deep voxels lie in a mask, as far as its grid reaches: beyond it nothing is known, so its end is no surface.

    Attributes:
        mask: in a box with a margin.
        mm: (x, y, z) depth in that box, negative outside; it comes in steps of a voxel.
        order: (x, y, z) the same smoothed by a voxel, which ranks the voxels of a step.
        step_mm: the smallest side of a voxel.
    """

    mask: BoxedMask
    mm: np.ndarray
    order: np.ndarray
    step_mm: float

    @classmethod
    def of(
        cls,
        mask: BoxedMask,
        affine: np.ndarray,
        margin_mm: float = 0.0,
        limit_mm: float | None = None,
        beside: np.ndarray | None = None,
    ) -> Depth:
        """Measure a mask.

        Args:
            mask: of a grid.
            affine: (4, 4) voxel → world mm.
            margin_mm: around it, at least a voxel.
            limit_mm: beyond which depths need not be exact: much faster.
            beside: (X, Y, Z) label map; a border with another label is no surface.
        """
        spacing = spacing_mm(affine)
        margin = np.ceil(margin_mm / spacing).astype(int) + 1
        x, y, z = (
            slice(max(s.start - m, 0), min(s.stop + m, n)) for s, m, n in zip(mask.box, margin, mask.shape, strict=True)
        )
        wide = mask.around((x, y, z))
        solid = wide.part if beside is None else wide.part | (beside[wide.box] != 0)
        mm = -mask_signed_distance(solid, spacing, limit_mm)
        return cls(wide, mm, ndimage.gaussian_filter(mm, spacing.min() / spacing, mode="nearest"), float(spacing.min()))

    def voxels_at(self, inward_mm: float, among: np.ndarray | None = None) -> float:
        """Return how many voxels, `among` some (x, y, z) bool, lie at least so deep, those within a step in part."""
        mm = self.mm if among is None else self.mm[among]
        return float(np.clip((mm - inward_mm) / self.step_mm + 0.5, 0.0, 1.0).sum())

    def deepest(self, voxels: float, among: np.ndarray | None = None) -> np.ndarray:
        """Return the deepest so many voxels, `among` some (x, y, z) bool: (x, y, z) bool."""
        order = self.order if among is None else np.where(among, self.order, -np.inf)
        last = max(order.size - 1 - round(voxels), 0)
        return order > np.partition(order.ravel(), last)[last]


def candidates(
    mask: BoxedMask, affine: np.ndarray, inward_mm: float, label_map: np.ndarray
) -> tuple[Depth, np.ndarray]:
    """Return the depth of a mask that is to be moved by up to so many mm, and the voxels that may be in it, (x, y, z).

    Inward, borders with other labels stay: where two organs touch, not both can be drawn too large. Outward, only
    background is added.
    """
    limit_mm = abs(inward_mm) + 2.0 * float(spacing_mm(affine).max())
    if inward_mm > 0:
        depth = Depth.of(mask, affine, limit_mm=limit_mm, beside=label_map)
        return depth, depth.mask.part
    depth = Depth.of(mask, affine, -inward_mm, limit_mm)
    within = depth.mm > inward_mm - float(spacing_mm(affine).max())
    return depth, depth.mask.part | (within & (label_map[depth.mask.box] == 0))


def moved_inward(mask: BoxedMask, affine: np.ndarray, inward_mm: float, label_map: np.ndarray) -> BoxedMask | None:
    """Return a mask taken inward by a depth in mm, negative for outward; None where nothing is left of it.

    Args:
        mask: of a grid.
        affine: (4, 4) voxel → world mm.
        inward_mm: the depth.
        label_map: (X, Y, Z), in which it and the other labels are.
    """
    depth, among = candidates(mask, affine, inward_mm, label_map)
    moved = depth.deepest(depth.voxels_at(inward_mm, among), among)
    if not moved.any():
        return None
    inner = crop_box(moved)
    x, y, z = (slice(b.start + s.start, b.start + s.stop) for b, s in zip(depth.mask.box, inner, strict=True))
    return BoxedMask(mask.shape, (x, y, z), moved[inner].copy())


def to_usual_mm(mask: BoxedMask, affine: np.ndarray, usual: UsualVolume) -> float:
    """Return by which depth a mask must be taken inward to be no more unusual than another site's mean.

    Args:
        mask: of a grid.
        affine: (4, 4) voxel → world mm.
        usual: the organ's volume.

    Returns:
        The depth in mm, negative for outward, at most `MOST_MM`; 0 of a mask of usual size.
    """
    voxel_ml = voxel_volume_mm3(affine) / 1000.0
    deviations = usual.deviations(mask.count * voxel_ml)
    if abs(deviations) <= SITE_DEVIATIONS:
        return 0.0
    wanted_ml = usual.volume_ml_at(float(np.copysign(SITE_DEVIATIONS, deviations)))
    spacing = spacing_mm(affine)
    coarse_mm = np.cbrt(mask.part.size * voxel_ml * 1000.0 / LOOKED_AT)
    steps = np.maximum(np.floor(coarse_mm / spacing), 1).astype(int)
    outward_mm = 0.0 if deviations > 0 else min(float(np.cbrt(3000.0 * wanted_ml / (4.0 * np.pi))), MOST_MM)
    depth = Depth.of(_in_steps(mask, steps), affine @ np.diag([*steps, 1.0]), outward_mm)
    low, high = (0.0, MOST_MM) if deviations > 0 else (-MOST_MM, 0.0)
    while high - low > 0.01:  # fewer voxels lie deeper
        middle = (low + high) / 2.0
        large = depth.voxels_at(middle) * voxel_ml * steps.prod() > wanted_ml
        low, high = (middle, high) if large else (low, middle)
    return low if deviations > 0 else high


def _in_steps(mask: BoxedMask, steps: np.ndarray) -> BoxedMask:
    """Return every so many voxels of a mask along each axis, `steps` (3,), those of its box's corner among them."""
    shape = tuple(-(-(n - s.start % k) // k) for n, s, k in zip(mask.shape, mask.box, steps.tolist(), strict=True))
    part = mask.part[tuple(slice(None, None, k) for k in steps)]
    x, y, z = (
        slice(s.start // k, s.start // k + n) for s, k, n in zip(mask.box, steps.tolist(), part.shape, strict=True)
    )
    return BoxedMask(shape, (x, y, z), part)


def read_inward(value: object, names: Sequence[str]) -> Mapping[str, float]:
    """Read by how much masks are taken inward: "2.5" for all structures, or "liver=2,spleen=-1" for some.

    Args:
        value: text, number, or name → number, mm; negative for outward.
        names: of the structures, and of both sides of paired ones.

    Returns:
        Name → depth in mm, of those that are moved.

    Raises:
        ValueError: it is no depth, or there is no such structure.
    """
    text = ",".join(f"{name}={mm}" for name, mm in value.items()) if isinstance(value, Mapping) else str(value or "")
    found: dict[str, float] = {}
    for part in filter(None, text.strip().split(",")):
        name, by_name, depth = part.rpartition("=")
        if by_name and name.strip() not in names:
            raise ValueError(f"inward_mm: there is no structure '{name.strip()}'; there are {', '.join(names)}")
        try:
            inward_mm = float(depth)
        except ValueError:
            inward_mm = np.nan
        if not abs(inward_mm) <= MOST_MM:
            raise ValueError(
                f"inward_mm: {part.strip()} is no depth in mm from -{MOST_MM:g} to {MOST_MM:g}: write 2.5 for all "
                f"structures, or {names[0]}=2.5"
            )
        found |= dict.fromkeys([name.strip()] if name else names, inward_mm)
    return {name: depth for name, depth in found.items() if depth}


def names_of(pack: OrganPack) -> list[str]:
    """Return the names of a pack's shapes: its structures, and both sides of paired ones."""
    return [shape.name for own in pack.structures for shape in (own, *own.pair)]


def asked_words(inward_mm: float) -> str:
    """Say what a run asked for, such as "taken inward by 2 mm, as asked for"."""
    return f"taken {'inward' if inward_mm > 0 else 'outward'} by {abs(inward_mm):g} mm, as asked for"
