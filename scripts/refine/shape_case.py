"""What travels through the refinement chain: one `ShapeCase` a structure, which each step enriches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import trimesh

from ..evidence.reading import Evidence
from ..geometry.affine import Similarity
from ..geometry.picct import CanonicalTransform
from ..organ.pack import Structure
from ..prior.context import Context
from ..prior.correspondence import Correspondence
from ..prior.prior import ShapePrior


@dataclass
class TrustedSamples:
    """Points that the fit shall explain, from TIM.

    Attributes:
        points_world: (N, 3) surface points, mm.
        normals_world: (N, 3) outward unit normals.
        trust: (N,) in [0, 1].
        posterior: (M,) TIM's aggregated posterior `P1` of the mask's own points (the first M of `points_world`
            before a hard selection), over its median.
    """

    points_world: np.ndarray
    normals_world: np.ndarray
    trust: np.ndarray
    posterior: np.ndarray


@dataclass
class FittedShape:
    """A fitted instance of the prior.

    Attributes:
        similarity: world → canonical, as refined by the fit.
        sdf_canonical: canonical points (N, 3) float32 tensor → signed distance (N,), canonical units.
        template_canonical: canonical points (N, 3) float32 tensor → the places (N, 3) of the template's surface to
            which the fitted deformation takes them, canonical.
        residual_mm: (N,) of the samples fitted.
        linear_scores: whitened scores of the linear model, or None.
        figures: what the fit says of itself, plain numbers.
    """

    similarity: Similarity
    sdf_canonical: Callable[[torch.Tensor], torch.Tensor]
    template_canonical: Callable[[torch.Tensor], torch.Tensor]
    residual_mm: np.ndarray
    linear_scores: torch.Tensor | None
    figures: dict[str, float]

    def sdf_mm(self, points_world: np.ndarray) -> np.ndarray:
        """Return the fitted signed distance (N,) in mm at world points (N, 3), negative inside."""
        return self.sdf_canonical(self._canonical(points_world)).cpu().numpy() / self.similarity.scale

    def correspondence(self, prior: ShapePrior, points_world: np.ndarray) -> Correspondence:
        """Return where world points (N, 3), mm, lie on the template of the prior that was fitted."""
        return Correspondence.at(prior, self.template_canonical(self._canonical(points_world)))

    def _canonical(self, points_world: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(self.similarity.apply(points_world), dtype=torch.float32)


@dataclass
class ShapeCase:
    """One structure of one case.

    Attributes:
        structure: the structure, from the organ pack.
        prior: its shape prior.
        surface: closed surface of the initial mask, world mm.
        transform: PICCT's result.
        context: the pack's joint model fitted to all structures of the case, where the pack has one.
        evidence: probabilities from an image or a network, where there are such.
        samples: TIM's points.
        fitted: the fitted instance.
        mesh: the refined surface, world mm.
        correspondence: where the mesh's vertices lie on the template.
        failure: why the structure could not be refined; "" when it was.
        quality: plain JSON values: figures and the decision on every region.
        seconds: stage → seconds.
    """

    structure: Structure
    prior: ShapePrior | None = None
    surface: trimesh.Trimesh | None = None
    transform: CanonicalTransform | None = None
    context: Context | None = None
    evidence: Evidence | None = None
    samples: TrustedSamples | None = None
    fitted: FittedShape | None = None
    mesh: trimesh.Trimesh | None = None
    correspondence: Correspondence | None = None
    failure: str = ""
    quality: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The structure's name."""
        return self.structure.name
