"""Masks as sampled surfaces, in a common frame of unit size: what Chamfer and Earth Mover's distance compare.

Surfaces are sampled uniformly by area, never at their vertices. Two samplings of one surface are apart by a *noise
floor*, so prediction and truth are drawn with different seeds and the floor, truth against truth, stands beside each
figure. `shared` normalisation applies the truth's centre and size to both surfaces; `independent` gives each its own,
as the paper's code did, and hides every error of place and scale.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import trimesh
from monai.utils import MetricReduction
from numpy.typing import ArrayLike

from ..geometry.affine import check_affine
from ..geometry.surface import mask_to_surface, sample_surface
from .pairs import PairMetric
from .surface import EmptyPolicy, binary_mask

SAMPLES = 30_000
NORMALISATIONS = ("shared", "independent")


@dataclass(frozen=True, eq=False)
class SampledShape:
    """A surface and points spread uniformly over it.

    Attributes:
        mesh: closed surface in world mm.
        points: (N, 3), world mm.
    """

    mesh: trimesh.Trimesh
    points: np.ndarray

    @classmethod
    def of_mask(cls, mask: Any, affine: ArrayLike, count: int = SAMPLES, seed: int = 0) -> SampledShape | None:
        """Mesh and sample a mask.

        Args:
            mask: (X, Y, Z), bool or all 0 and 1.
            affine: (4, 4) voxel index → world mm.
            count: number of points.
            seed: the same seed draws the same points.

        Returns:
            The shape; None where the mask is empty, or scattered so thinly over a large volume that nothing is left of
            it on the meshing grid.

        Raises:
            ValueError: the mask is not binary or not 3D, or the affine is not usable.
        """
        array, matrix = binary_mask(mask), check_affine(affine)
        if not array.any():
            return None
        try:
            mesh = mask_to_surface(array, matrix)
        except ValueError:  # of what it raises only this is left: too small for the grid
            return None
        return cls(mesh, sample_surface(mesh, count, seed)[0])

    def resampled(self, seed: int) -> SampledShape:
        """The same surface with as many other points."""
        return replace(self, points=sample_surface(self.mesh, len(self.points), seed)[0])

    def first(self, count: int) -> SampledShape:
        """The same surface with the first of its points, which are as uniform as all."""
        return replace(self, points=self.points[:count])

    @cached_property
    def centre(self) -> np.ndarray:
        """Centroid (3,) of the surface, weighted by area, world mm."""
        return np.average(self.mesh.triangles_center, axis=0, weights=self.mesh.area_faces)

    @cached_property
    def diameter_mm(self) -> float:
        """Twice the distance from the centre to the farthest vertex."""
        return 2.0 * float(np.linalg.norm(self.mesh.vertices - self.centre, axis=1).max())

    def normalise(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 3) in world mm to the frame in which this shape is centred and of diameter 1."""
        return (points - self.centre) / self.diameter_mm


def score_shapes(
    pred: SampledShape | None,
    truth: SampledShape | None,
    measure: Callable[[np.ndarray, np.ndarray], float],
    diagonal_mm: float,
    normalisation: str = "shared",
    policy: EmptyPolicy | None = None,
) -> float:
    """Compare the normalised points of two shapes.

    Args:
        pred: predicted shape; None where there is none.
        truth: true shape, likewise; its points should be another draw than those of `pred`.
        measure: of two sets of points (N, 3) and (M, 3).
        diagonal_mm: diagonal of the truth's whole image.
        normalisation: "shared" or "independent".
        policy: scores of empty masks. The penalty in mm becomes the measure of two points that lie so far apart, in the
            frame of the shape that there is.

    Returns:
        The measure, in diameters of the truth or a power of them; NaN where the policy ignores an empty mask.

    Raises:
        ValueError: there is no such normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"normalisation must be one of {NORMALISATIONS}, not {normalisation!r}")
    if pred is not None and truth is not None:
        frame = truth if normalisation == "shared" else pred
        return measure(frame.normalise(pred.points), truth.normalise(truth.points))
    choice = (policy or EmptyPolicy()).scores(pred is None, truth is None, diagonal_mm, ("distance",))
    known = pred or truth
    apart = choice["distance"] / (known.diameter_mm if known else 1.0) if choice else np.nan
    return measure(np.zeros((1, 3)), np.array([[apart, 0.0, 0.0]])) if np.isfinite(apart) else float("nan")


def diagonal_of(mask: np.ndarray, affine: np.ndarray) -> float:
    """Return the diagonal in mm of the whole image that a mask (X, Y, Z) covers."""
    return float(np.linalg.norm(np.multiply(mask.shape, np.linalg.norm(affine[:3, :3], axis=0))))


class ShapeMetric(PairMetric):
    """Base of the metrics that compare samples of masks' normalised surfaces.

    Args:
        normalisation: "shared" or "independent", see the module.
        count: samples a surface.
        seed: of the truth's samples; the prediction's is the next, so that equal masks are a noise floor apart.
        policy: scores of empty masks.
        include_background: see `PairMetric`.
        reduction: see `PairMetric`.
        get_not_nans: see `PairMetric`.
    """

    def __init__(
        self,
        normalisation: str = "shared",
        count: int = SAMPLES,
        seed: int = 0,
        policy: EmptyPolicy | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.normalisation = normalisation
        self.count = count
        self.seed = seed
        self.policy = policy

    @abstractmethod
    def measure(self, points: np.ndarray, others: np.ndarray) -> float:
        """Compare two sets of points (N, 3)."""

    def score(self, pred: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> float:
        """Return the measure of one pair of masks (X, Y, Z)."""
        return score_shapes(
            SampledShape.of_mask(pred, affine, self.count, self.seed + 1),
            SampledShape.of_mask(truth, affine, self.count, self.seed),
            self.measure,
            diagonal_of(truth, affine),
            self.normalisation,
            self.policy,
        )
