"""How a mask and its fit agree, in plain numbers: what its quality is predicted from where no image was read.

Lengths are shares of the shape's radius (`FittedShape.radius_mm`), volumes shares of the fit's: figures of a
hippocampus and of a liver can be compared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage, spatial

from ..geometry.affine import apply_affine, box_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import Box
from ..geometry.surface import boundary, crop_box
from ..prior.volume import UsualVolume
from .stages import Fitted

AT_MOST = 2000  # points of a surface at which distances are read
ACROSS = (2, 10, 50, 90, 98)  # percentiles of signed distances
AWAY = (50, 90, 98)  # percentiles of distances
LEAST_SLICES = 10  # unlike the one before, across which a mask may end flat: of fewer, thicker ones the last is anyway


def agreement(
    fitted: Fitted,
    initial: np.ndarray,
    mask: np.ndarray,
    fit: np.ndarray,
    box: Box,
) -> dict[str, float | None]:
    """Return figures of one structure's mask, initial or refined, beside its fit.

    Args:
        fitted: the structure.
        initial: (x, y, z) bool, the initial mask in the box.
        mask: (x, y, z) bool, the mask that the figures are of.
        fit: (x, y, z) bool, the inside of the fitted shape.
        box: slices of the label map's grid; masks and fit have no voxels beyond it.

    Returns:
        Name → number; None where there is none, as of a joint model that the pack lacks.
    """
    shape, transform = fitted.fit, fitted.transform
    radius_mm = shape.radius_mm
    inner = crop_box(initial | mask | fit, 1)  # large margins would take most of the time
    x, y, z = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, inner, strict=True))
    box, initial, mask, fit = (x, y, z), initial[inner], mask[inner], fit[inner]
    affine = box_affine(fitted.affine, [side.start for side in box])
    size, size_of_fit = int(np.count_nonzero(mask)), max(1, int(np.count_nonzero(fit)))
    both = int(np.count_nonzero(mask & fit))
    rim, rim_of_fit = surface_voxels(mask), surface_voxels(fit)
    at_mask, at_fit = places(rim, affine), places(rim_of_fit, affine)
    pieces, largest, holes = _pieces(mask)
    known: dict[str, float | None] = {
        "dice_with_fit": 2.0 * both / max(1, size + size_of_fit),
        "beyond_fit": (size - both) / size_of_fit,
        "lacks_of_fit": (size_of_fit - both) / size_of_fit,
        "pieces": float(pieces),
        "beside_largest": 1.0 - largest / max(1, size),
        "holes": holes / max(1, size),
        "surface_ratio": len(rim) / max(1, len(rim_of_fit)) * (size_of_fit / max(1, size)) ** (2 / 3),
        "at_border": _share_at_border(rim, box, fitted.mask.shape),
        "flat_end": flat_end(mask, box, fitted.mask.shape),
        "initial_flat_end": flat_end(initial, box, fitted.mask.shape),
        "changed": int(np.count_nonzero(mask != initial)) / max(1, int(np.count_nonzero(initial))),
        "volume_deviations": _volume_deviations(fitted, size),
        "voxel": float(spacing_mm(fitted.affine).max()) / radius_mm,
        "rotation_deg": transform.rotation_deg,
        "scale": shape.similarity.scale * fitted.prior.scale_mm,
        "converged": float(transform.converged),
        "latent_rms": shape.figures["latent_rms"],
        "residual_median": shape.figures["residual_median_mm"] / radius_mm,
        "residual_p90": shape.figures["residual_p90_mm"] / radius_mm,
    }
    known |= _percentiles("mask_to_fit", ACROSS, shape.sdf_mm, at_mask, radius_mm)
    tree = spatial.cKDTree(apply_affine(affine, rim.astype(float))) if len(rim) else None
    known |= _percentiles("fit_to_mask", AWAY, None if tree is None else lambda x: tree.query(x)[0], at_fit, radius_mm)
    linear = None if shape.linear_mm is None else _size_of(shape.linear_mm)
    known |= _percentiles("mask_to_linear", AWAY, linear, at_mask, radius_mm)
    known |= _percentiles("fit_to_linear", AWAY, linear, at_fit, radius_mm)
    context = fitted.context
    others = None if context is None else _size_of(lambda points: context.of(fitted.name, points))
    known |= _percentiles("mask_to_context", AWAY, others, at_mask, radius_mm)
    return {name: None if value is None else round(value, 4) for name, value in known.items()}


def _volume_deviations(fitted: Fitted, voxels: int) -> float | None:
    """How unusual the volume of so many voxels is, see `UsualVolume`; None where the prior does not know volumes."""
    usual = UsualVolume.from_card(fitted.prior.card)
    if usual is None or not voxels:
        return None
    return usual.deviations(voxels * voxel_volume_mm3(fitted.affine) / 1000.0)


def flat_end(mask: np.ndarray, box: Box, shape: tuple[int, ...]) -> float:
    """Return how flat a mask ends: the largest wall in a plane of the grid, over the largest section along that axis.

    An organ ends round, so that this is mostly below a half. Where a mask was cut, say by the end of what a network was
    shown, it is about 1. Walls at the end of the label map's grid do not count: there the image ends. Steps inside of a
    mask do, which are small.

    Args:
        mask: (x, y, z) bool, in the box.
        box: slices of the label map's grid.
        shape: (X, Y, Z) of that grid.
    """
    flattest = 0.0
    for axis, (side, count) in enumerate(zip(box, shape, strict=True)):
        along = np.moveaxis(mask, axis, 0)
        sections = np.count_nonzero(along, axis=(1, 2))
        if np.count_nonzero((along[1:] != along[:-1]).any(axis=(1, 2))) < LEAST_SLICES:
            continue
        empty = np.zeros((1, *along.shape[1:]), bool)
        for wall, at_end in (
            (along & ~np.concatenate([empty, along[:-1]]), 0 if side.start == 0 else None),
            (along & ~np.concatenate([along[1:], empty]), -1 if side.stop == count else None),
        ):
            walls = np.count_nonzero(wall, axis=(1, 2))
            if at_end is not None:
                walls[at_end] = 0
            flattest = max(flattest, float(walls.max() / sections.max()))
    return flattest


def surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Return the indices (N, 3) of a mask's voxels that touch the outside by a face; the box's ends count as such."""
    return np.argwhere(boundary(mask))


