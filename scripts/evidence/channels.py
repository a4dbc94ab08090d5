"""What a voxel head is told of each voxel: mask, fits and image around it, and its place in the fit.

Nothing of the case as a whole is among it (such as the mask's Dice with its fit): such figures take a good mask out of
the range that a head learned from. Intensities are measured against those of the case's own organ and its surroundings,
so that any scaling of the image gives the same channels. Lengths enter in mm; smoothing is in steps of the head's grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from ..geometry.affine import Similarity, spacing_mm
from ..geometry.resample import WorldGrid

REACH = 5.0  # grid steps around mask and fits within which voxels are judged
FAR = 8.0  # grid steps: distances are clipped there
TRUSTED = (
    1.0  # grid steps that a voxel lies inside, or outside, of mask and fit for its intensity to stand for its side
)
BINS = 48  # of the histograms of intensity
LEAST_TRUSTED = 50  # voxels a side, below which an intensity says nothing

OF_MASK = ("mask", "others", "occupied_1", "occupied_2", "occupied_4")
OF_FITS = ("fit", "linear", "context")
OF_PLACE = ("place_x", "place_y", "place_z")
OF_IMAGE = (
    *("value_0", "value_1", "value_2", "value_4"),
    *("slope_1", "slope_2", "across_1", "across_2"),
    *("outward_2", "inward_2", "texture_2", "ratio_0", "ratio_1"),
)
CHANNELS = (*OF_MASK, *OF_FITS, *OF_PLACE, *OF_IMAGE)
FROM_PRIOR = (*OF_FITS, *OF_PLACE)


@dataclass(frozen=True)
class Scene:
    """One structure of a case on the grid of a voxel head; arrays are (X, Y, Z).

    Attributes:
        grid: the grid.
        step_mm: the head's spacing; the grid's voxels are at most as far apart, but where the label map's are farther.
        image: intensities; NaN beyond the image; None without one.
        mask_mm: signed distance of the mask that the head corrects, negative inside.
        initial_mm: of the initial mask, which may reach farther; None where it is the same.
        others: share of each voxel that is another structure of the label map, in [0, 1].
        fit_mm: signed distance of the fit.
        linear_mm: of the linear fit that it started from; None without one.
        context_mm: of the joint model; None without one.
        pose: world → canonical, of the fit.
    """

    grid: WorldGrid
    step_mm: float
    image: np.ndarray | None
    mask_mm: np.ndarray
    initial_mm: np.ndarray | None
    others: np.ndarray
    fit_mm: np.ndarray
    linear_mm: np.ndarray | None
    context_mm: np.ndarray | None
    pose: Similarity

    def near(self) -> np.ndarray:
        """Return the voxels near the mask or a fit, or inside one and outside another, (X, Y, Z) bool.

        Where there is an image, only its voxels; and none where it has but one intensity, which shows nothing.
        """
        known = [
            d for d in (self.mask_mm, self.initial_mm, self.fit_mm, self.linear_mm, self.context_mm) if d is not None
        ]
        least, most = np.minimum.reduce(known), np.maximum.reduce(known)
        reach_mm = REACH * self.step_mm
        near = (least < reach_mm) & (most > -reach_mm)
        if self.image is None:
            return near
        near &= np.isfinite(self.image)
        values = self.image[near]
        return near if values.size and values.min() < values.max() else np.zeros_like(near)

    def without_fits(self) -> Scene:
        """Return what is known without a prior: voxels, intensities and directions are chosen by the mask alone.

        The pose stays, which tells the side of a mirrored structure.
        """
        return replace(self, fit_mm=self.mask_mm, linear_mm=None, context_mm=None)

    def upright(self, index: np.ndarray) -> np.ndarray:
        """Return voxels, indices (N, 3), on axes that run as those of RAS, or as those of the prior's other side.

        A mirrored structure is mirrored back, so that one net serves both sides.
        """
        directions = self.grid.affine[:3, :3] / spacing_mm(self.grid.affine)
        axes = linear_sum_assignment(-np.abs(directions))[1]  # voxel axis of each world axis
        turned = directions[np.arange(3), axes] < 0
        turned[0] ^= bool(np.linalg.det(self.pose.rotation) < 0)
        shape = np.array(self.grid.shape)[axes]
        return np.where(turned, shape - 1 - index[:, axes], index[:, axes])


def voxel_channels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (N, 3) of the voxels that are judged, and what is told of them, (N, C) as `CHANNELS`.

    What is not known (a linear fit, a joint model, an image, the intensities of a side) is NaN.
    """
    index = np.argwhere(scene.near())
    at = tuple(index.T)
    far_mm = FAR * scene.step_mm
    spacing = spacing_mm(scene.grid.affine)
    scales = {steps: steps * scene.step_mm / spacing for steps in (0.5, 1, 2, 4)}  # of Gaussians, in voxels
    columns = [_distance(scene.mask_mm, at, far_mm)]
    columns.append(scene.others[at])
    inside = (scene.mask_mm < 0).astype(np.float32)
    columns += [ndimage.gaussian_filter(inside, scales[steps])[at] for steps in (1, 2, 4)]
    columns += [_distance(own, at, far_mm) for own in (scene.fit_mm, scene.linear_mm, scene.context_mm)]
    world = index @ scene.grid.affine[:3, :3].T + scene.grid.affine[:3, 3]
    columns += list(scene.pose.apply(world).T)
    if scene.image is None:
        columns += [np.full(len(index), np.nan, np.float32)] * len(OF_IMAGE)
    else:
        columns += _of_image(scene, scene.image, index, scales, spacing)
    return index, np.stack(columns, 1).astype(np.float32)


