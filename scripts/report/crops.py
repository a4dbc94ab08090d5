"""The part of a case's volumes that the page shows, with axes that run nearest to right, anterior and superior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from ..cases.errors import READ_ERRORS, UnreadableCase
from ..cases.read import check_header, open_volume
from ..geometry.affine import apply_affine, box_affine, grid_corners, spacing_mm
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import crop_box

MARGIN_MM = 15.0
IMAGE_VOXELS = 4_000_000  # an image with more is averaged over blocks
LONGEST_AXIS = 4096  # voxels; pictures of more are too much for some browsers
WINDOW_PERCENTILES = (1.0, 99.5)


@dataclass(frozen=True)
class Crop:
    """The box of a grid that holds all of a case's masks and a margin, its axes flipped and swapped to near R, A, S.

    Attributes:
        box: slices of the original grid.
        turn: nibabel's orientation (3, 2) of the original axes.
        affine: (4, 4) voxel index in the turned box → world mm.
        shape: of the turned box.
    """

    box: tuple[slice, slice, slice]
    turn: np.ndarray
    affine: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, masks: Mapping[str, np.ndarray], affine: np.ndarray, margin_mm: float = MARGIN_MM) -> Crop:
        """Return the crop around the voxels that are not zero in any of the label maps (X, Y, Z).

        Raises:
            ValueError: all are empty.
        """
        boxes = [crop_box(mask) for mask in masks.values() if mask.any()]
        if not boxes:
            raise ValueError("every mask is empty")
        shape = next(iter(masks.values())).shape
        margin = np.ceil(margin_mm / spacing_mm(affine)).astype(int)
        lower = np.maximum(np.min([[s.start for s in box] for box in boxes], axis=0) - margin, 0)
        upper = np.minimum(np.max([[s.stop for s in box] for box in boxes], axis=0) + margin, shape)
        box = (slice(lower[0], upper[0]), slice(lower[1], upper[1]), slice(lower[2], upper[2]))
        turn = nib.io_orientation(affine)
        turned = box_affine(affine, lower) @ nib.orientations.inv_ornt_aff(turn, upper - lower)
        sizes = (upper - lower)[np.argsort(turn[:, 0])]
        return cls(box, turn, turned, (int(sizes[0]), int(sizes[1]), int(sizes[2])))

    def of(self, volume: np.ndarray) -> np.ndarray:
        """Return the part of a volume (X, Y, Z) on the original grid, turned."""
        return np.ascontiguousarray(nib.orientations.apply_orientation(volume[self.box], self.turn))

    def image(self, path: str | Path) -> np.ndarray | None:
        """Read an image at the crop's voxels, by world coordinates where it is on another grid.

        Returns:
            Float32 of the crop's shape; None where the image does not overlap it.

        Raises:
            CaseError: the file cannot be used.
        """
        image = open_volume(path)
        affine = check_header(image, path, channels=True)
        index = apply_affine(np.linalg.inv(affine), apply_affine(self.affine, grid_corners(self.shape)))
        lower = np.maximum(np.floor(index.min(0) + 1e-3).astype(int) - 1, 0)
        upper = np.minimum(np.ceil(index.max(0) - 1e-3).astype(int) + 2, image.shape[:3])
        if (upper - lower < 1).any():
            return None
        part_slices = tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
        try:
            part = np.asarray(image.dataobj[part_slices + (0,) * (len(image.shape) - 3)], np.float32)
        except READ_ERRORS as error:
            raise UnreadableCase(f"{path} is truncated or corrupt: copy or export it again") from error
        # Padding keeps the outermost voxels, which rounding may place a hair outside of the grid.
        padded = np.pad(np.nan_to_num(part), 1, mode="edge")
        return resample(
            padded, box_affine(affine, lower - 1), WorldGrid(self.affine, self.shape), order=1, fill=float(padded.min())
        )


def shown_image(image: np.ndarray, spacing: np.ndarray, limit: int = IMAGE_VOXELS) -> tuple[np.ndarray, list[int]]:
    """Return an image as grey values, averaged over blocks of voxels where it has too many.

    Args:
        image: (X, Y, Z).
        spacing: (3,) mm; the finest axes are averaged first.
        limit: of the voxels returned.

    Returns:
        (X / a, Y / b, Z / c) uint8, rounded up, and the blocks' size [a, b, c] in voxels.
    """
    size = np.array(image.shape)
    step = np.ceil(size / LONGEST_AXIS).astype(int)
    while np.prod(np.ceil(size / step)) > limit:
        step[np.argmin(np.where(step < size, spacing * step, np.inf))] += 1
    low, high = np.percentile(image, WINDOW_PERCENTILES)
    grey = np.clip((image - low) / max(high - low, 1e-6), 0.0, 1.0) * 255.0
    padded = np.pad(grey, [(0, int(-n % s)) for n, s in zip(grey.shape, step, strict=True)], mode="edge")
    a, b, c = padded.shape // step
    blocks = padded.reshape(a, step[0], b, step[1], c, step[2]).mean(axis=(1, 3, 5))
    return np.rint(blocks).astype(np.uint8), [int(s) for s in step]
