"""Simulated errors of a segmentation, for the demo, for validation and for tests: seeded, and sized by the organ.

Sizes are shares of the organ's radius, the radius of the ball of its volume, so that one setting serves all organs.
Only thick slices have a thickness in mm, since it is the scanner's and not the organ's. The kinds:

- "chunk": a bite out of the surface.
- "cut": all beyond a plane of the grid, as where a network was shown a part of the organ only.
- "hole": a cavity inside.
- "leak": a crooked tube that grows out of the surface.
- "islands": pieces apart from the organ.
- "steps": the mask as if it had been drawn on thick slices, staircases and all.
- "rough": a boundary that wavers in and out, correlated noise on the signed distance.

Kinds given together happen one after the other, in their order: that is how mixtures are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..geometry.affine import check_affine, spacing_mm
from ..geometry.surface import boundary, crop_box, mask_signed_distance

CHUNK_SHARE = 0.15  # of the organ's volume
CUT_SHARE = 0.3  # likewise
HOLE_RADIUS = 0.25  # this and the following in organ radii
LEAK_RADIUS, LEAK_LENGTH, LEAK_BENDS = 0.22, 1.2, 4
ISLAND_COUNT, ISLAND_RADIUS, ISLAND_GAP = 3, (0.15, 0.3), (0.3, 0.9)
SLICE_MM = 5.0
ROUGH_AMPLITUDE = 0.06  # standard deviation of the boundary's displacement
ROUGH_LENGTH = 0.2  # over which the correlation of that displacement falls to one half
ROUGH_LIMIT = 4.0  # largest displacement, in standard deviations
MARGIN = 2.0  # how far around the organ errors may lie
ROOM_VOXELS = 2_000_000  # in larger boxes fewer places are tried for islands
NOISE_STEP = 0.5  # of the noise's lattice, in standard deviations of the Gaussian that smooths it
WORLD_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # slices → the world axis that they are stacked along


@dataclass(frozen=True)
class Grid:
    """What the kinds know of the mask's grid and organ, and how strong they shall be.

    Attributes:
        spacing_mm: (3,) voxel edge lengths.
        radius_mm: of the ball of the organ's volume.
        severity: factor of every size; 1 is the size that the constants of this module give.
        slice_axis: the array's axis along which thick slices are stacked.
        start: (3,) index of the array's first voxel in the whole label map.
    """

    spacing_mm: np.ndarray
    radius_mm: float
    severity: float
    slice_axis: int
    start: np.ndarray


def damage(
    label_map: np.ndarray,
    affine: ArrayLike,
    seed: int,
    kinds: Sequence[str] = ("chunk", "hole", "leak", "islands"),
    shape: np.ndarray | None = None,
    severity: float = 1.0,
    slices: str = "axial",
) -> np.ndarray:
    """Damage a shape of a label map.

    Args:
        label_map: (X, Y, Z) whole numbers.
        affine: (4, 4) voxel index → world mm.
        seed: the same seed gives the same damage.
        kinds: what happens, in this order; the module lists the kinds.
        shape: the voxels of the shape, (X, Y, Z) bool; None for all that are not background.
        severity: factor of all sizes, of the chunk's share of the volume and of the slices' thickness.
        slices: how the thick slices of "steps" lie: axial, coronal or sagittal. They are stacked along the grid's axis
            that is nearest to the world's, so that oblique grids are cut along their own slices.

    Returns:
        The damaged label map, of the same type. Only the shape's own voxels are removed and only background is filled;
        new voxels take the label of the nearest part.

    Raises:
        ValueError: an unknown kind or way of slices, a severity that is not positive, or the shape is empty.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"unknown damage {unknown}; there are {sorted(KINDS)}")
    if slices not in WORLD_AXES:
        raise ValueError(f"slices lie {' or '.join(WORLD_AXES)}, not {slices!r}")
    if not severity > 0:
        raise ValueError(f"severity must be positive, not {severity}")
    shape = label_map != 0 if shape is None else shape
    spacing = spacing_mm(affine)
    radius_mm = _radius_mm(shape, spacing)
    box = damage_box(shape, affine)
    # whatever the label map's memory order, arrays of one order are gone through quickly together
    original, values = shape[box].copy(order="C"), label_map[box].copy(order="C")
    start = np.array([part.start for part in box])
    grid = Grid(spacing, radius_mm, float(severity), stacking_axis(affine, slices), start)
    rng = np.random.default_rng(seed)
    mask = original.copy()
    for kind in kinds:
        damaged = KINDS[kind](mask, grid, rng)
        mask = damaged if damaged.any() else mask  # a shape thinner than a slice would be lost
    added = mask & (values == 0)
    own = np.unique(values[original])
    if len(own) == 1:
        new: np.ndarray | np.generic = own[0]
    else:
        nearest = ndimage.distance_transform_edt(~original, spacing, return_distances=False, return_indices=True)
        new = values[tuple(nearest[:, added])]
    values[added] = new
    values[original & ~mask] = 0
    result = label_map.copy(order="K")
    result[box] = values
    return result


