"""The prior's objective as METHOD 3 states it, in plain PyTorch: every derivative is a nested `autograd.grad`.

Written to be read beside the paper, and to be compared with `training.prior.losses` on the forward derivatives of
`prior.siren`, which give the same number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..prior.field import DeformTemplateField
from ..training.prior.losses import LossWeights


def plain_loss(
    field: DeformTemplateField,
    alpha: Tensor,
    beta: Tensor,
    points: Tensor,
    normals: Tensor,
    distance: Tensor,
    on_surface: Tensor,
    weights: LossWeights,
) -> Tensor:
    """Return the objective (Eq. 52), a scalar.

    Args:
        field: template T, deform net D and hyper-network Ψ.
        alpha: (B, A) instance codes.
        beta: (B, H) hyper codes.
        points: (B, N, 3), canonical.
        normals: (B, N, 3) of points on the surface.
        distance: (B, N) true signed distance.
        on_surface: (B, N) bool.
        weights: of the terms.
    """
    x = points.detach().requires_grad_(True)
    theta = field.weights(beta)
    code = alpha[:, None].expand(-1, x.shape[1], -1)
    deformed = torch.cat([x, code], dim=-1)
    for i in range(field.n_layers):
        deformed = deformed @ theta[f"weight{i}"].transpose(1, 2) + theta[f"bias{i}"][:, None]
        deformed = torch.sin(field.omega * deformed) if i < field.n_layers - 1 else deformed
    flow, correction = deformed[..., :3], deformed[..., 3]
    moved = x + flow
    template = moved
    for i, (weight, bias) in enumerate(field.template_net.layers()):
        template = template @ weight.T + bias
        template = torch.sin(field.omega * template) if i < field.n_layers - 1 else template
    sdf = template[..., 0] + correction

    slope, template_slope = gradient(sdf, x), gradient(template[..., 0], moved)
    turned, template_turned = (1 - cosine_similarity(one, normals, dim=-1) for one in (slope, template_slope))
    jacobian = torch.stack([gradient(flow[..., i], x) for i in range(3)], dim=-2)
    at = weights.clamp
    total = weights.distance * (sdf.clamp(-at, at) - distance.clamp(-at, at)).abs().mean()
    total = total + weights.normal * turned[on_surface].mean()
    total = total + weights.eikonal * (slope.norm(dim=-1) - 1).abs().mean()
    total = total + weights.template_normal * template_turned[on_surface].mean()
    if weights.flow_jacobian:
        total = total + weights.flow_jacobian * jacobian.flatten(-2).norm(dim=-1).mean()
    if weights.flow_laplacian:
        parts = [[gradient(jacobian[..., i, d], x)[..., d] for d in range(3)] for i in range(3)]
        laplacian = torch.stack([torch.stack(part).sum(0) for part in parts], dim=-1)
        total = total + weights.flow_laplacian * laplacian.norm(dim=-1).mean()
    total = total + weights.correction * correction.abs().mean()
    return total + weights.code * alpha.square().mean() + weights.hyper_code * beta.square().mean()


def gradient(values: Tensor, points: Tensor) -> Tensor:
    """Return the gradient (B, N, 3) of values (B, N) with respect to points, with a graph of its own."""
    (found,) = torch.autograd.grad(values, points, torch.ones_like(values), create_graph=True)
    return found
