"""Figures of one mask alone: components, holes, volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ..geometry.surface import crop_box
from .surface import binary_mask, check_spacing

FOREGROUND = np.ones((3, 3, 3), bool)  # 26 neighbours
BACKGROUND = ndimage.generate_binary_structure(3, 1)  # 6 neighbours: the topological dual of 26 for the foreground


def count_components(mask: Any) -> int:
    """Return how many 26-connected pieces a mask (X, Y, Z) has; 0 when empty."""
    array = binary_mask(mask)
    return int(ndimage.label(array[crop_box(array)], FOREGROUND)[1]) if array.any() else 0


def count_holes(mask: Any) -> int:
    """Return how many enclosed cavities a mask (X, Y, Z) has.

    A cavity is a 6-connected piece of background that does not reach the border of the image. A tunnel, or a dent that
    is open at the image's border, is none.
    """
    array = binary_mask(mask)
    if not array.any():
        return 0
    # All background outside the bounding box reaches the image's border, so a cavity is what misses the box's border.
    pieces, count = ndimage.label(~array[crop_box(array)], BACKGROUND)
    faces = [np.take(pieces, side, axis).ravel() for axis in range(3) for side in (0, -1)]
    open_pieces = np.unique(np.concatenate(faces))
    return count - int(np.count_nonzero(open_pieces))


def volume_ml(mask: Any, spacing_mm: Sequence[float]) -> float:
    """Return the volume of a mask (X, Y, Z) in ml: its voxels times their volume in mm³, over 1000."""
    return float(np.count_nonzero(binary_mask(mask)) * np.prod(check_spacing(spacing_mm)) / 1000.0)
