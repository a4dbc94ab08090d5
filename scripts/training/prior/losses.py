"""The training objective of the implicit prior, Eq. 46-52."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LossWeights:
    """Weights of the objective's terms; 0 leaves a term out. The defaults are ours, `paper()` gives the paper's.

    Attributes:
        distance: |s - s̄| (Eq. 46).
        normal: 1 - cos(∇s, n̄) on the surface (Eq. 46).
        eikonal: |‖∇s‖ - 1| (Eq. 46).
        off_surface: exp(-100 |s|) at points of unknown distance (Eq. 46).
        template_normal: 1 - cos(∇T(x + v), n̄) on the surface (Eq. 47).
        flow_jacobian: ‖J_v‖_F, our cheaper stand-in for Eq. 48.
        flow_laplacian: ‖Δv‖ (Eq. 48).
        correction: |δ| (Eq. 49).
        hyper_code: mean β² (Eq. 50).
        code: mean α² (Eq. 51).
        clamp: distances are compared up to this absolute value, canonical.
    """

    distance: float = 3e3
    normal: float = 1e2
    eikonal: float = 5e1
    off_surface: float = 5e2
    template_normal: float = 1e2
    flow_jacobian: float = 5.0
    flow_laplacian: float = 0.0
    correction: float = 1e2
    hyper_code: float = 1.0
    code: float = 1.0
    clamp: float = 0.5

    @staticmethod
    def paper() -> LossWeights:
        """Eq. 46-51 as published."""
        return LossWeights(flow_jacobian=0.0, flow_laplacian=5.0, hyper_code=1e6, code=1e5)

    def as_dict(self) -> dict[str, float]:
        """The weights by name."""
        return asdict(self)


def distance_loss(sdf: Tensor, target: Tensor, clamp: float) -> Tensor:
    """Mean absolute difference of two signed distances (same shape), both clamped to ±clamp."""
    return (sdf.clamp(-clamp, clamp) - target.clamp(-clamp, clamp)).abs().mean()


def direction_loss(gradient: Tensor, normals: Tensor) -> Tensor:
    """Mean of 1 - cos between gradients and normals, both (..., 3)."""
    return (1.0 - F.cosine_similarity(gradient, normals, dim=-1)).mean()


def eikonal_loss(gradient: Tensor) -> Tensor:
    """Mean deviation of the gradient's length from 1, gradients (..., 3)."""
    return (gradient.norm(dim=-1) - 1.0).abs().mean()


class DeformTemplateLoss(nn.Module):
    """Eq. 52, the weighted sum of Eq. 46-51, as a MONAI loss: `loss(predictions, targets)`.

    The predictions hold sdf (B, N), correction (B, N, 1), alpha (B, A), beta (B, H) and, for the first M points,
    gradient and template_gradient (B, M, 3), flow_jacobian (B, M, 3, 3) or flow_laplacian (B, M, 3). The targets hold
    sdf (B, N) with NaN where the distance is unknown, normals (B, N, 3) and on_surface (B, N) bool. Terms without
    points or of weight 0 are left out.

    Args:
        weights: `LossWeights`, or a mapping with some of its fields.
    """

    def __init__(self, weights: LossWeights | Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.weights = weights if isinstance(weights, LossWeights) else LossWeights(**(weights or {}))
        self.last: dict[str, float] = {}

    def terms(self, predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The unweighted terms by the names of `LossWeights`."""
        sdf, target = predictions["sdf"], targets["sdf"]
        known = torch.isfinite(target)
        terms: dict[str, Tensor] = {}
        if bool(known.all()):
            terms["distance"] = distance_loss(sdf, target, self.weights.clamp)
        else:
            terms["off_surface"] = torch.exp(-100.0 * sdf[~known].abs()).mean()
            if bool(known.any()):
                terms["distance"] = distance_loss(sdf[known], target[known], self.weights.clamp)
        terms["correction"] = predictions["correction"].abs().mean()
        terms["code"] = predictions["alpha"].square().mean()
        terms["hyper_code"] = predictions["beta"].square().mean()
        if "gradient" in predictions:
            count = predictions["gradient"].shape[1]
            surface = targets["on_surface"][:, :count]
            normals = targets["normals"][:, :count][surface]
            terms["eikonal"] = eikonal_loss(predictions["gradient"])
            if len(normals):
                terms["normal"] = direction_loss(predictions["gradient"][surface], normals)
                terms["template_normal"] = direction_loss(predictions["template_gradient"][surface], normals)
            terms["flow_jacobian"] = (predictions["flow_jacobian"].square().sum(dim=(-2, -1)) + 1e-12).sqrt().mean()
        if "flow_laplacian" in predictions:
            terms["flow_laplacian"] = (predictions["flow_laplacian"].square().sum(dim=-1) + 1e-12).sqrt().mean()
        return terms

    def forward(self, predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum; `last` keeps each term's share of it for the log."""
        weights = self.weights.as_dict()
        shares = {
            name: weights[name] * term for name, term in self.terms(predictions, targets).items() if weights[name]
        }
        self.last = {name: float(share.detach()) for name, share in shares.items()}
        return torch.stack(list(shares.values())).sum()
