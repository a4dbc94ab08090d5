"""A small prior of spheres."""

import torch

from scripts.prior.linear import LinearShapeModel


def sphere_linear(radius: float = 0.5) -> LinearShapeModel:
    """Linear model of spheres whose radius varies."""
    axis = torch.linspace(-1.1, 1.1, 14)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).norm(dim=-1)
    return LinearShapeModel.train(torch.stack([grid - radius - d for d in (-0.1, 0.0, 0.1)]), 1.1, 2)
