"""The zero level of a canonical field as a closed mesh, evaluated finely only where the surface runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import trimesh
from scipy import ndimage
from skimage import measure
from torch import Tensor

COARSEST = 24  # nodes an axis below which the whole grid is evaluated
CHUNK = 4096  # points evaluated at once; the layers' activations then stay in the processor's cache


def zero_level(
    sdf: Callable[[Tensor], Tensor], extent: float = 1.1, resolution: int = 80, min_share: float = 0.05
) -> trimesh.Trimesh:
    """The zero level of a field as a closed mesh in the canonical frame.

    Fields are unknown beyond the training points' ball, so the surface is cut at the cube's inscribed sphere, and
    pieces with less than `min_share` of the largest one's area are dropped.

    Args:
        sdf: canonical points (N, 3), float32, on the CPU → near enough signed distances (N,), negative inside.
        extent: half the edge of the cube that is searched.
        resolution: nodes of the grid along an edge of the cube.
        min_share: see above.

    Returns:
        A mesh with outward normals, deterministic.

    Raises:
        ValueError: the field has no surface.
    """
    axis = np.linspace(-extent, extent, resolution, dtype=np.float32)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    values = np.maximum(_node_values(sdf, extent, resolution), radius - np.float32(0.97 * extent))
    if not values.min() < 0.0 < values.max():
        raise ValueError("the field has no surface: training did not work")
    step = float(axis[1] - axis[0])
    vertices, faces, _, _ = measure.marching_cubes(values, 0.0, spacing=(step,) * 3, gradient_direction="descent")
    mesh = trimesh.Trimesh(vertices - extent, faces, process=False)
    parts = mesh.split(only_watertight=False)
    largest = max(part.area for part in parts)
    kept = [part for part in parts if part.area >= min_share * largest]
    offsets = np.cumsum([0, *[len(part.vertices) for part in kept]])
    return trimesh.Trimesh(
        np.concatenate([part.vertices for part in kept]),
        np.concatenate([part.faces + offset for part, offset in zip(kept, offsets, strict=False)]),
        process=False,
    )


def _node_values(sdf: Callable[[Tensor], Tensor], extent: float, resolution: int) -> np.ndarray:
    """The field (R, R, R) at a grid's nodes: exact within two steps of the grid half as fine, else interpolated.

    For a field whose slope is one, a linearly interpolated value is off by less than 0.87 steps, so no node beside the
    surface is missed.
    """
    axis = np.linspace(-extent, extent, resolution, dtype=np.float32)
    if resolution <= COARSEST:
        near = np.indices((resolution,) * 3).reshape(3, -1).T
        values = np.empty((resolution,) * 3, np.float32)
    else:
        coarse = _node_values(sdf, extent, (resolution + 1) // 2)
        values = ndimage.zoom(coarse, resolution / len(coarse), order=1)
        near = np.argwhere(np.abs(values) < 2.0 * 2.0 * extent / (len(coarse) - 1))
    with torch.no_grad():
        pieces = [sdf(piece) for piece in torch.from_numpy(axis[near]).split(CHUNK)]
    if pieces:
        values[tuple(near.T)] = torch.cat(pieces).numpy()
    return values
