"""What a fit is to explain: points with the signed distances that the shape should have there (Eq. 53's data).

Three kinds. Surface points, where it is 0. Shells, a little outside and inside along the normals: they tell the fit
which side is which, and save second derivatives. And free points, in and around the mask: without them nothing speaks
against a surface where the mask has none, and a fit to a strange shape grows until enough points agree with it.
Beyond the mask's grid nothing is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from ..geometry.resample import inside_grid
from .stages import TrustedSamples

SHELL_MM = 3.0
SHELL_TRUST = 0.7
# Free points hold fits to strange shapes, but they also say that a missing end is not there. With this trust such a fit
# grows little, and most of the end comes back.
FREE_TRUST = 0.2
FREE_REACH = 1.0  # free points lie on lines through two samples, and this far beyond both, over their distance
NEAREST = 5  # samples that tell inside from outside
# Times the samples' distance to their fifth neighbour: nearer to the surface than this, distances are not known.
FREE_SPACINGS = 1.5


@dataclass(frozen=True)
class FitPoints:
    """Points with the signed distances that a shape should have there.

    Attributes:
        points_world: (N, 3) mm; the samples first, then shells, then free points.
        targets_mm: (N,) signed distances, negative inside; 0 on the surface.
        trust: (N,) in [0, 1].
        sample: (N,) the surface sample that a point belongs to: the nearest one.
    """

    points_world: np.ndarray
    targets_mm: np.ndarray
    trust: np.ndarray
    sample: np.ndarray

    @classmethod
    def of(cls, samples: TrustedSamples) -> FitPoints:
        """Return what a fit to surface samples is to explain; half as many shells as samples, and as many free points.

        Args:
            samples: points in world mm, with normals and trust.
        """
        cloud, normals = samples.points_world, samples.normals_world
        every = np.arange(len(cloud))
        outer, inner = every[::4], every[2::4]
        free, free_mm, nearest, known = _free(cloud, normals, len(cloud) // 2)
        if samples.grid is not None:
            known &= inside_grid(free, samples.grid.affine, samples.grid.shape)
        points = [cloud, cloud[outer] + SHELL_MM * normals[outer], cloud[inner] - SHELL_MM * normals[inner], free]
        targets_mm = [np.repeat([0.0, SHELL_MM, -SHELL_MM], [len(every), len(outer), len(inner)]), free_mm]
        sample = np.concatenate([every, outer, inner, nearest])
        shells = SHELL_TRUST * samples.trust[np.concatenate([outer, inner])]
        trust = np.concatenate([samples.trust, shells, FREE_TRUST * known])
        return cls(np.concatenate(points), np.concatenate(targets_mm), trust, sample)

    def misfit(self, signed_mm: np.ndarray, scale_mm: float) -> float:
        """Return the mean loss (Geman-McClure, mm²) of a shape with these signed distances (N,) at the points, mm."""
        squared = (signed_mm - self.targets_mm) ** 2
        loss = scale_mm**2 * squared / (squared + scale_mm**2)
        return float((self.trust * loss).sum() / max(float(self.trust.sum()), 1e-6))

    def weighed(self, agreement: np.ndarray) -> FitPoints:
        """Return the points with the trust of each multiplied by its sample's (M,) value in [0, 1]."""
        return replace(self, trust=self.trust * agreement[self.sample])


def _free(cloud: np.ndarray, normals: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return points in and around a surface, and how far they are from it.

    They move with the samples, also under a reflection.

    Returns:
        Points (count, 3), world mm; their signed distances (count,) to the nearest sample, mm; which that is (count,);
        and (count,) bool, where the distance can be trusted: near the surface it says too much.
    """
    tree = cKDTree(cloud)
    spacing_mm = float(np.median(tree.query(cloud, k=[NEAREST + 1])[0]))
    rng = np.random.default_rng(0)
    one, other = rng.integers(len(cloud), size=(2, count))
    points = cloud[one] + rng.uniform(-FREE_REACH, 1.0 + FREE_REACH, (count, 1)) * (cloud[other] - cloud[one])
    distance, nearest = tree.query(points, k=range(1, min(NEAREST, len(cloud)) + 1))
    away = points[:, None] - cloud[nearest]
    side = np.where((away * normals[nearest]).sum((1, 2)) < 0, -1.0, 1.0)
    return points, distance[:, 0] * side, nearest[:, 0], distance[:, 0] > FREE_SPACINGS * spacing_mm
