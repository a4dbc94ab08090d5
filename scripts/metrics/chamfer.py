"""Chamfer distance of two surfaces: mean squared nearest distances of 30,000 samples, both directions, ×1000."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from .shapes import SAMPLES, ShapeMetric
from .surface import EmptyPolicy


def chamfer_distance(points: ArrayLike, others: ArrayLike) -> float:
    """Return the Chamfer distance of two sets of points (METHOD 4.1: CD on 30k surface points, ×1000).

    `CD = 1000 (mean_a min_b |a - b|² + mean_b min_a |a - b|²)`

    Args:
        points: (N, 3).
        others: (M, 3), in the same frame.

    Returns:
        The distance in thousandths of the frame's squared unit.
    """
    # Without balancing a tree is built faster and, for surfaces, no slower to ask; asking in the tree's own order keeps
    # what is needed next in the processor's cache.
    one, other = (cKDTree(np.asarray(p, dtype=np.float64), leafsize=16, balanced_tree=False) for p in (points, others))
    forth, back = other.query(one.data[one.indices])[0], one.query(other.data[other.indices])[0]
    return 1000.0 * float(np.mean(forth**2) + np.mean(back**2))


class ChamferDistanceMetric(ShapeMetric):
    """Chamfer distance of masks' normalised surfaces; see `compute_chamfer_distance`."""

    def measure(self, points: np.ndarray, others: np.ndarray) -> float:
        """Return `chamfer_distance`."""
        return chamfer_distance(points, others)


def compute_chamfer_distance(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    include_background: bool = False,
    spacing_mm: Sequence[float] | None = None,
    normalisation: str = "shared",
    count: int = SAMPLES,
    seed: int = 0,
    policy: EmptyPolicy | None = None,
) -> torch.Tensor:
    """Compute the Chamfer distance, ×1000, of normalised surfaces; lengths are in diameters of the truth.

    The noise floor is `compute_chamfer_distance(y, y)`: about `2000 A / (π count)` for a normalised area A.

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
    metric = ChamferDistanceMetric(normalisation, count, seed, policy, include_background)
    return metric.score_batch(y_pred, y, spacing_mm)
