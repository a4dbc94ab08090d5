"""Evidence: what an image, or the network that made the mask, says of each structure at a point in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from skimage import measure

from ..geometry.affine import spacing_mm
from ..geometry.resample import WorldGrid, inside_grid, resample
from ..geometry.surface import mask_signed_distance
from ..organ.pack import OrganPack
from ..organ.sides import Sides, split_sides
from ..prior.context import Context
from .ensemble import EvidenceEnsemble, agreed
from .images import normalise_intensity
from .volumes import distances_on_grid


@dataclass(frozen=True)
class Evidence:
    """Probabilities of structures on one grid.

    Attributes:
        probability: structure name → (X, Y, Z).
        affine: (4, 4) voxel → world mm of that grid.
        source: "image" (evidence networks that read it) or "probability" (of the network that made the mask).
        averaged: what several networks say in the mean, where this is what they agree on.
        of_segmenter: what the network that made the mask says, where this is an image's; it counts where the image is
            set aside.
    """

    probability: dict[str, np.ndarray]
    affine: np.ndarray
    source: str
    averaged: Evidence | None = None
    of_segmenter: Evidence | None = None

    def of(self, name: str, points_world: np.ndarray) -> np.ndarray:
        """Return the probability (N,) of a structure at world points (N, 3); NaN outside the evidence's grid."""
        volume = self.probability[name]
        index = (points_world - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        values = ndimage.map_coordinates(volume, index.T, order=1, mode="nearest")
        return np.where(inside_grid(points_world, self.affine, volume.shape), values, np.nan)

    def distance(self, name: str) -> np.ndarray:
        """Return the signed distance (X, Y, Z) in mm, negative inside, of where the probability exceeds one half.

        It is NaN where the probability is one half: there nothing is known.
        """
        volume = self.probability[name]
        spacing = spacing_mm(self.affine)
        coarse = mask_signed_distance(volume > 0.5, spacing)
        # next to the surface, the probability itself says how far the voxel is
        fine = (0.5 - volume) * float(spacing.min()) * 2.0
        near = np.where(np.abs(coarse) < spacing.min(), np.clip(fine, -spacing.min(), spacing.min()), coarse)
        return np.where(volume == 0.5, np.nan, near)

    def surface_points(self, name: str, count: int, seed: int) -> np.ndarray:
        """Return up to `count` points (N, 3), world mm, where the probability passes one half."""
        volume = self.probability[name].astype(np.float32, copy=False)
        occupied = np.argwhere(volume > 0.5)
        if len(occupied) < 8:
            return np.zeros((0, 3))
        lower = np.maximum(occupied.min(0) - 2, 0)
        part = volume[tuple(slice(a, b + 3) for a, b in zip(lower, occupied.max(0), strict=True))]
        if not part.min() < 0.5 < part.max() or min(part.shape) < 2:
            return np.zeros((0, 3))
        vertices = measure.marching_cubes(part, 0.5)[0]
        pick = np.random.default_rng(seed).choice(len(vertices), min(count, len(vertices)), replace=False)
        return (vertices[pick] + lower) @ self.affine[:3, :3].T + self.affine[:3, 3]


def evidence_from_probabilities(
    prob: np.ndarray, label_map: np.ndarray, affine: np.ndarray, pack: OrganPack
) -> Evidence:
    """Return evidence from class probabilities.

    Args:
        prob: (C, X, Y, Z), background, then the pack's labels in their order.
        label_map: (X, Y, Z) the mask on the same grid, which tells where one side ends and the other begins.
        affine: (4, 4) voxel index → world mm of that grid.
        pack: organ pack.

    Raises:
        ValueError: the number of channels is not one more than the pack's labels.
    """
    if len(prob) != len(pack.labels) + 1:
        raise ValueError(f"expected {len(pack.labels) + 1} probability channels, got {len(prob)}")
    channel = {label: k + 1 for k, label in enumerate(pack.labels)}
    found: dict[str, np.ndarray] = {}
    split: dict[tuple[int, ...], Sides] = {}
    for structure in pack.structures:
        whole = np.sum([prob[channel[v]] for v in structure.labels], axis=0)
        if structure.side:
            if structure.labels not in split:
                split[structure.labels] = split_sides(structure.union(label_map), affine)
            whole[~split[structure.labels].territory(structure.side, affine)] = 0.0
        found[structure.name] = whole
    return Evidence(found, affine, "probability")


def evidence_from_image(
    image: np.ndarray,
    image_affine: np.ndarray,
    label_map: np.ndarray,
    affine: np.ndarray,
    pack: OrganPack,
    context: Context,
    network: EvidenceEnsemble,
) -> Evidence:
    """Return what the pack's evidence networks make of an image (X, Y, Z), a mask and the joint model's context.

    The probabilities stand on a grid of the world's axes that covers the image.
    """
    grid = WorldGrid.covering(image_affine, image.shape, network.spacing_mm)
    values = normalise_intensity(image, pack.intensity)
    on_grid = resample(values, image_affine, grid, order=1)
    own = distances_on_grid(label_map, affine, pack, grid)
    around = context.sdf_mm(grid.points_world().reshape(-1, 3)).reshape(own.shape)
    pads = [(0, -n % 16) for n in grid.shape]
    device = next(network.parameters()).device
    with torch.no_grad():
        logits = network(
            *(
                torch.from_numpy(np.pad(part, [(0, 0), *pads], constant_values=fill).astype(np.float32))[None].to(
                    device
                )
                for part, fill in ((on_grid[None], np.nan), (own, 20.0), (around, 20.0))
            )
        )

    def evidence(chosen: torch.Tensor, averaged: Evidence | None = None) -> Evidence:
        prob = torch.sigmoid(chosen)[0].cpu().numpy()[:, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
        return Evidence(dict(zip(network.structures, prob, strict=True)), grid.affine, "image", averaged)

    return evidence(agreed(logits), evidence(logits.mean(0)))
