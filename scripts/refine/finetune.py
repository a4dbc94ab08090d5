"""Latent finetuning: a prior's instance fitted to trusted points, template frozen (Eq. 53).

Default: the linear model, fitted robustly with pose, gives the start; then whitened codes and pose, then the
materialised deform weights are tuned by Adam on a redescending loss of the residual in mm, for all structures whose
fields and samples have the same sizes, and whose settings are the same, as one batch. The normals enter through points
a little outside and inside of the surface, whose distances are known, which saves second derivatives. Weights can
follow nearly any surface, also the walls that an error of the mask has cut: there the mask's normals stand across those
of the fit by codes, and such points have no say in the weights. A rare shape's normals agree, and are followed.
The paper's method is that of `paper_fit`.

Hosts may call this under `torch.no_grad()` or `torch.inference_mode()`: gradients are switched on inside.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..geometry.affine import Similarity
from ..geometry.picct import CanonicalTransform
from ..gpu_memory import CPU, release, to_cpu
from ..prior.field_stack import FieldStack
from ..prior.prior import ShapePrior
from ..prior.robust import Channel, LinearFit, RobustSettings, fit_linear
from .adam import Adam
from .fit_points import FitPoints
from .instance import field_shape, linear_shape, start_latent
from .paper_fit import fit_paper
from .settings import RefineSettings
from .stages import RADIUS, FittedShape, TrustedSamples

CODE_RATE, CODE_PENALTY = 0.08, 2e-3  # Adam's step on whitened codes z; weight of |z|²
POSE_RATE, POSE_PENALTY = 0.01, 20.0  # the same of the pose: log scale, rotation vector and translation
WEIGHT_RATE, WEIGHT_PENALTY = 2e-4, 100.0  # the same of the deform weights' change
# Points whose normal's cosine with the fit's is below the one have no say in the weights, above the other a full one.
ACROSS_COSINE, ALONG_COSINE = 0.2, 0.7
OF_THE_FIT = ("method", "loss_scale_mm", "code_steps", "weight_steps")  # of the settings
FELL_BACK = "the fitted shape explained the mask worse than the linear one it started from, which was taken instead"
CLEARLY = 0.02  # of the largest loss of a point: by so much more a fit must miss the mask to be dropped


class LatentFinetune:
    """Fits a prior to trusted samples.

    Args:
        settings: see `RefineSettings`; `method` chooses robust, linear or paper.
        device: where the field is evaluated.
    """

    def __init__(self, settings: RefineSettings, device: str | torch.device = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)

    def __call__(
        self, samples: TrustedSamples, transform: CanonicalTransform, prior: ShapePrior, seed: int = 0
    ) -> FittedShape:
        """Return the fitted instance of one structure.

        Args:
            samples: points in world mm with trust.
            transform: PICCT's world → canonical.
            prior: the structure's prior, on `device`.
            seed: of the random generator.

        Raises:
            ValueError: the prior has no linear model, which every method but the paper's starts from.
        """
        return self.fit_batch([(samples, transform, prior)], seed)[0]

    def fit_batch(
        self, structures: Sequence[tuple[TrustedSamples, CanonicalTransform, ShapePrior]], seed: int = 0
    ) -> list[FittedShape]:
        """Return the fitted instances of several structures; codes and deform weights are tuned as one batch.

        Where a GPU has no memory for all at once, one after another, and where not even for one, that on the CPU.

        Args:
            structures: samples, transform and prior of each, as for one.
            seed: of the random generator.

        Raises:
            ValueError: a prior has no linear model, or structures differ in the sizes of fields or samples.
        """
        try:
            return self._fit_batch(structures, seed)
        except torch.OutOfMemoryError:
            pass  # what it held is free when the error is
        release()
        if len(structures) > 1:
            return [self.fit_batch([one], seed)[0] for one in structures]
        to_cpu("a structure is fitted")
        ((samples, transform, prior),) = structures
        return LatentFinetune(self.settings)._fit_batch([(samples, transform, prior.to(CPU))], seed)

    def _fit_batch(
        self, structures: Sequence[tuple[TrustedSamples, CanonicalTransform, ShapePrior]], seed: int
    ) -> list[FittedShape]:
        with torch.inference_mode(False), torch.enable_grad():
            if self.settings.method == "paper":
                steps = self.settings.code_steps, self.settings.weight_steps
                return [fit_paper(*structure, *steps, self.device, seed) for structure in structures]
            if any(prior.linear is None for _, _, prior in structures):
                raise ValueError("the prior has no linear model to start from; use the preset 'paper' or train anew")
            starts = [self._linear(*structure) for structure in structures]
            if self.settings.method == "linear":
                return [
                    linear_shape(start, prior, len(samples.points_world))
                    for start, (samples, _, prior) in zip(starts, structures, strict=True)
                ]
            return self._robust([s for s, _, _ in structures], starts, [p for _, _, p in structures])

    def linear(self, samples: TrustedSamples, transform: CanonicalTransform, prior: ShapePrior) -> FittedShape:
        """Return the linear model's fit alone, which every method but the paper's starts from.

        Raises:
            ValueError: the prior has no linear model.
        """
        if prior.linear is None:
            raise ValueError("the prior has no linear model to start from; use the preset 'paper' or train anew")
        with torch.inference_mode(False):
            return linear_shape(self._linear(samples, transform, prior), prior, len(samples.points_world))

    def batch_key(self, samples: TrustedSamples, prior: ShapePrior) -> tuple[Hashable, ...]:
        """Return what a structure must have in common with others to be fitted in one batch with them."""
        own = tuple(getattr(self.settings, name) for name in OF_THE_FIT)
        return (*own, len(samples.points_world), *sorted(prior.field.settings.items()))

    def _linear(self, samples: TrustedSamples, transform: CanonicalTransform, prior: ShapePrior) -> LinearFit:
        assert prior.linear is not None
        known = FitPoints.of(samples)
        channel = Channel(prior.linear, torch.zeros(3), known.points_world, known.targets_mm, known.trust)
        scale_mm = self.settings.loss_scale_mm
        settings = RobustSettings(scale_from_mm=5.0 * scale_mm, scale_to_mm=scale_mm, noise_mm=0.375 * scale_mm)
        return fit_linear([channel], transform.similarity, RADIUS, settings)

    def _robust(
        self, samples: Sequence[TrustedSamples], starts: Sequence[LinearFit], priors: Sequence[ShapePrior]
    ) -> list[FittedShape]:
        """Codes and pose, then the deform weights; B structures at once, N points each."""
        chosen = self.settings
        field = priors[0].field if len(priors) == 1 else FieldStack([prior.field for prior in priors])
        poses = [start.similarity for start in starts]
        clouds = [FitPoints.of(own) for own in samples]
        points_world = [cloud.points_world for cloud in clouds]
        targets, trusts = self._stack([own.targets_mm for own in clouds]), self._stack([own.trust for own in clouds])

        def misfit(sdf: Tensor, mm: Tensor) -> Tensor:
            """Sum over the structures of their mean loss; `mm` (B, 1) is a canonical unit's length."""
            residual = sdf * mm - targets
            c2 = chosen.loss_scale_mm**2
            loss = (trusts * c2 * residual**2 / (residual**2 + c2)).sum(1)
            return (loss / trusts.sum(1).clamp_min(1e-6)).sum()

        points, mm = self._canonical(poses, points_world)
        latent = torch.stack([start_latent(*one) for one in zip(priors, starts, strict=True)]).requires_grad_(True)
        twist = torch.zeros(len(priors), 7, device=self.device, requires_grad=True)

        def codes() -> tuple[Tensor, Tensor]:
            own = [prior.codes_from_latent(z) for prior, z in zip(priors, latent, strict=True)]
            return priors[0].split_codes(torch.stack(own))

        optimiser = Adam([([latent], CODE_RATE), ([twist], POSE_RATE)])
        for _ in range(chosen.code_steps):
            optimiser.zero_grad()
            moved, scale = _moved(points, twist)
            sdf = field(*codes(), moved)["sdf"]
            loss = misfit(sdf, mm / scale) + CODE_PENALTY * (latent**2).sum() + POSE_PENALTY * (twist**2).sum()
            loss.backward()
            optimiser.step()
        poses = [_similarity(own).compose(pose) for own, pose in zip(twist, poses, strict=True)]
        with torch.no_grad():
            alpha, beta = codes()
            base = field.weights(beta)
        points, mm = self._canonical(poses, points_world)
        normals = self._stack(
            [pose.apply_directions(own.normals_world) for pose, own in zip(poses, samples, strict=True)]
        )
        with torch.no_grad():
            slope = field.evaluate_with_derivatives(base, alpha, points[:, : normals.shape[1]])["gradient"]
            agreement = normal_agreement(normals, slope).cpu().numpy()
        trusts = self._stack([own.weighed(agrees).trust for own, agrees in zip(clouds, agreement, strict=True)])
        weights = {name: value.clone().requires_grad_(True) for name, value in base.items()}
        tuner = Adam([(list(weights.values()), WEIGHT_RATE)])
        for _ in range(chosen.weight_steps):
            tuner.zero_grad()
            sdf = field.evaluate(weights, alpha, points)["sdf"]
            change = sum(((weights[name] - base[name]) ** 2).sum() for name in base)
            (misfit(sdf, mm) + WEIGHT_PENALTY * change).backward()
            tuner.step()
        fitted = [
            field_shape(
                prior,
                {name: value[i : i + 1] for name, value in weights.items()},
                alpha[i : i + 1],
                poses[i],
                samples[i],
                starts[i],
                latent[i].detach(),
                {name: value[i : i + 1] for name, value in base.items()},
            )
            for i, prior in enumerate(priors)
        ]
        return [
            self._no_worse(*one, len(own.points_world))
            for one, own in zip(zip(fitted, clouds, starts, priors, strict=True), samples, strict=True)
        ]

    def _no_worse(
        self, fit: FittedShape, known: FitPoints, start: LinearFit, prior: ShapePrior, n_surface: int
    ) -> FittedShape:
        """Return the fit, or the linear one that it started from where that explains the mask clearly better.

        Codes alone (`weight_steps` 0) describe less than the linear model, and are what was asked for.
        """
        if self.settings.weight_steps == 0:
            return fit
        assert fit.linear_mm is not None
        scale_mm = self.settings.loss_scale_mm
        before, after = (known.misfit(of(known.points_world), scale_mm) for of in (fit.linear_mm, fit.sdf_mm))
        return (
            fit
            if after <= before + CLEARLY * scale_mm**2
            else replace(linear_shape(start, prior, n_surface), warning=FELL_BACK, codes_mm=fit.codes_mm)
        )

    def _canonical(self, poses: Sequence[Similarity], points_world: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Canonical points (B, N, 3) and the length (B, 1) in mm of a canonical unit."""
        points = [pose.apply(own) for pose, own in zip(poses, points_world, strict=True)]
        return self._stack(points), self._tensor(np.array([[1.0 / pose.scale] for pose in poses]))

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        return self._tensor(np.stack(arrays))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def normal_agreement(normals: Tensor, gradient: Tensor) -> Tensor:
    """Return how far a mask's normals agree with those of a fit, (..., N) in [0, 1].

    Args:
        normals: (..., N, 3) outward unit normals of the mask, in the frame of the gradient.
        gradient: (..., N, 3) of the fitted signed distance at the same points.
    """
    cosine = torch.nn.functional.cosine_similarity(gradient, normals, dim=-1)
    return ((cosine - ACROSS_COSINE) / (ALONG_COSINE - ACROSS_COSINE)).clamp(0.0, 1.0)


def _rotation(vector: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) of rotation vectors (B, 3), differentiable at 0."""
    zero = torch.zeros_like(vector[:, 0])
    x, y, z = vector.unbind(1)
    return torch.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3))


def _moved(points: Tensor, twist: Tensor) -> tuple[Tensor, Tensor]:
    """Canonical points (B, N, 3) after small similarities (B, 7: log scale, rotation vector, translation), and scales.

    The scales are (B, 1).
    """
    scale = twist[:, :1].exp()
    turned = points @ _rotation(twist[:, 1:4]).transpose(1, 2)
    return scale[:, :, None] * turned + twist[:, None, 4:], scale


def _similarity(twist: Tensor) -> Similarity:
    """The similarity of one (7,)."""
    values = twist.detach().cpu().double()
    rotation = _rotation(values[None, 1:4])[0].numpy()
    return Similarity(float(values[0].exp()), rotation, values[4:].numpy())
