"""TIM, the template interaction module: how far each point of the initial mask can be trusted (METHOD 4).

CPD against the learned template's surface gives the posterior P of mask points against template points; its sum over
the template, `P1_m = Σ_n P(m | x_n)`, is the paper's trust, of which it keeps the top quarter. Points at the rim of a
hole collect the posterior of the template they fail to cover, so by itself that is a weak signal. The default keeps
all points and multiplies three soft signals: P1, agreement with the joint model's context, and the evidence.
"""

from __future__ import annotations

import numpy as np
import trimesh

from ..evidence.probabilities import Evidence
from ..geometry.picct import CanonicalTransform, ConstrainedRegistration
from ..geometry.surface import sample_surface
from ..prior.context import Context
from ..prior.prior import ShapePrior
from .stages import TrustedSamples

OUTLIER_WEIGHT = 0.1
ITERATIONS = 20
START_SIGMA = 0.1
CONTEXT_SCALE_MM = 12.0
LEAST_TRUST = 0.05
TEMPLATE_POINTS = 500  # that CPD matches
LEAST_EVIDENCE = 0.3  # evidence is coarse: it never silences a point


class TIMSample:
    """Samples the initial surface uniformly and weighs the samples.

    Args:
        samples: surface points.
        keep_share: 1 keeps all points, and their trust is the product of the three signals; less keeps that share of
            them, the most trusted by P1, with trust 1 (the paper: 0.25).
    """

    def __init__(self, samples: int, keep_share: float = 1.0) -> None:
        self.samples = samples
        self.keep_share = keep_share

    def __call__(
        self,
        surface: trimesh.Trimesh,
        transform: CanonicalTransform,
        prior: ShapePrior,
        name: str = "",
        context: Context | None = None,
        evidence: Evidence | None = None,
        seed: int = 0,
    ) -> TrustedSamples:
        """Return the samples of a world surface (mm) with their trust.

        Args:
            surface: closed surface of the initial mask, world mm.
            transform: world → canonical.
            prior: holds the template's surface points, canonical.
            name: the structure's name, for context and evidence.
            context: fitted joint model.
            evidence: probabilities.
            seed: of the samples.
        """
        points, normals = sample_surface(surface, self.samples, seed)
        posterior = template_posterior(
            transform.to_canonical(points), prior.template_points.cpu().numpy(), TEMPLATE_POINTS, seed
        )
        relative = posterior / max(float(np.median(posterior)), 1e-9)
        if self.keep_share < 1.0:
            kept = np.sort(np.argsort(-relative, kind="stable")[: max(int(self.keep_share * len(points)), 20)])
            return TrustedSamples(points[kept], normals[kept], np.ones(len(kept)), relative)
        trust = np.clip(relative, LEAST_TRUST, 1.0)
        if context is not None:
            off = context.of(name, points) / CONTEXT_SCALE_MM
            trust = trust * np.maximum(1.0 / (1.0 + off**2) ** 2, LEAST_TRUST)
        if evidence is not None:
            probability = evidence.of(name, points)
            undecided = 4.0 * probability * (1.0 - probability)
            trust = trust * np.where(np.isnan(probability), 1.0, np.maximum(undecided, LEAST_EVIDENCE))
        return TrustedSamples(points, normals, trust, relative)


def template_posterior(moving: np.ndarray, template: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return `P1` (M,) of canonical mask points (M, 3) against `count` of the template's surface points (Eq. 40).

    CPD runs from the alignment already found. Where that leaves no point near the template, all are 0.
    """
    rng = np.random.default_rng(seed)
    data = template[rng.choice(len(template), min(count, len(template)), replace=False)]
    engine = ConstrainedRegistration(
        X=np.array(data, float),
        Y=np.array(moving, float),
        sigma2=START_SIGMA**2,
        w=OUTLIER_WEIGHT,
        volume=float(np.prod(np.ptp(data, axis=0))),
        shrinkage=1.0,
    )
    engine.transform_point_cloud()
    with np.errstate(all="ignore"):
        for _ in range(ITERATIONS):
            before = engine.sigma2
            try:
                engine.iterate()
            except np.linalg.LinAlgError:  # nothing corresponds to the template
                break
            if not np.isfinite(engine.sigma2) or abs(before - engine.sigma2) < 1e-3 * before:
                break
    return np.nan_to_num(np.asarray(engine.P1))
