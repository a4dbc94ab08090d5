"""Simulated errors of a segmentation network, for the demo and for tests: seeded, and sized by the organ.

Sizes are shares of the organ's radius, the radius of the ball of its volume, so that one setting serves all organs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from .geometry.affine import spacing_mm
from .geometry.surface import crop_box

CHUNK_SHARE = 0.15  # of the organ's volume
HOLE_RADIUS = 0.25  # this and the following in organ radii
LEAK_RADIUS, LEAK_LENGTH, LEAK_BENDS = 0.22, 1.2, 4
ISLAND_COUNT, ISLAND_RADIUS, ISLAND_GAP = 3, (0.15, 0.3), (0.3, 0.9)
MARGIN = 2.0  # how far around the organ errors may lie


def damage(
    label_map: np.ndarray,
    affine: ArrayLike,
    seed: int,
    kinds: Sequence[str] = ("chunk", "hole", "leak", "islands"),
    labels: Sequence[int] | None = None,
) -> np.ndarray:
    """Damage the shape that some labels of a label map make together.

    Args:
        label_map: (X, Y, Z) whole numbers.
        affine: (4, 4) voxel index → world mm.
        seed: the same seed gives the same damage.
        kinds: what happens, in this order: "chunk" (a bite out of the surface), "hole" (a cavity inside), "leak" (a
            crooked tube that grows out of the surface), "islands" (pieces apart from the organ).
        labels: the labels that make the shape; None for all but 0.

    Returns:
        The damaged label map, of the same type. Only the shape's own voxels are removed and only background is filled;
        new voxels take the label of the nearest part.

    Raises:
        ValueError: an unknown kind, or the shape is empty.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"unknown damage {unknown}; there are {sorted(KINDS)}")
    shape = label_map != 0 if labels is None else np.isin(label_map, labels)
    spacing = spacing_mm(affine)
    radius_mm = float(np.cbrt(3.0 * np.count_nonzero(shape) * spacing.prod() / (4.0 * np.pi)))
    box = tuple(
        slice(max(part.start - grow, 0), part.stop + grow)
        for part, grow in zip(crop_box(shape), np.ceil(MARGIN * radius_mm / spacing).astype(int), strict=True)
    )
    original, values = shape[box], label_map[box]
    rng = np.random.default_rng(seed)
    mask = original.copy()
    for kind in kinds:
        mask = KINDS[kind](mask, spacing, radius_mm, rng)
    result = label_map.copy()
    part = result[box]
    part[original & ~mask] = 0
    nearest = ndimage.distance_transform_edt(~original, spacing, return_distances=False, return_indices=True)
    added = mask & (values == 0)
    part[added] = values[tuple(nearest)][added]
    return result


def cut_chunk(mask: np.ndarray, spacing: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Remove the `CHUNK_SHARE` of the voxels that are nearest to a voxel of the surface."""
    inside = np.argwhere(mask)
    centre = rng.choice(np.argwhere(_surface(mask)))
    distance = np.linalg.norm((inside - centre) * spacing, axis=1)
    gone = inside[np.argsort(distance, kind="stable")[: int(CHUNK_SHARE * len(inside))]]
    result = mask.copy()
    result[tuple(gone.T)] = False
    return result


def cut_hole(mask: np.ndarray, spacing: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Empty a ball deep inside, leaving a wall of one voxel to the outside."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), spacing)[1:-1, 1:-1, 1:-1]
    centre = rng.choice(np.argwhere(depth >= 0.9 * depth.max()))
    return mask & ~(_ball(mask.shape, spacing, centre, HOLE_RADIUS * radius_mm) & ndimage.binary_erosion(mask))


def add_leak(mask: np.ndarray, spacing: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Grow a crooked tube out of the surface, away from the organ's centre."""
    point = rng.choice(np.argwhere(_surface(mask))).astype(float)
    direction = (point - np.argwhere(mask).mean(axis=0)) * spacing
    result = mask.copy()
    step_mm = 0.5 * LEAK_RADIUS * radius_mm
    steps = int(np.ceil(LEAK_LENGTH * radius_mm / step_mm))
    for step in range(steps):
        if step % max(steps // LEAK_BENDS, 1) == 0:
            direction = direction / np.linalg.norm(direction) + rng.normal(0.0, 0.3, 3)
        point = point + direction / np.linalg.norm(direction) * step_mm / spacing
        result |= _ball(mask.shape, spacing, point, LEAK_RADIUS * radius_mm)
    return result


def add_islands(mask: np.ndarray, spacing: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Put balls of several sizes beside the organ, where the image has room for them."""
    result = mask.copy()
    for _ in range(ISLAND_COUNT):
        size_mm = rng.uniform(*ISLAND_RADIUS) * radius_mm
        gap_mm = ndimage.distance_transform_edt(~result, spacing) - size_mm
        room = np.argwhere((gap_mm >= ISLAND_GAP[0] * radius_mm) & (gap_mm <= ISLAND_GAP[1] * radius_mm))
        if len(room):
            result |= _ball(mask.shape, spacing, rng.choice(room), max(size_mm, spacing.max()))
    return result


KINDS: dict[str, Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "chunk": cut_chunk,
    "hole": cut_hole,
    "leak": add_leak,
    "islands": add_islands,
}


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _ball(shape: tuple[int, ...], spacing: np.ndarray, centre: np.ndarray, radius_mm: float) -> np.ndarray:
    """Return the voxels whose centres lie within `radius_mm` of a point in voxel indices, (X, Y, Z) bool."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    squares = [((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing, strict=True)]
    return squares[0] + squares[1] + squares[2] <= radius_mm**2
