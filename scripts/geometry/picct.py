"""PICCT, the physical-informed continuous coordinate transform: world millimetres to canonical coordinates.

Image to world is the affine (affine.py). World to canonical (METHOD 1, Eq. 35-40) is a similarity found by rigid
Coherent Point Drift against an anchor shape that already stands in the unit sphere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pycpd import RigidRegistration
from scipy.spatial.transform import Rotation

from .affine import Similarity, rotation_angle_deg

Array = np.ndarray[Any, np.dtype[Any]]

MIN_POINTS = 20
MAX_ROTATION_DEG = 30.0
MIRROR_MODES = ("never", "auto", "always")
MIRROR_X = np.diag([-1.0, 1.0, 1.0])
_MIRROR_GAIN = 0.9  # a mirrored fit must be this much tighter than the plain one to be taken
_MAX_RELATIVE_SIGMA = 0.3  # of the anchor's RMS radius; beyond, the shapes have nothing in common
_START_RELATIVE_SIGMA = 0.3
_FLOOR_RELATIVE_SIGMA = 1e-3
_MAX_CHANGE = 5e-3  # still changing by more than this share a step at the end: no convergence
COARSE_POINTS = 250
_BLOCK = 32


def normalise(points_world: ArrayLike) -> Similarity:
    """Map points into the unit sphere without rotation: centroid to 0, the farthest point to radius 0.9.

    Args:
        points_world: (N, 3), usually in mm.

    Returns:
        The similarity from the points' frame to the unit sphere.

    Raises:
        ValueError: when there are no points, they coincide, or one is not finite.
    """
    points = np.asarray(points_world, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError("expected at least one finite point of shape (N, 3)")
    centroid = points.mean(axis=0)
    radius = float(np.linalg.norm(points - centroid, axis=1).max())
    if not radius > 0:
        raise ValueError("all points coincide")
    return Similarity(0.9 / radius, np.eye(3), -0.9 / radius * centroid)


class VectorisedRegistration(RigidRegistration):
    """pycpd's rigid registration with the expectation step in matrix form (Eq. 40).

    ``volume`` makes the outlier density ``1 / volume``, which has the unit that the Gaussian densities have. pycpd's
    own, the default, is ``1 / N``: it depends on the unit of length and on how densely the data is sampled.
    """

    def __init__(self, *args: Any, volume: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.volume = float(self.N if volume is None else volume)
        self._data_squared = np.einsum("nd,nd->n", self.X, self.X)

    def expectation(self) -> None:
        """Posterior ``P(m | x_n)`` (M, N), its marginals, and its product with the data (M, 3)."""
        outliers = (2 * np.pi * self.sigma2) ** (self.D / 2) * self.w / (1 - self.w) * self.M / self.volume
        half_precision = 0.5 / self.sigma2
        moving_squared = np.einsum("md,md->m", self.TY, self.TY)
        posterior = np.empty((self.N, self.M))
        self.Pt1 = np.empty(self.N)
        self.P1 = np.zeros(self.M)
        self.PX = np.zeros((self.M, self.D))
        for begin in range(0, self.N, _BLOCK):  # a block of data points at a time stays in the processor's cache
            rows = slice(begin, begin + _BLOCK)
            block = (2.0 * self.X[rows]) @ self.TY.T
            block -= self._data_squared[rows, None]
            block -= moving_squared
            np.minimum(block, 0.0, out=block)
            block *= half_precision
            np.exp(block, out=block)
            total = block.sum(axis=1)
            total[total == 0] = np.finfo(float).eps
            block /= (total + outliers)[:, None]
            self.Pt1[rows] = block.sum(axis=1)
            self.P1 += block.sum(axis=0)
            self.PX += block.T @ self.X[rows]
            posterior[rows] = block
        self.P = posterior.T
        self.Np = self.P1.sum()


class ConstrainedRegistration(VectorisedRegistration):
    """The same EM with a rotation that is shrunk, and capped or fixed.

    The rotation's M-step maximises ``tr(A^T R)``; adding ``shrinkage`` times the spread of the matched points to A's
    diagonal is a matrix Fisher prior about no rotation. It costs a well determined rotation little and takes away
    one that the points leave open. Scale and translation are then the maximum for the rotation so found.
    """

    def __init__(self, *args: Any, shrinkage: float = 0.0, fixed: Array | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shrinkage = shrinkage
        self.fixed = fixed

    def update_transform(self) -> None:
        """M-step for rotation, scale and translation (pycpd's R multiplies rows, the transpose of the usual one)."""
        mean_data = self.PX.sum(axis=0) / self.Np
        mean_moving = self.P1 @ self.Y / self.Np
        self.X_hat = self.X - mean_data
        self.A = self.PX.T @ self.Y - self.Np * np.outer(mean_data, mean_moving)
        self.YPY = self.P1 @ ((self.Y - mean_moving) ** 2).sum(axis=1)
        if self.fixed is None:
            spread = np.linalg.svd(self.A, compute_uv=False).sum() / 3.0
            left, _, right = np.linalg.svd(self.A + self.shrinkage * spread * np.eye(3))
            self.R = (left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right).T
        else:
            self.R = self.fixed.T
        self.s = np.trace(self.A.T @ self.R.T) / self.YPY
        self.t = mean_data - self.s * mean_moving @ self.R


@dataclass
class CanonicalTransform:
    """Where a case stands in canonical space, and how far that can be trusted.

    Attributes:
        similarity: world mm to canonical.
        sigma: standard deviation of the mixture at the end, canonical units (0 where EM did not run).
        converged: whether EM settled before its iterations ran out.
        mirrored: whether the similarity reflects the case.
        rotation_deg: angle of the rotation, the reflection about the sagittal plane taken out.
        failure: why the alignment cannot be trusted; "" when it is sound. The similarity is then the moment start.
        turn: turned so, or taken for the organ of the other side, the case would fit clearly better, see `turns`; ""
            where neither does.
    """

    similarity: Similarity
    sigma: float
    converged: bool
    mirrored: bool
    rotation_deg: float
    failure: str = ""
    turn: str = ""

    def to_canonical(self, points_world: ArrayLike) -> Array:
        """Map (N, 3) points from world mm to canonical coordinates."""
        return self.similarity.apply(points_world)

    def to_world(self, points_canonical: ArrayLike) -> Array:
        """Map (N, 3) points from canonical coordinates to world mm."""
        return self.similarity.inverse().apply(points_canonical)


@dataclass(frozen=True)
class _Fit:
    """A state of EM: the step from the start, the mixture's width, and that width's last relative change."""

    step: Similarity
    sigma: float
    change: float = np.inf


def _rms_radius(points: Array) -> float:
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def subset(points: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw `count` of the points (N, 3), all where there are no more."""
    return points if len(points) <= count else points[rng.choice(len(points), count, replace=False)]


class PICCT:
    """Aligns a case's surface points with the anchor shape of its category.

    EM starts from the moments (centroid and RMS radius matched, world axes kept) at a width of about a third of the
    shape, with an outlier density of one over the volume of the anchor's bounding box.

    Args:
        anchor_points: (K, 3) points of the anchor's surface, canonical.
        scale_mm: mm of one canonical unit in the anchor's own frame; judges the found scale.
        n_points: points drawn from each set; time grows with their square.
        outlier_weight: share of the data that the uniform outlier term expects, in [0, 1).
        max_iterations: EM steps at most.
        tolerance: EM has settled when the width changes by a smaller share than this in a step.
        max_rotation_deg: a larger rotation is scaled back to this and the rest solved again.
        max_scale_ratio: the found scale may differ from the anchor's by at most this factor.
        mirror: "never", "always", or "auto": reflect world x when that fits clearly better.
        rotation_shrinkage: strength of the pull towards no rotation, relative to the data's.

    Raises:
        ValueError: when the anchor is too small or not finite, or an option is out of range.
    """

    def __init__(
        self,
        anchor_points: ArrayLike,
        scale_mm: float,
        n_points: int = 1000,
        outlier_weight: float = 0.1,
        max_iterations: int = 100,
        tolerance: float = 1e-4,
        max_rotation_deg: float = MAX_ROTATION_DEG,
        max_scale_ratio: float = 2.0,
        mirror: str = "never",
        rotation_shrinkage: float = 0.01,
    ) -> None:
        anchor = np.array(anchor_points, dtype=np.float64)
        if anchor.ndim != 2 or anchor.shape[1] != 3 or len(anchor) < MIN_POINTS or not np.isfinite(anchor).all():
            raise ValueError(f"the anchor needs at least {MIN_POINTS} finite points of shape (N, 3)")
        if mirror not in MIRROR_MODES:
            raise ValueError(f"mirror must be one of {MIRROR_MODES}, got {mirror!r}")
        if not (scale_mm > 0 and max_scale_ratio >= 1 and 0 <= outlier_weight < 1 and n_points >= MIN_POINTS):
            raise ValueError("scale_mm, max_scale_ratio, outlier_weight or n_points is out of range")
        self.anchor_points = anchor
        self.scale_mm = float(scale_mm)
        self.n_points = int(n_points)
        self.outlier_weight = float(outlier_weight)
        self.max_iterations = int(max_iterations)
        self.tolerance = float(tolerance)
        self.max_rotation_deg = float(max_rotation_deg)
        self.max_scale_ratio = float(max_scale_ratio)
        self.mirror = mirror
        self.rotation_shrinkage = float(rotation_shrinkage)
        self.rms_radius = _rms_radius(anchor)
        self._volume = float(np.prod(np.ptp(anchor, axis=0) + 2 * 0.1 * self.rms_radius))

    def __call__(self, points_world: ArrayLike, seed: int = 0) -> CanonicalTransform:
        """Find the similarity from world to canonical.

        Args:
            points_world: (N, 3) points spread uniformly over the case's surface, world mm.
            seed: of the subsets drawn; the same seed gives the same result.

        Returns:
            The transform with its verdict; it never raises for a bad case.
        """
        points = np.asarray(points_world, dtype=np.float64).reshape(-1, 3)
        finite = points[np.isfinite(points).all(axis=1)]
        start = self.moment_start(finite, mirrored=self.mirror == "always")
        if len(finite) < len(points):
            return self._failed(start, f"{len(points) - len(finite)} points are not finite")
        if len(points) < MIN_POINTS:
            return self._failed(start, f"only {len(points)} points, at least {MIN_POINTS} are needed")
        if not _rms_radius(points) > 1e-6:
            return self._failed(start, "all points coincide")
        rng = np.random.default_rng(seed)
        moving, data = subset(points, self.n_points, rng), subset(self.anchor_points, self.n_points, rng)
        result = self.align(moving, data, self.moment_start(points, self.mirror == "always"))
        if self.mirror == "auto":
            other = self.align(moving, data, self.moment_start(points, mirrored=True))
            if not other.failure and (result.failure or other.sigma < _MIRROR_GAIN * result.sigma):
                result = other
        return result

    def from_start(self, points: ArrayLike, start: Similarity, seed: int = 0) -> CanonicalTransform:
        """Find the similarity from a given start instead of the moments, which mislead where one set is a part only.

        Args:
            points: (N, 3) points that move.
            start: where EM begins.
            seed: of the subsets drawn.

        Returns:
            The transform with its verdict.
        """
        rng = np.random.default_rng(seed)
        moving = subset(np.asarray(points, dtype=np.float64), self.n_points, rng)
        return self.align(moving, subset(self.anchor_points, self.n_points, rng), start)

    def moment_start(self, points: Array, mirrored: bool) -> Similarity:
        """Centroid and RMS radius matched, the scale kept within its bounds, world axes kept or x reflected."""
        centre = points.mean(axis=0) if len(points) else np.zeros(3)
        spread = _rms_radius(points) if len(points) else 0.0
        scale = self.rms_radius / spread if spread > 1e-6 else 1.0 / self.scale_mm
        bounds = 1.0 / (self.scale_mm * self.max_scale_ratio), self.max_scale_ratio / self.scale_mm
        scale = float(np.clip(scale, *bounds))
        axes = MIRROR_X if mirrored else np.eye(3)
        return Similarity(scale, axes, self.anchor_points.mean(axis=0) - scale * (axes @ centre))

    def _failed(self, start: Similarity, reason: str, sigma: float = 0.0) -> CanonicalTransform:
        return CanonicalTransform(start, sigma, False, start.mirrored, 0.0, reason)

    def align(self, moving_world: Array, data: Array, start: Similarity) -> CanonicalTransform:
        """EM from one start, coarse to fine; the rotation's cap; the verdict.

        Args:
            moving_world: (M, 3) all the points that move, world mm.
            data: (N, 3) all the anchor's points that they are aligned with, canonical.
            start: where EM begins.

        Returns:
            The transform with its verdict.
        """
        moving = start.apply(moving_world)
        coarse = self._run(
            moving[:COARSE_POINTS],
            data[:COARSE_POINTS],
            _Fit(Similarity.identity(), _START_RELATIVE_SIGMA * self.rms_radius),
        )
        fit = coarse and self._run(moving, data, coarse)
        angle = rotation_angle_deg(fit.step.rotation) if fit else 0.0
        if fit and angle > self.max_rotation_deg:
            vector = Rotation.from_matrix(fit.step.rotation).as_rotvec() * (self.max_rotation_deg / angle)
            capped = Similarity(1.0, Rotation.from_rotvec(vector).as_matrix(), np.zeros(3))
            fit = self._run(moving, data, _Fit(capped, _START_RELATIVE_SIGMA * self.rms_radius), keep_rotation=True)
            angle = self.max_rotation_deg
        if fit is None:
            return self._failed(start, "CPD diverged")
        similarity = fit.step.compose(start)
        similarity = similarity.rounded()
        result = CanonicalTransform(similarity, fit.sigma, fit.change <= self.tolerance, similarity.mirrored, angle)
        ratio = similarity.scale * self.scale_mm
        if not 1.0 / self.max_scale_ratio <= ratio <= self.max_scale_ratio:
            reason = f"scale {ratio:.2f} of the anchor's is outside the limit of {self.max_scale_ratio:g}"
        elif fit.sigma > _MAX_RELATIVE_SIGMA * self.rms_radius:
            reason = f"CPD's width {fit.sigma:.3f} is too large for a match"
        elif fit.change > max(_MAX_CHANGE, self.tolerance):
            reason = f"CPD did not converge in {self.max_iterations} iterations"
        else:
            return result
        return replace(result, similarity=start, rotation_deg=0.0, failure=reason)

    def _run(self, moving: Array, data: Array, begin: _Fit, keep_rotation: bool = False) -> _Fit | None:
        """EM from a given step and width until it settles or its iterations run out; None where it degenerates."""
        engine = ConstrainedRegistration(
            X=data,
            Y=moving,
            sigma2=begin.sigma**2,
            w=self.outlier_weight,
            tolerance=self.tolerance,
            volume=self._volume,
            shrinkage=self.rotation_shrinkage,
            fixed=begin.step.rotation if keep_rotation else None,
        )
        engine.R, engine.t, engine.s = begin.step.rotation.T, begin.step.translation[None], begin.step.scale
        engine.transform_point_cloud()
        floor = (_FLOOR_RELATIVE_SIGMA * self.rms_radius) ** 2
        change = np.inf
        with np.errstate(all="ignore"):
            for _ in range(self.max_iterations):
                before = engine.sigma2
                try:
                    engine.iterate()
                except np.linalg.LinAlgError:  # of what has grown beyond all numbers
                    return None
                if not (np.isfinite(engine.sigma2) and np.isfinite(engine.s) and engine.s > 0 and engine.Np > 1e-3):
                    return None
                change = 0.0 if engine.sigma2 <= floor else abs(engine.sigma2 - before) / (2.0 * before)
                if change <= self.tolerance:
                    break
        step = Similarity(float(engine.s), engine.R.T, np.reshape(engine.t, 3))
        return _Fit(step, float(np.sqrt(engine.sigma2)), float(change))
