"""The prior fitted to clean samples of whole shapes, all at once: codes, then deform weights as the refinement does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...prior.hypernet import DeformWeights
from ...prior.prior import ShapePrior
from ...shapes.samples import ShapeSamples

CLAMP = 0.2  # canonical; distances are compared up to this
WEIGHT_PENALTY = 100.0  # of the squared change of the deform weights, against hundredths of a canonical unit


class _Targets:
    """Draws points of shapes with their distances, half on the surface."""

    def __init__(self, shapes: Sequence[ShapeSamples], n_points: int, device: torch.device, seed: int) -> None:
        self.surface = [torch.from_numpy(shape.surface[:, :3]) for shape in shapes]
        self.free = [torch.from_numpy(shape.free) for shape in shapes]
        self.n_points = n_points
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Points (B, N, 3) and distances (B, N)."""
        half = self.n_points // 2
        near = torch.stack([self._some(points, half) for points in self.surface])
        given = torch.stack([self._some(points, self.n_points - half) for points in self.free])
        points = torch.cat([near, given[..., :3]], dim=1)
        return points.to(self.device), torch.cat([torch.zeros_like(near[..., 0]), given[..., 3]], dim=1).to(self.device)

    def _some(self, points: Tensor, count: int) -> Tensor:
        return points[torch.randint(len(points), (count,), generator=self.generator)]


def _misfit(sdf: Tensor, target: Tensor) -> Tensor:
    """Mean clamped distance error of each shape (B,), in hundredths of a canonical unit."""
    return 100.0 * (sdf.clamp(-CLAMP, CLAMP) - target.clamp(-CLAMP, CLAMP)).abs().mean(dim=1)


def fit_codes(
    prior: ShapePrior,
    shapes: Sequence[ShapeSamples],
    steps: int = 100,
    learning_rate: float = 0.1,
    n_points: int = 400,
    penalty: float = 1e-3,
    seed: int = 0,
) -> Tensor:
    """Fit whitened codes to the samples of B shapes, the field frozen.

    The fit starts from the linear model's scores where the prior has one. The loss is the clamped distance error in
    hundredths of a canonical unit plus `penalty` times mean z².

    Returns:
        Codes (B, A + H).
    """
    latent = torch.zeros(len(shapes), len(prior.code_mean), device=prior.device)
    if prior.linear is not None:
        grids = torch.stack([torch.from_numpy(shape.grid) for shape in shapes]).to(prior.linear.mean.device)
        scores = prior.linear.scores(grids).clamp(-3.0, 3.0).to(prior.device)
        latent = prior.latent_from_codes(prior.codes_from_scores(scores))
    latent = latent.clamp(-3.0, 3.0).requires_grad_(True)
    targets = _Targets(shapes, n_points, prior.device, seed)
    optimizer = torch.optim.Adam([latent], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        points, target = targets.draw()
        alpha, beta = prior.split_codes(prior.codes_from_latent(latent))
        sdf = prior.field.evaluate(prior.field.weights(beta), alpha, points)["sdf"]
        loss = (_misfit(sdf, target) + penalty * latent.square().mean(dim=1)).sum()
        (latent.grad,) = torch.autograd.grad(loss, latent)  # the field's own gradients stay untouched
        optimizer.step()
        schedule.step()
    return prior.codes_from_latent(latent.detach())


def deform_weights(prior: ShapePrior, codes: Tensor) -> DeformWeights:
    """Materialised deform weights of codes (B, A + H)."""
    with torch.no_grad():
        return prior.field.weights(prior.split_codes(codes)[1])


def fit_weights(
    prior: ShapePrior,
    codes: Tensor,
    shapes: Sequence[ShapeSamples],
    steps: int = 60,
    learning_rate: float = 2e-4,
    n_points: int = 800,
    seed: int = 1,
) -> DeformWeights:
    """Tune the materialised deform weights of fitted codes (B, A + H), at the refinement's rate, the template frozen.

    Returns:
        The deform weights of the B shapes.
    """
    alpha, _ = prior.split_codes(codes)
    base = deform_weights(prior, codes)
    weights = {name: value.clone().requires_grad_(True) for name, value in base.items()}
    targets = _Targets(shapes, n_points, prior.device, seed)
    optimizer = torch.optim.Adam(list(weights.values()), lr=learning_rate)
    for _ in range(steps):
        points, target = targets.draw()
        change = torch.stack([(weights[name] - base[name]).square().sum() for name in base]).sum()
        misfit = _misfit(prior.field.evaluate(weights, alpha, points)["sdf"], target).sum()
        gradients = torch.autograd.grad(misfit + WEIGHT_PENALTY * change, list(weights.values()))
        for value, gradient in zip(weights.values(), gradients, strict=True):
            value.grad = gradient
        optimizer.step()
    return {name: value.detach() for name, value in weights.items()}
