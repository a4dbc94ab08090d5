"""Correspondence: which place of the template a point of an instance is (the paper's 4.4 and Fig. 4).

The deformation that fits the template to an instance takes each of its points x to x + v(x) in the template's frame.
Points of different instances that go to the same place are anatomically the same, and get the same colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from torch import Tensor

from ..gpu_memory import in_pieces
from .field import DeformTemplateField
from .hypernet import DeformWeights
from .level_set import CHUNK
from .prior import ShapePrior

DARKEST = 40  # of 255: a colour's lowest channel, so that shaded surfaces do not turn black


@dataclass(frozen=True)
class Correspondence:
    """Where the vertices of a mesh lie on the template.

    Attributes:
        template_points: (V, 3) float32 points of the template's surface, canonical.
        colours: (V, 3) uint8 RGB, the same for the same place of the template.
    """

    template_points: np.ndarray
    colours: np.ndarray

    @classmethod
    def at(cls, prior: ShapePrior, template_points: Tensor) -> Correspondence:
        """Return the correspondence of vertices that lie at `template_points` (V, 3), canonical, of a prior."""
        points = template_points.detach().cpu().numpy().astype(np.float32)
        return cls(points, template_colours(prior, points))

    def vertex_data(self) -> dict[str, ArrayLike]:
        """Return the data by the names a PLY file knows: red, green, blue (uint8), template_x, _y, _z (float32)."""
        colours = {name: self.colours[:, axis] for axis, name in enumerate(("red", "green", "blue"))}
        points = {f"template_{name}": self.template_points[:, axis] for axis, name in enumerate("xyz")}
        return {**colours, **points}


def template_places(prior: ShapePrior, weights: DeformWeights, alpha: Tensor, points: Tensor) -> Tensor:
    """Where the points of ONE instance lie on the template.

    The field is trained in the unit ball: beyond it, the flow at the ball's nearest point is taken. Where x + v(x) is
    not on the template's surface (the correction δ, or an x that is not on the instance's surface, such as a vertex
    that fusion left where the mask has it), it is moved to the nearest place of that surface.

    Args:
        prior: of the structure.
        weights: deform weights of the instance (B = 1).
        alpha: its instance code, (1, A).
        points: (N, 3), canonical.

    Returns:
        (N, 3), canonical, on the template's surface.
    """
    inside = points / points.norm(dim=-1, keepdim=True).clamp_min(1.0)
    return onto_template(prior, points + _flow(prior.field, weights, alpha, inside))


@torch.no_grad()
def onto_template(prior: ShapePrior, points: Tensor) -> Tensor:
    """The nearest places (N, 3) on the template's surface to canonical points (N, 3).

    The point is projected onto the tangent plane of the nearest of the template's samples, and from there moved along
    the normal by T, which is a distance.
    """
    samples = prior.template_points
    nearest = torch.as_tensor(cKDTree(samples.cpu().numpy()).query(points.cpu().numpy())[1], device=samples.device)
    normals = prior.template_normals[nearest]
    height = ((points - samples[nearest]) * normals).sum(-1, keepdim=True)
    planar = points - height * normals
    values = in_pieces(prior.field.template, planar, CHUNK)
    return planar - values * normals


def template_colours(prior: ShapePrior, template_points: np.ndarray) -> np.ndarray:
    """RGB (N, 3), uint8, of template points (N, 3): their place in the bounding box of the template's samples.

    Red rises with x, green with y, blue with z.
    """
    samples = prior.template_points.cpu().numpy()
    lower, upper = samples.min(axis=0), samples.max(axis=0)
    share = np.clip((template_points - lower) / (upper - lower), 0.0, 1.0)
    return np.rint(DARKEST + (255 - DARKEST) * share).astype(np.uint8)


@torch.no_grad()
def _flow(field: DeformTemplateField, weights: DeformWeights, alpha: Tensor, points: Tensor) -> Tensor:
    """Flow v (N, 3) of one instance at many points (N, 3)."""
    return in_pieces(lambda piece: field.deform(weights, alpha, piece[None])[0][0], points, CHUNK)
