"""How a mask and its fit agree, in plain numbers: what its quality is predicted from where no image was read.

Lengths are shares of the shape's radius (`FittedShape.radius_mm`), volumes shares of the fit's: figures of a
hippocampus and of a liver can be compared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import spatial

from ..geometry.affine import apply_affine, box_affine, spacing_mm, voxel_volume_mm3
from ..geometry.boxed import Box
from ..geometry.runs import Runs
from ..prior.volume import UsualVolume
from .stages import Fitted

AT_MOST = 2000  # points of a surface at which distances are read
ACROSS = (2, 10, 50, 90, 98)  # percentiles of signed distances
AWAY = (50, 90, 98)  # percentiles of distances
LEAST_SLICES = 10  # unlike the one before, across which a mask may end flat: of fewer, thicker ones the last is anyway


class Agreement:
    """The figures of one structure's masks, initial and refined, beside its fit.

    Args:
        fitted: the structure.
        initial: (x, y, z) bool, the initial mask in the box.
        fit: (x, y, z) bool, the inside of the fitted shape.
        box: slices of the label map's grid; masks and fit have no voxels beyond it.
    """

    def __init__(self, fitted: Fitted, initial: np.ndarray, fit: np.ndarray, box: Box) -> None:
        self.fitted = fitted
        self.initial = initial
        self.fit = fit
        self.box = box
        self.affine = box_affine(fitted.affine, [side.start for side in box])
        runs, rim = Runs.of(initial), Runs.of(fit).rim()
        self.size, self.size_of_fit = runs.count, max(1, int(np.count_nonzero(fit)))
        self.initial_flat_end = flat_end(runs, box, fitted.mask.shape)
        self.rim_of_fit, self.at_fit = len(rim), places(rim, self.affine)

    def of(self, mask: np.ndarray) -> dict[str, float | None]:
        """Return the figures of a mask (x, y, z) bool, initial or refined.

        Returns:
            Name → number; None where there is none, as of a joint model that the pack lacks.
        """
        fitted, shape, transform = self.fitted, self.fitted.fit, self.fitted.transform
        radius_mm = shape.radius_mm
        same, runs = mask is self.initial, Runs.of(mask)
        size, rim = runs.count, runs.rim()
        at_mask = places(rim, self.affine)
        both = int(np.count_nonzero(mask & self.fit))
        pieces, largest = _pieces(runs)
        surface_ratio = len(rim) / max(1, self.rim_of_fit) * (self.size_of_fit / max(1, size)) ** (2 / 3)
        known: dict[str, float | None] = {
            "dice_with_fit": 2.0 * both / max(1, size + self.size_of_fit),
            "beyond_fit": (size - both) / self.size_of_fit,
            "lacks_of_fit": (self.size_of_fit - both) / self.size_of_fit,
            "pieces": float(pieces),
            "beside_largest": 1.0 - largest / max(1, size),
            "holes": _holes(mask) / max(1, size),
            "surface_ratio": surface_ratio,
            "at_border": _share_at_border(rim, self.box, fitted.mask.shape),
            "flat_end": self.initial_flat_end if same else flat_end(runs, self.box, fitted.mask.shape),
            "initial_flat_end": self.initial_flat_end,
            "changed": int(np.count_nonzero(mask != self.initial)) / max(1, self.size),
            "volume_deviations": _volume_deviations(fitted, size),
            "voxel": float(spacing_mm(fitted.affine).max()) / radius_mm,
            "rotation_deg": transform.rotation_deg,
            "scale": shape.similarity.scale * fitted.prior.scale_mm,
            "converged": float(transform.converged),
            "latent_rms": shape.figures["latent_rms"],
            "residual_median": shape.figures["residual_median_mm"] / radius_mm,
            "residual_p90": shape.figures["residual_p90_mm"] / radius_mm,
        }
        at_fit = self.at_fit
        known |= _percentiles("mask_to_fit", ACROSS, shape.sdf_mm, at_mask, radius_mm)
        tree = spatial.cKDTree(apply_affine(self.affine, rim.astype(float))) if len(rim) else None
        to_mask = None if tree is None else lambda points: tree.query(points)[0]
        known |= _percentiles("fit_to_mask", AWAY, to_mask, at_fit, radius_mm)
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


def flat_end(runs: Runs, box: Box, shape: tuple[int, ...]) -> float:
    """Return how flat a mask ends: the largest wall in a plane of the grid, over the largest section along that axis.

    An organ ends round, so that this is mostly below a half. Where a mask was cut, say by the end of what a network was
    shown, it is about 1. Walls at the end of the label map's grid do not count: there the image ends. Steps inside of a
    mask do, which are small.

    Args:
        runs: of the mask, in the box.
        box: slices of the label map's grid.
        shape: (X, Y, Z) of that grid.
    """
    flattest = 0.0
    for axis, (side, count) in enumerate(zip(box, shape, strict=True)):
        section, shared = runs.sections(axis)
        if np.count_nonzero(section[1:] + section[:-1] - 2 * shared) < LEAST_SLICES:
            continue
        before, after = section - np.append(0, shared), section - np.append(shared, 0)  # walls on both sides of a slice
        if side.start == 0:
            before[0] = 0
        if side.stop == count:
            after[-1] = 0
        flattest = max(flattest, float(max(before.max(), after.max()) / section.max()))
    return flattest


def places(voxels: np.ndarray, affine: np.ndarray, at_most: int = AT_MOST) -> np.ndarray:
    """World mm (n, 3) of at most so many of the voxels, spread evenly over their order."""
    return apply_affine(affine, voxels[:: -(-len(voxels) // at_most) or 1].astype(float))


def _pieces(runs: Runs) -> tuple[int, int]:
    """How many pieces a mask has, and the voxels of the largest."""
    piece, count = runs.pieces()
    return count, int(np.bincount(piece, runs.length).max(initial=0))


def _holes(mask: np.ndarray) -> int:
    """How many voxels a mask encloses."""
    around = Runs.of(~mask)
    return int(around.length[around.enclosed()[0]].sum())


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
