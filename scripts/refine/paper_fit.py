"""The paper's fit (Eq. 53): codes and deform weights from the mean shape, with the pose of PICCT, on Eq. 46's terms.

The squared codes, whitened, have weight 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..geometry.picct import CanonicalTransform
from ..prior.prior import ShapePrior
from .adam import Adam
from .instance import field_shape
from .stages import FittedShape, TrustedSamples

CODE_RATE, WEIGHT_RATE = 0.05, 1e-4  # Adam's steps, the first of the codes' standard deviation
ON_SURFACE, NORMAL, EIKONAL = 3e3, 1e2, 5e1  # weights of the terms


def fit_paper(
    samples: TrustedSamples,
    transform: CanonicalTransform,
    prior: ShapePrior,
    code_steps: int,
    weight_steps: int,
    device: torch.device,
    seed: int = 0,
) -> FittedShape:
    """Return the fitted instance of one structure.

    Args:
        samples: the hard selection, in world mm; their trust has no say.
        transform: PICCT's world → canonical, which stays as it is.
        prior: the structure's prior, on `device`.
        code_steps: of Adam on the codes.
        weight_steps: of Adam on the deform weights.
        device: where the field is evaluated.
        seed: of the free points at which the field's slope is held to 1.
    """
    rng = np.random.default_rng(seed)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    points = tensor(transform.to_canonical(samples.points_world))
    normals = tensor(transform.similarity.apply_directions(samples.normals_world))
    codes = prior.code_mean.detach().clone().requires_grad_(True)

    def objective(weights: dict[str, Tensor], alpha: Tensor) -> Tensor:
        out = prior.field.evaluate_with_derivatives(weights, alpha, points[None])
        gradient = out["gradient"][0]
        cosine = torch.nn.functional.cosine_similarity(gradient, normals, dim=-1)
        free = points + 0.05 * tensor(rng.normal(size=tuple(points.shape)))
        slope = prior.field.evaluate_with_derivatives(weights, alpha, free[None])["gradient"][0].norm(dim=-1)
        return ON_SURFACE * out["sdf"].abs().mean() + NORMAL * (1 - cosine).mean() + EIKONAL * (slope - 1).abs().mean()

    optimiser = Adam([([codes], CODE_RATE * float(prior.code_whitening.diagonal().abs().mean()))])
    for _ in range(code_steps):
        optimiser.zero_grad()
        alpha, beta = prior.split_codes(codes[None])
        latent = prior.latent_from_codes(codes)
        (objective(prior.field.weights(beta), alpha) + (latent**2).mean()).backward()
        optimiser.step()
    alpha, beta = (part.detach() for part in prior.split_codes(codes[None]))
    weights = {k: v.detach().clone().requires_grad_(True) for k, v in prior.field.weights(beta).items()}
    tuner = Adam([(list(weights.values()), WEIGHT_RATE)])
    for _ in range(weight_steps):
        tuner.zero_grad()
        objective(weights, alpha).backward()
        tuner.step()
    latent = prior.latent_from_codes(codes.detach())
    return field_shape(prior, weights, alpha, transform.similarity, samples, None, latent)
