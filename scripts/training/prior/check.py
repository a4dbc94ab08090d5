"""Does a prior describe shapes? DSC and CD of training shapes from their codes, of unseen ones after a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from skimage import measure
from torch import Tensor

from ...cases.split import evenly_spaced
from ...geometry.surface import sample_surface
from ...prior.field import DeformTemplateField
from ...prior.hypernet import DeformWeights
from ...prior.prior import ShapePrior
from ...shapes.border import border_distance
from ...shapes.label_surface import closed_mesh
from ...shapes.samples import ShapeSamples
from .fit import deform_weights, fit_codes, fit_weights


@dataclass(frozen=True)
class ShapeScore:
    """How well a fitted shape agrees with the true one.

    Attributes:
        dice: DSC, 0 to 1, on the grid of the shape's bounding box.
        cd: Chamfer distance ×1000: mean squared nearest distances of surface samples, both directions added,
            canonical; infinite where the fit has no surface there.
    """

    dice: float
    cd: float


def dice(inside: np.ndarray, reference: np.ndarray) -> float:
    """DSC of two boolean masks of the same shape; 1 where both are empty."""
    total = int(inside.sum()) + int(reference.sum())
    return 1.0 if total == 0 else 2.0 * int((inside & reference).sum()) / total


def box_distances(field: DeformTemplateField, weights: DeformWeights, alpha: Tensor, shape: ShapeSamples) -> np.ndarray:
    """Signed distances (N,) of one instance, weights of B = 1 and α (A,), at a shape's box grid."""
    points = torch.from_numpy(shape.box_grid()).to(alpha.device)
    return field.sdf(weights, alpha.unsqueeze(0), points).cpu().numpy()


def score_distances(sdf: np.ndarray, shape: ShapeSamples) -> ShapeScore:
    """Compare distances at a shape's box grid with the shape, where that is known."""
    known = shape.box_known
    overlap = dice((sdf < 0)[known], shape.box_inside[known])
    volume = np.where(np.abs(sdf) < 1e-6, -1e-6, sdf).reshape(tuple(shape.box_shape))
    if not volume.min() < 0.0 < volume.max():
        return ShapeScore(overlap, float("inf"))
    steps = (shape.box[1] - shape.box[0]) / (shape.box_shape - 1)
    vertices, faces, _, _ = measure.marching_cubes(volume, 0.0, gradient_direction="descent")
    mesh = closed_mesh(vertices * steps + shape.box[0], faces)
    points, _ = sample_surface(mesh, len(shape.surface), seed=0)
    points = points[border_distance(shape.planes, points) >= 0]
    return ShapeScore(overlap, chamfer(points, shape.surface[:, :3]) if len(points) else float("inf"))


def chamfer(one: np.ndarray, two: np.ndarray) -> float:
    """CD ×1000 of two point sets (N, 3), (M, 3): mean squared nearest distances, both directions added."""
    there, back = cKDTree(two).query(one)[0], cKDTree(one).query(two)[0]
    return 1000.0 * float((there**2).mean() + (back**2).mean())


def noise_floor(shapes: Sequence[ShapeSamples]) -> float | None:
    """Mean CD ×1000 of two samplings of the same shape, with as many points as `score_distances` takes.

    It is found between the halves of a sampling, of which it is twice as high.
    """
    halves = [(shape.surface[::2, :3], shape.surface[1::2, :3]) for shape in shapes]
    return round(float(np.mean([0.5 * chamfer(*pair) for pair in halves])), 4) if halves else None


def training_dice(
    field: DeformTemplateField, alpha: Tensor, beta: Tensor, shapes: Sequence[ShapeSamples], limit: int = 40
) -> dict[str, float]:
    """DSC of training cases from their own codes α (S, A), β (S, H); augmented copies are not counted."""
    originals = [index for index, shape in enumerate(shapes) if shape.original]
    result = {}
    for index in (originals[i] for i in evenly_spaced(len(originals), limit)):
        shape = shapes[index]
        with torch.no_grad():
            sdf = box_distances(field, field.weights(beta[index : index + 1]), alpha[index], shape)
        result[shape.name] = dice((sdf < 0)[shape.box_known], shape.box_inside[shape.box_known])
    return result


def held_out_scores(
    prior: ShapePrior, shapes: Sequence[ShapeSamples], steps: int = 100, limit: int = 12, tuned: bool = False
) -> dict[str, ShapeScore]:
    """Scores of unseen shapes, at most `limit`, after a fit to their clean samples.

    Args:
        prior: the prior.
        shapes: unseen shapes.
        steps: of the fit of the codes.
        limit: shapes used, spread evenly.
        tuned: tune the deform weights, too, as the refinement does.
    """
    chosen = [shapes[i] for i in evenly_spaced(len(shapes), limit)]
    if not chosen:
        return {}
    codes = fit_codes(prior, chosen, steps)
    weights = fit_weights(prior, codes, chosen) if tuned else deform_weights(prior, codes)
    alpha, _ = prior.split_codes(codes)
    scores = {}
    for index, shape in enumerate(chosen):
        own = {name: value[index : index + 1] for name, value in weights.items()}
        scores[shape.name] = score_distances(box_distances(prior.field, own, alpha[index], shape), shape)
    return scores


def summary(scores: Mapping[str, ShapeScore]) -> dict[str, float | int | None]:
    """Mean and worst DSC and CD ×1000 of scores, rounded; None where there is no finite value."""
    values = np.array([(score.dice, score.cd) for score in scores.values()], dtype=float).reshape(-1, 2)
    finite = len(values) > 0 and bool(np.isfinite(values).all())
    return {
        "n": len(values),
        "dice_mean": round(float(values[:, 0].mean()), 4) if len(values) else None,
        "dice_min": round(float(values[:, 0].min()), 4) if len(values) else None,
        "cd_mean": round(float(values[:, 1].mean()), 4) if finite else None,
        "cd_max": round(float(values[:, 1].max()), 4) if finite else None,
    }
