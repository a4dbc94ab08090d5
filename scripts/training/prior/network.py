"""The network that is trained: the field with the codes of the training shapes, and how both start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...prior.field import DeformTemplateField
from ...prior.linear import LinearShapeModel


def initial_codes(
    linear: LinearShapeModel, scores: Tensor, code_dim: int, noise: float = 0.01, seed: int = 0
) -> Tensor:
    """Codes (S, code_dim) from the linear model's whitened scores (S, K), the first component of unit deviation.

    Components beyond the model's modes are small noise.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = noise * torch.randn(scores.shape[0], code_dim, generator=generator)
    kept = min(code_dim, scores.shape[1])
    codes[:, :kept] += scores[:, :kept] * (linear.std[:kept] / linear.std[0])
    return codes


def noise_codes(shapes: int, code_dim: int, noise: float = 0.01, seed: int = 0) -> Tensor:
    """Codes (S, code_dim) drawn from a Gaussian of the standard deviation `noise`, as the paper starts them."""
    return noise * torch.randn(shapes, code_dim, generator=torch.Generator().manual_seed(seed))


class PriorTrainingNetwork(nn.Module):
    """The field together with the training shapes' codes, which are free parameters (METHOD 2).

    Args:
        field: the field to train.
        alpha: (S, A) initial instance codes.
        beta: (S, H) initial hyper codes.
        first_order_share: share of a batch's points, from the first on, that get derivatives.
        laplacian: also give the flow's Laplacian (Eq. 48).
    """

    def __init__(
        self,
        field: DeformTemplateField,
        alpha: Tensor,
        beta: Tensor,
        first_order_share: float = 1 / 3,
        laplacian: bool = False,
    ) -> None:
        super().__init__()
        self.field = field
        self.alpha = nn.Parameter(alpha.clone())
        self.beta = nn.Parameter(beta.clone())
        self.first_order_share = first_order_share
        self.laplacian = laplacian

    def parameter_groups(self, network_lr: float, code_lr: float) -> list[dict[str, Any]]:
        """Optimiser groups: the field's weights and the codes."""
        return [
            {"params": list(self.field.parameters()), "lr": network_lr},
            {"params": [self.alpha, self.beta], "lr": code_lr},
        ]

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Predictions for points (B, N, 3), as `DeformTemplateLoss` wants them.

        The codes are those of the shapes `index` (B,); with `partner` (B,) and `share` (B,), mixed with the partners'.
        """
        alpha, beta = self.alpha[inputs["index"]], self.beta[inputs["index"]]
        if "share" in inputs:
            share, partner = inputs["share"].to(alpha)[:, None], inputs["partner"]
            alpha, beta = alpha.lerp(self.alpha[partner], share), beta.lerp(self.beta[partner], share)
        return predict_for_loss(
            self.field,
            alpha,
            beta,
            inputs["points"],
            self.first_order_share,
            self.laplacian,
        )


def predict_for_loss(
    field: DeformTemplateField, alpha: Tensor, beta: Tensor, points: Tensor, first_order_share: float, laplacian: bool
) -> dict[str, Tensor]:
    """Evaluate the field with derivatives at the first share of points (B, N, 3), without at the rest."""
    count = points.shape[1]
    n_first = max(2, int(round(count * first_order_share)))
    weights = field.weights(beta)
    result = field.evaluate_with_derivatives(weights, alpha, points[:, :n_first], laplacian, backward=True)
    if n_first < count:
        rest = field.evaluate(weights, alpha, points[:, n_first:])
        for key in ("sdf", "correction"):
            result[key] = torch.cat([result[key], rest[key]], dim=1)
    return {**result, "alpha": alpha, "beta": beta}


def warm_up_template(
    field: DeformTemplateField,
    linear: LinearShapeModel,
    steps: int = 200,
    n_points: int = 1500,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> float:
    """Fit the template to the linear model's mean shape before the joint training; returns the last mean error.

    Half the points lie where the mean distance is small, half are uniform in the grid's cube.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(field.parameters()).device
    pool = (torch.rand(40 * n_points, 3, generator=generator) * 2.0 - 1.0) * linear.extent
    values = linear.evaluate(torch.zeros_like(linear.std), pool)
    near = pool[values.abs() < max(0.1, float(values.abs().quantile(0.1)))]
    optimizer = torch.optim.Adam(field.template_net.parameters(), lr=learning_rate)
    error = torch.zeros(())
    for _ in range(steps):
        picks = [torch.randint(len(source), (n_points // 2,), generator=generator) for source in (near, pool)]
        points = torch.cat([near[picks[0]], pool[picks[1]]])
        target = linear.evaluate(torch.zeros_like(linear.std), points).to(device)
        error = (field.template(points.to(device)).squeeze(-1) - target).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return float(error.detach())


def build_training_network(
    field: DeformTemplateField,
    linear: LinearShapeModel,
    grids: np.ndarray,
    first_order_share: float = 1 / 3,
    laplacian: bool = False,
    warm_up_steps: int = 200,
    seed: int = 0,
    codes: str = "pca",
    instance_code: bool = True,
    hyper_code: bool = True,
) -> PriorTrainingNetwork:
    """The training network: codes from the shapes' PCA, template from their mean (both deviate from the paper).

    Args:
        field: untrained field, or a trained one to start from (then pass 0 warm-up steps).
        linear: linear model of the training shapes.
        grids: (S, G, G, G) their signed distance grids.
        first_order_share: see `PriorTrainingNetwork`.
        laplacian: see `PriorTrainingNetwork`.
        warm_up_steps: steps of `warm_up_template`.
        seed: of the codes' noise and the warm-up's points.
        codes: "pca", see `initial_codes`, or "noise", see `noise_codes`.
        instance_code: false holds α at 0.
        hyper_code: false holds β at 0.
    """
    scores = linear.scores(grids)
    if warm_up_steps:
        warm_up_template(field, linear, warm_up_steps, seed=seed)

    def start(size: int, own_seed: int) -> Tensor:
        if codes == "noise":
            return noise_codes(len(grids), size, seed=own_seed)
        return initial_codes(linear, scores, size, seed=own_seed)

    network = PriorTrainingNetwork(
        field, start(field.code_dim, seed), start(field.hyper_code_dim, seed + 1), first_order_share, laplacian
    )
    for code, used in ((network.alpha, instance_code), (network.beta, hyper_code)):
        if not used:
            code.data.zero_()
            code.requires_grad_(False)
    return network
