"""A training step of a prior: its loss and the loss's gradients, at the paper's sizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..prior.field import DeformTemplateField
from ..training.prior.losses import DeformTemplateLoss, LossWeights
from ..training.prior.network import predict_for_loss
from .compare import Task
from .plain_step import plain_loss

MOST = 1e-4  # relative difference of two losses


@dataclass(frozen=True)
class Sizes:
    """Sizes of a training step; the paper's, but for fewer shapes and points, since those only scale the time.

    Attributes:
        hidden: width of template and deform net.
        layers: of each.
        omega: sine frequency.
        codes: size of the instance and of the hyper code.
        hyper: kind of hyper-network.
        shapes: of a step.
        points: of a shape, half of them on the surface.
    """

    hidden: int = 256
    layers: int = 5
    omega: float = 30.0
    codes: int = 256
    hyper: str = "full"
    shapes: int = 2
    points: int = 2000


PAPER = Sizes()


def training_step(sizes: Sizes = PAPER, laplacian: bool = True, dtype: torch.dtype = torch.float32) -> Task:
    """Return the step, of random shapes: nothing but sizes matters to its time.

    Args:
        sizes: of it.
        laplacian: whether the objective is the paper's, whose flow term is of second order; else ours, of first.
        dtype: of all numbers.
    """
    torch.manual_seed(0)
    codes = {"code_dim": sizes.codes, "hyper_code_dim": sizes.codes}
    field = DeformTemplateField(sizes.hidden, sizes.layers, sizes.omega, **codes, hyper=sizes.hyper).to(dtype)
    alpha, beta = (0.01 * torch.randn(sizes.shapes, sizes.codes, dtype=dtype) for _ in range(2))
    learned = [*field.parameters(), alpha.requires_grad_(True), beta.requires_grad_(True)]
    points = torch.nn.functional.normalize(torch.randn(sizes.shapes, sizes.points, 3, dtype=dtype), dim=-1)
    normals, distance = points.clone(), torch.zeros(sizes.shapes, sizes.points, dtype=dtype)
    half = sizes.points // 2
    points *= 0.7
    points[:, half:] *= 0.5 + 0.7 * torch.rand(sizes.shapes, sizes.points - half, 1, dtype=dtype)
    distance[:, half:] = points[:, half:].norm(dim=-1) - 0.7
    on_surface = (torch.arange(sizes.points) < half).expand(sizes.shapes, -1)
    weights = LossWeights.paper() if laplacian else LossWeights()
    loss = DeformTemplateLoss(weights)
    targets = {"sdf": distance, "normals": normals, "on_surface": on_surface}

    def run_plain() -> tuple[float, list[Tensor]]:
        return _done(plain_loss(field, alpha, beta, points, normals, distance, on_surface, weights), learned)

    def run_ours() -> tuple[float, list[Tensor]]:
        return _done(loss(predict_for_loss(field, alpha, beta, points, 1.0, laplacian), targets), learned)

    order = "second order (the paper's)" if laplacian else "first order (ours)"
    return Task(
        f"training step, flow term of {order}",
        "nested autograd, a call a derivative",
        "derivatives carried along, in one graph",
        run_plain,
        run_ours,
        lambda plain, ours: abs(plain[0] - ours[0]) / abs(plain[0]),
        MOST,
        "of the loss",
    )


def _done(loss: Tensor, learned: list[Tensor]) -> tuple[float, list[Tensor]]:
    """Compute a loss's gradients anew; return the loss and these."""
    for one in learned:
        one.grad = None
    loss.backward()
    return float(loss.detach()), [one.grad for one in learned if one.grad is not None]
