"""Distance between two surfaces in mm, from samples of each to the exact nearest point of the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import MetricReduction

from ..geometry.distance import surface_distance
from .pairs import PairMetric
from .shapes import SampledShape, diagonal_of
from .surface import EmptyPolicy

POINT_TO_SURFACE_SAMPLES = 10_000


def point_to_surface_mm(
    pred: SampledShape | None,
    truth: SampledShape | None,
    diagonal_mm: float,
    policy: EmptyPolicy | None = None,
) -> float:
    """Return the mean distance from the samples of each shape to the other's surface, both directions averaged.

    Samples of one side only are compared with triangles, not samples, of the other: equal surfaces have distance 0 and
    there is no noise floor.

    Args:
        pred: predicted shape; None where there is none.
        truth: true shape, likewise.
        diagonal_mm: diagonal of the truth's whole image.
        policy: scores of empty masks.

    Returns:
        The distance in mm; NaN where the policy ignores an empty mask.
    """
    if pred is None or truth is None:
        choice = (policy or EmptyPolicy()).scores(pred is None, truth is None, diagonal_mm, ("distance",))
        return float(choice["distance"]) if choice else float("nan")
    forth, back = surface_distance(truth.mesh, pred.points), surface_distance(pred.mesh, truth.points)
    return float(forth.mean() + back.mean()) / 2.0


class PointToSurfaceMetric(PairMetric):
    """Point-to-surface distance of masks; see `compute_point_to_surface`."""

    def __init__(
        self,
        count: int = POINT_TO_SURFACE_SAMPLES,
        seed: int = 0,
        policy: EmptyPolicy | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.count = count
        self.seed = seed
        self.policy = policy

    def score(self, pred: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
        """Return the point-to-surface distance of one pair of masks (X, Y, Z), mm."""
        pred_shape, true_shape = (SampledShape.of_mask(mask, affine, self.count, self.seed) for mask in (pred, truth))
        return point_to_surface_mm(pred_shape, true_shape, diagonal_of(truth, affine), self.policy)


def compute_point_to_surface(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    include_background: bool = False,
    spacing_mm: Sequence[float] | None = None,
    count: int = POINT_TO_SURFACE_SAMPLES,
    seed: int = 0,
    policy: EmptyPolicy | None = None,
) -> torch.Tensor:
    """Compute the mean distance in mm between the surfaces of masks (see `point_to_surface_mm`).

    Args:
        y_pred: predicted masks (B, C, X, Y, Z), one-hot.
        y: true masks, likewise.
        include_background: whether channel 0 is compared too.
        spacing_mm: see `pairs.compute_pairs`.
        count: samples a surface.
        seed: of the samples.
        policy: scores of empty masks.

    Returns:
        (B, C) float32.

    Raises:
        ValueError: see `pairs.compute_pairs`.
    """
    metric = PointToSurfaceMetric(count, seed, policy, include_background)
    return metric.score_batch(y_pred, y, spacing_mm)