def places(voxels: np.ndarray, affine: np.ndarray, at_most: int = AT_MOST) -> np.ndarray:
    """World mm (n, 3) of at most so many of the voxels, spread evenly over their order."""
    return apply_affine(affine, voxels[:: -(-len(voxels) // at_most) or 1].astype(float))


def _pieces(mask: np.ndarray) -> tuple[int, int, int]:
    """How many pieces a mask has, the voxels of the largest, and those of its holes."""
    if not mask.any():
        return 0, 0, 0
    mask = mask[crop_box(mask)]
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3), bool))
    size = int(np.count_nonzero(mask))
    largest = size if count == 1 else int(np.bincount(labels.ravel())[1:].max())
    del labels  # the next takes as much memory
    outside, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    beyond = int(np.count_nonzero(outside == outside[0, 0, 0]))
    return count, largest, outside.size - size - beyond


def _share_at_border(rim: np.ndarray, box: Box, shape: tuple[int, ...]) -> float:
    """The share of surface voxels that lie at the end of the label map's grid: there an organ may be cut."""
    if not len(rim):
        return 0.0
    index = rim + [side.start for side in box]
    return float(((index == 0) | (index == np.array(shape) - 1)).any(axis=1).mean())


def _size_of(distance: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: np.abs(distance(points))


def _percentiles(
    name: str,
    percents: tuple[int, ...],
    distance: Callable[[np.ndarray], np.ndarray] | None,
    points: np.ndarray,
    radius_mm: float,
) -> dict[str, float | None]:
    """Percentiles of a distance in mm at points (N, 3), over the radius; None where either is missing."""
    names = [f"{name}_p{percent}" for percent in percents]
    if distance is None or not len(points):
        return dict.fromkeys(names)
    found = np.percentile(distance(points), percents) / radius_mm
    return {key: float(value) for key, value in zip(names, found, strict=True)}
