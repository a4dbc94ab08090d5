"""The slices in which a structure was drawn, across one axis of the array or several, and what lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

LEAST_DRAWN = 2  # slices that must show a structure
AXES = ("first", "second", "third")
FILLED = "what lies between the drawn slices was interpolated without the prior"
LONE = "a single drawn slice shows it, and it stays as it was drawn"
AT_PLANE_MM2 = 1e-6  # so near to a slice nothing but its values counts
BEYOND = 0.1  # times as much say have slices beyond the outermost of several, where others cross them

Places = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class DrawnSlices:
    """The slices in which one structure was drawn.

    Attributes:
        places: axis → the indices of the slices across it, rising.
    """

    places: Places

    @classmethod
    def across(cls, places: Mapping[int, Sequence[int]]) -> DrawnSlices:
        """Return the slices across some axes, axis → indices, in any order."""
        x, y, z = (tuple(sorted({int(one) for one in places.get(axis, ())})) for axis in range(3))
        return cls((x, y, z))

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes across which there are slices."""
        return tuple(axis for axis, own in enumerate(self.places) if own)

    @property
    def enough(self) -> bool:
        """Whether anything can be said of what lies between them."""
        return sum(map(len, self.places)) >= LEAST_DRAWN

    @property
    def unfitted(self) -> str:
        """What came of the structure where its prior was not fitted."""
        return FILLED if self.enough else LONE

    def within(self, box: Sequence[slice]) -> DrawnSlices:
        """Return the drawn slices of a part of the map, with their indices there."""
        inside = {
            axis: [place - side.start for place in own if side.start <= place < side.stop]
            for axis, (own, side) in enumerate(zip(self.places, box, strict=True))
        }
        return DrawnSlices.across(inside)

    def near(self, points: np.ndarray, voxels: float = 0.0) -> np.ndarray:
        """Return which points (N, 3), in voxels, lie in a slice, or at most so many voxels from its middle: (N,)."""
        found = np.zeros(len(points), bool)
        for axis in self.axes:
            own = np.array(self.places[axis])
            found |= np.abs(points[:, axis, None] - own).min(axis=1) <= voxels
        return found

    def showing(self, voxels: np.ndarray) -> DrawnSlices:
        """Return the slices that show a structure of drawn voxels (N, 3): some of them lie there and in no other."""
        inside = np.stack([np.isin(voxels[:, axis], self.places[axis]) for axis in range(3)], axis=1)
        alone = inside.sum(axis=1) == 1
        return DrawnSlices.across({axis: voxels[alone & inside[:, axis], axis].tolist() for axis in self.axes})

    def of(self, values: np.ndarray) -> dict[int, np.ndarray]:
        """Return the slices of values (X, Y, Z): axis → (K, A, B)."""
        return {axis: np.moveaxis(values, axis, 0)[list(self.places[axis])] for axis in self.axes}

    def beyond(self, axis: int, size: int) -> np.ndarray:
        """Return how many slices each of `size` lies beyond the outermost drawn ones across an axis: (size,)."""
        wanted, own = np.arange(size), self.places[axis]
        return np.maximum(0, np.maximum(own[0] - wanted, wanted - own[-1]))

    def spread(self, values: Mapping[int, np.ndarray], shape: Sequence[int], spacing: np.ndarray) -> np.ndarray:
        """Interpolate values that are known in the slices.

        Between slices across one axis without overshooting, and beyond them constant. Of several axes that with the
        most slices comes first; what others show beside is how far their values are from that (Gordon 1971), and has
        the more say the nearer their slices are, by the inverse square of the distance (Shepard 1968).

        Args:
            values: axis → (K, A, B) of its slices.
            shape: (X, Y, Z) of the grid.
            spacing: (3,) mm.

        Returns:
            (X, Y, Z).
        """
        first, *others = sorted(self.axes, key=lambda axis: -len(self.places[axis]))
        total = np.moveaxis(self._along(first, values[first], shape[first]), 0, first)
        weights = self._weights(first, shape[first], spacing[first]) if others else np.ones(1)
        for axis in others:
            own = self._weights(axis, shape[axis], spacing[axis])
            weights = weights + own
            beside = self._along(axis, values[axis] - self.of(total)[axis], shape[axis])
            total = total + own / weights * np.moveaxis(beside, 0, axis)
        return total

    def _weights(self, axis: int, size: int, spacing_mm: float) -> np.ndarray:
        """Return how much the slices across an axis count at its places, (size, 1, 1) with that axis in its place."""
        apart_mm = np.abs(np.arange(size)[:, None] - np.array(self.places[axis])).min(axis=1) * spacing_mm
        weights = 1.0 / (apart_mm**2 + AT_PLANE_MM2)
        if len(self.places[axis]) > 1:
            weights[self.beyond(axis, size) > 0] *= BEYOND
        return np.moveaxis(weights[:, None, None], 0, axis)

    def _along(self, axis: int, values: np.ndarray, size: int) -> np.ndarray:
        """Interpolate values (K, A, B) of the slices across an axis at all of its places: (size, A, B)."""
        own = np.array(self.places[axis])
        wanted = np.arange(size).clip(own[0], own[-1])
        return values[wanted - own[0]] if len(own) == 1 else PchipInterpolator(own, values, axis=0)(wanted)
