"""Drafts: flawed masks of known organs, from near-perfect to poor, made without a network.

Whoever learns to correct segmentations needs errors of every kind and strength. A draft lays the organ of another
patient over the own one and blends the two; grows or shrinks the whole; lets the boundary waver; and bites, tears,
floods or cuts it. How much of all is drawn at random, once a draft, so that good drafts are good throughout.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ...geometry.affine import apply_affine, spacing_mm, voxel_volume_mm3
from ...geometry.surface import mask_signed_distance
from ...simulation.damage import damage

BLEND = 0.7  # most of another patient's organ in a draft
GROWN, WAVER = 0.30, 0.35  # standard deviations of offset and boundary, over the organ's inner radius
LEAST_WAVER = 0.8  # voxels: the best of networks are off by as much here and there
FINE = 0.4  # of the waver, over a length of a third
DAMAGE = {"chunk": 0.5, "leak": 0.3, "islands": 0.3, "hole": 0.2, "steps": 0.15}  # how often, in the worst drafts
CUT = 0.35  # how often an end is cut, in the worst drafts
WARP, WARP_LENGTH = 0.08, 0.6  # displacement and its length, over the mean radius of the organs of a case


class Organ:
    """A mask (X, Y, Z) bool on a grid, with what drafts need to know of it.

    Args:
        mask: not empty.
        affine: (4, 4) voxel → world mm.
    """

    def __init__(self, mask: np.ndarray, affine: np.ndarray) -> None:
        self.affine = affine
        self.signed_mm = mask_signed_distance(mask, spacing_mm(affine))
        voxels = np.argwhere(mask)
        world = apply_affine(affine, voxels)
        self.centre = world.mean(0)
        self.axes_mm = np.sqrt(((world - self.centre) ** 2).mean(0))
        self.inner_mm = float(np.percentile(-self.signed_mm[mask], 99))
        self.radius_mm = float(np.cbrt(3.0 * len(voxels) * voxel_volume_mm3(affine) / (4.0 * np.pi)))

    def laid_over(self, other: Organ, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
        """Return this organ's signed distance (X, Y, Z) in mm on a grid, moved and stretched to another's place."""
        stretch = self.axes_mm / np.maximum(other.axes_mm, 1e-3)
        place = np.eye(4)
        place[:3, :3], place[:3, 3] = np.diag(stretch), self.centre - stretch * other.centre
        to_own = np.linalg.inv(self.affine) @ place @ affine
        moved = ndimage.affine_transform(
            self.signed_mm, to_own[:3, :3], to_own[:3, 3], output_shape=shape, order=1, mode="nearest"
        )
        return moved / float(np.cbrt(stretch.prod()))


def draft(organ: Organ, other: Organ, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Return a flawed mask (X, Y, Z) bool of an organ on its own grid.

    Args:
        organ: the organ.
        other: that of another patient.
        severity: 0 nearly right to 1 poor.
        rng: random generator.
    """
    spacing = spacing_mm(organ.affine)
    blend = rng.uniform(0.0, BLEND) * severity
    signed = (1.0 - blend) * organ.signed_mm
    if blend > 0.01:
        signed = signed + blend * other.laid_over(organ, signed.shape, organ.affine)
    length_mm = max(organ.inner_mm, float(spacing.max()))
    waver_mm = max(WAVER * severity * organ.inner_mm, LEAST_WAVER * float(spacing.min())) * rng.uniform(0.2, 1.0)
    signed = signed + rng.normal(0.0, GROWN) * severity * organ.inner_mm
    signed = signed + waver_mm * smooth_noise(signed.shape, length_mm / spacing, rng)
    signed = signed + FINE * waver_mm * smooth_noise(signed.shape, length_mm / 3.0 / spacing, rng)
    mask = signed < 0
    if rng.random() < CUT * severity:
        mask &= ~_beyond_an_end(organ, rng)
    kinds = [kind for kind, often in DAMAGE.items() if rng.random() < often * severity]
    if kinds and mask.any():
        mask = damage(mask.astype(np.uint8), organ.affine, int(rng.integers(1 << 31)), kinds, None, 0.4 + severity) > 0
    return mask


def _beyond_an_end(organ: Organ, rng: np.random.Generator) -> np.ndarray:
    """Return the voxels beyond a plane across the organ's long axis, or across the slices, near one of its ends."""
    voxels = np.argwhere(organ.signed_mm < 0)
    spacing = spacing_mm(organ.affine)
    centred = (voxels - voxels.mean(0)) * spacing
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1] if rng.random() < 0.5 else np.eye(3)[2]
    axis = axis * rng.choice([-1.0, 1.0])
    limit = np.quantile(centred @ axis, rng.uniform(0.7, 0.97))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in organ.signed_mm.shape], indexing="ij"), -1)
    return ((index - voxels.mean(0)) * spacing) @ axis > limit


def smooth_noise(shape: tuple[int, ...], length: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise (X, Y, Z) of standard deviation 1, smooth over `length` (3,) voxels."""
    step = np.maximum(length / 2.0, 1.0)
    nodes = rng.normal(size=np.ceil((np.array(shape) - 1) / step).astype(int) + 3)
    nodes = ndimage.gaussian_filter(nodes, length / step / 2.0, mode="wrap")
    nodes /= max(float(nodes.std()), 1e-6)
    return ndimage.affine_transform(
        nodes.astype(np.float32), np.diag(1.0 / step), rng.uniform(0, 1, 3), output_shape=shape, order=1, mode="nearest"
    )


def warp(shape: tuple[int, ...], affine: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return where the voxels of a grid come from in a smooth random deformation, (3, X, Y, Z) voxel indices.

    A prior knows the shapes that it learned from too well to say how far its fits can be trusted on others. Deformed
    cases are new to it.

    Args:
        shape: of the grid.
        affine: (4, 4) voxel → world mm.
        radius_mm: mean radius of the organs.
        rng: random generator.
    """
    spacing = spacing_mm(affine)
    length = np.maximum(WARP_LENGTH * radius_mm / spacing, 1.0)
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij"))
    for axis in range(3):
        index[axis] += WARP * radius_mm / spacing[axis] * smooth_noise(shape, length, rng)
    return index


def warped(volume: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return a volume (X, Y, Z) at voxel indices (3, X, Y, Z), linearly interpolated, float32."""
    return ndimage.map_coordinates(volume.astype(np.float32), index, order=1, mode="nearest")
