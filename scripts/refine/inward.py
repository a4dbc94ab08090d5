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
from ..geometry.surface import mask_signed_distance
from ..prior.volume import SITE_DEVIATIONS, UsualVolume

MOST_MM = 20.0
LOOKED_AT = 200_000  # voxels: of larger masks every second one along each axis, or every third


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
    def of(cls, mask: BoxedMask, affine: np.ndarray, margin_mm: float = 0.0) -> Depth:
        """Measure a mask; `affine` (4, 4) is voxel → world mm, the margin at least a voxel."""
        spacing = spacing_mm(affine)
        margin = np.ceil(margin_mm / spacing).astype(int) + 1
        x, y, z = (
            slice(max(s.start - m, 0), min(s.stop + m, n)) for s, m, n in zip(mask.box, margin, mask.shape, strict=True)
        )
        wide = mask.around((x, y, z))
        mm = -mask_signed_distance(wide.part, spacing)
        return cls(wide, mm, ndimage.gaussian_filter(mm, spacing.min() / spacing, mode="nearest"), float(spacing.min()))

    def voxels_at(self, inward_mm: float) -> float:
        """Return how many voxels lie at least so deep, those within a step in part."""
        return float(np.clip((self.mm - inward_mm) / self.step_mm + 0.5, 0.0, 1.0).sum())

    def deepest(self, voxels: float) -> np.ndarray:
        """Return the deepest so many voxels, (x, y, z) bool."""
        ranked = np.sort(self.order.ravel())[::-1]
        return self.order > ranked[min(round(voxels), ranked.size - 1)]


def moved_inward(mask: BoxedMask, affine: np.ndarray, inward_mm: float, free: np.ndarray) -> BoxedMask | None:
    """Return a mask taken inward by a depth in mm, negative for outward; None where nothing is left of it.

    Args:
        mask: of a grid.
        affine: (4, 4) voxel → world mm.
        inward_mm: the depth.
        free: (X, Y, Z) bool, the voxels that may be added.
    """
    depth = Depth.of(mask, affine, max(-inward_mm, 0.0))
    wide = depth.mask
    moved = depth.deepest(depth.voxels_at(inward_mm))
    moved &= wide.part if inward_mm > 0 else wide.part | free[wide.box]
    return BoxedMask.of(BoxedMask(mask.shape, wide.box, moved).whole()) if moved.any() else None


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
    step = int(np.ceil(np.cbrt(max(mask.part.size / LOOKED_AT, 1.0))))
    seen = mask if step == 1 else _in_steps(mask, step)
    radius_mm = float(np.cbrt(3000.0 * wanted_ml / (4.0 * np.pi)))
    depth = Depth.of(
        seen, affine @ np.diag([step, step, step, 1.0]), 0.0 if deviations > 0 else min(radius_mm, MOST_MM)
    )
    low, high = (0.0, MOST_MM) if deviations > 0 else (-MOST_MM, 0.0)
    while high - low > 0.01:  # fewer voxels lie deeper
        middle = (low + high) / 2.0
        large = depth.voxels_at(middle) * voxel_ml * step**3 > wanted_ml
        low, high = (middle, high) if large else (low, middle)
    return low if deviations > 0 else high


def _in_steps(mask: BoxedMask, step: int) -> BoxedMask:
    """Return every so many voxels of a mask along each axis, those of its box's corner among them."""
    corner = [s.start % step for s in mask.box]
    shape = tuple(-(-(n - c) // step) for n, c in zip(mask.shape, corner, strict=True))
    part = mask.part[::step, ::step, ::step]
    x, y, z = (slice(s.start // step, s.start // step + n) for s, n in zip(mask.box, part.shape, strict=True))
    return BoxedMask(shape, (x, y, z), part)


def read_inward(value: object, names: Sequence[str]) -> Mapping[str, float]:
    """Read by how much masks are taken inward: "2.5" for all structures, or "liver=2,spleen=-1" for some.

    Args:
        value: text, number, or name → number, mm; negative for outward.
        names: of the structures.

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
