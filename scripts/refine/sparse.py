"""A whole organ from a few drawn slices: what lies between them is the fitted prior's to say.

The slices are filled first, by interpolation of each one's signed distance (Raya and Udupa 1990): so there is a surface
that a prior can be aligned with. It is fitted to the drawn contours alone. Then the fit is followed, corrected so that
it agrees with what was drawn: how far it is from the contours is known in the drawn slices, and interpolated between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.interpolate import PchipInterpolator

from ..geometry.affine import apply_affine, spacing_mm
from ..geometry.surface import mask_signed_distance, sample_surface
from .finer import APART_MM, BAND_MM, correction
from .stages import TrustedSamples

NEAR_VOXELS = 0.3  # of a slice: the filled surface is the drawn contour this far from the slice's middle
CLEARLY = 2.0  # times as thick are the pieces along the other axes at least
SPARE = 1.5  # times as many points are drawn from a surface as its share near the slices asks for
AXES = ("first", "second", "third")


@dataclass(frozen=True)
class DrawnSlices:
    """Which slices of a label map were drawn.

    Attributes:
        axis: of the array, across the slices.
        places: their indices, rising.
    """

    axis: int
    places: tuple[int, ...]

    @classmethod
    def of(cls, label_map: np.ndarray) -> DrawnSlices:
        """Find the drawn slices of a label map (X, Y, Z): those that hold labels, with others between them.

        They lie across the axis along which the map is in the thinnest pieces: two organs, or an island, may lie apart
        along another one, too.

        Raises:
            ValueError: there is but one, nothing was left out between them, or along two axes alike.
        """
        solid = label_map > 0
        found = [np.flatnonzero(np.moveaxis(solid, axis, 0).any(axis=(1, 2))) for axis in range(3)]
        gaps = [axis for axis, places in enumerate(found) if len(places) > 1 and np.diff(places).max() > 1]
        if min(map(len, found)) == 1:
            raise ValueError("a single slice was drawn: draw two at least, better five")
        if not gaps:
            raise ValueError("no slice was left out between the drawn ones: there is nothing to fill in")
        thick = {axis: len(found[axis]) / (1 + np.count_nonzero(np.diff(found[axis]) > 1)) for axis in gaps}
        thinnest, *others = sorted(gaps, key=lambda axis: thick[axis])
        if others and thick[others[0]] < CLEARLY * thick[thinnest]:
            raise ValueError("slices were left out along more than one axis: they must all lie across the same one")
        return cls(thinnest, tuple(int(place) for place in found[thinnest]))

    def __str__(self) -> str:
        return f"{len(self.places)} drawn slices across the {AXES[self.axis]} axis"

    def within(self, box: Sequence[slice]) -> DrawnSlices:
        """Return the drawn slices of a part of the map, with their indices there."""
        side = box[self.axis]
        inside = [place - side.start for place in self.places if side.start <= place < side.stop]
        return DrawnSlices(self.axis, tuple(inside))

    def holding(self, mask: np.ndarray) -> int:
        """Return in how many of the drawn slices a mask (X, Y, Z) bool has voxels."""
        return int(np.moveaxis(mask, self.axis, 0)[list(self.places)].any(axis=(1, 2)).sum())

    def fill(self, label_map: np.ndarray, affine: np.ndarray) -> np.ndarray:
        """Fill a label map (X, Y, Z) between its drawn slices, and half a gap beyond the outermost ones.

        Args:
            label_map: of drawn slices.
            affine: (4, 4) voxel → world mm.

        Returns:
            (X, Y, Z) of the same type; the drawn slices are as they were, and so are voxels below 0, which are others'.
        """
        spacing = spacing_mm(affine)
        places, slices = np.array(self.places), np.moveaxis(label_map, self.axis, 0)
        half = int(np.median(np.diff(places))) // 2
        first, last = max(int(places[0]) - half, 0), min(int(places[-1]) + half, len(slices) - 1)
        wanted = np.arange(first, last + 1).clip(places[0], places[-1])
        inside = _at(wanted, places, self._distances(slices[places] > 0, spacing)) < 0
        part = np.zeros(inside.shape, label_map.dtype)
        nearest = np.full(part.shape, np.inf, np.float32)
        for label in np.unique(label_map[label_map > 0]):
            field = _at(wanted, places, self._distances(slices[places] == label, spacing))
            nearer = inside & (field < nearest)
            part[nearer], nearest[nearer] = label, field[nearer]
        filled = np.zeros_like(label_map)
        np.moveaxis(filled, self.axis, 0)[first : last + 1] = part
        np.moveaxis(filled, self.axis, 0)[places] = slices[places]
        return np.where(label_map < 0, label_map, filled)

    def _distances(self, slices: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """Return the signed distance (K, A, B) of a structure in each drawn slice, mm, or to the next if not there."""
        sides = np.array([APART_MM, *np.delete(spacing, self.axis)])
        distances = mask_signed_distance(slices, sides)
        there = np.flatnonzero(slices.any(axis=(1, 2)))
        for empty in np.flatnonzero(~slices.any(axis=(1, 2))):
            next_one = there[np.argmin(np.abs(there - empty))]
            gap_mm = abs(self.places[empty] - self.places[next_one]) * spacing[self.axis]
            distances[empty] = np.hypot(distances[next_one].clip(min=0.0), gap_mm)
        return distances

    def samples(self, surface: trimesh.Trimesh, affine: np.ndarray, count: int, seed: int) -> TrustedSamples:
        """Sample the drawn contours: all of them are to be trusted, and nothing between them is known.

        Args:
            surface: of the filled mask, world mm.
            affine: (4, 4) voxel → world mm of the mask.
            count: about how many points at most.
            seed: of the points.
        """
        share = 2 * NEAR_VOXELS * len(self.places) / (self.places[-1] - self.places[0] + 1)
        points, normals = sample_surface(surface, int(count * max(1.0, SPARE / share)), seed)
        across = apply_affine(np.linalg.inv(affine), points)[:, self.axis]
        near = np.flatnonzero(np.abs(across[:, None] - np.array(self.places)).min(axis=1) <= NEAR_VOXELS)
        kept = np.sort(np.random.default_rng(seed).permutation(near)[:count])
        return TrustedSamples(points[kept], normals[kept], np.ones(len(kept)), np.ones(len(kept)))

    def follow(self, mask: np.ndarray, fit_mm: np.ndarray, spacing: np.ndarray) -> np.ndarray:
        """Return the fit's signed distance, corrected so that its side in the drawn slices is the mask's.

        Args:
            mask: (X, Y, Z) bool, filled between the slices.
            fit_mm: (X, Y, Z) signed distance of the fit.
            spacing: (3,) mm.

        Returns:
            (X, Y, Z) float32, mm, negative inside.
        """
        if not self.places:  # all lie beyond the fit's surroundings
            return fit_mm
        fitted = fit_mm.clip(-BAND_MM, BAND_MM)
        change = np.moveaxis(correction(fitted, mask, spacing, self.axis), self.axis, 0)
        wanted, places = np.arange(len(change)), np.array(self.places)
        carried = _at(wanted.clip(places[0], places[-1]), places, change[places])
        far = (
            np.moveaxis(fitted, self.axis, 0) >= BAND_MM
        )  # of the fit, where it knows nothing of the distance any more
        carried[far & ((wanted < places[0]) | (wanted > places[-1]))[:, None, None]] = 0.0
        return (fitted + np.moveaxis(carried, 0, self.axis)).astype(np.float32)


def _at(wanted: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate values (K, A, B), known at rising places, at wanted ones between them, without overshooting."""
    return values[wanted - places[0]] if len(places) < 2 else PchipInterpolator(places, values, axis=0)(wanted)
