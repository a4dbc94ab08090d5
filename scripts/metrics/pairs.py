"""What all metrics for MONAI share: batches of one-hot masks → pairs of masks with their affine → a number each.

MONAI's ignite handlers call a metric with prediction and truth alone, so its own surface metrics never see the spacing
and give voxels there. Here the geometry is read from the truth's MetaTensor, or given as `spacing_mm`; without either
nothing is computed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction, ignore_background
from monai.utils import MetricReduction

from ..geometry.affine import check_affine

PairScore = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def compute_pairs(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    score: PairScore,
    include_background: bool = False,
    spacing_mm: Sequence[float] | None = None,
) -> torch.Tensor:
    """Score every class of every case of a batch.

    Args:
        y_pred: predicted masks (B, C, X, Y, Z), one-hot.
        y: true masks, likewise, on the same grids.
        score: takes a class's predicted and true mask, (X, Y, Z), and the affine (4, 4) from voxels to world mm.
        include_background: whether channel 0 is scored too; the only channel always is.
        spacing_mm: voxel spacing (3,) of all cases; None takes the affine of `y`, or else of `y_pred`.

    Returns:
        (B, C) float32, without the background (B, C - 1).

    Raises:
        ValueError: shapes differ or are not (B, C, X, Y, Z), or neither tensor nor `spacing_mm` gives a spacing.
    """
    if y_pred.shape != y.shape or y.ndim != 5:
        raise ValueError(
            f"y_pred {tuple(y_pred.shape)} and y {tuple(y.shape)} must both be one-hot masks (B, C, X, Y, Z)"
        )
    affines = _affines(y_pred, y, spacing_mm)
    preds, truths = (np.asarray(tensor.detach().cpu()) for tensor in (y_pred, y))
    if not include_background:
        preds, truths = ignore_background(preds, truths)
    scores = [
        [score(pred, truth, affine) for pred, truth in zip(*case, strict=True)]
        for *case, affine in zip(preds, truths, affines, strict=True)
    ]
    return torch.tensor(scores, dtype=torch.float32, device=y.device)


def _affines(y_pred: torch.Tensor, y: torch.Tensor, spacing_mm: Sequence[float] | None) -> np.ndarray:
    """Return the affine of every case of a batch, (B, 4, 4)."""
    if spacing_mm is not None:
        affine = np.diag([*(float(v) for v in spacing_mm), 1.0])
    else:
        source = next((tensor for tensor in (y, y_pred) if isinstance(tensor, MetaTensor)), None)
        if source is None:
            raise ValueError("neither y nor y_pred is a MetaTensor with an affine: give spacing_mm")
        affine = np.asarray(torch.as_tensor(source.affine).cpu())
    return np.stack([check_affine(one) for one in np.broadcast_to(affine, (len(y), 4, 4))])


class PairMetric(CumulativeIterationMetric):
    """Base of the metrics: one number a pair of masks, collected over batches.

    Call it with one-hot masks, batches (B, C, X, Y, Z) or lists of (C, X, Y, Z), and optionally `spacing_mm` (see
    `compute_pairs`).

    Args:
        include_background: whether channel 0 is scored too.
        reduction: MONAI's; numbers that are NaN, which the policy for empty masks gives to what is not counted, are
            left out.
        get_not_nans: whether `aggregate` also returns how many numbers it counted.
    """

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.reduction = reduction
        self.get_not_nans = get_not_nans

    @abstractmethod
    def score(self, pred: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
        """Return the metric of one pair of masks (X, Y, Z) with their affine (4, 4)."""

    def score_batch(
        self, y_pred: torch.Tensor, y: torch.Tensor, spacing_mm: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Score a batch without collecting it; see `compute_pairs`."""
        return compute_pairs(y_pred, y, self.score, self.include_background, spacing_mm)

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor, spacing_mm: Sequence[float] | None = None
    ) -> torch.Tensor:
        return self.score_batch(y_pred, y, spacing_mm)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Any:
        """Reduce what was collected; a mean of nothing is NaN, where MONAI's own metrics say a perfect 0."""
        data = self.get_buffer()
        if not isinstance(data, torch.Tensor):
            raise ValueError("nothing to aggregate: call the metric first")
        reduced, not_nans = do_metric_reduction(data, reduction or self.reduction)
        if str(reduction or self.reduction).startswith("mean"):
            reduced = torch.where(not_nans > 0, reduced, torch.nan)
        return (reduced, not_nans) if self.get_not_nans else reduced
