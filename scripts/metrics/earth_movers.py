"""Earth Mover's distance of two surfaces: mean distance under the best bijection of 1000 samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import MetricReduction
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from .shapes import ShapeMetric
from .surface import EmptyPolicy

EMD_SAMPLES = 1000


def earth_movers_distance(points: ArrayLike, others: ArrayLike) -> float:
    """Return the Earth Mover's distance of two sets of as many points (METHOD 4.1: EMD on 1k points).

    `EMD = min_φ mean_a |a - φ(a)|` over the bijections φ; the optimum is exact.

    Args:
        points: (N, 3).
        others: (N, 3), in the same frame.

    Returns:
        The distance in the frame's unit.

    Raises:
        ValueError: the sets differ in size.
    """
    cost = cdist(points, others)
    if len(cost) != cost.shape[1]:
        raise ValueError(f"a bijection needs as many points on both sides, not {cost.shape}")
    # A constant taken from a column changes every bijection's total alike; the solver then starts near its prices and
    # needs half the time where one shape is shifted or scaled.
    rows, columns = linear_sum_assignment(cost - cost.mean(axis=0))
    return float(cost[rows, columns].mean())


class EarthMoversDistanceMetric(ShapeMetric):
    """Earth Mover's distance of masks' normalised surfaces; see `compute_earth_movers_distance`."""

    def __init__(
        self,
        normalisation: str = "shared",
        count: int = EMD_SAMPLES,
        seed: int = 0,
        policy: EmptyPolicy | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(normalisation, count, seed, policy, include_background, reduction, get_not_nans)

    def measure(self, points: np.ndarray, others: np.ndarray) -> float:
        """Return `earth_movers_distance`."""
        return earth_movers_distance(points, others)


def compute_earth_movers_distance(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    include_background: bool = False,
    spacing_mm: Sequence[float] | None = None,
    normalisation: str = "shared",
    count: int = EMD_SAMPLES,
    seed: int = 0,
    policy: EmptyPolicy | None = None,
) -> torch.Tensor:
    """Compute the Earth Mover's distance of normalised surfaces, in diameters of the truth.

    The noise floor is `compute_earth_movers_distance(y, y)`; it falls slowly with the count, so figures of different
    counts must not be compared.

    Args:
        y_pred: predicted masks (B, C, X, Y, Z), one-hot.
        y: true masks, likewise.
        include_background: whether channel 0 is compared too.
        spacing_mm: see `pairs.compute_pairs`.
        normalisation: "shared" or "independent", see `shapes`.
        count: samples a surface.
        seed: of the truth's samples; the prediction's is the next.
        policy: scores of empty masks.

    Returns:
        (B, C) float32.

    Raises:
        ValueError: see `pairs.compute_pairs` and `shapes.score_shapes`.
    """
    metric = EarthMoversDistanceMetric(normalisation, count, seed, policy, include_background)
    return metric.score_batch(y_pred, y, spacing_mm)
