"""Does a trained prior describe shapes? DSC of training shapes from their codes, of unseen shapes from fitted codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .field import DeformTemplateField
from .prior import ShapePrior
from .samples import ShapeSamples


def dice(inside: Tensor, reference: Tensor) -> float:
    """DSC of two boolean masks of the same shape; 1 where both are empty."""
    total = int(inside.sum()) + int(reference.sum())
    return 1.0 if total == 0 else 2.0 * int((inside & reference).sum()) / total


def shape_dice(field: DeformTemplateField, alpha: Tensor, beta: Tensor, shape: ShapeSamples) -> float:
    """DSC of one instance, α (A,) and β (H,), against a shape, on the grid of the shape's bounding box."""
    points = torch.from_numpy(shape.box_grid()).to(alpha.device)
    with torch.no_grad():
        sdf = field.sdf(field.weights(beta.unsqueeze(0)), alpha.unsqueeze(0), points)
    return dice(sdf.cpu() < 0, torch.from_numpy(shape.box_inside))


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` indices spread evenly over range(count)."""
    return list(range(count)) if count <= limit else torch.linspace(0, count - 1, limit).round().int().tolist()


def training_dice(
    field: DeformTemplateField, alpha: Tensor, beta: Tensor, shapes: Sequence[ShapeSamples], limit: int = 40
) -> dict[str, float]:
    """DSC of training cases from their own codes α (S, A), β (S, H); augmented copies are not counted."""
    originals = [index for index, shape in enumerate(shapes) if shape.original]
    chosen = [originals[i] for i in spread(len(originals), limit)]
    return {shapes[i].name: shape_dice(field, alpha[i], beta[i], shapes[i]) for i in chosen}


def fit_codes(
    prior: ShapePrior,
    shapes: Sequence[ShapeSamples],
    steps: int = 100,
    learning_rate: float = 0.1,
    n_points: int = 400,
    clamp: float = 0.2,
    penalty: float = 1e-3,
    seed: int = 0,
) -> Tensor:
    """Fit whitened codes to the full samples of shapes, all at once, the field frozen.

    The fit starts from the linear model's scores where the prior has one. The loss is the clamped distance error in
    hundredths of a canonical unit plus `penalty` times mean z².

    Returns:
        Codes (B, A + H).
    """
    generator = torch.Generator().manual_seed(seed)
    device = prior.device
    latent = torch.zeros(len(shapes), len(prior.code_mean), device=device)
    if prior.linear is not None:
        grids = torch.stack([torch.from_numpy(shape.grid) for shape in shapes]).to(device)
        latent = prior.latent_from_codes(prior.codes_from_scores(prior.linear.scores(grids).clamp(-3.0, 3.0)))
    latent = latent.clamp(-3.0, 3.0).requires_grad_(True)
    surface = [torch.from_numpy(shape.surface[:, :3]) for shape in shapes]
    free = [torch.from_numpy(shape.free) for shape in shapes]
    optimizer = torch.optim.Adam([latent], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    half = n_points // 2
    for _ in range(steps):
        near = torch.stack([p[torch.randint(len(p), (half,), generator=generator)] for p in surface])
        given = torch.stack([p[torch.randint(len(p), (n_points - half,), generator=generator)] for p in free])
        points = torch.cat([near, given[..., :3]], dim=1).to(device)
        target = torch.cat([torch.zeros_like(near[..., 0]), given[..., 3]], dim=1).to(device)
        alpha, beta = prior.split_codes(prior.codes_from_latent(latent))
        sdf = prior.field(alpha, beta, points)["sdf"]
        error = (sdf.clamp(-clamp, clamp) - target.clamp(-clamp, clamp)).abs().mean(dim=1)
        loss = (100.0 * error + penalty * latent.square().mean(dim=1)).sum()
        optimizer.zero_grad()
        (latent.grad,) = torch.autograd.grad(loss, latent)
        optimizer.step()
        schedule.step()
    return prior.codes_from_latent(latent.detach())


def held_out_dice(
    prior: ShapePrior, shapes: Sequence[ShapeSamples], steps: int = 100, limit: int = 12
) -> dict[str, float]:
    """DSC of unseen shapes after their codes were fitted to their clean samples."""
    chosen = [shapes[i] for i in spread(len(shapes), limit)]
    if not chosen:
        return {}
    alpha, beta = prior.split_codes(fit_codes(prior, chosen, steps))
    return {shape.name: shape_dice(prior.field, alpha[i], beta[i], shape) for i, shape in enumerate(chosen)}
