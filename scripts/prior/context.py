"""Context: what the joint model of a pack's structures says after it was fitted to all that a network found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import trimesh

from ..geometry.affine import Similarity
from ..geometry.picct import CanonicalTransform
from ..geometry.surface import sample_surface
from .joint import JointShapeModel
from .robust import Channel, LinearFit, RobustSettings, fit_linear

SETTINGS = RobustSettings(scale_from_mm=10.0, noise_mm=3.0, rotation_deg=5.0, log_scale=0.05)
SHELL_MM = 6.0


@dataclass
class Context:
    """A fitted joint model.

    Attributes:
        joint: the model.
        fit: its pose and coefficients.
        structures: names of those that it was fitted to.
    """

    joint: JointShapeModel
    fit: LinearFit
    structures: tuple[str, ...]

    def of(self, name: str, points_world: np.ndarray) -> np.ndarray:
        """Signed distance (N,) in mm of one structure at world points (N, 3)."""
        part = self.joint.parts[name]
        return self.fit.sdf_mm(part.model, part.centre, points_world)

    def surface_points(self, name: str, spacing_mm: float = 3.0) -> np.ndarray:
        """Return points (N, 3) world, mm, about the predicted surface of a structure; (0, 3) where there is none."""
        part = self.joint.parts[name]
        centre, extent = part.centre.numpy(), torch.as_tensor(part.model.extent).numpy()
        axes = [np.arange(c - e, c + e, spacing_mm) for c, e in zip(centre, np.broadcast_to(extent, 3), strict=True)]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        world = self.fit.similarity.inverse().apply(nodes)
        return world[np.abs(self.of(name, world)) < spacing_mm / 2]

    def transform(self, name: str, anchor_points: np.ndarray) -> CanonicalTransform | None:
        """Return world → canonical by the moments of the predicted surface, for masks too broken to be aligned.

        Args:
            name: the structure.
            anchor_points: (K, 3) canonical surface points of its prior's anchor.
        """
        points = self.surface_points(name)
        if len(points) < 50:
            return None
        centre, anchor = points.mean(0), anchor_points.mean(0)
        scale = float(np.sqrt(((anchor_points - anchor) ** 2).sum() / len(anchor_points)))
        scale /= float(np.sqrt(((points - centre) ** 2).sum() / len(points)))
        return CanonicalTransform(Similarity(scale, np.eye(3), anchor - scale * centre), 0.0, False, False, 0.0)


def fit_context(surfaces: Mapping[str, trimesh.Trimesh], joint: JointShapeModel, samples: int = 1000) -> Context:
    """Fit the joint model to world surfaces (mm) of the structures found.

    Beside the surface points, points 6 mm outward and inward along the normals tell the model which side is which.

    Raises:
        ValueError: no surface is given.
    """
    if not surfaces:
        raise ValueError("the joint model needs at least one structure")
    channels, found = [], {}
    for name, surface in surfaces.items():
        points, normals = sample_surface(surface, samples, seed=0)
        found[name] = points
        part = joint.parts[name]
        targets = np.repeat([0.0, SHELL_MM, -SHELL_MM], samples)
        shells = np.concatenate([points, points + SHELL_MM * normals, points - SHELL_MM * normals])
        trust = np.repeat([1.0, 0.3, 0.3], samples)
        channels.append(Channel(part.model, part.centre, shells, targets, trust))
    return Context(joint, fit_linear(channels, joint.start(found), joint.radius_mm, SETTINGS), tuple(surfaces))
