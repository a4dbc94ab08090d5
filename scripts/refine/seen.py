"""What a voxel head says of a fitted structure, with an image or without: log odds on the structure's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evidence.channels import FAR, REACH, Scene, voxel_channels
from ..evidence.head import VoxelHead
from ..geometry.affine import spacing_mm
from ..geometry.boxed import Box
from ..geometry.resample import WorldGrid, resample
from ..geometry.surface import mask_signed_distance
from .narrow_band import evaluate_near_surface, interpolate_nodes, node_counts
from .stages import Fitted, Seen


class VoxelReader:
    """Asks a voxel head of one structure of a pack.

    Args:
        head: the voxel head.
        name: the structure's name in it.
    """

    def __init__(self, head: VoxelHead, name: str) -> None:
        self.head = head
        self.name = name
        self.step_mm = head.step_mm

    def __call__(self, scene: Scene, shape: Sequence[int]) -> np.ndarray | None:
        """Return the log odds that voxels are the structure's, an array of a shape, NaN where nothing is said.

        It is None where there is an image that shows nothing of the structure.

        Args:
            scene: the structure on the head's grid.
            shape: (X, Y, Z) of the grid that the scene's lies on, at its own voxels.
        """
        scene = scene if self.head.knows_prior else scene.without_fits()
        index, values = voxel_channels(scene)
        if not len(index):
            return None
        odds = np.full(scene.grid.shape, np.nan, np.float32)
        odds[tuple(index.T)] = self.head.log_odds(self.name, values, scene.upright(index))
        return interpolate_nodes(odds, shape)


@dataclass(frozen=True)
class Readers:
    """The voxel heads of one structure.

    Attributes:
        image: the one that reads images; None without such.
        blind: the one that knows mask and fits alone; None without such.
    """

    image: VoxelReader | None = None
    blind: VoxelReader | None = None

    def of(self, seen: Seen | None) -> VoxelReader | None:
        """Return the one that reads what is seen, or None."""
        if seen is None:
            return None
        return self.blind if seen.image is None else self.image


def scene_of(
    fitted: Fitted,
    seen: Seen,
    box: Box,
    grid: WorldGrid,
    fit_mm: np.ndarray,
    context_mm: np.ndarray | None,
    step_mm: float,
) -> Scene:
    """Return what a voxel head sees of a structure.

    Args:
        fitted: the structure.
        seen: mask, and image where there is one.
        box: slices of the label map around the structure.
        grid: their own grid; the following arrays are of its shape.
        fit_mm: signed distance of the fit.
        context_mm: of the joint model, or None.
        step_mm: the head's spacing; the scene's grid has that of the label map where it is larger.
    """
    spacing = spacing_mm(grid.affine)
    mask = seen.mask[box]
    reach_mm = FAR * max(step_mm, float(spacing.max()))
    mask_mm = mask_signed_distance(mask, spacing, reach_mm)
    initial = fitted.mask[box]
    initial_mm = None if (initial == mask).all() else mask_signed_distance(initial, spacing, reach_mm)
    others = (seen.label_map[box] != 0) & ~mask
    counts = node_counts(grid.shape, spacing, step_mm)
    ratio = [(n - 1) / max(c - 1, 1) for n, c in zip(grid.shape, counts, strict=True)]
    nodes = WorldGrid(grid.affine @ np.diag([*ratio, 1.0]), counts)

    def at_nodes(values: np.ndarray) -> np.ndarray:
        return interpolate_nodes(values, counts)

    linear_mm = None
    if fitted.fit.linear_mm is not None:
        linear_mm = evaluate_near_surface(fitted.fit.linear_mm, nodes, spacing_mm(nodes.affine), REACH * step_mm)
    return Scene(
        nodes,
        step_mm,
        None if seen.image is None else resample(seen.image.values, seen.image.affine, nodes, fill=np.nan),
        at_nodes(mask_mm),
        None if initial_mm is None else at_nodes(initial_mm),
        at_nodes(others.astype(np.float32)),
        at_nodes(fit_mm),
        linear_mm,
        None if context_mm is None else at_nodes(context_mm),
        fitted.fit.similarity,
    )