def _distance(values_mm: np.ndarray | None, at: tuple[np.ndarray, ...], far_mm: float) -> np.ndarray:
    if values_mm is None:
        return np.full(len(at[0]), np.nan, np.float32)
    return values_mm[at].clip(-far_mm, far_mm)


def _of_image(
    scene: Scene, image: np.ndarray, index: np.ndarray, scales: dict[float, np.ndarray], spacing: np.ndarray
) -> list[np.ndarray]:
    """Return the channels of `OF_IMAGE`, each (N,)."""
    at = tuple(index.T)
    trusted_mm = TRUSTED * scene.step_mm
    known = np.isfinite(image)
    inner = known & (np.maximum(scene.mask_mm, scene.fit_mm) < -trusted_mm)
    least = np.minimum(scene.mask_mm, scene.fit_mm)
    outer = known & (least > trusted_mm) & (least < FAR * scene.step_mm) & (scene.others < 0.5)
    if min(np.count_nonzero(inner), np.count_nonzero(outer)) < LEAST_TRUSTED:
        inner, outer = known & (scene.mask_mm < 0), known & (scene.mask_mm >= 0) & (least < FAR * scene.step_mm)
    level, spread = _level(image, inner, outer)
    values = np.where(known, (image - level) / spread, 0.0).astype(np.float32).clip(-20.0, 20.0)
    smooth = {steps: ndimage.gaussian_filter(values, scales[steps]) for steps in (0.5, 1, 2, 4)}
    normal = _unit(scene.fit_mm, spacing)
    columns = [values[at], smooth[1][at], smooth[2][at], smooth[4][at]]
    slopes = {steps: _gradient(smooth[steps], spacing / scene.step_mm, at) for steps in (1, 2)}
    own = normal[(slice(None), *at)]
    columns += [np.linalg.norm(slopes[steps], axis=0) for steps in (1, 2)]
    columns += [(slopes[steps] * own).sum(0) for steps in (1, 2)]
    for steps in (2.0, -2.0):
        moved = index.T + steps * scene.step_mm * own / spacing[:, None]
        columns.append(ndimage.map_coordinates(smooth[0.5], moved, order=1, mode="nearest"))
    mean_square = ndimage.gaussian_filter(values**2, scales[2])[at]
    columns.append(np.sqrt(np.maximum(mean_square - smooth[2][at] ** 2, 0.0)))
    columns += [_log_ratio(one, inner, outer, at) for one in (smooth[0.5], smooth[2])]
    return columns


def _level(image: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> tuple[float, float]:
    """Return the organ's median intensity, and a robust spread of organ and surroundings together."""
    own, around = image[inner], image[outer]
    if not len(own) or not len(around):
        every = image[np.isfinite(image)]
        own = around = every if len(every) else np.zeros(1)
    both = np.concatenate([own[:: len(own) // 20_000 + 1], around[:: len(around) // 20_000 + 1]])
    low, high = np.percentile(both, [10, 90])
    return float(np.median(own)), float(max(high - low, 1e-6 * max(abs(low), abs(high), 1.0)))


def _gradient(values: np.ndarray, spacing: np.ndarray, at: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the gradient (3, N) of a volume at voxels, along the grid's axes."""
    return np.stack([np.gradient(values, h, axis=axis)[at] for axis, h in enumerate(spacing)])


def _unit(values: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the direction (3, X, Y, Z) in which a volume grows, along the grid's axes."""
    slope = np.stack([np.gradient(values, h, axis=axis) for axis, h in enumerate(spacing)])
    return slope / np.maximum(np.linalg.norm(slope, axis=0), 1e-6)


def _log_ratio(values: np.ndarray, inner: np.ndarray, outer: np.ndarray, at: Sequence[np.ndarray]) -> np.ndarray:
    """Return how much more often an intensity occurs in the organ than around it, a logarithm (N,); NaN if unknown."""
    own, around = (values[side].astype(np.float64) for side in (inner, outer))  # as float32 they fall out of the bins
    if min(len(own), len(around)) < LEAST_TRUSTED:
        return np.full(len(at[0]), np.nan, np.float32)
    low, high = np.percentile(np.concatenate([own, around]), [0.5, 99.5])
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    counts = [np.histogram(part.clip(low, high), edges)[0] / len(part) for part in (own, around)]
    smooth = [ndimage.gaussian_filter1d(part, 1.5, mode="nearest") + 1e-3 for part in counts]
    ratio = np.log(smooth[0] / smooth[1])
    return np.interp(values[tuple(at)], (edges[1:] + edges[:-1]) / 2, ratio)
