"""Instances of a prior: what a fit found, as signed distances that can be asked anywhere, with figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..geometry.affine import Similarity
from ..gpu_memory import CPU, to_cpu
from ..prior.correspondence import template_places
from ..prior.prior import ShapePrior
from ..prior.robust import LinearFit
from .stages import FittedShape, TrustedSamples, evaluate_mm


def start_latent(prior: ShapePrior, linear: LinearFit) -> Tensor:
    """Return whitened codes (A + H,) of the linear fit by regression, within three standard deviations."""
    start = prior.latent_from_codes(prior.codes_from_scores(linear.scores.to(prior.device)))
    return start.detach().clone().clamp(-3, 3)


def linear_shape(linear: LinearFit, prior: ShapePrior, n_surface: int) -> FittedShape:
    """Return the instance of a linear fit to points of which the first `n_surface` are the surface's.

    The linear model has no deformation: correspondence is that of the codes which the regression gives for it.
    """
    model = prior.linear
    assert model is not None
    latent = start_latent(prior, linear)
    with torch.no_grad():
        alpha, beta = prior.split_codes(prior.codes_from_latent(latent)[None])
        weights = prior.field.weights(beta)
    shape = FittedShape(
        linear.similarity,
        lambda points: model.evaluate(linear.scores, points),
        _asked(template_places, prior, weights, alpha, "places on a template are found"),
        linear.residuals_mm[0][:n_surface],
        partial(linear.sdf_mm, model, torch.zeros(3)),
        {},
        latent.cpu().numpy(),
    )
    return _with_figures(shape, float((linear.scores**2).mean().sqrt()))


def field_shape(
    prior: ShapePrior,
    weights: dict[str, Tensor],
    alpha: Tensor,
    pose: Similarity,
    samples: TrustedSamples,
    start: LinearFit | None,
    latent: Tensor,
    base: dict[str, Tensor] | None = None,
) -> FittedShape:
    """Return the instance of a field, on the prior's device.

    Args:
        prior: that was fitted.
        weights: of the deform net, materialised.
        alpha: (1, A) code of the correction.
        pose: world → canonical.
        samples: that were fitted.
        start: the linear fit it started from; None without one.
        latent: (A + H,) whitened codes.
        base: the weights that the codes give, from which `weights` were tuned; None where that fit is not kept.
    """
    frozen = {name: value.detach() for name, value in weights.items()}
    linear = partial(start.sdf_mm, prior.linear, torch.zeros(3)) if start is not None and prior.linear else None
    evaluated = "a field is evaluated"
    by_codes = None if base is None else partial(evaluate_mm, _asked(_field_sdf, prior, base, alpha, evaluated), pose)
    shape = FittedShape(
        pose,
        _asked(_field_sdf, prior, frozen, alpha, evaluated),
        _asked(template_places, prior, frozen, alpha, "places on a template are found"),
        np.zeros(0),
        linear,
        {},
        latent.cpu().numpy(),
        codes_mm=by_codes,
    )
    shape.residual_mm = shape.sdf_mm(samples.points_world)
    return _with_figures(shape, float((latent**2).mean().sqrt()))


def _asked(
    what: Callable[[ShapePrior, dict[str, Tensor], Tensor, Tensor], Tensor],
    prior: ShapePrior,
    weights: dict[str, Tensor],
    alpha: Tensor,
    doing: str,
) -> Callable[[Tensor], Tensor]:
    """Return points (N, 3) → what an instance of a field says of them; both are on the CPU.

    It is evaluated on the prior's device or, once that was a GPU without memory for it, on the CPU.
    """
    moved: list[tuple[ShapePrior, dict[str, Tensor], Tensor]] = []  # one, once it was needed

    def ask(points: Tensor) -> Tensor:
        if not moved:
            try:
                return what(prior, weights, alpha, points.to(prior.device)).cpu()
            except torch.OutOfMemoryError:
                pass  # what it held is free when the error is
            to_cpu(doing)
            moved.append((prior.to(CPU), {name: own.to(CPU) for name, own in weights.items()}, alpha.to(CPU)))
        return what(*moved[0], points)

    return ask


def _field_sdf(prior: ShapePrior, weights: dict[str, Tensor], alpha: Tensor, points: Tensor) -> Tensor:
    """Return the signed distance (N,) of an instance of a field at canonical points (N, 3)."""
    radius = points.norm(dim=-1)
    # the field is trained in the unit ball: beyond it, its value at the ball plus the way there
    value = prior.field.sdf(weights, alpha, points / radius.clamp_min(1.0)[:, None])
    return value + (radius - 1.0).clamp_min(0)


def _with_figures(shape: FittedShape, latent_rms: float) -> FittedShape:
    away = np.abs(shape.residual_mm)
    shape.figures = {
        "residual_median_mm": round(float(np.median(away)), 3),
        "residual_p90_mm": round(float(np.percentile(away, 90)), 3),
        "share_within_2mm": round(float((away < 2.0).mean()), 4),
        "latent_rms": round(latent_rms, 3),
    }
    return shape