def damage_box(shape: np.ndarray, affine: ArrayLike) -> tuple[slice, slice, slice]:
    """Return the slices in which damage to a shape (X, Y, Z) bool may lie."""
    spacing = spacing_mm(affine)
    return crop_box(shape, _voxels(MARGIN * _radius_mm(shape, spacing), spacing))


def cut_chunk(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Remove the `CHUNK_SHARE` of the voxels that are nearest to a voxel of the surface."""
    inside = np.argwhere(mask)
    centre = rng.choice(np.argwhere(boundary(mask)))
    distance = np.linalg.norm((inside - centre) * grid.spacing_mm, axis=1)
    gone = inside[np.argsort(distance, kind="stable")[: int(grid.severity * CHUNK_SHARE * len(inside))]]
    result = mask.copy()
    result[tuple(gone.T)] = False
    return result


def cut_end(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Remove the slices at one end, along any axis of the grid, that hold `CUT_SHARE` of the voxels together."""
    axis = int(rng.integers(3))
    far = bool(rng.integers(2))
    sections = np.count_nonzero(np.moveaxis(mask, axis, 0), axis=(1, 2))
    beyond = np.cumsum(sections[::-1] if far else sections) <= grid.severity * CUT_SHARE * sections.sum()
    result = mask.copy()
    np.moveaxis(result, axis, 0)[beyond[::-1] if far else beyond] = False
    return result


def cut_hole(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Empty a ball deep inside, leaving a wall of one voxel to the outside."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), grid.spacing_mm)[1:-1, 1:-1, 1:-1]
    centre = rng.choice(np.argwhere(depth >= 0.9 * depth.max()))
    size_mm = grid.severity * HOLE_RADIUS * grid.radius_mm
    hole = np.zeros_like(mask)
    _add_ball(hole, grid.spacing_mm, centre, size_mm)
    return mask & ~(hole & ~boundary(mask))


def add_leak(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Grow a crooked tube out of the surface, away from the organ's centre."""
    point = rng.choice(np.argwhere(boundary(mask))).astype(float)
    spacing, size_mm = grid.spacing_mm, grid.severity * grid.radius_mm
    direction = (point - np.argwhere(mask).mean(axis=0)) * spacing
    result = mask.copy()
    step_mm = 0.5 * LEAK_RADIUS * size_mm
    steps = int(np.ceil(LEAK_LENGTH * size_mm / step_mm))
    for step in range(steps):
        if step % max(steps // LEAK_BENDS, 1) == 0:
            direction = direction / np.linalg.norm(direction) + rng.normal(0.0, 0.3, 3)
        point = point + direction / np.linalg.norm(direction) * step_mm / spacing
        _add_ball(result, spacing, point, LEAK_RADIUS * size_mm)
    return result


def add_islands(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Put balls of several sizes beside the organ, where the image has room for them.

    In large boxes the room is looked for at some of the voxels only, about as far apart along every axis.
    """
    result = mask.copy()
    spacing, radius_mm = grid.spacing_mm, grid.radius_mm
    steps = _room_steps(mask.shape, spacing)
    sparse = tuple(slice(None, None, step) for step in steps)
    for _ in range(ISLAND_COUNT):
        size_mm = rng.uniform(*ISLAND_RADIUS) * grid.severity * radius_mm
        gap_mm = ndimage.distance_transform_edt(~result[sparse], steps * spacing) - size_mm
        room = steps * np.argwhere((gap_mm >= ISLAND_GAP[0] * radius_mm) & (gap_mm <= ISLAND_GAP[1] * radius_mm))
        if len(room):
            _add_ball(result, spacing, rng.choice(room), max(size_mm, spacing.max()))
    return result


def cut_steps(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Draw the mask on slices `SLICE_MM` thick: all voxels of a column in a slice become what most of them are.

    Where the first slice begins is random. A grid whose slices are that thick already stays as it is.
    """
    axis = grid.slice_axis
    thickness_mm = grid.severity * SLICE_MM
    heights_mm = (grid.start[axis] + np.arange(mask.shape[axis]) + 0.5) * grid.spacing_mm[axis]
    numbers = np.floor((heights_mm + rng.uniform(0.0, thickness_mm)) / thickness_mm)
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1.0))
    counts = np.diff(firsts, append=mask.shape[axis])
    columns = np.moveaxis(mask, axis, 0)
    inside = np.add.reduceat(columns.astype(int), firsts, axis=0)
    thick = 2 * inside > counts[:, None, None]
    thick |= (2 * inside == counts[:, None, None]) & columns[firsts]  # a tie goes to the slice's first voxel
    return np.moveaxis(np.repeat(thick, counts, axis=0), 0, axis)


def roughen(mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Shift the boundary in and out by Gaussian noise on the signed distance, smooth over at least 1.5 voxels.

    The noise is drawn on a lattice around the shape that is fine enough for it, and interpolated where it is needed.
    """
    spacing = grid.spacing_mm
    length_mm = max(ROUGH_LENGTH * grid.radius_mm, 1.5 * float(spacing.max()))
    # white noise smoothed by a Gaussian of width σ has the correlation exp(-d² / 4σ²): one half at d = 2 σ √ln 2
    sigma_mm = length_mm / (2.0 * np.sqrt(np.log(2.0)))
    step = NOISE_STEP * sigma_mm / spacing  # voxels between the lattice's nodes
    deviation_mm = grid.severity * ROUGH_AMPLITUDE * grid.radius_mm
    reach_mm = ROUGH_LIMIT * deviation_mm + float(spacing.max())
    box = crop_box(mask, _voxels(reach_mm, spacing))
    shape = mask[box]
    noise = rng.normal(size=np.ceil((np.array(shape.shape) - 1) / step).astype(int) + 2)
    noise = ndimage.gaussian_filter(noise, 1.0 / NOISE_STEP, mode="wrap")
    noise = (noise * deviation_mm / noise.std()).clip(-ROUGH_LIMIT * deviation_mm, ROUGH_LIMIT * deviation_mm)
    signed_mm = mask_signed_distance(shape, spacing, reach_mm)
    near = np.argwhere(np.abs(signed_mm) <= ROUGH_LIMIT * deviation_mm)
    result = mask.copy()
    rough = shape.copy()
    shift_mm = ndimage.map_coordinates(noise, (near / step).T, order=1)
    rough[tuple(near.T)] = signed_mm[tuple(near.T)] + shift_mm < 0
    result[box] = rough
    return result


def stacking_axis(affine: ArrayLike, slices: str) -> int:
    """Return the grid's axis along which axial, coronal or sagittal slices are stacked."""
    directions = check_affine(affine)[:3, :3] / spacing_mm(affine)
    return int(np.abs(directions[WORLD_AXES[slices]]).argmax())


KINDS: dict[str, Callable[[np.ndarray, Grid, np.random.Generator], np.ndarray]] = {
    "chunk": cut_chunk,
    "cut": cut_end,
    "hole": cut_hole,
    "leak": add_leak,
    "islands": add_islands,
    "steps": cut_steps,
    "rough": roughen,
}


def _radius_mm(shape: np.ndarray, spacing: np.ndarray) -> float:
    return float(np.cbrt(3.0 * np.count_nonzero(shape) * spacing.prod() / (4.0 * np.pi)))


def _voxels(length_mm: float, spacing: np.ndarray) -> list[int]:
    """Return how many voxels of each axis a length takes."""
    return [int(n) for n in np.ceil(length_mm / spacing)]


def _room_steps(shape: tuple[int, ...], spacing: np.ndarray) -> np.ndarray:
    """Return how many voxels (3,) lie between places so that there are at most `ROOM_VOXELS`, evenly spread."""
    if np.prod(shape) <= ROOM_VOXELS:
        return np.ones(3, int)
    edge_mm = np.cbrt(np.prod(shape) * spacing.prod() / ROOM_VOXELS)
    while True:
        steps = np.maximum(np.round(edge_mm / spacing), 1).astype(int)
        if np.prod(np.ceil(shape / steps)) <= ROOM_VOXELS or (steps >= shape).all():
            return steps
        edge_mm *= 1.1


def _add_ball(mask: np.ndarray, spacing: np.ndarray, centre: np.ndarray, radius_mm: float) -> None:
    """Add the voxels whose centres lie within `radius_mm` of a point in voxel indices to a mask (X, Y, Z) bool."""
    reach = radius_mm / spacing + 1.0
    lower, upper = np.maximum(centre - reach, 0).astype(int), np.maximum(np.ceil(centre + reach), 0).astype(int)
    box = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    axes = np.ogrid[tuple(slice(a, min(b, n)) for a, b, n in zip(lower, upper, mask.shape, strict=True))]
    squares = [((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing, strict=True)]
    mask[box] |= squares[0] + squares[1] + squares[2] <= radius_mm**2
