"""The fit of a pack's structures: one after another, or all as one stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry.affine import Similarity
from ..geometry.picct import CanonicalTransform
from ..prior.prior import ShapePrior
from ..refine.finetune import LatentFinetune
from ..refine.settings import RefineSettings
from ..refine.stages import FittedShape, TrustedSamples
from .compare import Task

MOST_MM = 0.05
TILT = 0.05  # by which each shape is stretched, so that there is something to fit


def stacked_fit(priors: Sequence[ShapePrior], settings: RefineSettings) -> Task:
    """Return the fit of stretched templates of priors, whose fields have the same sizes."""
    finetune = LatentFinetune(settings)
    known = [stretched(prior, settings.samples, number) for number, prior in enumerate(priors)]

    def one_by_one() -> list[FittedShape]:
        return [finetune.fit_batch([one])[0] for one in known]

    def as_one() -> list[FittedShape]:
        return finetune.fit_batch(known)

    def apart(plain: list[FittedShape], ours: list[FittedShape]) -> float:
        pairs = zip(plain, ours, strict=True)
        return float(np.mean([np.abs(one.residual_mm - other.residual_mm).mean() for one, other in pairs]))

    return Task(
        f"fit of {len(priors)} structures",
        "one after another",
        "all in one stack",
        one_by_one,
        as_one,
        apart,
        MOST_MM,
        "mm between the surfaces, mean",
    )


def stretched(prior: ShapePrior, count: int, seed: int) -> tuple[TrustedSamples, CanonicalTransform, ShapePrior]:
    """Return points of a prior's template, stretched, with where they stand, and the prior."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(prior.template_points), count, replace=len(prior.template_points) < count)
    points, normals = (one.cpu().numpy()[chosen] for one in (prior.template_points, prior.template_normals))
    pose = Similarity(1.0 / prior.scale_mm, np.eye(3), np.zeros(3))
    factors = 1.0 + TILT * rng.standard_normal(3)
    normals = normals / factors
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    world = pose.inverse().apply(points * factors)
    samples = TrustedSamples(world, normals, np.ones(count), np.ones(count))
    return samples, CanonicalTransform(pose, 0.05, True, False, 0.0), prior


def same_size(priors: Sequence[ShapePrior]) -> list[ShapePrior]:
    """Return the most priors whose fields have the same sizes; in their order."""
    sizes = [sorted(prior.field.settings.items()) for prior in priors]
    commonest = max(sizes, key=sizes.count)
    return [prior for prior, own in zip(priors, sizes, strict=True) if own == commonest]
