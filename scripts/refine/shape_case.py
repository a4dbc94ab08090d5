"""What travels through the refinement chain: one `ShapeCase` a structure, which each step enriches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import trimesh

from ..geometry.affine import Similarity
from ..geometry.picct import CanonicalTransform
from ..organ import Structure
from ..prior.prior import ShapePrior
from .context import Context
from .evidence import Evidence


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
        residual_mm: (N,) of the samples fitted.
        linear_scores: whitened scores of the linear model, or None.
        figures: what the fit says of itself, plain numbers.
    """

    similarity: Similarity
    sdf_canonical: Callable[[torch.Tensor], torch.Tensor]
    residual_mm: np.ndarray
    linear_scores: torch.Tensor | None
    figures: dict[str, float]

    def sdf_mm(self, points_world: np.ndarray) -> np.ndarray:
        """Return the fitted signed distance (N,) in mm at world points (N, 3), negative inside."""
        points = torch.as_tensor(self.similarity.apply(points_world), dtype=torch.float32)
        return self.sdf_canonical(points).cpu().numpy() / self.similarity.scale


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
    failure: str = ""
    quality: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The structure's name."""
        return self.structure.name
