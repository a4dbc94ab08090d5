"""Components, holes and volume of a mask, and by how much its volume is off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.utils import MetricReduction

from ..geometry.affine import voxel_volume_mm3
from ..geometry.runs import Runs
from ..geometry.surface import crop_box
from .pairs import PairMetric
from .surface import binary_mask, spacing_and_axes

FIGURES = ("components", "holes", "volume_difference_percent")


def count_components(mask: Any) -> int:
    """Return how many 26-connected pieces a mask (X, Y, Z) has; 0 when empty."""
    array = binary_mask(mask)
    return Runs.of(array[crop_box(array)]).pieces()[1] if array.any() else 0


def count_holes(mask: Any) -> int:
    """Return how many enclosed cavities a mask (X, Y, Z) has.

    A cavity is a 6-connected piece of background that does not reach the border of the image. A tunnel, or a dent that
    is open at the image's border, is none.
    """
    array = binary_mask(mask)
    if not array.any():
        return 0
    # All background outside the bounding box reaches the image's border, so a cavity is what misses the box's border.
    return Runs.of(~array[crop_box(array)]).enclosed()[1]


def volume_ml(mask: Any, grid: Any) -> float:
    """Return the volume of a mask (X, Y, Z) in ml: its voxels times their volume in mm³, over 1000.

    Args:
        mask: bool, or all 0 and 1.
        grid: affine (4, 4) of the mask, voxel → world mm; or the spacing (3,) in mm of one that is not sheared.
    """
    spacing, axes = spacing_and_axes(grid)
    voxel_mm3 = float(np.prod(spacing)) if axes is None else voxel_volume_mm3(axes)
    return float(np.count_nonzero(binary_mask(mask)) * voxel_mm3 / 1000.0)


def volume_difference_percent(volume_ml: float, truth_volume_ml: float) -> float:
    """Return by how many per cent of the true volume a volume is off, unsigned; NaN where nothing is there to find.

    A missed structure is 100 % off; one that is found though it is not there has no percentage.
    """
    return 100.0 * abs(volume_ml - truth_volume_ml) / truth_volume_ml if truth_volume_ml > 0 else float("nan")


class TopologyMetric(PairMetric):
    """Components or holes of the prediction, or its difference in volume; see `compute_topology`."""

    def __init__(
        self,
        figure: str = "components",
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        if figure not in FIGURES:
            raise ValueError(f"figure must be one of {FIGURES}, not {figure!r}")
        self.figure = figure

    def score(self, pred: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
        """Return the figure of one pair of masks (X, Y, Z)."""
        if self.figure == "components":
            return float(count_components(pred))
        if self.figure == "holes":
            return float(count_holes(pred))
        return volume_difference_percent(volume_ml(pred, affine), volume_ml(truth, affine))


def compute_topology(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    figure: str = "components",
    include_background: bool = False,
    spacing_mm: Sequence[float] | None = None,
) -> torch.Tensor:
    """Count the predictions' components or holes, or compute the difference in volume in % of the truth.

    Args:
        y_pred: predicted masks (B, C, X, Y, Z), one-hot.
        y: true masks, likewise.
        figure: "components", "holes" or "volume_difference_percent".
        include_background: whether channel 0 is taken too.
        spacing_mm: see `pairs.compute_pairs`.

    Returns:
        (B, C) float32.

    Raises:
        ValueError: there is no such figure, and see `pairs.compute_pairs`.
    """
    metric = TopologyMetric(figure, include_background)
    return metric.score_batch(y_pred, y, spacing_mm)
